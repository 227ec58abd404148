//! Euclidean distances of rows of 8-bit integers, by arithmetic of integers: the numbers that
//! [`exact`](super::exact) has for them, sooner.

use pulp::{Simd, WithSimd};

use crate::{
    base::isa::Isa,
    simd::{
        dispatch::dispatch,
        prefetch::{AHEAD, prefetch},
    },
};

/// As many squares of differences of 8-bit integers have a sum that fits.
const FIT: usize = i32::MAX as usize / (255 * 255);

/// Adds the distances of pairs of rows of `dim` values to `out`.
pub(super) fn integer_distances<N: Copy>(
    (left, right): (&[N], &[N]),
    dim: usize,
    pairs: &[(u32, u32)],
    out: &mut Vec<f64>,
    isa: Isa,
) where
    i16: From<N>,
{
    let pairs = IntegerPairs {
        left,
        right,
        dim,
        pairs,
        out,
    };
    dispatch(isa, pairs);
}

struct IntegerPairs<'a, N> {
    left: &'a [N],
    right: &'a [N],
    dim: usize,
    pairs: &'a [(u32, u32)],
    out: &'a mut Vec<f64>,
}

impl<N: Copy> WithSimd for IntegerPairs<'_, N>
where
    i16: From<N>,
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let dim = self.dim;
        let row = |index: u32| index as usize * dim..(index as usize + 1) * dim;
        for (at, &(i, j)) in self.pairs.iter().enumerate() {
            if let Some(&(_, next)) = self.pairs.get(at + AHEAD) {
                prefetch(&self.right[row(next)]);
            }
            let (x, y) = (&self.left[row(i)], &self.right[row(j)]);
            let mut square = 0;
            for (x, y) in x.chunks(FIT).zip(y.chunks(FIT)) {
                square += i64::from(sum_of_squares(x, y));
            }
            self.out.push((square as f64).sqrt());
        }
    }
}

/// Of the differences of few values.
#[inline(always)]
fn sum_of_squares<N: Copy>(x: &[N], y: &[N]) -> i32
where
    i16: From<N>,
{
    let mut sum = 0;
    for (&x, &y) in x.iter().zip(y) {
        // 16 bits hold a difference, and there is an instruction for sums of their products.
        let difference = i16::from(x) - i16::from(y);
        sum += i32::from(difference) * i32::from(difference);
    }
    sum
}
