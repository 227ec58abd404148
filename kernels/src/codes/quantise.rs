//! One row to 8-bit codes, and what is known of their error.

use bytemuck::{Pod, Zeroable};
use pulp::{Simd, WithSimd};

use super::{
    limits::{HUGE, LINE, TINY, largest_code, rounding},
    range::{centred, extreme, padded},
    scale::scale,
};
use crate::{
    base::{error::Result, isa::Isa},
    rows::{finite::check_finite, matrix::Rows, scalar::Scalar, shape::check_len},
    simd::{
        lanes::{LANES, halve},
        prefetch::AHEAD,
    },
};

/// What is known of one row besides its codes.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Approximation {
    /// What a code of 1 stands for; positive.
    pub scale: f32,
    /// At least ‖x − s·q‖; infinite where a distance in single precision could overflow.
    pub residual: f32,
    /// Σ q².
    pub square: i32,
    /// Σ q.
    pub sum: i32,
}

impl Approximation {
    /// Makes it one of a row whose values were rounded before, each by so much of itself at most.
    pub(super) fn round(&mut self, unit: f64) {
        let length = f64::from(self.scale) * f64::from(self.square).sqrt();
        let residual = f64::from(self.residual);
        // Of the row before rounding, to which twice the unit leaves room.
        self.residual = ((residual + 2.0 * unit * (length + residual)) as f32).next_up();
    }
}

/// Rows of at most so many values, the largest within these limits, lose nothing that counts when
/// they are quantised in single precision, if that is what they are given in.
const SINGLE_DIM: usize = 8192;
const SINGLE: std::ops::Range<f64> = 1.0 / (1_u64 << 40) as f64..(1_u64 << 50) as f64;

/// Where the rows come from that are quantised.
pub(super) trait Source<T>: Sync {
    /// A row, where it lies or in `room`.
    fn row<'r>(&'r self, index: usize, room: &'r mut Vec<T>) -> Result<&'r [T]>;
}

impl<T: Scalar> Source<T> for Rows<'_, T> {
    #[inline(always)]
    fn row<'r>(&'r self, index: usize, room: &'r mut Vec<T>) -> Result<&'r [T]> {
        if index + AHEAD < self.len() {
            self.prefetch(index + AHEAD);
        }
        Ok(self.row_in(index, room))
    }
}

/// A function that appends the values of a row, of which there are to be so many.
pub(super) struct Filled<F> {
    pub(super) fill: F,
    pub(super) dim: usize,
}

impl<T: Scalar, F: Fn(usize, &mut Vec<T>) + Sync> Source<T> for Filled<F> {
    #[inline(always)]
    fn row<'r>(&'r self, index: usize, room: &'r mut Vec<T>) -> Result<&'r [T]> {
        room.clear();
        (self.fill)(index, room);
        check_len("the values of a row", room.len(), self.dim)?;
        Ok(room)
    }
}

/// Quantises as many rows as there is memory for, from `first` on.
pub(super) struct QuantiseRows<'a, T, R> {
    pub(super) rows: &'a R,
    pub(super) first: usize,
    pub(super) dim: usize,
    /// What values are counted from, if not from zero.
    pub(super) centre: Option<&'a [T]>,
    /// The common scale.
    pub(super) common: f64,
    pub(super) codes: &'a mut [i8],
    pub(super) approximations: &'a mut [Approximation],
    pub(super) isa: Isa,
}

impl<T: Scalar, R: Source<T>> WithSimd for QuantiseRows<'_, T, R> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Result<()> {
        let largest = largest_code(self.dim);
        let double = size_of::<T>() == size_of::<f64>();
        let small = self.dim <= SINGLE_DIM;
        let (mut room, mut moved, mut wide) = (Vec::new(), Vec::new(), Vec::new());
        let codes = self.codes.chunks_exact_mut(self.dim.next_multiple_of(LINE));
        for ((index, codes), approximation) in (self.first..).zip(codes).zip(self.approximations) {
            let row = self.rows.row(index, &mut room)?;
            let values = centred(row, self.centre, &mut moved);
            let extreme = extreme(simd, values);
            if !extreme.is_finite() {
                // Or else it is the difference from the centre that overflows, whose error is infinite.
                check_finite(Rows::new(row, self.dim)?, self.isa)
                    .map_err(|error| error.after(index))?;
            }
            let scale = scale(extreme, largest, self.common);
            *approximation = if double || small && SINGLE.contains(&extreme) {
                quantise_row(simd, values, codes, scale, largest)
            } else {
                wide.clear();
                wide.extend(values.iter().map(|value| value.to_f64()));
                quantise_row(simd, &wide, codes, scale, largest)
            };
            if self.centre.is_some() {
                approximation.round(T::UNIT_ROUNDOFF);
            }
        }
        Ok(())
    }
}

