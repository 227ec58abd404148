//! Rows as 8-bit codes with a proven error: what the tiles filter on.

use std::{borrow::Cow, ops::Range};

use bytemuck::{Pod, Zeroable};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    distance::{prefetch, same_dimension},
    error::{KernelError, Result},
    finite::check_finite,
    isa::Isa,
    memory,
    rows::{Rows, Scalar},
    simd::dispatch,
    tile::LARGEST_DOT,
    vectors::{LANES, halve, halve_lanes},
};

/// Codes are stored in rows of whole cache lines: 64 codes, one step of an AMX tile.
pub(crate) const LINE: usize = 64;

/// How many rows ahead they are fetched from memory: a row is waited for while it is looked at for
/// the first time, and not while it is quantised.
const AHEAD: usize = 4;

/// Rows that one task of the thread pool quantises.
const ROWS_PER_TASK: usize = 128;

/// Rows x approximated by s·q: q of 8-bit integers, s a scale, and a bound on ‖x − s·q‖.
///
/// Scales differ by powers of two, so that nearly all rows of ordinary data have the same one.
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
pub struct Quantised<'a> {
    dim: usize,
    codes: Cow<'a, [i8]>,
    rows: Cow<'a, [Approximation]>,
}

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
    /// Of a row whose values were rounded before, each by so much of itself at most.
    fn round(&mut self, unit: f64) {
        let length = f64::from(self.scale) * f64::from(self.square).sqrt();
        let residual = f64::from(self.residual);
        // Of the row before rounding, to which twice the unit leaves room.
        self.residual = ((residual + 2.0 * unit * (length + residual)) as f32).next_up();
    }
}

/// Absolute room for underflow: its square is far above the smallest normal single.
const TINY: f64 = 1.0 / (1_u64 << 56) as f64;

/// Squared norms above this could overflow in single precision.
const HUGE: f64 = 1e36;

/// Scales are one number times a power of two within these limits.
const SCALES: (f64, f64) = (1.0 / (1_u128 << 100) as f64, (1_u128 << 118) as f64);

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

/// What memory is asked for.
const CODES: &str = "8-bit codes";

impl<'a> Quantised<'a> {
    /// Bytes of what is known of a row besides its codes, as [`Quantised::parts`] gives it.
    pub const KNOWN: usize = size_of::<Approximation>();

    /// Quantises each row, on the current rayon pool.
    ///
    /// # Errors
    /// [`NotFinite`](crate::KernelError::NotFinite) for NaN or infinity,
    /// [`Memory`](crate::KernelError::Memory).
    pub fn new<T: Scalar>(rows: Rows<'_, T>, isa: Isa) -> Result<Self> {
        Self::with_scale(rows, None, CommonScale::of(rows, None, isa), isa)
    }

