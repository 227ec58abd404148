//! Dot products of all rows with all, and the lengths of rows.

use pulp::{Simd, WithSimd};

use super::{
    blocks::{all_pairs, sum},
    measure::Measure,
};
use crate::{
    base::{error::Result, isa::Isa},
    rows::{matrix::Rows, scalar::Scalar, shape::check_len},
    simd::dispatch::dispatch,
};

/// The dot products of all rows of `left` with all rows of `right`, (left rows, right rows),
/// row-major; for rows that the cache holds.
///
/// Each value is bitwise what [`distance`](crate::distance()) gives for the same two rows.
///
/// ```
/// use lshjoin_kernels::{Isa, Rows, dot_products};
///
/// let left = Rows::new(&[1.0_f32, 2.0, 3.0, 4.0], 2)?;
/// let right = Rows::new(&[1.0_f32, 10.0], 2)?;
/// let mut out = [0.0; 2];
/// dot_products(left, right, &mut out, Isa::best())?;
/// assert_eq!(out, [21.0, 43.0]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`Shape`](crate::KernelError::Shape) when the two sides differ in dimension or `out`
/// is not of their size; `out` is then untouched.
pub fn dot_products<T: Scalar>(
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    out: &mut [T],
    isa: Isa,
) -> Result<()> {
    check_len("rows of the right side", right.dim(), left.dim())?;
    check_len("the dot products", out.len(), left.len() * right.len())?;
    if !out.is_empty() {
        dispatch(isa, DotProducts { left, right, out });
    }
    Ok(())
}

/// Every left row with every right row, of which there are some.
struct DotProducts<'a, T> {
    left: Rows<'a, T>,
    right: Rows<'a, T>,
    out: &'a mut [T],
}

impl<T: Scalar> WithSimd for DotProducts<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, out } = self;
        let (width, dim) = (right.len(), left.dim());
        let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
        let (lefts, rights) = (left.values_in(&mut of_left), right.values_in(&mut of_right));
        all_pairs(
            simd,
            Measure::Dot,
            (0..left.len(), |row| &lefts[row * dim..][..dim]),
            (0..width, |row| &rights[row * dim..][..dim]),
            |i, j, dot| {
                out[i * width + j] = dot;
            },
        );
    }
}

/// Each row's length in the rows' own precision; one too small to square counts as one that is not.
pub(crate) fn fast_norms<T: Scalar>(rows: Rows<'_, T>, isa: Isa) -> Vec<T> {
    dispatch(isa, FastNorms(rows))
}

struct FastNorms<'a, T>(Rows<'a, T>);

impl<T: Scalar> WithSimd for FastNorms<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<T> {
        let (mut norms, mut room) = (vec![T::ZERO; self.0.len()], Vec::new());
        for (row, norm) in norms.iter_mut().enumerate() {
            let row = self.0.row_in(row, &mut room);
            *norm = sum(simd, Measure::Dot, row, row);
        }
        for norm in &mut norms {
            *norm = norm.sqrt();
            if norm.to_f64() < T::TINY_NORM {
                *norm = T::from_f64(T::TINY_NORM);
            }
        }
        norms
    }
}
