//! The values that codes stand for.

use pulp::{Simd, WithSimd};

use super::quantised::Quantised;
use crate::{
    base::{error::Result, isa::Isa, memory},
    rows::shape::check_indices,
    simd::dispatch::dispatch,
};

/// What memory is asked for.
const VALUES: &str = "values of codes";

/// Rows whose codes may be added up in 32 bits.
const ADDED: usize = 1 << 23;

/// The values that the codes of some rows stand for, row-major.
///
/// ```
/// use lshjoin_kernels::{Isa, Quantised, Rows, decode};
///
/// let rows = Quantised::new(Rows::new(&[1.0_f32, -0.5, 0.0, 1.0], 2)?, Isa::best())?;
/// assert!((decode(&rows, &[0])?[1] + 0.5).abs() < 0.01);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::RowOutOfRange`](crate::KernelError::RowOutOfRange) for an index that is no row,
/// [`Memory`](crate::KernelError::Memory).
pub fn decode(codes: &Quantised, rows: &[u32]) -> Result<Vec<f32>> {
    check_indices("rows to decode", rows.iter().copied(), codes.len())?;
    let mut values = memory::empty(rows.len().saturating_mul(codes.dim()), VALUES)?;
    for &row in rows {
        let scale = codes.row(row as usize).scale;
        let of_row = &codes.codes(row as usize)[..codes.dim()];
        values.extend(of_row.iter().map(|&code| scale * f32::from(code)));
    }
    Ok(values)
}

/// The sums of the values that the codes of some rows stand for, value by value: the same on every
/// instruction set.
///
/// ```
/// use lshjoin_kernels::{Isa, Quantised, Rows, sum_codes};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[1.0_f32, 2.0, 3.0], 1)?, isa)?;
/// assert!((sum_codes(&rows, &[0, 2], isa)?[0] - 4.0).abs() < 0.05);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::RowOutOfRange`](crate::KernelError::RowOutOfRange) for an index that is no row.
pub fn sum_codes(codes: &Quantised, rows: &[u32], isa: Isa) -> Result<Vec<f64>> {
    check_indices("rows to add up", rows.iter().copied(), codes.len())?;
    Ok(dispatch(isa, SumCodes { codes, rows }))
}

struct SumCodes<'a> {
    codes: &'a Quantised<'a>,
    rows: &'a [u32],
}

impl WithSimd for SumCodes<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f64> {
        let Self { codes, rows } = self;
        let mut sums = vec![0.0; codes.dim()];
        let mut of_codes = vec![0_i32; codes.dim()];
        let scale = |row: u32| codes.row(row as usize).scale;
        // Integers add up exactly, and nearly all rows have the same scale.
        for of_scale in rows.chunk_by(|&x, &y| scale(x) == scale(y)) {
            for rows in of_scale.chunks(ADDED) {
                of_codes.fill(0);
                for &row in rows {
                    for (sum, &code) in of_codes.iter_mut().zip(codes.codes(row as usize)) {
                        *sum += i32::from(code);
                    }
                }
                let scale = f64::from(scale(rows[0]));
                for (sum, &of_codes) in sums.iter_mut().zip(&of_codes) {
                    *sum += scale * f64::from(of_codes);
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rows::matrix::Rows, simd::dispatch::on_each_isa};

    #[test]
    fn sums_are_those_of_decoded_rows_on_every_isa() {
        for dim in [1, 7, 16, 100] {
            // Rows of several scales.
            let value = |at: usize| (at as f32).sin() * 4.0_f32.powi((at / dim % 3) as i32);
            let values: Vec<f32> = (0..30 * dim).map(value).collect();
            let codes = Quantised::new(Rows::new(&values, dim).unwrap(), Isa::SCALAR).unwrap();
            let indices = [3, 29, 0, 3, 6, 1];
            let decoded = decode(&codes, &indices).unwrap();
            let sum = |at| {
                let of_rows = decoded.chunks(dim).map(|row| f64::from(row[at]));
                of_rows.sum::<f64>()
            };
            let expected: Vec<f64> = (0..dim).map(sum).collect();
            on_each_isa(|isa| {
                assert_eq!(sum_codes(&codes, &indices, isa), Ok(expected.clone()));
            });
            let far = values
                .iter()
                .zip(decode(&codes, &(0..30).collect::<Vec<_>>()).unwrap());
            let most = far.map(|(value, decoded)| (value - decoded).abs());
            assert!(most.fold(0.0, f32::max) < 0.2);
        }
        let codes = Quantised::new(Rows::new(&[1.0_f32], 1).unwrap(), Isa::SCALAR).unwrap();
        assert!(sum_codes(&codes, &[1], Isa::SCALAR).is_err());
        assert!(decode(&codes, &[1]).is_err());
    }
}