    /// The same less a [centre](centre_of), from which all rows that are compared have to be counted,
    /// and by the scale of other rows: for rows that come in parts.
    ///
    /// # Errors
    /// As [`Quantised::new`], and [`Shape`](KernelError::Shape) when the centre is not of the rows'
    /// dimension.
    pub fn with_scale<T: Scalar>(
        rows: Rows<'_, T>,
        centre: Option<&[T]>,
        CommonScale(common): CommonScale,
        isa: Isa,
    ) -> Result<Self> {
        let (n, dim) = (rows.len(), rows.dim());
        if let Some(centre) = centre {
            same_dimension("the centre", centre.len(), dim)?;
        }
        let stride = dim.next_multiple_of(LINE);
        // The pages are first written by the tasks.
        let mut codes = memory::zeroed_on_huge_pages(n.saturating_mul(stride), CODES)?;
        let mut approximations: Vec<Approximation> = memory::zeroed(n, CODES)?;
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
                        centre,
                        common,
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
            codes: codes.into(),
            rows: approximations.into(),
        })
    }

    /// Codes per row as they are kept: the dimension, filled up to whole cache lines.
    pub fn stride(dim: usize) -> usize {
        dim.next_multiple_of(LINE)
    }

    /// The codes, (rows, stride), and what is known of each row besides, (rows, 16) bytes: to be
    /// kept, and viewed by [`Quantised::from_parts`] on any machine of the same byte order.
    pub fn parts(&self) -> (&[i8], &[u8]) {
        (&self.codes, bytemuck::cast_slice(&self.rows))
    }

    /// What [`Quantised::parts`] gave, where it lies. Other numbers than those are no danger to
    /// memory, but make a filter that is none: [`Quantised::unsound`] and [`Quantised::uncovered`]
    /// tell.
    ///
    /// # Errors
    /// [`NoDimension`](KernelError::NoDimension), or [`Shape`](KernelError::Shape) when the parts
    /// are not of the same number of rows, or `known` is not aligned to 4 bytes.
    pub fn from_parts(dim: usize, codes: &'a [i8], known: &'a [u8]) -> Result<Self> {
        if dim == 0 {
            return Err(KernelError::NoDimension);
        }
        let rows = known.len() / Self::KNOWN;
        let shape = |what, got, expected| KernelError::Shape {
            what,
            got,
            expected,
        };
        if codes.len() != rows * Self::stride(dim) {
            return Err(shape("codes", codes.len(), rows * Self::stride(dim)));
        }
        Ok(Self {
            dim,
            codes: codes.into(),
            rows: bytemuck::try_cast_slice(known)
                .map_err(|_| shape("what is known of rows", known.len(), rows * Self::KNOWN))?
                .into(),
        })
    }

    /// The first of these rows that can't have been quantised, whatever its values. Where there is
    /// none, the filter compares numbers, in sums that fit, and a panel has few kinds of bands.
    ///
    /// Panics when out of range, as slices do.
    pub fn unsound(&self, rows: Range<usize>) -> Option<usize> {
        let most = largest_code(self.dim) as i8;
        let fraction = |scale: f32| scale.to_bits() & ((1 << (f32::MANTISSA_DIGITS - 1)) - 1);
        let common = self.rows.first().map_or(0, |row| fraction(row.scale));
        let first = rows.start;
        let unsound = rows.into_par_iter().position_first(|index| {
            let (known, codes) = (self.rows[index], self.codes(index));
            let (codes, padding) = codes.split_at(self.dim);
            let (mut sum, mut square) = (0, 0);
            // As many as have sums that fit.
            for codes in codes.chunks(LINE) {
                let codes = codes.iter().map(|&code| i32::from(code));
                sum += i64::from(codes.clone().sum::<i32>());
                square += i64::from(codes.map(|code| code * code).sum::<i32>());
            }
            let scale = f64::from(known.scale);
            let huge = scale * scale * square as f64 > HUGE;
            !((SCALES.0..=SCALES.1).contains(&scale)
                && fraction(known.scale) == common
                && known.residual >= 0.0
                && (!huge || known.residual == f32::INFINITY)
                && (sum, square) == (known.sum.into(), known.square.into())
                && codes.iter().all(|code| (-most..=most).contains(code))
                && padding.iter().all(|&code| code == 0))
        });
        unsound.map(|place| first + place)
    }

    /// The first row that is further from where its codes are, counted from `centre` if there is one,
    /// than is said of it: `rows` are not what was quantised.
    ///
    /// # Errors
    /// [`Shape`](KernelError::Shape) when there are not as many rows, or they or the centre are of another
    /// dimension.
    pub fn uncovered<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        centre: Option<&[T]>,
    ) -> Result<Option<usize>> {
        let zeros = vec![T::ZERO; self.dim];
        let centre = centre.unwrap_or(&zeros);
        same_dimension("the centre", centre.len(), self.dim)?;
        same_dimension("rows", rows.dim(), self.dim)?;
        if rows.len() != self.len() {
            return Err(KernelError::Shape {
                what: "rows",
                got: rows.len(),
                expected: self.len(),
            });
        }
        Ok((0..self.len()).into_par_iter().position_first(|index| {
            let known = self.rows[index];
            let scale = f64::from(known.scale);
            let codes = self.codes(index).iter().map(|&code| f64::from(code));
            let off = rows.row(index).iter().zip(centre).zip(codes);
            let off = off.map(|((value, middle), code)| {
                (value.to_f64() - middle.to_f64() - scale * code).powi(2)
            });
            let far = off.sum::<f64>().sqrt();
            // What is not a number is not covered.
            let covered = far <= f64::from(known.residual);
            !covered
        }))
    }

    /// Codes of no rows, of this dimension.
    ///
    /// # Errors
    /// [`NoDimension`](KernelError::NoDimension).
    pub fn empty(dim: usize) -> Result<Quantised<'static>> {
        if dim == 0 {
            return Err(KernelError::NoDimension);
        }
        Ok(Quantised {
            dim,
            codes: Cow::default(),
            rows: Cow::default(),
        })
    }

    /// Adds the rows of `other` after these.
    ///
    /// # Errors
    /// [`Shape`](KernelError::Shape) when they are of another dimension,
    /// [`Memory`](KernelError::Memory).
    pub fn append(&mut self, other: &Quantised<'_>) -> Result<()> {
        same_dimension("rows to append", other.dim, self.dim)?;
        let (codes, rows) = (self.codes.to_mut(), self.rows.to_mut());
        memory::reserve(codes, other.codes.len(), CODES)?;
        memory::reserve(rows, other.rows.len(), CODES)?;
        codes.extend_from_slice(&other.codes);
        rows.extend_from_slice(&other.rows);
        Ok(())
    }

    /// Lets a row be so much further from where its codes are, in Euclidean distance; infinity lets
    /// nothing be known of it, so that its pairs pass every filter. For rows whose distances are not
    /// quite, or not at all, those of what was quantised.
    ///
    /// # Errors
    /// [`RowOutOfRange`](KernelError::RowOutOfRange).
    pub fn doubt(&mut self, row: usize, error: f32) -> Result<()> {
        let rows = self.len();
        let Some(known) = self.rows.to_mut().get_mut(row) else {
            return Err(KernelError::RowOutOfRange {
                what: "doubts",
                index: row,
                rows,
            });
        };
        // What is not a number, or below 0, is no error.
        known.residual = (known.residual + error.max(0.0)).next_up();
        Ok(())
    }

    /// The rows `range.start..range.end`, where they lie. Panics when out of range, as slices do.
    pub fn slice(&self, range: Range<usize>) -> Quantised<'_> {
        let stride = Self::stride(self.dim);
        Quantised {
            dim: self.dim,
            codes: self.codes[range.start * stride..range.end * stride].into(),
            rows: self.rows[range].into(),
        }
    }

    /// The same rows in another order: row `order[i]` becomes row i.
    ///
    /// # Errors
    /// [`RowOutOfRange`](crate::KernelError::RowOutOfRange), [`Memory`](crate::KernelError::Memory).
    pub fn reordered(&self, order: &[u32]) -> Result<Quantised<'static>> {
        if let Some(&row) = order.iter().find(|&&row| row as usize >= self.len()) {
            return Err(KernelError::RowOutOfRange {
                what: "the order's rows",
                index: row as usize,
                rows: self.len(),
            });
        }
        let stride = self.dim.next_multiple_of(LINE);
        let mut codes = memory::zeroed_on_huge_pages(order.len().saturating_mul(stride), CODES)?;
        codes
            .par_chunks_mut(stride)
            .zip(order)
            .for_each(|(codes, &row)| codes.copy_from_slice(self.codes(row as usize)));
        let rows = order.iter().map(|&row| self.rows[row as usize]);
        Ok(Quantised {
            dim: self.dim,
            codes: codes.into(),
            rows: memory::collect(rows, CODES)?.into(),
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

    /// What a code of 1 stands for in row `index`, if there is one. Panels hold rows of one scale
    /// together.
    pub fn scale(&self, index: usize) -> Option<f32> {
        self.rows.get(index).map(|row| row.scale)
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
    (dim + 24) as f64 / (1 << 24) as f64
}

/// The largest code for which the dot products of rows stay in bounds.
fn largest_code(dim: usize) -> f64 {
    let largest = f64::from(LARGEST_DOT) / dim as f64;
    largest.sqrt().floor().min(127.0)
}

/// The scale that fits nearly all of a sample of rows.
///
/// It has 16 significant bits, so that its products with codes are exact in single precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommonScale(f64);

impl CommonScale {
    /// The scale for rows like these less a centre.
    pub fn of<T: Scalar>(rows: Rows<'_, T>, centre: Option<&[T]>, isa: Isa) -> Self {
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
    let step = rows.len().div_ceil(CENTRED);
    let mut column = Vec::new();
    let mut median = |at: usize| {
        column.clear();
        column.extend((0..rows.len()).step_by(step).map(|row| rows.row(row)[at]));
        let middle = column.len() / 2;
        let order = |x: &T, y: &T| x.to_f64().total_cmp(&y.to_f64());
        *column.select_nth_unstable_by(middle, order).1
    };
    let centre: Vec<T> = (0..rows.dim()).map(&mut median).collect();
    let CommonScale(with) = CommonScale::of(rows, Some(&centre), isa);
    let CommonScale(without) = CommonScale::of(rows, None, isa);
    (with <= FINER * without).then_some(centre)
}

/// The row less the centre, where there is one.
#[inline(always)]
fn centred<'a, T: Scalar>(row: &'a [T], centre: Option<&[T]>, centred: &'a mut Vec<T>) -> &'a [T] {
    let Some(centre) = centre else {
        return row;
    };
    centred.clear();
    centred.extend(
        row.iter()
            .zip(centre)
            .map(|(&value, &middle)| value - middle),
    );
    centred
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
        let (mut extremes, mut values) = (Vec::new(), Vec::new());
        for row in (0..rows.len()).step_by(step) {
            let extreme = extreme(simd, centred(rows.row(row), self.centre, &mut values));
            if extreme > 0.0 && extreme.is_finite() {
                extremes.push(extreme);
            }
        }
        if extremes.is_empty() {
            return 1.0;
        }
        let place = ((extremes.len() - 1) as f64 * SHARE) as usize;
        let (_, &mut extreme, _) = extremes.select_nth_unstable_by(place, f64::total_cmp);
        let scale = (extreme / largest_code(rows.dim())).clamp(SCALES.0, SCALES.1) as f32;
        let scale = f32::from_bits((scale.to_bits() + 0xff) & !0xff);
        f64::from(scale)
    }
}

/// `common` times the least power of two with which `extreme` fits `largest`.
fn scale(extreme: f64, largest: f64, common: f64) -> f64 {
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

/// Rows of at most so many values, the largest within these limits, lose nothing that counts when
/// they are quantised in single precision, if that is what they are given in.
const SINGLE_DIM: usize = 8192;
const SINGLE: std::ops::Range<f64> = 1.0 / (1_u64 << 40) as f64..(1_u64 << 50) as f64;

/// Quantises some rows; false when a value may not be finite.
struct QuantiseRows<'a, T> {
    values: &'a [T],
    dim: usize,
    centre: Option<&'a [T]>,
    common: f64,
    codes: &'a mut [i8],
    approximations: &'a mut [Approximation],
}

impl<T: Scalar> WithSimd for QuantiseRows<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let largest = largest_code(self.dim);
        let double = size_of::<T>() == size_of::<f64>();
        let small = self.dim <= SINGLE_DIM;
        let (mut moved, mut wide) = (Vec::new(), Vec::new());
        let mut finite = true;
        let mut ahead = self.values.chunks_exact(self.dim).skip(AHEAD);
        for ((values, codes), approximation) in self
            .values
            .chunks_exact(self.dim)
            .zip(self.codes.chunks_exact_mut(self.dim.next_multiple_of(LINE)))
            .zip(self.approximations)
        {
            if let Some(row) = ahead.next() {
                prefetch(row);
            }
            let values = centred(values, self.centre, &mut moved);
            let extreme = extreme(simd, values);
            finite &= extreme.is_finite();
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
        finite
    }
}

/// What is left of a row after whole chunks, filled up with zeros.
#[inline(always)]
fn padded<T: Scalar>(rest: &[T]) -> [T; LANES] {
    let mut lanes = [T::ZERO; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// The largest magnitude in a row; infinite if some value is not finite.
#[inline(always)]
fn extreme<S: Simd, T: Scalar>(simd: S, values: &[T]) -> f64 {
    let zero = T::splat(simd, T::ZERO);
    // Zero times what is not finite is NaN.
    let (mut largest, mut nothing) = ([zero; LANES], [zero; LANES]);
    let (chunks, rest) = values.as_chunks();
    let rest = padded(rest);
    // Zeros change nothing, where there is no rest.
    for chunk in 0..chunks.len() + 1 {
        let lanes = chunks.get(chunk).unwrap_or(&rest);
        for (at, &values) in T::vectors::<S>(lanes).iter().enumerate() {
            largest[at] = T::larger(simd, T::absolute(simd, values), largest[at]);
            nothing[at] = T::times_plus(simd, values, zero, nothing[at]);
        }
    }
    let nothing = halve_lanes::<S, T>(&mut nothing, |x, y| T::plus(simd, x, y), |x, y| x + y);
    let larger = |x: T, y: T| if x > y { x } else { y };
    let largest = halve_lanes::<S, T>(&mut largest, |x, y| T::larger(simd, x, y), larger);
    if nothing == T::ZERO {
        largest.to_f64()
    } else {
        f64::INFINITY
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
    let splat = |value: f64| T::splat(simd, T::from_f64(value));
    let (inverse, minus_scale) = (splat(1.0 / scale), splat(-scale));
    let (most, least) = (splat(largest), splat(-largest));
    // Added and taken away, it rounds to an integer, and leaves it in the low bits in between.
    let shift = T::splat(simd, T::SHIFT);
    let zero = splat(0.0);
    let (mut residuals, mut squares, mut sums) = ([zero; LANES], [zero; LANES], [zero; LANES]);
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
        let mut words = [shift; LANES];
        for (at, &values) in lanes.iter().enumerate() {
            let code = T::times(simd, values, inverse);
            let code = T::larger(simd, T::smaller(simd, code, most), least);
            words[at] = T::plus(simd, code, shift);
            let code = T::minus(simd, words[at], shift);
            let off = T::times_plus(simd, code, minus_scale, values);
            residuals[at] = T::plus(simd, residuals[at], T::times(simd, off, off));
            squares[at] = T::times_plus(simd, code, code, squares[at]);
            sums[at] = T::plus(simd, sums[at], code);
        }
        let mut rounded = [T::ZERO; LANES];
        rounded.copy_from_slice(T::values::<S>(&words[..lanes.len()]));
        for lane in 0..LANES {
            to_codes[lane] = rounded[lane].low_byte();
        }
    }
    let sum = |vectors: [T::Vector<S>; LANES]| {
        let mut lanes = [0.0; LANES];
        let vectors = &vectors[..LANES / T::lanes::<S>()];
        for (lane, value) in lanes.iter_mut().zip(T::values::<S>(vectors)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::on_each_isa;

    /// Codes and sums one value at a time; the residual in double precision.
    fn reference<T: Scalar>(values: &[T], scale: f64, largest: f64) -> (Vec<i8>, i32, i32, f64) {
        let (mut codes, mut square, mut sum, mut residual2) = (Vec::new(), 0, 0, 0.0);
        for value in values.iter().map(|value| value.to_f64()) {
            let code = (value / scale).round_ties_even().clamp(-largest, largest);
            codes.push(code as i8);
            square += (code * code) as i32;
            sum += code as i32;
            residual2 += (value - scale * code).powi(2);
        }
        (codes, square, sum, residual2.sqrt())
    }

    #[test]
    fn appended_rows_are_those_of_both() {
        let values: Vec<f32> = (0..6 * 70).map(|at| (at * 7919 % 1021) as f32).collect();
        let rows = |range: std::ops::Range<usize>| {
            Rows::new(&values[range.start * 70..range.end * 70], 70).unwrap()
        };
        let scale = CommonScale::of(rows(0..6), None, Isa::SCALAR);
        let of = |range| Quantised::with_scale(rows(range), None, scale, Isa::SCALAR).unwrap();
        let mut parts = Quantised::empty(70).unwrap();
        parts.append(&of(0..2)).unwrap();
        parts.append(&of(2..6)).unwrap();
        assert_eq!(parts.parts(), of(0..6).parts());
        assert!(parts.append(&Quantised::empty(71).unwrap()).is_err());
        assert!(Quantised::empty(0).is_err());
    }

    #[test]
    fn what_was_quantised_is_sound_and_covers_its_rows() {
        for dim in [1, 5, 64, 100] {
            let value =
                |at: usize| ((at * 7919 % 1021) as f32 - 510.0) * 10_f32.powi(at as i32 % 9);
            let mut values: Vec<f32> = (0..40 * dim).map(value).collect();
            values[3 * dim..4 * dim].fill(0.0);
            values[5 * dim] = 1e30;
            let rows = Rows::new(&values, dim).unwrap();
            let mut codes = Quantised::new(rows, Isa::SCALAR).unwrap();
            codes.doubt(3, f32::INFINITY).unwrap();
            assert_eq!(codes.unsound(0..40), None);
            assert_eq!(codes.uncovered(rows, None).unwrap(), None);
            values[7 * dim] += 1e9;
            let rows = Rows::new(&values, dim).unwrap();
            assert_eq!(codes.uncovered(rows, None).unwrap(), Some(7));
            assert!(codes.uncovered(rows.slice(1..40), None).is_err());
        }
    }

    #[test]
    fn what_no_row_has_is_unsound() {
        let values: Vec<f32> = (0..4 * 70).map(|at| (at * 7919 % 1021) as f32).collect();
        let rows = Rows::new(&values, 70).unwrap();
        let sound = Quantised::new(rows, Isa::SCALAR).unwrap();
        let unsound = |change: &dyn Fn(&mut Approximation)| {
            let mut other = sound.clone();
            change(&mut other.rows.to_mut()[2]);
            assert_eq!(other.unsound(1..4), Some(2));
            assert_eq!(other.unsound(0..2), None);
        };
        for scale in [0.0, -1.0, 3.3, 1e-40, 1e38, f32::INFINITY, f32::NAN] {
            unsound(&|row| row.scale = scale);
        }
        unsound(&|row| row.residual = -1.0);
        unsound(&|row| row.residual = f32::NAN);
        unsound(&|row| row.square += 1);
        unsound(&|row| row.square = i32::MIN);
        unsound(&|row| row.sum = i32::MAX);
        unsound(&|row| row.scale *= (1_u64 << 62) as f32);
        for (at, code) in [(0, -128), (0, 7), (69, 0), (70, 1), (127, -1)] {
            let mut other = sound.clone();
            other.codes.to_mut()[2 * 128 + at] = code;
            assert_eq!(other.unsound(0..4), Some(2), "{at} {code}");
        }
    }

    #[test]
    fn doubts_add_up() {
        let rows = Rows::new(&[1.0_f32, 0.3, -2.0, 0.7], 2).unwrap();
        let mut codes = Quantised::new(rows, Isa::SCALAR).unwrap();
        let before = codes.row(1).residual;
        codes.doubt(1, 0.25).unwrap();
        assert!(codes.row(1).residual >= before + 0.25 && codes.row(1).residual < before + 0.26);
        codes.doubt(1, f32::INFINITY).unwrap();
        assert_eq!(codes.row(1).residual, f32::INFINITY);
        assert!(codes.doubt(2, 0.0).is_err());
    }

    fn agrees<T: Scalar>() {
        for dim in [1, 7, 31, 32, 33, 64, 65, 100, 384] {
            // Quarters, so that no product with a scale of a power of two is rounded.
            let value = |at: usize| f64::from((at * 7919 % 1021) as i32 - 510) / 4.0;
            let values: Vec<T> = (0..9 * dim).map(|at| T::from_f64(value(at))).collect();
            on_each_isa(|isa| {
                let quantised = Quantised::new(Rows::new(&values, dim).unwrap(), isa).unwrap();
                let scalar = Quantised::new(Rows::new(&values, dim).unwrap(), Isa::SCALAR).unwrap();
                for (index, row) in values.chunks(dim).enumerate() {
                    let (got, same) = (quantised.row(index), scalar.row(index));
                    let bits = |row: Approximation| (row.scale.to_bits(), row.residual.to_bits());
                    assert_eq!(bits(got), bits(same), "{isa} {dim}");
                    let scale = f64::from(got.scale);
                    let expected = reference(row, scale, largest_code(dim));
                    let (codes, padding) = quantised.codes(index).split_at(dim);
                    assert!(padding.iter().all(|&code| code == 0));
                    assert_eq!(codes, expected.0, "{isa} {dim}");
                    assert_eq!((got.square, got.sum), (expected.1, expected.2));
                    let residual = f64::from(got.residual);
                    assert!(residual >= expected.3 && residual <= expected.3 * 1.001 + 1e-6);
                }
            });
        }
    }

    #[test]
    fn every_isa_agrees_with_the_reference() {
        agrees::<f32>();
        agrees::<f64>();
    }

    /// Checks that rows are no further from their codes than is said, the subtraction in more than
    /// double precision: by parts that don't overlap.
    fn residuals_hold<T: Scalar>(
        values: &[T],
        dim: usize,
        centre: &[T],
        isa: Isa,
    ) -> Quantised<'static> {
        let rows = Rows::new(values, dim).unwrap();
        let scale = CommonScale::of(rows, Some(centre), isa);
        let codes = Quantised::with_scale(rows, Some(centre), scale, isa).unwrap();
        for (index, row) in values.chunks(dim).enumerate() {
            let known = codes.row(index);
            let off = row.iter().zip(centre).zip(codes.codes(index));
            let off = off.map(|((value, middle), &code)| {
                let (x, c) = (value.to_f64(), middle.to_f64());
                let difference = x - c;
                // What the difference was rounded by (Knuth's two-sum).
                let back = x - difference;
                let lost = (x - (difference + back)) + (back - c);
                ((difference - f64::from(known.scale) * f64::from(code)) + lost).powi(2)
            });
            let off = off.sum::<f64>().sqrt();
            assert!(
                off <= known.residual.into(),
                "{isa} {index}: {off} {}",
                known.residual
            );
        }
        codes
    }

    fn centred_codes<T: Scalar>() {
        for (offset, dim) in [(0.0, 40), (1e4, 3), (1e4, 100), (-1e7, 384), (1e30, 17)] {
            let value = |at: usize| offset + f64::from((at * 7919 % 1021) as i32 - 510) * 0.37;
            let values: Vec<T> = (0..50 * dim).map(|at| T::from_f64(value(at))).collect();
            let rows = Rows::new(&values, dim).unwrap();
            let centre = centre_of(rows, Isa::SCALAR);
            assert_eq!(centre.is_some(), offset != 0.0, "{offset}");
            let centre = centre.unwrap_or_else(|| values[..dim].to_vec());
            let scalar = residuals_hold(&values, dim, &centre, Isa::SCALAR);
            on_each_isa(|isa| {
                let codes = residuals_hold(&values, dim, &centre, isa);
                assert_eq!(codes.parts(), scalar.parts(), "{isa} {offset} {dim}");
                if offset != 0.0 {
                    assert_eq!(centre_of(rows, isa).as_ref(), Some(&centre));
                }
            });
            // As fine as codes of the same rows without the offset.
            if offset == 1e4 {
                let known = scalar.row(3);
                assert!(f64::from(known.scale) < 400.0 / largest_code(dim), "{dim}");
            }
        }
        // A difference that overflows is known of nothing.
        let largest = T::from_f64(T::LARGEST);
        let values = [largest, T::ZERO - largest, T::ZERO, T::ZERO];
        let rows = Rows::new(&values, 2).unwrap();
        let (centre, scale) = (
            [T::ZERO - largest; 2],
            CommonScale::of(rows, None, Isa::SCALAR),
        );
        on_each_isa(|isa| {
            let codes = Quantised::with_scale(rows, Some(&centre), scale, isa).unwrap();
            assert_eq!(codes.row(0).residual, f32::INFINITY);
            let wrong = Quantised::with_scale(rows, Some(&centre[..1]), scale, isa);
            assert!(matches!(wrong, Err(KernelError::Shape { .. })));
        });
    }

    #[test]
    fn centred_rows_are_as_near_their_codes_as_is_said() {
        centred_codes::<f32>();
        centred_codes::<f64>();
    }

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

    #[test]
    fn values_that_are_not_finite_are_found_anywhere() {
        on_each_isa(|isa| {
            for (at, bad) in [
                (0, f32::NAN),
                (31, -f32::NAN),
                (32, f32::INFINITY),
                (39, f32::NEG_INFINITY),
            ] {
                let mut values = [f32::MAX; 80];
                values[40 + at] = bad;
                let error = Quantised::new(Rows::new(&values, 40).unwrap(), isa).unwrap_err();
                assert!(matches!(
                    error,
                    crate::KernelError::NotFinite { row: 1, dimension, .. } if dimension == at
                ));
            }
        });
    }
}
