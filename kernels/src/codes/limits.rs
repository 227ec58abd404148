//! Limits within which the arithmetic of codes is exact, or its error known.

/// Codes are stored in rows of whole cache lines: 64 codes, one step of an AMX tile.
pub(crate) const LINE: usize = 64;

/// Dot products of codes stay within ± this, which leaves room for what is added to them.
pub(crate) const LARGEST_DOT: i32 = 1 << 29;

/// Absolute room for underflow: its square is far above the smallest normal single.
pub(super) const TINY: f64 = 1.0 / (1_u64 << 56) as f64;

/// Squared norms above this could overflow in single precision.
pub(super) const HUGE: f64 = 1e36;

/// Scales are one number times a power of two within these limits.
pub(super) const SCALES: (f64, f64) = (1.0 / (1_u128 << 100) as f64, (1_u128 << 118) as f64);

/// The largest code for which the dot products of rows of this dimension are within [`LARGEST_DOT`].
pub(super) fn largest_code(dim: usize) -> f64 {
    let largest = f64::from(LARGEST_DOT) / dim as f64;
    largest.sqrt().floor().min(127.0)
}

/// Relative error, generously, of a distance over `dim` values that is computed in single precision.
pub(crate) fn rounding(dim: usize) -> f64 {
    (dim + 24) as f64 / (1 << 24) as f64
}
