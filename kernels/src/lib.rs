//! SIMD kernels for hashing and joining embeddings: numbers in, numbers out.
//!
//! Every kernel takes the [`Isa`] to run on, has one readable scalar reference that the others
//! are tested against, and gives the same answer on all of them.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
mod error;
mod isa;
mod quantise;
mod rows;
mod simd;
mod tile;

pub use error::{KernelError, Result};
pub use isa::{Isa, Level};
pub use quantise::Quantised;
pub use rows::{Rows, Scalar, check_finite, widen_f16};
pub use tile::{LeftPanel, Pairs, RightPanel, near_pairs};
