//! Rows as 8-bit codes with a proven error: what the tiles filter on.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    error::{KernelError, Result},
    finite::check_finite,
    isa::Isa,
    rows::{Rows, Scalar},
    simd::dispatch,
};

/// Codes are stored in rows of whole cache lines: 64 codes, one step of an AMX tile.
pub(crate) const LINE: usize = 64;

/// Rows that one task of the thread pool quantises.
const ROWS_PER_TASK: usize = 128;

/// Rows x approximated by s·q: q of 8-bit integers, s one scale a row, and a bound on ‖x − s·q‖.
///
/// From q·q′, which is exact in 32 bits, and the two bounds e and e′ follows a lower bound on a
/// distance: ‖x − x′‖ ≥ ‖s·q − s′·q′‖ − e − e′ (the triangle inequality).
///
/// ```
/// use lshjoin_kernels::{Isa, Quantised, Rows};
///
/// let rows = Rows::new(&[3.0_f32, 4.0, -1.0, 0.5], 2)?;
/// let quantised = Quantised::new(rows, Isa::best())?;
/// assert_eq!((quantised.len(), quantised.dim()), (2, 2));
/// assert!(Quantised::new(Rows::new(&[f32::NAN], 1)?, Isa::best()).is_err());
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Quantised {
    dim: usize,
    codes: Vec<i8>,
    rows: Vec<Approximation>,
}

/// What is known of one row besides its codes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Approximation {
    /// What a code of 1 stands for.
    pub scale: f32,
    /// At most ‖s·q‖², by the relative `SLACK`.
    pub norm2: f32,
    /// At least ‖x − s·q‖; infinite where single precision could overflow.
    pub residual: f32,
    /// Σ q.
    pub sum: i32,
}

/// Relative room for the roundings of the test in single precision: it makes fewer than eight,
/// each of at most 2⁻²⁴ of the sum of both squared norms.
pub(crate) const SLACK: f64 = 1.0 / (1 << 20) as f64;

/// Absolute room for underflow: its square is far above the smallest normal single.
const TINY: f64 = 1.0 / (1_u64 << 60) as f64;

/// Squared norms above this could overflow in the test.
const HUGE: f64 = 1e36;

impl Quantised {
    /// Quantises each row, on the current rayon pool.
    ///
    /// # Errors
    /// [`NotFinite`](crate::KernelError::NotFinite) for NaN or infinity.
    pub fn new<T: Scalar>(rows: Rows<'_, T>, isa: Isa) -> Result<Self> {
        let (n, dim) = (rows.len(), rows.dim());
        let stride = dim.next_multiple_of(LINE);
        // Zeroed by the system as it is touched: the pages are first written by the tasks.
        let mut codes = vec![0; n * stride];
        let mut approximations = vec![Approximation::default(); n];
        let finite = codes
            .par_chunks_mut(ROWS_PER_TASK * stride)
            .zip(approximations.par_chunks_mut(ROWS_PER_TASK))
            .zip(rows.values().par_chunks(ROWS_PER_TASK * dim))
            .map(|((codes, approximations), values)| {
                dispatch(
                    isa,
                    QuantiseRows {
                        values,
                        dim,
                        codes,
                        approximations,
                    },
                )
            })
            .reduce(|| true, |left, right| left && right);
        if !finite {
            check_finite(rows, isa)?;
        }
        Ok(Self {
            dim,
            codes,
            rows: approximations,
        })
    }

