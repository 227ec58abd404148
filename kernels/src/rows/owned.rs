//! Rows in memory of their own.

use half::{bf16, f16};

use super::{
    matrix::{COPIES, Rows},
    narrow::Narrow,
    scalar::Scalar,
};
use crate::base::{error::Result, memory};

/// Copies of rows, in as few bits as the rows themselves.
///
/// ```
/// use lshjoin_kernels::{Narrow, OwnedRows, Rows};
///
/// let descriptors = Rows::<f32>::narrow(Narrow::U8(&[0, 200, 255, 30]), 2)?;
/// let copies = OwnedRows::of(descriptors, &[1, 0, 1])?;
/// let copies = copies.rows()?;
/// assert!(copies.are_integers());
/// assert_eq!((copies.len(), &*copies.row(2)), (3, &[255.0, 30.0][..]));
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
#[derive(Debug)]
pub struct OwnedRows<T> {
    values: Values<T>,
    dim: usize,
}

#[derive(Debug)]
enum Values<T> {
    Wide(Vec<T>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl<T: Scalar> OwnedRows<T> {
    /// Of these rows, one after the other. Panics when one is out of range, as slices do.
    ///
    /// # Errors
    /// [`KernelError::Memory`](crate::KernelError::Memory).
    pub fn of(rows: Rows<'_, T>, some: &[u32]) -> Result<Self> {
        let dim = rows.dim();
        let values = match rows.stored() {
            None => Values::Wide(rows.gather(some)?),
            Some(Narrow::U8(values)) => Values::U8(copied(values, dim, some)?),
            Some(Narrow::I8(values)) => Values::I8(copied(values, dim, some)?),
            Some(Narrow::F16(values)) => Values::F16(copied(values, dim, some)?),
            Some(Narrow::Bf16(values)) => Values::Bf16(copied(values, dim, some)?),
        };
        Ok(Self { values, dim })
    }

    /// All of them.
    ///
    /// # Errors
    /// None: they are whole rows.
    pub fn rows(&self) -> Result<Rows<'_, T>> {
        match &self.values {
            Values::Wide(values) => Rows::new(values, self.dim),
            Values::U8(values) => Rows::narrow(Narrow::U8(values), self.dim),
            Values::I8(values) => Rows::narrow(Narrow::I8(values), self.dim),
            Values::F16(values) => Rows::narrow(Narrow::F16(values), self.dim),
            Values::Bf16(values) => Rows::narrow(Narrow::Bf16(values), self.dim),
        }
    }
}

fn copied<V: Copy>(values: &[V], dim: usize, rows: &[u32]) -> Result<Vec<V>> {
    let mut copies = memory::empty(rows.len().saturating_mul(dim), COPIES)?;
    for &row in rows {
        copies.extend_from_slice(&values[row as usize * dim..][..dim]);
    }
    Ok(copies)
}
