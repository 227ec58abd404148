//! How large values may be for distances to be right: what is larger is refused, as what is not
//! finite.
//!
//! Distances are computed in double precision and then rounded to the rows' own, so that only those
//! count that do not fit there. Small values have no limit: of squares that would vanish, distances
//! are computed from enlarged differences.

use lshjoin_kernels::{KernelError, Rows, Scalar, check_within};

use crate::base::{
    context::Context,
    error::{Error, Result},
    metric::Metric,
};

/// The largest magnitude of rows of a dimension with which no distance exceeds the largest number:
/// those of any metric are at most twice a norm, twice a sum, or a product of two norms.
fn largest<T: Scalar>(metric: Metric, dim: usize) -> f64 {
    let dim = dim as f64;
    match metric {
        Metric::Euclidean => T::LARGEST / (2.0 * dim.sqrt()) * (1.0 - f64::EPSILON),
        Metric::Manhattan => T::LARGEST / (2.0 * dim) * (1.0 - (dim + 8.0) * T::UNIT_ROUNDOFF),
        Metric::Cosine => T::LARGEST / dim.sqrt(),
        Metric::InnerProduct => (T::LARGEST / dim).sqrt() * (1.0 - 2.0 * T::UNIT_ROUNDOFF),
    }
}

/// Refuses rows with distances that could be out of range; `name` tells the user which side it is.
///
/// # Errors
/// [`Error::NotFinite`] or [`Error::TooLarge`], for the first such value.
pub(crate) fn check<T: Scalar>(
    name: &'static str,
    rows: Rows<'_, T>,
    metric: Metric,
    ctx: &Context,
) -> Result<()> {
    let largest = largest::<T>(metric, rows.dim());
    // Towards zero.
    let rounded = T::from_f64(largest * (1.0 - T::UNIT_ROUNDOFF));
    check_within(rows, rounded, ctx.isa()).map_err(|error| match error {
        KernelError::TooLarge {
            row,
            dimension,
            value,
            largest,
        } => Error::TooLarge {
            side: name,
            row,
            dimension,
            value,
            largest,
            metric: metric.name(),
            bits: 8 * size_of::<T>(),
        },
        error => (name, error).into(),
    })
}
