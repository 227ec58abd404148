//! The matrix that every kernel takes.

use crate::base::{
    error::{KernelError, Result},
    memory,
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
