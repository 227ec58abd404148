//! SIMD kernels for hashing and joining embeddings: numbers in, numbers out.
//!
//! Every kernel takes the [`Isa`] to run on, has one readable scalar reference that the others
//! are tested against, and gives the same answer on all of them.
//!
//! Folders are layers. Each may use those above it in this list, and `make lint` fails on a circle
//! of imports between any two modules. A folder's own file says what is in it and where to start.
//!
//! | folder | what is in it |
//! |---|---|
//! | `base` | errors, memory, mapped files, the machine's instruction sets |
//! | `simd` | code compiled for each instruction set, sums in one order |
//! | `rows` | the matrix of rows that every kernel takes, and checks of it |
//! | `selection` | radix sort of keys, the least of many numbers, sorted lists of the smallest keys |
//! | `distances` | exact distances and dot products |
//! | `hashing` | rows to bucket ids, and ids to 128-bit keys |
//! | `bits` | rows of packed bits, and in how many of them two differ |
//! | `codes` | rows as 8-bit codes with a proven error |
//! | `tile` | which pairs of rows may be near, by their codes |

mod base;
mod bits;
mod codes;
mod distances;
mod hashing;
mod rows;
mod selection;
mod simd;
mod tile;

pub use base::{
    error::{KernelError, Result},
    isa::{Isa, Level},
    map::map,
    memory,
};
pub use bits::{
    block::DifferenceLimit,
    left::LeftBits,
    near::{NearBits, near_bits},
    right::RightBits,
};
pub use codes::{
    decode::{decode, sum_codes},
    quantised::Quantised,
    scale::{CommonScale, centre_of},
};
pub use distances::{
    exact::{cosine_distances, euclidean_distances, exact_dot_products, norms},
    measure::Measure,
    pairs::{distance, distances_of},
    products::dot_products,
    within::{BoundedRows, pairs_within},
};
pub use hashing::{
    bucketing::Bucketing,
    functions::HashFunctions,
    key::{KeyLayout, KeyMode, NO_RANGE},
    min_hash::{MinHashFunction, min_hashes},
};
pub use memmap2::{Mmap, MmapMut};
pub use rows::{
    finite::{check_finite, check_within},
    matrix::Rows,
    narrow::Narrow,
    owned::OwnedRows,
    scalar::Scalar,
};
pub use selection::{
    keys::insert_keys,
    least::{each_near_least, least},
    sort::{Key, Sorter},
};
pub use tile::{
    code_distances::code_distances2,
    near::{Near, near_pairs},
    nearest::nearest_pairs,
    nearest_codes::nearest_codes,
    pair_codes::{code_distances, code_intervals},
    panel::{LeftPanel, RightPanel},
};
