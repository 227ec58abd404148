//! Rows of vectors, in the form that every kernel takes them.
//!
//! May use `base` and `simd`. Start with `matrix`, a borrowed row-major matrix, and `scalar`, the
//! numbers that it may hold. The others check rows and widen them.

pub(crate) mod finite;
pub(crate) mod half;
pub(crate) mod matrix;
pub(crate) mod scalar;
pub(crate) mod shape;
