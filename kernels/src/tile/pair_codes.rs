//! Distances of single pairs of rows by their codes, where tiles would hold few pairs of use.

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

/// Sets `out` to bounds on the Euclidean distances of pairs of a row of `left` and one of `right`: those
/// that [`near_pairs`](crate::near_pairs) gives.
///
/// ```
/// use lshjoin_kernels::{Isa, Quantised, Rows, code_intervals};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[0.0_f32, 0.0, 3.0, 4.0], 2)?, isa)?;
/// let mut out = Vec::new();
/// code_intervals(&rows, &rows, &[(0, 1)], &mut out, isa)?;
/// let (lower, upper) = out[0];
/// assert!(4.9 < lower && lower <= 5.0 && 5.0 <= upper && upper < 5.1);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// As [`code_distances`].
pub fn code_intervals(
    left: &Quantised,
    right: &Quantised,
    pairs: &[(u32, u32)],
    out: &mut Vec<(f32, f32)>,
    isa: Isa,
) -> Result<()> {
    check_len("codes of the right side", right.dim(), left.dim())?;
    check_indices("left rows", pairs.iter().map(|pair| pair.0), left.len())?;
    check_indices("right rows", pairs.iter().map(|pair| pair.1), right.len())?;
    out.clear();
    memory::reserve(out, pairs.len(), "distances")?;
    let intervals = PairIntervals {
        left,
        right,
        pairs,
        out,
    };
    dispatch(isa, intervals);
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
        let left = LeftRow::new(self.left, self.row);
        for (at, &other) in self.others.iter().enumerate() {
            self.right.prefetch(self.others.get(at + AHEAD));
            self.out.push(left.interval(self.right, other as usize).1);
        }
    }
}

struct PairIntervals<'a> {
    left: &'a Quantised<'a>,
    right: &'a Quantised<'a>,
    pairs: &'a [(u32, u32)],
    out: &'a mut Vec<(f32, f32)>,
}

impl WithSimd for PairIntervals<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (at, &(row, other)) in self.pairs.iter().enumerate() {
            let ahead = self.pairs.get(at + AHEAD);
            self.right.prefetch(ahead.map(|(_, other)| other));
            let left = LeftRow::new(self.left, row as usize);
            self.out.push(left.interval(self.right, other as usize));
        }
    }
}

/// The row of a pair that is the same for several of them.
struct LeftRow<'a> {
    codes: &'a [i8],
    scale: f64,
    square: f32,
    residual: f32,
    rounding: f32,
}

impl<'a> LeftRow<'a> {
    #[inline(always)]
    fn new(side: &'a Quantised<'a>, row: usize) -> Self {
        let known = side.row(row);
        let scale = f64::from(known.scale);
        Self {
            codes: side.codes(row),
            scale,
            square: square(scale, known.square),
            residual: known.residual,
            rounding: with_rounding(rounding(side.dim())),
        }
    }

    /// Bounds on its distance to a row of another side.
    #[inline(always)]
    fn interval(&self, right: &Quantised, other: usize) -> (f32, f32) {
        let known = right.row(other);
        let dot = dot(self.codes, right.codes(other));
        let scale = f64::from(known.scale);
        let squares = self.square + square(scale, known.square);
        let distance2 = squares - (2.0 * self.scale * scale) as f32 * dot as f32;
        let residuals = self.residual + known.residual;
        interval(squares, distance2, residuals, self.rounding)
    }
}

/// Exact: codes of rows are small enough; others, of damaged files, wrap round. A plain sum, in which
/// compilers recognise products of 16-bit words that are added up two by two.
#[inline(always)]
fn dot(x: &[i8], y: &[i8]) -> i32 {
    let products = x.iter().zip(y).map(|(&x, &y)| i32::from(x) * i32::from(y));
    products.fold(0, i32::wrapping_add)
}
