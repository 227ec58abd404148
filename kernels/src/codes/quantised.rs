//! The codes of many rows.

use std::{borrow::Cow, ops::Range};

use rayon::prelude::*;

use super::{
    limits::LINE,
    quantise::{Approximation, Filled, QuantiseRows, Source},
    scale::CommonScale,
};
use crate::{
    base::{
        error::{KernelError, Result},
        isa::Isa,
        memory,
    },
    rows::{
        matrix::Rows,
        scalar::Scalar,
        shape::{check_indices, check_len},
    },
    simd::{
        dispatch::dispatch,
        prefetch::{AHEAD, prefetch},
    },
};

/// Rows that one task of the thread pool quantises.
const ROWS_PER_TASK: usize = 128;

/// What memory is asked for.
const CODES: &str = "8-bit codes";

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
    /// Whether errors are left out: see [`Quantised::without_errors`].
    estimates: bool,
}

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

    /// The same for rows less a [centre](crate::centre_of), which has to be that of all rows they are
    /// compared with, and by the scale of other rows: for rows that come in parts.
    ///
    /// # Errors
    /// As [`Quantised::new`], and [`Shape`](KernelError::Shape) when the centre is not of the rows'
    /// dimension.
    pub fn with_scale<T: Scalar>(
        rows: Rows<'_, T>,
        centre: Option<&[T]>,
        scale: CommonScale,
        isa: Isa,
    ) -> Result<Self> {
        Self::of_source(&rows, (rows.len(), rows.dim()), centre, scale, isa)
    }

    /// The same for `(number, dimension)` rows that need not be anywhere: `fill(i, values)` appends the
    /// values of row i.
    ///
    /// ```
    /// use lshjoin_kernels::{CommonScale, Isa, Quantised, Rows};
    ///
    /// let (rows, isa) = (Rows::new(&[3.0_f32, 4.0, -1.0, 0.5], 2)?, Isa::best());
    /// let scale = CommonScale::of(rows, None, isa);
    /// let halved = |row: usize, values: &mut Vec<f32>| {
    ///     values.extend(rows.row(row).iter().map(|value| value / 2.0));
    /// };
    /// let codes = Quantised::of_each((2, 2), halved, None, scale, isa)?;
    /// assert_eq!((codes.len(), codes.dim()), (2, 2));
    /// # Ok::<(), lshjoin_kernels::KernelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Quantised::with_scale`], and [`Shape`](KernelError::Shape) for a row that has not as many
    /// values.
    pub fn of_each<T: Scalar>(
        (count, dim): (usize, usize),
        fill: impl Fn(usize, &mut Vec<T>) + Sync,
        centre: Option<&[T]>,
        scale: CommonScale,
        isa: Isa,
    ) -> Result<Self> {
        if dim == 0 {
            return Err(KernelError::NoDimension);
        }
        Self::of_source(&Filled { fill, dim }, (count, dim), centre, scale, isa)
    }

    fn of_source<T: Scalar>(
        rows: &impl Source<T>,
        (count, dim): (usize, usize),
        centre: Option<&[T]>,
        CommonScale(common): CommonScale,
        isa: Isa,
    ) -> Result<Self> {
        if let Some(centre) = centre {
            check_len("the centre", centre.len(), dim)?;
        }
        let stride = Self::stride(dim);
        // The pages are first written by the tasks.
        let mut codes = memory::zeroed_on_huge_pages(count.saturating_mul(stride), CODES)?;
        let mut approximations: Vec<Approximation> = memory::zeroed_on_huge_pages(count, CODES)?;
        let failed = codes
            .par_chunks_mut(ROWS_PER_TASK * stride)
            .zip(approximations.par_chunks_mut(ROWS_PER_TASK))
            .enumerate()
            .map(|(task, (codes, approximations))| {
                let rows = QuantiseRows {
                    rows,
                    first: task * ROWS_PER_TASK,
                    dim,
                    centre,
                    common,
                    codes,
                    approximations,
                    isa,
                };
                dispatch(isa, rows)
            })
            // The first, whichever task is done first.
            .find_map_first(Result::err);
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(Self {
            dim,
            codes: codes.into(),
            rows: approximations.into(),
            estimates: false,
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
    /// memory, but a join by them may miss pairs: [`Quantised::unsound`] and [`Quantised::uncovered`]
    /// tell.
    ///
    /// # Errors
    /// [`NoDimension`](KernelError::NoDimension), or [`Shape`](KernelError::Shape) when the parts
    /// are not of the same number of rows, or `known` is not aligned to 4 bytes.
    pub fn from_parts(dim: usize, codes: &'a [i8], known: &'a [u8]) -> Result<Self> {
        if dim == 0 {
            return Err(KernelError::NoDimension);
        }
        let count = known.len() / Self::KNOWN;
        check_len("codes", codes.len(), count * Self::stride(dim))?;
        let rows: &[Approximation] =
            bytemuck::try_cast_slice(known).map_err(|_| KernelError::Shape {
                what: "what is known of rows",
                got: known.len(),
                expected: count * Self::KNOWN,
            })?;
        Ok(Self {
            dim,
            codes: codes.into(),
            rows: rows.into(),
            estimates: false,
        })
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
            estimates: false,
        })
    }

    /// Adds the rows of `other` after these.
    ///
    /// # Errors
    /// [`Shape`](KernelError::Shape) when they are of another dimension,
    /// [`Memory`](KernelError::Memory).
    pub fn append(&mut self, other: &Quantised<'_>) -> Result<()> {
        check_len("rows to append", other.dim, self.dim)?;
        let (codes, rows) = (self.codes.to_mut(), self.rows.to_mut());
        memory::reserve(codes, other.codes.len(), CODES)?;
        memory::reserve(rows, other.rows.len(), CODES)?;
        codes.extend_from_slice(&other.codes);
        rows.extend_from_slice(&other.rows);
        Ok(())
    }

    /// Adds to the bound on a row's error, as a Euclidean distance; with infinity, its pairs pass every
    /// filter. For rows whose distances are not quite, or not at all, those of what was quantised.
    ///
    /// # Errors
    /// [`RowOutOfRange`](KernelError::RowOutOfRange).
    pub fn inflate_error(&mut self, row: usize, error: f32) -> Result<()> {
        let rows = self.len();
        let Some(known) = self.rows.to_mut().get_mut(row) else {
            return Err(KernelError::RowOutOfRange {
                what: "rows of a larger error",
                index: row,
                rows,
            });
        };
        // What is not a number, or below 0, is no error.
        known.residual = (known.residual + error.max(0.0)).next_up();
        Ok(())
    }

    /// The same codes, taken for the rows themselves: their distances are then estimates, off by about
    /// 1 % of the vectors' lengths, and no bounds. Rows of infinite error stay near all others.
    pub fn without_errors(&self) -> Quantised<'_> {
        Quantised {
            estimates: true,
            ..self.slice(0..self.len())
        }
    }

    /// The rows `range.start..range.end`, where they lie. Panics when out of range, as slices do.
    pub fn slice(&self, range: Range<usize>) -> Quantised<'_> {
        let stride = Self::stride(self.dim);
        Quantised {
            dim: self.dim,
            codes: self.codes[range.start * stride..range.end * stride].into(),
            rows: self.rows[range].into(),
            estimates: self.estimates,
        }
    }

    /// Puts the rows in another order, each of them once: row `order[i]` becomes row i. In place, cycle by
    /// cycle, since codes take up much of the memory of a join.
    ///
    /// ```
    /// use lshjoin_kernels::{Isa, Quantised, Rows};
    ///
    /// let mut codes = Quantised::new(Rows::new(&[3.0_f32, 400.0, 5.0], 1)?, Isa::best())?;
    /// let scales = [1, 2, 0].map(|row| codes.scale(row));
    /// codes.reorder(&[1, 2, 0])?;
    /// assert_eq!([0, 1, 2].map(|row| codes.scale(row)), scales);
    /// assert!(codes.reorder(&[1, 1, 0]).is_err());
    /// # Ok::<(), lshjoin_kernels::KernelError>(())
    /// ```
    ///
    /// # Errors
    /// [`Shape`](crate::KernelError::Shape) when the order has not each row once,
    /// [`RowOutOfRange`](crate::KernelError::RowOutOfRange), [`Memory`](crate::KernelError::Memory). The
    /// order is as before then.
    pub fn reorder(&mut self, order: &[u32]) -> Result<()> {
        let count = self.len();
        check_indices("the order's rows", order.iter().copied(), count)?;
        let mut waiting: Vec<bool> = memory::zeroed(count, "rows put in order")?;
        order.iter().for_each(|&row| waiting[row as usize] = true);
        let distinct = waiting.iter().filter(|&&row| row).count();
        for got in [order.len(), distinct] {
            check_len("the rows of an order, each once", got, count)?;
        }
        let stride = Self::stride(self.dim);
        let (codes, rows) = (self.codes.to_mut(), self.rows.to_mut());
        let mut codes_of_first = memory::zeroed(stride, CODES)?;
        for first in 0..count {
            if !waiting[first] {
                continue;
            }
            codes_of_first.copy_from_slice(&codes[first * stride..][..stride]);
            let of_first = rows[first];
            let mut ahead = (0..AHEAD).fold(first, |at, _| order[at] as usize);
            let mut to = first;
            loop {
                waiting[to] = false;
                let from = order[to] as usize;
                if from == first {
                    break;
                }
                prefetch(&codes[ahead * stride..][..stride]);
                ahead = order[ahead] as usize;
                codes.copy_within(from * stride..(from + 1) * stride, to * stride);
                rows[to] = rows[from];
                to = from;
            }
            codes[to * stride..][..stride].copy_from_slice(&codes_of_first);
            rows[to] = of_first;
        }
        Ok(())
    }

    /// The same in memory of its own.
    pub fn into_owned(self) -> Quantised<'static> {
        Quantised {
            dim: self.dim,
            codes: self.codes.into_owned().into(),
            rows: self.rows.into_owned().into(),
            estimates: self.estimates,
        }
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

    /// How far row `index` is from what its codes stand for, at most, if there is such a row; infinite
    /// where codes tell nothing of its distances.
    ///
    /// ```
    /// use lshjoin_kernels::{Isa, Quantised, Rows};
    ///
    /// let codes = Quantised::new(Rows::new(&[3.0_f32, -4.0], 2)?, Isa::best())?;
    /// assert!(codes.error(0).unwrap() < 0.04);
    /// assert!((codes.square(0).unwrap() - 25.0).abs() < 0.4);
    /// assert_eq!((codes.error(1), codes.square(1)), (None, None));
    /// # Ok::<(), lshjoin_kernels::KernelError>(())
    /// ```
    pub fn error(&self, index: usize) -> Option<f32> {
        (index < self.len()).then(|| self.row(index).residual)
    }

    /// The squared length of what the codes of row `index` stand for, if there is such a row.
    pub fn square(&self, index: usize) -> Option<f64> {
        let of_row = |row: &Approximation| f64::from(row.scale).powi(2) * f64::from(row.square);
        self.rows.get(index).map(of_row)
    }

    /// The codes of row `index`, zeros up to a whole number of lines.
    pub(crate) fn codes(&self, index: usize) -> &[i8] {
        let stride = Self::stride(self.dim);
        &self.codes[index * stride..][..stride]
    }

    /// Asks for the codes of a row that will be read soon, if there is one.
    #[inline(always)]
    pub(crate) fn prefetch_codes(&self, row: Option<&u32>) {
        if let Some(&row) = row {
            prefetch(self.codes(row as usize));
        }
    }

    /// The same for all that is known of it.
    #[inline(always)]
    pub(crate) fn prefetch(&self, row: Option<&u32>) {
        self.prefetch_codes(row);
        if let Some(&row) = row {
            prefetch(&self.rows[row as usize..][..1]);
        }
    }

    pub(crate) fn row(&self, index: usize) -> Approximation {
        let row = self.rows[index];
        match self.estimates && row.residual < f32::INFINITY {
            true => Approximation {
                residual: 0.0,
                ..row
            },
            false => row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{limits::largest_code, scale::centre_of},
        *,
    };
    use crate::simd::dispatch::on_each_isa;

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
    fn codes_without_errors_keep_what_is_infinite() -> Result<()> {
        let rows = Rows::new(&[1.0_f32, 0.3, -2.0, 0.7], 2)?;
        let mut codes = Quantised::new(rows, Isa::SCALAR)?;
        codes.inflate_error(1, f32::INFINITY)?;
        let estimates = codes.without_errors();
        assert_eq!(estimates.codes(0), codes.codes(0));
        assert_eq!(estimates.scale(0), codes.scale(0));
        assert!(codes.row(0).residual > 0.0);
        assert_eq!(estimates.row(0).residual, 0.0);
        assert_eq!(estimates.row(1).residual, f32::INFINITY);
        Ok(())
    }

    #[test]
    fn inflated_errors_add_up() {
        let rows = Rows::new(&[1.0_f32, 0.3, -2.0, 0.7], 2).unwrap();
        let mut codes = Quantised::new(rows, Isa::SCALAR).unwrap();
        let before = codes.row(1).residual;
        codes.inflate_error(1, 0.25).unwrap();
        assert!(codes.row(1).residual >= before + 0.25 && codes.row(1).residual < before + 0.26);
        codes.inflate_error(1, f32::INFINITY).unwrap();
        assert_eq!(codes.row(1).residual, f32::INFINITY);
        assert!(codes.inflate_error(2, 0.0).is_err());
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
