//! The matrix that every kernel takes.

use std::{borrow::Cow, ops::Range};

use super::{
    narrow::{Narrow, of_any},
    scalar::Scalar,
};
use crate::{
    base::{
        error::{KernelError, Result},
        memory,
    },
    simd::prefetch::prefetch,
};

/// How an out-of-memory error names them.
pub(super) const COPIES: &str = "copies of rows";

/// A borrowed row-major matrix: one vector a row, all of one dimension.
///
/// ```
/// use lshjoin_kernels::Rows;
///
/// let rows = Rows::new(&[1.0_f32, 2.0, 3.0, 4.0], 2)?;
/// assert_eq!((rows.len(), &*rows.row(1)), (2, &[3.0, 4.0][..]));
/// assert!(Rows::new(&[1.0_f32, 2.0, 3.0], 2).is_err());
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// Values need not lie there as the `T` that is computed with: [`Rows::narrow`] takes some of 8 or 16
/// bits. What reads rows widens them, which is exact, a few at a time: there never is a wide copy of
/// all.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    values: Values<'a, T>,
    dim: usize,
}

#[derive(Clone, Copy, Debug)]
enum Values<'a, T> {
    Wide(&'a [T]),
    Narrow(Narrow<'a>),
}

impl<'a, T> Rows<'a, T> {
    /// Views `values` as rows of `dim` values.
    ///
    /// # Errors
    /// When `dim` is 0 or does not divide the number of values.
    pub fn new(values: &'a [T], dim: usize) -> Result<Self> {
        Self::of(Values::Wide(values), dim)
    }

    fn of(values: Values<'a, T>, dim: usize) -> Result<Self> {
        if dim == 0 {
            return Err(KernelError::NoDimension);
        }
        let len = values.len();
        if !len.is_multiple_of(dim) {
            return Err(KernelError::Shape {
                what: "rows",
                got: len,
                expected: len / dim * dim,
            });
        }
        Ok(Self { values, dim })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.len() == 0
    }

    /// Values per row, at least 1.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows `range.start..range.end`. Panics when out of range, as slices do.
    #[inline(always)]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let range = range.start * self.dim..range.end * self.dim;
        let values = match self.values {
            Values::Wide(values) => Values::Wide(&values[range]),
            Values::Narrow(values) => Values::Narrow(values.slice(range)),
        };
        Self { values, ..*self }
    }

    /// All values, row after row, if they are of `T` where they lie.
    pub(crate) fn wide(&self) -> Option<&'a [T]> {
        match self.values {
            Values::Wide(values) => Some(values),
            Values::Narrow(_) => None,
        }
    }

    /// Whether they are integers of 8 bits where they lie.
    pub fn are_integers(&self) -> bool {
        matches!(self.stored(), Some(Narrow::U8(_) | Narrow::I8(_)))
    }

    /// All values, row after row, if they are narrower where they lie.
    pub(crate) fn stored(&self) -> Option<Narrow<'a>> {
        match self.values {
            Values::Wide(_) => None,
            Values::Narrow(values) => Some(values),
        }
    }

    /// Asks for the memory of a row that will be read soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, index: usize) {
        let range = index * self.dim..(index + 1) * self.dim;
        match self.values {
            Values::Wide(values) => prefetch(&values[range]),
            Values::Narrow(values) => of_any!(values, values => prefetch(&values[range])),
        }
    }
}

impl<T> Values<'_, T> {
    fn len(&self) -> usize {
        match self {
            Self::Wide(values) => values.len(),
            Self::Narrow(values) => values.len(),
        }
    }
}

/// Rows of numbers.
impl<'a, T: Scalar> Rows<'a, T> {
    /// Views narrower values as rows of `dim` values of `T`.
    ///
    /// ```
    /// use lshjoin_kernels::{Isa, Measure, Narrow, Rows, distances_of};
    ///
    /// let descriptors = Rows::<f32>::narrow(Narrow::U8(&[0, 200, 255, 200]), 2)?;
    /// assert_eq!(*descriptors.row(1), [255.0, 200.0]);
    /// # Ok::<(), lshjoin_kernels::KernelError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Rows::new`].
    pub fn narrow(values: Narrow<'a>, dim: usize) -> Result<Self> {
        Self::of(Values::Narrow(values), dim)
    }

