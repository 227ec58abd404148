//! The tile join: which pairs of rows of two panels may be near, by their 8-bit codes.
//!
//! A lossless filter in front of exact distances. Rows are gathered into a [`panel`], 32 of them a
//! [`band`]; two bands make a [`block`], whose 32 × 32 dot products are computed by one of the files in
//! [`multiply`], for each instruction set. Which of them are large enough to be near is said by
//! [`thresholds`], as integers, while the products are in registers or in the first-level cache; those
//! that pass become pairs with [`distance_bounds`]. `near`, `nearest`, `nearest_codes` and `code_distances` are what
//! callers ask for, and `panels` multiplies the blocks for them.
//!
//! May use `base`, `simd`, `rows`, `selection` and `codes`. Start with `near`.

mod band;
mod block;
pub(crate) mod code_distances;
mod distance_bounds;
mod multiply;
pub(crate) mod near;
pub(crate) mod nearest;
pub(crate) mod nearest_codes;
mod packing;
pub(crate) mod pair_codes;
pub(crate) mod panel;
mod panels;
mod rounding;
mod thresholds;
