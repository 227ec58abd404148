//! How large values may be. Larger ones are refused, as NaN is, since distances would not fit the
//! rows' type.
//!
//! Distances are computed in double precision and rounded to the rows' type at the end, so only the
//! result has to fit it. Small values have no limit: where squares would vanish, kernels enlarge
//! the differences first.

use lshjoin_kernels::{KernelError, Rows, Scalar, check_within};

use crate::base::{
    context::Context,
    error::{Error, Result},
    metric::Metric,
};

/// The largest value that rows of a dimension may hold. A Euclidean distance is at most twice a
/// norm, a Manhattan distance twice a sum of magnitudes, an inner product the product of two norms;
/// for the cosine the norms themselves have to fit.
fn largest<T: Scalar>(metric: Metric, dim: usize) -> f64 {
    let dim = dim as f64;
    match metric {
        Metric::Euclidean => T::LARGEST / (2.0 * dim.sqrt()) * (1.0 - f64::EPSILON),
        Metric::Manhattan => T::LARGEST / (2.0 * dim) * (1.0 - (dim + 8.0) * T::UNIT_ROUNDOFF),
        Metric::Cosine => T::LARGEST / dim.sqrt(),
        Metric::InnerProduct => (T::LARGEST / dim).sqrt() * (1.0 - 2.0 * T::UNIT_ROUNDOFF),
    }
}

/// Refuses rows whose distances could be out of range; `name` tells the user which side they are
/// on.
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
    // A little less, since rounding it to the type may raise it.
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
