//! Rows with one value more, by which the largest inner products become the smallest distances: see
//! [`inner_product`](crate::join::inner_product).

use lshjoin_kernels::{Rows, Scalar, memory};
use rayon::prelude::*;

use crate::base::error::Result;

/// How an out-of-memory error names them.
const AUGMENTED: &str = "augmented rows";

/// Augmented rows, all scaled by powers of two, which is exact and changes no order: the items of a
/// group so that the longest has a norm between ½ and 1 and all augmented ones have norm 1; each
/// query so that its norm is between ½ and 1.
pub(crate) struct Augmented<T> {
    pub(crate) queries: Vec<T>,
    pub(crate) items: Vec<T>,
    pub(crate) dim: usize,
}

impl<T: Scalar> Augmented<T> {
    pub(crate) fn sides(&self) -> Result<(Rows<'_, T>, Rows<'_, T>)> {
        Ok((
            Rows::new(&self.queries, self.dim)?,
            Rows::new(&self.items, self.dim)?,
        ))
    }
}

/// The exponent e for which `norm / 2^e` is between ½ and 1; 0 for a norm of 0.
pub(crate) fn exponent_of(norm: f64) -> i32 {
    if norm == 0.0 {
        return 0;
    }
    // Subnormal numbers have no exponent of their own.
    let (norm, enlarged) = if norm < f64::MIN_POSITIVE {
        (norm * 2_f64.powi(100), 100)
    } else {
        (norm, 0)
    };
    let bits = (norm.to_bits() >> (f64::MANTISSA_DIGITS - 1)) as i32;
    bits - (f64::MAX_EXP - 2) - enlarged
}

/// Some rows, each divided by a power of two, with one value more: what `last` makes of those.
pub(crate) fn augmented<T: Scalar>(
    rows: Rows<'_, T>,
    some: &[u32],
    exponent: impl Fn(u32) -> i32 + Sync,
    last: impl Fn(&[T]) -> f64 + Sync,
) -> Result<Vec<T>> {
    let dim = rows.dim();
    let mut values = memory::zeroed(some.len().saturating_mul(dim + 1), AUGMENTED)?;
    values
        .par_chunks_mut(dim + 1)
        .zip(some)
        .for_each(|(to, &row)| {
            // In two steps, since the power itself may be too large or too small for a number.
            let exponent = exponent(row);
            let factors = [exponent / 2, exponent - exponent / 2].map(|half| 2_f64.powi(-half));
            for (to, value) in to.iter_mut().zip(&*rows.row(row as usize)) {
                *to = T::from_f64(value.to_f64() * factors[0] * factors[1]);
            }
            to[dim] = T::from_f64(last(&to[..dim]));
        });
    Ok(values)
}

/// Rows as an index stores them: with one value more at their end.
pub(crate) fn with_last_value<T: Scalar>(
    rows: Rows<'_, T>,
    last: impl Fn(usize) -> f64 + Sync,
) -> Result<Vec<T>> {
    let len = rows.len().saturating_mul(rows.dim() + 1);
    let mut values = memory::zeroed(len, AUGMENTED)?;
    values
        .par_chunks_mut(rows.dim() + 1)
        .enumerate()
        .for_each(|(row, augmented)| {
            augmented[..rows.dim()].copy_from_slice(&rows.row(row));
            augmented[rows.dim()] = T::from_f64(last(row));
        });
    Ok(values)
}
