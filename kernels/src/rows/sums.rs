//! Sums of rows.

use pulp::{Simd, WithSimd};

use super::{matrix::Rows, shape::check_indices};
use crate::{
    base::{error::Result, isa::Isa},
    simd::dispatch::dispatch,
};

/// The sums of some of the rows, value by value: row after row in double precision, so that they are
/// the same on every instruction set.
///
/// ```
/// use lshjoin_kernels::{Isa, Rows, sum_rows};
///
/// let rows = Rows::new(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], 2)?;
/// assert_eq!(sum_rows(rows, &[0, 2], Isa::best())?, [6.0, 8.0]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::RowOutOfRange`](crate::KernelError::RowOutOfRange) for an index that is no row.
pub fn sum_rows(rows: Rows<'_, f32>, indices: &[u32], isa: Isa) -> Result<Vec<f64>> {
    check_indices("indices", indices.iter().copied(), rows.len())?;
    Ok(dispatch(isa, SumRows { rows, indices }))
}

struct SumRows<'a> {
    rows: Rows<'a, f32>,
    indices: &'a [u32],
}

impl WithSimd for SumRows<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f64> {
        let mut sums = vec![0.0; self.rows.dim()];
        for &row in self.indices {
            for (sum, &value) in sums.iter_mut().zip(self.rows.row(row as usize)) {
                *sum += f64::from(value);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::dispatch::on_each_isa;

    #[test]
    fn sums_are_the_same_on_every_isa() {
        for dim in [1, 7, 16, 100] {
            let values: Vec<f32> = (0..30 * dim).map(|at| (at as f32).sin().exp()).collect();
            let rows = Rows::new(&values, dim).unwrap();
            let indices = [3, 29, 0, 3];
            let sum = |at| {
                indices
                    .iter()
                    .fold(0.0, |sum, &row| sum + f64::from(rows.row(row as usize)[at]))
            };
            let expected: Vec<f64> = (0..dim).map(sum).collect();
            on_each_isa(|isa| assert_eq!(sum_rows(rows, &indices, isa), Ok(expected.clone())));
        }
        let rows = Rows::new(&[1.0], 1).unwrap();
        assert!(sum_rows(rows, &[1], Isa::SCALAR).is_err());
    }
}
