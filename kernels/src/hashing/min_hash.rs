//! Min-wise hashing of sets: the least value of a linear function over the elements of each.

use pulp::{Simd, WithSimd};

use crate::{
    base::{
        error::{KernelError, Result},
        isa::Isa,
    },
    simd::dispatch::dispatch,
};

/// The prime that functions are computed modulo, which is Spark's.
const PRIME: u64 = MinHashFunction::PRIME as u64;

/// PRIME · NEGATED ≡ −1 modulo 2³², by Newton's iteration, which doubles the bits that are right.
const NEGATED: u64 = {
    let prime = MinHashFunction::PRIME;
    let (mut inverse, mut bits) = (prime, 3);
    while bits < 32 {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(prime.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse.wrapping_neg() as u64
};

/// The lower half of a number.
const LOW: u64 = u32::MAX as u64;

/// Elements that are hashed side by side.
const LANES: usize = 16;

/// A function of elements of sets, `((1 + e) · a + b) mod 2038074743`.
///
/// ```
/// use lshjoin_kernels::{Isa, MinHashFunction, min_hashes};
///
/// let functions = [MinHashFunction::new(776_966_252, 1_102_109_080)];
/// let mut values = [0];
/// min_hashes(&[0, 1, 2], &functions, Isa::best(), &mut values)?;
/// assert_eq!(values, [617_966_841]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MinHashFunction {
    /// a and b times 2³², modulo the prime: Montgomery's form, in which the product of two numbers is
    /// reduced by two multiplications of 32 bits (P. Montgomery, "Modular multiplication without trial
    /// division", 1985).
    a: u64,
    b: u64,
}

impl MinHashFunction {
    /// The prime that functions are computed modulo.
    pub const PRIME: u32 = 2_038_074_743;

    /// Of these two numbers.
    pub const fn new(a: u32, b: u32) -> Self {
        Self {
            a: ((a as u64) << 32) % PRIME,
            b: ((b as u64) << 32) % PRIME,
        }
    }

    /// The value of one element.
    #[inline(always)]
    fn of(self, element: u32) -> u64 {
        // At most 2³² · PRIME on either side of the sum, so that it fits.
        let product = (u64::from(element) + 1) * self.a + self.b;
        let multiple = ((product & LOW) * NEGATED) & LOW;
        let reduced = (product + multiple * PRIME) >> 32;
        // It is below twice the prime; what would be negative is large.
        reduced.min(reduced.wrapping_sub(PRIME))
    }
}

/// The least value of each function over the elements of a set; 0 where it is empty.
///
/// # Errors
/// [`KernelError::Shape`] for values that are not one a function.
pub fn min_hashes(
    set: &[u32],
    functions: &[MinHashFunction],
    isa: Isa,
    values: &mut [i32],
) -> Result<()> {
    if values.len() != functions.len() {
        return Err(KernelError::Shape {
            what: "values of functions",
            got: values.len(),
            expected: functions.len(),
        });
    }
    let (whole, rest) = set.as_chunks::<LANES>();
    // What comes twice changes no minimum.
    let mut filled = [rest.last().copied().unwrap_or_default(); LANES];
    filled[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&filled);
    dispatch(
        isa,
        MinHashes {
            whole,
            last,
            functions,
            values,
        },
    );
    Ok(())
}

struct MinHashes<'a> {
    whole: &'a [[u32; LANES]],
    last: Option<&'a [u32; LANES]>,
    functions: &'a [MinHashFunction],
    values: &'a mut [i32],
}

impl WithSimd for MinHashes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (value, function) in self.values.iter_mut().zip(self.functions) {
            let mut least = [PRIME; LANES];
            for elements in self.whole.iter().chain(self.last) {
                for (least, &element) in least.iter_mut().zip(elements) {
                    *least = function.of(element).min(*least);
                }
            }
            let least = least.into_iter().fold(PRIME, u64::min);
            // Below the prime, but where there was no element.
            *value = (least % PRIME) as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::dispatch::on_each_isa;

    fn expected(set: &[u32], a: u32, b: u32) -> i32 {
        let value =
            |&e: &u32| ((u128::from(e) + 1) * u128::from(a) + u128::from(b)) % 2_038_074_743;
        set.iter().map(value).min().unwrap_or_default() as i32
    }

    #[test]
    fn values_are_the_remainders_on_every_isa() {
        let prime = MinHashFunction::PRIME;
        let numbers = [0, 1, 2, 77, 1 << 16, prime / 2, prime - 2, prime - 1];
        let pairs: Vec<_> = numbers
            .iter()
            .flat_map(|&a| numbers.map(|b| (a, b)))
            .collect();
        let functions: Vec<_> = pairs
            .iter()
            .map(|&(a, b)| MinHashFunction::new(a, b))
            .collect();
        let mut sets: Vec<Vec<u32>> = numbers.iter().map(|&element| vec![element]).collect();
        sets.push(vec![u32::MAX, prime, u32::MAX - 1]);
        for size in [0, 1, 15, 16, 17, 50, 200] {
            sets.push(
                (0..size)
                    .map(|at: u32| at.wrapping_mul(0x9E37_79B9) % prime)
                    .collect(),
            );
        }
        on_each_isa(|isa| {
            for set in &sets {
                let mut values = vec![0; functions.len()];
                min_hashes(set, &functions, isa, &mut values).unwrap();
                let remainders = pairs.iter().map(|&(a, b)| expected(set, a, b));
                assert_eq!(values, remainders.collect::<Vec<_>>(), "{set:?}");
            }
        });
        assert!(min_hashes(&[1], &functions, Isa::SCALAR, &mut [0]).is_err());
    }
}