    /// The same rows in another order: row `order[i]` becomes row i.
    ///
    /// # Errors
    /// [`RowOutOfRange`](crate::KernelError::RowOutOfRange).
    pub fn reordered(&self, order: &[u32]) -> Result<Self> {
        if let Some(&row) = order.iter().find(|&&row| row as usize >= self.len()) {
            return Err(KernelError::RowOutOfRange {
                what: "the order's rows",
                index: row as usize,
                rows: self.len(),
            });
        }
        let stride = self.dim.next_multiple_of(LINE);
        let mut codes = vec![0; order.len() * stride];
        codes
            .par_chunks_mut(stride)
            .zip(order)
            .for_each(|(codes, &row)| codes.copy_from_slice(self.codes(row as usize)));
        let rows = order.iter().map(|&row| self.rows[row as usize]).collect();
        Ok(Self {
            dim: self.dim,
            codes,
            rows,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Values per row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The codes of row `index`, zeros up to a whole number of lines.
    pub(crate) fn codes(&self, index: usize) -> &[i8] {
        let stride = self.dim.next_multiple_of(LINE);
        &self.codes[index * stride..][..stride]
    }

    pub(crate) fn row(&self, index: usize) -> Approximation {
        self.rows[index]
    }
}

/// Relative error, generously, of a distance over `dim` values that is computed in single
/// precision; bounds are widened by it.
pub(crate) fn rounding(dim: usize) -> f64 {
    SLACK + (dim + 8) as f64 / (1 << 24) as f64
}

/// The largest code for which the dot product of two rows fits 32 bits.
fn largest_code(dim: usize) -> f64 {
    (f64::from(i32::MAX) / dim as f64).sqrt().floor().min(127.0)
}

/// Quantises some rows; false when a value may not be finite.
struct QuantiseRows<'a, T> {
    values: &'a [T],
    dim: usize,
    codes: &'a mut [i8],
    approximations: &'a mut [Approximation],
}

impl<T: Scalar> WithSimd for QuantiseRows<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let largest = largest_code(self.dim);
        let rounding = rounding(self.dim);
        let mut finite = true;
        for ((values, codes), approximation) in self
            .values
            .chunks_exact(self.dim)
            .zip(self.codes.chunks_exact_mut(self.dim.next_multiple_of(LINE)))
            .zip(self.approximations)
        {
            let (row, residual2) = quantise_row(values, codes, largest, rounding);
            *approximation = row;
            finite &= residual2.is_finite();
        }
        finite
    }
}

const LANES: usize = 16;

/// `f` on each full group of lanes and on the last one, filled with zeros.
#[inline(always)]
fn for_lanes<T: Scalar>(values: &[T], mut f: impl FnMut(Range<usize>, [f64; LANES])) {
    let (full, rest) = values.as_chunks::<LANES>();
    for (index, lanes) in full.iter().enumerate() {
        let start = index * LANES;
        f(start..start + LANES, lanes.map(Scalar::to_f64));
    }
    if !rest.is_empty() {
        let mut lanes = [0.0; LANES];
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane = value.to_f64();
        }
        f(values.len() - rest.len()..values.len(), lanes);
    }
}

/// Quantises one row; also gives ‖x − s·q‖², which is not finite if some value is not.
///
/// In double precision, so that a single's square cannot overflow, nor the residual's error count.
#[inline(always)]
fn quantise_row<T: Scalar>(
    values: &[T],
    codes: &mut [i8],
    largest: f64,
    rounding: f64,
) -> (Approximation, f64) {
    let mut extremes = [0.0_f64; LANES];
    for_lanes(values, |_, lanes| {
        for (extreme, value) in extremes.iter_mut().zip(lanes) {
            let size = value.abs();
            *extreme = if size > *extreme { size } else { *extreme };
        }
    });
    let extreme = extremes.into_iter().fold(0.0, f64::max);
    // Above the largest code by rounding at most; `clamp` below keeps a denormal scale in range.
    let scale = (extreme / largest) as f32;
    let inverse = if scale > 0.0 && scale.is_finite() {
        1.0 / f64::from(scale)
    } else {
        0.0
    };
    let scale = if inverse > 0.0 { scale } else { 0.0 };

    // Adding and taking away 1.5·2⁵² rounds to an integer, and leaves it in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let mut residuals = [0.0_f64; LANES];
    let mut squares = [0.0_f64; LANES];
    let mut sums = [0_i32; LANES];
    for_lanes(values, |range, lanes| {
        let mut rounded = [0_i8; LANES];
        for lane in 0..LANES {
            let code = (lanes[lane] * inverse).clamp(-largest, largest) + ROUND;
            rounded[lane] = code.to_bits() as i8;
            let code = code - ROUND;
            let off = lanes[lane] - f64::from(scale) * code;
            residuals[lane] += off * off;
            squares[lane] += code * code;
            sums[lane] += i32::from(rounded[lane]);
        }
        let length = range.len();
        codes[range].copy_from_slice(&rounded[..length]);
    });
    let residual2: f64 = residuals.into_iter().sum();
    let norm2 = f64::from(scale).powi(2) * squares.into_iter().sum::<f64>();
    let residual = residual2.sqrt() * (1.0 + rounding) + TINY;
    let huge = norm2 > HUGE || residual2 > HUGE || !residual2.is_finite();
    let approximation = Approximation {
        scale,
        norm2: if huge {
            0.0
        } else {
            (norm2 * (1.0 - SLACK)) as f32
        },
        residual: if huge { f32::INFINITY } else { residual as f32 },
        sum: sums.into_iter().sum(),
    };
    (approximation, residual2)
}
