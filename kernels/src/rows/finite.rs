//! Checks that values are numbers, and not too large.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{matrix::Rows, scalar::Scalar};
use crate::{
    base::{
        error::{KernelError, Result},
        isa::Isa,
    },
    simd::dispatch::dispatch,
};

/// Values that a thread checks before it looks for more work: half an L2 cache of `f64`.
const BLOCK: usize = 1 << 16;

/// Refuses NaN and infinity, naming the first row that holds one and the first of its dimensions.
///
/// Blocks of rows are spread over the rayon pool of the caller; the answer does not depend on
/// the number of threads.
///
/// ```
/// use lshjoin_kernels::{Isa, KernelError, Rows, check_finite};
///
/// let rows = Rows::new(&[1.0_f32, 2.0, f32::INFINITY, 4.0], 2)?;
/// assert!(matches!(
///     check_finite(rows, Isa::best()),
///     Err(KernelError::NotFinite { row: 1, dimension: 0, .. })
/// ));
/// # Ok::<(), KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::NotFinite`].
pub fn check_finite<T: Scalar>(rows: Rows<'_, T>, isa: Isa) -> Result<()> {
    check_within(rows, T::from_f64(T::LARGEST), isa)
}

/// [`check_finite`], and refuses values whose magnitude is above `largest` likewise.
///
/// ```
/// use lshjoin_kernels::{Isa, KernelError, Rows, check_within};
///
/// let rows = Rows::new(&[1.0_f32, 2.0, -1e30, 4.0], 2)?;
/// assert!(matches!(
///     check_within(rows, 1e20, Isa::best()),
///     Err(KernelError::TooLarge { row: 1, dimension: 0, .. })
/// ));
/// # Ok::<(), KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::NotFinite`] or [`KernelError::TooLarge`], whichever comes first.
pub fn check_within<T: Scalar>(rows: Rows<'_, T>, largest: T, isa: Isa) -> Result<()> {
    if rows.are_integers() && largest >= T::from_f64(f64::from(u8::MAX)) {
        return Ok(());
    }
    let of_block = (BLOCK / rows.dim()).max(1);
    let blocks = (0..rows.len().div_ceil(of_block)).into_par_iter();
    let found = blocks.map_init(Vec::new, |room, block| {
        let first = block * of_block;
        let rows = rows.slice(first..rows.len().min(first + of_block));
        let values = rows.values_in(room);
        if dispatch(isa, AllWithin(values, largest)) {
            return None;
        }
        let is_within = |value: &T| value.abs() <= largest;
        let at = values.iter().position(|value| !is_within(value))?;
        Some((
            first + at / rows.dim(),
            at % rows.dim(),
            values[at].to_f64(),
        ))
    });
    // The first, whichever block is done first.
    let Some((row, dimension, value)) = found.find_map_first(|found| found) else {
        return Ok(());
    };
    Err(if value.is_finite() {
        KernelError::TooLarge {
            row,
            dimension,
            value,
            largest: largest.to_f64(),
        }
    } else {
        KernelError::NotFinite {
            row,
            dimension,
            value,
        }
    })
}

struct AllWithin<'a, T>(&'a [T], T);

impl<T: Scalar> WithSimd for AllWithin<'_, T> {
    type Output = bool;

    /// Without an early exit inside a chunk, the compiler vectorises the loop over it.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let all = |values: &[T]| {
            values
                .iter()
                .fold(true, |all, value| all & (value.abs() <= self.1))
        };
        let (chunks, rest) = self.0.as_chunks::<64>();
        chunks.iter().all(|chunk| all(chunk)) && all(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::dispatch::on_each_isa;

    fn first_is_found<T: Scalar>() {
        let dim = 7;
        let infinity = T::INFINITY;
        let nan = infinity * T::ZERO;
        let largest = T::from_f64(if size_of::<T>() == 4 {
            f64::from(f32::MAX)
        } else {
            f64::MAX
        });
        let clean = vec![largest; 3 * BLOCK / dim * dim];
        on_each_isa(|isa| {
            let check = |values: &[T]| check_finite(Rows::new(values, dim).unwrap(), isa);
            assert_eq!(check(&clean), Ok(()));
            assert_eq!(check(&[]), Ok(()));
            for at in [
                0,
                1,
                31,
                32,
                33,
                BLOCK - 1,
                BLOCK,
                2 * BLOCK + 5,
                clean.len() - 1,
            ] {
                let mut dirty = clean.clone();
                dirty[at] = infinity;
                // A later one, in a later block where there is one, must not be reported instead.
                *dirty.last_mut().unwrap() = if at + 1 == dirty.len() { infinity } else { nan };
                let expected = KernelError::NotFinite {
                    row: at / dim,
                    dimension: at % dim,
                    value: f64::INFINITY,
                };
                assert_eq!(check(&dirty), Err(expected));
                dirty[at] = nan;
                assert!(matches!(
                    check(&dirty),
                    Err(KernelError::NotFinite { row, dimension, value })
                        if row * dim + dimension == at && value.is_nan()
                ));
            }
        });
    }

    #[test]
    fn what_is_larger_is_found() {
        on_each_isa(|isa| {
            let mut values = vec![-2.0_f64; 200];
            let check = |values: &[f64]| check_within(Rows::new(values, 2).unwrap(), 2.0, isa);
            assert_eq!(check(&values), Ok(()));
            values[7] = -3.0;
            values[9] = f64::NAN;
            let expected = KernelError::TooLarge {
                row: 3,
                dimension: 1,
                value: -3.0,
                largest: 2.0,
            };
            assert_eq!(check(&values), Err(expected));
            values[5] = f64::INFINITY;
            assert!(matches!(
                check(&values),
                Err(KernelError::NotFinite { row: 2, .. })
            ));
        });
    }

    #[test]
    fn first_is_found_f32() {
        first_is_found::<f32>();
    }

    #[test]
    fn first_is_found_f64() {
        first_is_found::<f64>();
    }
}
