//! Distances of a row to single others by their codes, where tiles would hold few pairs of use.

use pulp::{Simd, WithSimd};

use super::{
    band::square,
    distance_bounds::{interval, with_rounding},
};
use crate::{
    base::{error::Result, isa::Isa, memory},
    codes::{limits::rounding, quantised::Quantised},
    rows::shape::{check_indices, check_len},
    simd::dispatch::dispatch,
};

/// How many rows ahead of the one that is multiplied to ask for codes: rows of codes are short.
const AHEAD: usize = 12;

/// Sets `out` to the Euclidean distances of a row of `left` to some rows of `right`, computed as the
/// upper ends that [`near_pairs`](crate::near_pairs) gives: for codes
/// [without errors](Quantised::without_errors) they are estimates.
///
/// ```
/// use lshjoin_kernels::{Isa, Quantised, Rows, code_distances};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[0.0_f32, 0.0, 3.0, 4.0], 2)?, isa)?;
/// let mut out = Vec::new();
/// code_distances((&rows, 0), &rows.without_errors(), &[0, 1], &mut out, isa)?;
/// assert!(out[0] < 0.1 && (out[1] - 5.0).abs() < 0.1);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`Shape`](crate::KernelError::Shape) when the sides differ in dimension,
/// [`RowOutOfRange`](crate::KernelError::RowOutOfRange) for an index that is no row of its side,
/// [`Memory`](crate::KernelError::Memory).
pub fn code_distances(
    (left, row): (&Quantised, u32),
    right: &Quantised,
    others: &[u32],
    out: &mut Vec<f32>,
    isa: Isa,
) -> Result<()> {
    check_len("codes of the right side", right.dim(), left.dim())?;
    check_indices("the left row", std::iter::once(row), left.len())?;
    check_indices("right rows", others.iter().copied(), right.len())?;
    out.clear();
    memory::reserve(out, others.len(), "distances")?;
    let pairs = PairCodes {
        left,
        row: row as usize,
        right,
        others,
        out,
    };
    dispatch(isa, pairs);
    Ok(())
}

struct PairCodes<'a> {
    left: &'a Quantised<'a>,
    row: usize,
    right: &'a Quantised<'a>,
    others: &'a [u32],
    out: &'a mut Vec<f32>,
}

impl WithSimd for PairCodes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (codes, left) = (self.left.codes(self.row), self.left.row(self.row));
        let s = f64::from(left.scale);
        let of_left = square(s, left.square);
        let rounding = with_rounding(rounding(self.left.dim()));
        for (at, &other) in self.others.iter().enumerate() {
            self.right.prefetch(self.others.get(at + AHEAD));
            let right = self.right.row(other as usize);
            let dot = dot(codes, self.right.codes(other as usize));
            let t = f64::from(right.scale);
            let squares = of_left + square(t, right.square);
            let distance2 = squares - (2.0 * s * t) as f32 * dot as f32;
            let residuals = left.residual + right.residual;
            self.out
                .push(interval(squares, distance2, residuals, rounding).1);
        }
    }
}

/// Exact: codes of rows are small enough; others, of damaged files, wrap round. A plain sum, in which
/// compilers recognise products of 16-bit words that are added up two by two.
#[inline(always)]
fn dot(x: &[i8], y: &[i8]) -> i32 {
    let products = x.iter().zip(y).map(|(&x, &y)| i32::from(x) * i32::from(y));
    products.fold(0, i32::wrapping_add)
}
