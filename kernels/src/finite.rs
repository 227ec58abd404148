use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    error::{KernelError, Result},
    isa::Isa,
    rows::{Rows, Scalar},
    simd::dispatch,
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
    let first = rows
        .values()
        .par_chunks(BLOCK)
        .enumerate()
        .find_map_first(|(block, values)| {
            if dispatch(isa, AllFinite(values)) {
                return None;
            }
            let offset = values.iter().position(|value| !value.is_finite())?;
            Some(block * BLOCK + offset)
        });
    match first {
        None => Ok(()),
        Some(index) => Err(KernelError::NotFinite {
            row: index / rows.dim(),
            dimension: index % rows.dim(),
            value: rows.values()[index].to_f64(),
        }),
    }
}

struct AllFinite<'a, T>(&'a [T]);

impl<T: Scalar> WithSimd for AllFinite<'_, T> {
    type Output = bool;

    /// Without an early exit inside a chunk, the compiler vectorises the loop over it.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let all = |values: &[T]| {
            values
                .iter()
                .fold(true, |all, value| all & value.is_finite())
        };
        let (chunks, rest) = self.0.as_chunks::<64>();
        chunks.iter().all(|chunk| all(chunk)) && all(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::on_each_isa;

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
    fn first_is_found_f32() {
        first_is_found::<f32>();
    }

    #[test]
    fn first_is_found_f64() {
        first_is_found::<f64>();
    }
}
