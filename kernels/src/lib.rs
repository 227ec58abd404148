//! SIMD kernels for hashing and joining embeddings: numbers in, numbers out.
//!
//! Every kernel takes the [`Isa`] to run on, has one readable scalar reference that the others
//! are tested against, and gives the same answer on all of them.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod convert;
mod distance;
mod error;
mod exact;
mod finite;
mod floor;
mod hash;
mod isa;
mod key;
mod least;
mod map;
pub mod memory;
mod projection;
mod quantise;
mod rows;
mod simd;
mod sort;
mod sum;
mod tile;
mod topk;
mod vectors;
mod within;

pub use convert::widen_f16;
pub use distance::{Measure, distance, distances_of, distances_to, dot_products};
pub use error::{KernelError, Result};
pub use exact::{cosine_distances, euclidean_distances, exact_dot_products, norms};
pub use finite::{check_finite, check_within};
pub use hash::{Bucketing, HashFunctions};
pub use isa::{Isa, Level};
pub use key::{KeyLayout, KeyMode, NO_RANGE};
pub use least::{each_near_least, least};
pub use map::map;
pub use memmap2::{Mmap, MmapMut};
pub use quantise::{CommonScale, Quantised, centre_of};
pub use rows::{Rows, Scalar};
pub use sort::{Key, Sorter};
pub use sum::sum_rows;
pub use tile::{LeftPanel, Near, RightPanel, code_distances2, near_pairs, nearest_pairs};
pub use topk::{Nearest, TopK, TopKChunk};
pub use within::{Asking, pairs_within};
