//! Rows of vectors, in the form that every kernel takes them.
//!
//! May use `base` and `simd`. Start with `matrix`, a borrowed row-major matrix, and `scalar`, the
//! numbers that it is computed with; `narrow` are those that it may hold in fewer bits, `owned` copies
//! of some rows. The others check rows.

pub(crate) mod finite;
pub(crate) mod matrix;
pub(crate) mod narrow;
pub(crate) mod owned;
pub(crate) mod scalar;
pub(crate) mod shape;
