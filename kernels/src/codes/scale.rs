//! Scales of codes: one that fits most rows, from which those of single rows differ by powers of two,
//! and the centre that rows are counted from where that makes codes finer.

use pulp::{Simd, WithSimd};

use super::{
    limits::{SCALES, largest_code},
    range::{centred, extreme},
};
use crate::{
    base::isa::Isa,
    rows::{matrix::Rows, narrow::Narrow, scalar::Scalar},
    simd::dispatch::dispatch,
};

/// The largest scale of rows of zeros, which have the common one so as to be with most others: its
/// square fits single precision.
const ZEROS: f64 = (1_u64 << 60) as f64;

/// Rows of a sample that the scales are made for, and the share of them that the most common
/// scale is large enough for.
const SAMPLE: usize = 1000;
const SHARE: f64 = 0.99;

/// Rows of a sample that the centre is made from, and how much finer codes have to be for its sake:
/// there are rows whose codes are exact as they are.
const CENTRED: usize = 101;
const FINER: f64 = 0.75;

/// Unsigned integers of 8 bits are counted from here, so as to fit codes (but for 255, whose row has
/// twice the scale).
const MIDDLE: f64 = 127.0;

/// The scale that fits nearly all of a sample of rows.
///
/// It has 16 significant bits, so that its products with codes are exact in single precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommonScale(pub(super) f64);

impl CommonScale {
    /// The scale for rows like these less a centre. That of 8-bit integers is 1: less a centre of whole
    /// numbers, they are then their own codes, and nothing is left out.
    pub fn of<T: Scalar>(rows: Rows<'_, T>, centre: Option<&[T]>, isa: Isa) -> Self {
        if rows.are_integers() && largest_code(rows.dim()) >= MIDDLE {
            return Self(1.0);
        }
        Self(dispatch(isa, ScaleOf { rows, centre }))
    }

    /// The number to keep it as.
    pub fn to_bits(self) -> u32 {
        (self.0 as f32).to_bits()
    }

    /// The scale that was kept as this number; `None` when there is no such scale.
    ///
    /// ```
    /// use lshjoin_kernels::{CommonScale, Isa, Rows};
    ///
    /// let scale = CommonScale::of(Rows::new(&[0.5_f32, -3.0], 2).unwrap(), None, Isa::SCALAR);
    /// assert_eq!(CommonScale::from_bits(scale.to_bits()), Some(scale));
    /// assert_eq!(CommonScale::from_bits(f32::NAN.to_bits()), None);
    /// ```
    pub fn from_bits(bits: u32) -> Option<Self> {
        let scale = f64::from(f32::from_bits(bits));
        let (least, most) = SCALES;
        (bits & 0xff == 0 && (least..=most).contains(&scale)).then_some(Self(scale))
    }
}

/// Where rows like these lie, if codes of how they differ from it are finer than those of the rows
/// themselves: the medians of a sample. Distances don't change when all rows are moved, but codes have
/// few steps, and none to spare for what all rows have in common.
///
/// ```
/// use lshjoin_kernels::{Isa, Rows, centre_of};
///
/// let rows = Rows::new(&[1001.0_f32, 1002.0, 1003.0], 1)?;
/// assert_eq!(centre_of(rows, Isa::best()), Some(vec![1002.0]));
/// let around_zero = Rows::new(&[-2.0_f32, -1.0, 0.0, 1.0, 2.0], 1)?;
/// assert_eq!(centre_of(around_zero, Isa::best()), None);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
pub fn centre_of<T: Scalar>(rows: Rows<'_, T>, isa: Isa) -> Option<Vec<T>> {
    if rows.is_empty() {
        return None;
    }
    match rows.stored() {
        Some(Narrow::U8(_)) => return Some(vec![T::from_f64(MIDDLE); rows.dim()]),
        Some(Narrow::I8(_)) => return None,
        _ => {}
    }
    let step = rows.len().div_ceil(CENTRED);
    let sample: Vec<_> = (0..rows.len())
        .step_by(step)
        .map(|row| rows.row(row))
        .collect();
    let mut column = Vec::new();
    let mut median = |at: usize| {
        column.clear();
        column.extend(sample.iter().map(|row| row[at]));
        let middle = column.len() / 2;
        let order = |x: &T, y: &T| x.to_f64().total_cmp(&y.to_f64());
        *column.select_nth_unstable_by(middle, order).1
    };
    let centre: Vec<T> = (0..rows.dim()).map(&mut median).collect();
    let CommonScale(with) = CommonScale::of(rows, Some(&centre), isa);
    let CommonScale(without) = CommonScale::of(rows, None, isa);
    (with <= FINER * without).then_some(centre)
}

struct ScaleOf<'a, T> {
    rows: Rows<'a, T>,
    centre: Option<&'a [T]>,
}

impl<T: Scalar> WithSimd for ScaleOf<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let rows = self.rows;
        let step = rows.len().div_ceil(SAMPLE).max(1);
        let (mut extremes, mut values, mut room) = (Vec::new(), Vec::new(), Vec::new());
        for row in (0..rows.len()).step_by(step) {
            let row = rows.row_in(row, &mut room);
            let extreme = extreme(simd, centred(row, self.centre, &mut values));
            if extreme > 0.0 && extreme.is_finite() {
                extremes.push(extreme);
            }
        }
        if extremes.is_empty() {
            return 1.0;
        }
        let position = ((extremes.len() - 1) as f64 * SHARE) as usize;
        let (_, &mut extreme, _) = extremes.select_nth_unstable_by(position, f64::total_cmp);
        let scale = (extreme / largest_code(rows.dim())).clamp(SCALES.0, SCALES.1) as f32;
        let scale = f32::from_bits((scale.to_bits() + 0xff) & !0xff);
        f64::from(scale)
    }
}

/// `common` times the least power of two with which `extreme` fits `largest`.
pub(super) fn scale(extreme: f64, largest: f64, common: f64) -> f64 {
    if extreme == 0.0 {
        return common.min(ZEROS);
    }
    let bits = (extreme / (largest * common)).to_bits();
    let exponent = (bits >> (f64::MANTISSA_DIGITS - 1)) as i32 - (f64::MAX_EXP - 1);
    let fraction = bits << (u64::BITS + 1 - f64::MANTISSA_DIGITS);
    let power = (exponent + i32::from(fraction != 0)).clamp(-300, 300);
    let (least, most) = SCALES;
    let (mut scale, factor) = (common, if power > 0 { 2.0 } else { 0.5 });
    for _ in 0..power.unsigned_abs() {
        let next = scale * factor;
        if next < least || next > most {
            break;
        }
        scale = next;
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_the_least_that_fit() {
        for (extreme, expected) in [
            (0.0, 1.0),
            (100.0, 1.0),
            (50.0, 0.5),
            (50.1, 1.0),
            (100.1, 2.0),
            (200.0, 2.0),
            (1e6, 16384.0),
            (f64::from_bits(1), SCALES.0),
            (f64::MAX, SCALES.1),
        ] {
            assert_eq!(scale(extreme, 100.0, 1.0), expected, "{extreme:e}");
        }
    }
}
