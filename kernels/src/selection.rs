//! Order among many numbers: the rows of a table sorted by key, and the least of a list.
//!
//! May use `base` and `simd`. The two files know nothing of each other.

pub(crate) mod least;
pub(crate) mod sort;