/// Quantises one row of finite values. In single precision the products of scale and codes are
/// exact, and so are the sums of codes and squares: no matter then whether they are fused.
#[inline(always)]
fn quantise_row<S: Simd, T: Scalar>(
    simd: S,
    values: &[T],
    codes: &mut [i8],
    scale: f64,
    largest: f64,
) -> Approximation {
    match LANES / T::lanes::<S>() {
        2 => quantise_row_by::<S, T, 2>(simd, values, codes, scale, largest),
        4 => quantise_row_by::<S, T, 4>(simd, values, codes, scale, largest),
        8 => quantise_row_by::<S, T, 8>(simd, values, codes, scale, largest),
        16 => quantise_row_by::<S, T, 16>(simd, values, codes, scale, largest),
        _ => quantise_row_by::<S, T, LANES>(simd, values, codes, scale, largest),
    }
}

/// [`quantise_row`] where `V` vectors are all lanes.
#[inline(always)]
fn quantise_row_by<S: Simd, T: Scalar, const V: usize>(
    simd: S,
    values: &[T],
    codes: &mut [i8],
    scale: f64,
    largest: f64,
) -> Approximation {
    let splat = |value: f64| T::splat(simd, T::from_f64(value));
    let (inverse, minus_scale) = (splat(1.0 / scale), splat(-scale));
    let (most, least) = (splat(largest), splat(-largest));
    // Added and taken away, it rounds to an integer, and leaves it in the low bits in between.
    let shift = T::splat(simd, T::SHIFT);
    let zero = splat(0.0);
    let (mut residuals, mut squares, mut sums) = ([zero; V], [zero; V], [zero; V]);
    let (chunks, rest) = values.as_chunks();
    let rest = padded(rest);
    // Beyond the rest there is padding, of zeros already.
    let to_codes = codes.as_chunks_mut::<LANES>().0;
    for (chunk, to_codes) in to_codes
        .iter_mut()
        .enumerate()
        .take(values.len().div_ceil(LANES))
    {
        let lanes = T::vectors::<S>(chunks.get(chunk).unwrap_or(&rest));
        let mut words = [shift; V];
        for at in 0..V {
            let code = T::times(simd, lanes[at], inverse);
            let code = T::larger(simd, T::smaller(simd, code, most), least);
            words[at] = T::plus(simd, code, shift);
            let code = T::minus(simd, words[at], shift);
            let off = T::times_plus(simd, code, minus_scale, lanes[at]);
            residuals[at] = T::plus(simd, residuals[at], T::times(simd, off, off));
            squares[at] = T::times_plus(simd, code, code, squares[at]);
            sums[at] = T::plus(simd, sums[at], code);
        }
        let mut rounded = [T::ZERO; LANES];
        rounded.copy_from_slice(T::values::<S>(&words));
        for lane in 0..LANES {
            to_codes[lane] = rounded[lane].low_byte();
        }
    }
    let sum = |vectors: [T::Vector<S>; V]| {
        let mut lanes = [0.0; LANES];
        for (lane, value) in lanes.iter_mut().zip(T::values::<S>(&vectors)) {
            *lane = value.to_f64();
        }
        halve(&mut lanes, |x, y| x + y)
    };
    let (residual2, square) = (sum(residuals), sum(squares));
    let huge = scale * scale * square > HUGE || residual2 > HUGE || residual2.is_nan();
    Approximation {
        scale: scale as f32,
        residual: if huge {
            f32::INFINITY
        } else {
            let rounding = 2.0 * rounding(values.len());
            (residual2.sqrt() * (1.0 + rounding) + TINY) as f32
        },
        square: square as i32,
        sum: sum(sums) as i32,
    }
}
