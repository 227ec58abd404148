//! Order among many numbers: the rows of a table sorted by key, the least of a list, and sorted lists
//! of the smallest keys so far.
//!
//! May use `base` and `simd`. The files know nothing of each other.

pub(crate) mod keys;
pub(crate) mod least;
pub(crate) mod sort;
