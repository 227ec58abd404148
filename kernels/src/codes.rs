//! Rows as 8-bit codes (scalar quantisation), each with a proven bound on its error.
//!
//! May use `base`, `simd` and `rows`. Start with `quantised`, the codes of many rows; `quantise` makes
//! those of one row, by the `scale` that fits most rows and within the `limits` of integer sums;
//! `decode` gives the values back.
//! `check` tells whether codes that were read from a file can be right.

mod check;
pub(crate) mod decode;
pub(crate) mod limits;
mod quantise;
pub(crate) mod quantised;
mod range;
pub(crate) mod scale;
