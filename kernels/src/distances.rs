//! Exact distances and dot products between rows, bit for bit the same on every instruction set.
//!
//! May use `base`, `simd` and `rows`. Start with `blocks`, which fixes the order of summation and has
//! the inner loop; `pairs`, `products` and `within` call it for pairs from a list, for all pairs, and
//! for all pairs that are near enough. `exact` is the same in double precision, for the final answer,
//! and `integers` that for 8-bit ones.

pub(crate) mod blocks;
pub(crate) mod exact;
mod integers;
pub(crate) mod measure;
pub(crate) mod pairs;
pub(crate) mod products;
pub(crate) mod within;
