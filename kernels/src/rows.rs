use std::ops::{Add, Mul, Sub};

use crate::{
    error::{KernelError, Result},
    floor::Floor,
    memory,
    projection::Gemm,
    vectors::Vectors,
};

/// A borrowed row-major matrix: one vector a row, all of one dimension.
///
/// ```
/// use lshjoin_kernels::Rows;
///
/// let rows = Rows::new(&[1.0_f32, 2.0, 3.0, 4.0], 2)?;
/// assert_eq!((rows.len(), rows.row(1)), (2, &[3.0, 4.0][..]));
/// assert!(Rows::new(&[1.0_f32, 2.0, 3.0], 2).is_err());
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    values: &'a [T],
    dim: usize,
}

impl<'a, T> Rows<'a, T> {
    /// Views `values` as rows of `dim` values.
    ///
    /// # Errors
    /// When `dim` is 0 or does not divide the number of values.
    pub fn new(values: &'a [T], dim: usize) -> Result<Self> {
        if dim == 0 {
            return Err(KernelError::NoDimension);
        }
        if !values.len().is_multiple_of(dim) {
            return Err(KernelError::Shape {
                what: "rows",
                got: values.len(),
                expected: values.len() / dim * dim,
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
        self.values.is_empty()
    }

    /// Values per row, at least 1.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Row `index`. Panics when out of range, as slices do.
    #[inline]
    pub fn row(&self, index: usize) -> &'a [T] {
        &self.values[index * self.dim..][..self.dim]
    }

    /// Rows `range.start..range.end`.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            values: &self.values[range.start * self.dim..range.end * self.dim],
            dim: self.dim,
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
    pub fn gather(&self, rows: &[u32]) -> Result<Vec<T>>
    where
        T: Copy,
    {
        let mut copies = memory::empty(rows.len().saturating_mul(self.dim), "copies of rows")?;
        rows.iter()
            .for_each(|&row| copies.extend_from_slice(self.row(row as usize)));
        Ok(copies)
    }

    /// All values, row after row.
    pub fn values(&self) -> &'a [T] {
        self.values
    }
}

/// The numbers that vectors may be made of once they are inside: `f32` and `f64`.
///
/// Half precision is widened to `f32` on the way in (see [`widen_f16`](crate::widen_f16)).
pub trait Scalar:
    Floor
    + Gemm
    + Vectors
    + bytemuck::Pod
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + std::fmt::Debug
    + 'static
{
    /// Widens to double precision, exactly.
    fn to_f64(self) -> f64;
    /// Rounds from double precision.
    fn from_f64(value: f64) -> Self;
    /// The value without its sign.
    fn abs(self) -> Self;
    /// The square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Whether the value is neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// Half the distance between 1 and the next number: the relative rounding error.
    const UNIT_ROUNDOFF: f64;
    /// A norm that can be squared without underflow; smaller ones are taken for it in bounds.
    const TINY_NORM: f64;
    /// Whichever slice is of this type.
    fn pick<'a>(single: &'a [f32], double: &'a [f64]) -> &'a [Self];
    /// The largest number.
    const LARGEST: f64;
    /// Positive zero.
    const ZERO: Self;
    /// Positive infinity.
    const INFINITY: Self;
}

impl Scalar for f32 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }
    #[inline(always)]
    fn pick<'a>(single: &'a [f32], _: &'a [f64]) -> &'a [Self] {
        single
    }
    const TINY_NORM: f64 = 1e-15;
    const LARGEST: f64 = f32::MAX as f64;
    const UNIT_ROUNDOFF: f64 = f32::EPSILON as f64 / 2.0;
    const ZERO: Self = 0.0;
    const INFINITY: Self = f32::INFINITY;
}

impl Scalar for f64 {
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f64::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
    #[inline(always)]
    fn pick<'a>(_: &'a [f32], double: &'a [f64]) -> &'a [Self] {
        double
    }
    const TINY_NORM: f64 = 1e-140;
    const LARGEST: f64 = f64::MAX;
    const UNIT_ROUNDOFF: f64 = f64::EPSILON / 2.0;
    const ZERO: Self = 0.0;
    const INFINITY: Self = f64::INFINITY;
}