    /// Row `index`; a copy, if its values are narrow. Panics when out of range, as slices do.
    #[inline]
    pub fn row(&self, index: usize) -> Cow<'a, [T]> {
        match self.slice(index..index + 1).values {
            Values::Wide(row) => Cow::Borrowed(row),
            Values::Narrow(row) => {
                let mut wide = vec![T::ZERO; self.dim];
                T::widen(row, &mut wide);
                Cow::Owned(wide)
            }
        }
    }

    /// All values, row after row; a copy, if they are narrow.
    ///
    /// # Errors
    /// [`KernelError::Memory`].
    pub fn values(&self) -> Result<Cow<'a, [T]>> {
        match self.values {
            Values::Wide(values) => Ok(Cow::Borrowed(values)),
            Values::Narrow(values) => {
                let mut wide = memory::zeroed(values.len(), COPIES)?;
                T::widen(values, &mut wide);
                Ok(Cow::Owned(wide))
            }
        }
    }

    /// The same, in room that is used again: for loops over rows, and over blocks of few.
    #[inline(always)]
    pub fn values_in<'b>(&self, room: &'b mut Vec<T>) -> &'b [T]
    where
        'a: 'b,
    {
        match self.values {
            Values::Wide(values) => values,
            Values::Narrow(values) => {
                room.resize(values.len(), T::ZERO);
                T::widen(values, room);
                room
            }
        }
    }

    /// Row `index`, like that. Panics when out of range, as slices do.
    #[inline(always)]
    pub fn row_in<'b>(&self, index: usize, room: &'b mut Vec<T>) -> &'b [T]
    where
        'a: 'b,
    {
        self.slice(index..index + 1).values_in(room)
    }

    /// Adds the values of row `index` to those of others. Panics when out of range, as slices do.
    #[inline]
    pub fn append_row(&self, index: usize, to: &mut Vec<T>) {
        match self.slice(index..index + 1).values {
            Values::Wide(row) => to.extend_from_slice(row),
            Values::Narrow(row) => {
                let before = to.len();
                to.resize(before + self.dim, T::ZERO);
                T::widen(row, &mut to[before..]);
            }
        }
    }

    /// Copies of these rows, one after the other. Panics when one is out of range, as slices do.
    ///
    /// ```
    /// use lshjoin_kernels::Rows;
    ///
    /// let rows = Rows::new(&[1.0_f32, 2.0, 3.0, 4.0], 2)?;
    /// assert_eq!(rows.gather(&[1, 0])?, [3.0, 4.0, 1.0, 2.0]);
    /// # Ok::<(), lshjoin_kernels::KernelError>(())
    /// ```
    ///
    /// # Errors
    /// [`KernelError::Memory`].
    pub fn gather(&self, rows: &[u32]) -> Result<Vec<T>> {
        let mut copies = memory::empty(rows.len().saturating_mul(self.dim), COPIES)?;
        rows.iter()
            .for_each(|&row| self.append_row(row as usize, &mut copies));
        Ok(copies)
    }
}

/// Rows of packed bits, which are never narrower than the bytes they lie in.
impl<'a> Rows<'a, u8> {
    /// Row `index`. Panics when out of range, as slices do.
    #[inline]
    pub fn bits(&self, index: usize) -> &'a [u8] {
        let bytes = self.wide().unwrap_or_default();
        &bytes[index * self.dim..][..self.dim]
    }

    /// Copies of these rows, one after the other. Panics when one is out of range, as slices do.
    ///
    /// # Errors
    /// [`KernelError::Memory`].
    pub fn gather_bits(&self, rows: &[u32]) -> Result<Vec<u8>> {
        let mut copies = memory::empty(rows.len().saturating_mul(self.dim), COPIES)?;
        rows.iter()
            .for_each(|&row| copies.extend_from_slice(self.bits(row as usize)));
        Ok(copies)
    }
}
