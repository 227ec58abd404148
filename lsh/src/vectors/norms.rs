//! Norms of rows, and their directions.

use lshjoin_kernels::{Rows, Scalar, memory, norms};
use rayon::prelude::*;

use crate::base::{context::Context, error::Result};

/// Rows whose norms a thread computes at a time.
const MEASURED: usize = 1024;

/// How an out-of-memory error names them.
pub(crate) const NORMS: &str = "norms of rows";

/// The norm of each row.
pub(crate) fn norms_of<T: Scalar>(rows: Rows<'_, T>, ctx: &Context) -> Result<Vec<f64>> {
    let mut of_rows = memory::zeroed(rows.len(), NORMS)?;
    let blocks = of_rows.par_chunks_mut(MEASURED).enumerate();
    blocks.for_each(|(block, of_rows)| {
        let first = block * MEASURED;
        let rows = rows.slice(first..first + of_rows.len());
        of_rows.copy_from_slice(&norms(rows, ctx.isa()));
    });
    Ok(of_rows)
}

/// The sum of the squares of some values, in their order: the same bits on every machine.
pub(crate) fn sum_of_squares(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum()
}

/// The relative error of the norms of augmented rows of so many values, which but for rounding are
/// all equal.
pub(crate) fn norm_error<T: Scalar>(dim: usize) -> f64 {
    let rounding = (dim + 8) as f64 * f64::EPSILON;
    2.0 * T::UNIT_ROUNDOFF + rounding.sqrt()
}

/// What a row of this norm is multiplied by to make its direction; 0 where that is not finite.
pub(crate) fn inverse(norm: f64) -> f64 {
    let inverse = norm.recip();
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// A row of this norm scaled to length 1; zeros if it has no direction.
pub(crate) fn direction<T: Scalar>(row: &[T], norm: f64) -> impl Iterator<Item = f32> {
    let inverse = inverse(norm);
    row.iter()
        .map(move |value| (value.to_f64() * inverse) as f32)
}

/// Rows scaled to length 1; those that have no direction are zeros.
pub(crate) fn directions<T: Scalar>(rows: Rows<'_, T>, norms: &[f64]) -> Result<Vec<f32>> {
    let mut directions = memory::zeroed(rows.len() * rows.dim(), "directions of rows")?;
    directions
        .par_chunks_mut(rows.dim())
        .zip(norms)
        .enumerate()
        .for_each_init(Vec::new, |room, (row, (to, &norm))| {
            to.iter_mut()
                .zip(direction(rows.row_in(row, room), norm))
                .for_each(|(to, value)| *to = value);
        });
    Ok(directions)
}
