//! The measure of single pairs of rows, or of a list of them.

use pulp::{Simd, WithSimd};

use super::{blocks::sum, measure::Measure};
use crate::{
    base::{error::Result, isa::Isa, memory},
    rows::{
        matrix::Rows,
        scalar::Scalar,
        shape::{check_indices, check_len},
    },
    simd::{dispatch::dispatch, prefetch::AHEAD},
};

/// The measure between two vectors of the same dimension.
///
/// Bitwise equal on every instruction set (any NaN counting as equal to any other), and with `a`
/// and `b` exchanged. To compare many pairs, [`distances_of`] is faster.
///
/// ```
/// use lshjoin_kernels::{Isa, Measure, distance};
///
/// let (a, b) = ([0.0_f32, 0.0], [3.0, 4.0]);
/// assert_eq!(distance(Measure::SquaredEuclidean, &a, &b, Isa::best())?, 25.0);
/// assert_eq!(distance(Measure::Manhattan, &a, &b, Isa::best())?, 7.0);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`Shape`](crate::KernelError::Shape) when the lengths differ.
pub fn distance<T: Scalar>(measure: Measure, a: &[T], b: &[T], isa: Isa) -> Result<T> {
    check_len("the second vector", b.len(), a.len())?;
    Ok(dispatch(isa, Pair { measure, a, b }))
}

struct Pair<'a, T> {
    measure: Measure,
    a: &'a [T],
    b: &'a [T],
}

impl<T: Scalar> WithSimd for Pair<'_, T> {
    type Output = T;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> T {
        let Self { a, b, .. } = self;
        // A loop for each.
        match self.measure {
            Measure::SquaredEuclidean => sum(simd, Measure::SquaredEuclidean, a, b),
            Measure::Manhattan => sum(simd, Measure::Manhattan, a, b),
            Measure::Dot => sum(simd, Measure::Dot, a, b),
        }
    }
}

/// The measure between row `i` of `left` and row `j` of `right` for each `(i, j)` of `pairs`.
///
/// `out` is overwritten and holds one value a pair. Each value is bitwise what [`distance`] gives
/// for the same two rows. Pairs in order of their left row are faster, as it stays in the cache.
///
/// ```
/// use lshjoin_kernels::{Isa, Measure, Rows, distances_of};
///
/// let rows = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let mut out = Vec::new();
/// distances_of(Measure::Manhattan, rows, rows, &[(0, 1), (2, 0)], &mut out, Isa::best())?;
/// assert_eq!(out, [1.0, 5.0]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`Shape`](crate::KernelError::Shape) when the two sides differ in dimension,
/// [`RowOutOfRange`](crate::KernelError::RowOutOfRange) for an index that is no row of
/// its side; `out` is then untouched.
pub fn distances_of<T: Scalar>(
    measure: Measure,
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    pairs: &[(u32, u32)],
    out: &mut Vec<T>,
    isa: Isa,
) -> Result<()> {
    check_len("rows of the right side", right.dim(), left.dim())?;
    check_indices("left indices", pairs.iter().map(|pair| pair.0), left.len())?;
    check_indices(
        "right indices",
        pairs.iter().map(|pair| pair.1),
        right.len(),
    )?;
    out.clear();
    memory::reserve(out, pairs.len(), "distances")?;
    let listed = Pairs {
        measure,
        left,
        right,
        pairs,
        out,
    };
    dispatch(isa, listed);
    Ok(())
}

/// Pairs of rows of one dimension, measured one after the other in one dispatch.
struct Pairs<'a, T> {
    measure: Measure,
    left: Rows<'a, T>,
    right: Rows<'a, T>,
    pairs: &'a [(u32, u32)],
    out: &'a mut Vec<T>,
}

impl<T: Scalar> WithSimd for Pairs<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // One loop for each.
        match self.measure {
            Measure::SquaredEuclidean => self.sum(simd, Measure::SquaredEuclidean),
            Measure::Manhattan => self.sum(simd, Measure::Manhattan),
            Measure::Dot => self.sum(simd, Measure::Dot),
        }
    }
}

impl<T: Scalar> Pairs<'_, T> {
    #[inline(always)]
    fn sum<S: Simd>(self, simd: S, measure: Measure) {
        let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
        for (at, &(i, j)) in self.pairs.iter().enumerate() {
            if let Some(&(_, next)) = self.pairs.get(at + AHEAD) {
                self.right.prefetch(next as usize);
            }
            let a = self.left.row_in(i as usize, &mut of_left);
            let b = self.right.row_in(j as usize, &mut of_right);
            self.out.push(sum(simd, measure, a, b));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{super::products::dot_products, *};
    use crate::{base::error::KernelError, simd::dispatch::on_each_isa};

    const MEASURES: [Measure; 3] = [Measure::SquaredEuclidean, Measure::Manhattan, Measure::Dot];
    const DIMS: [usize; 15] = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 384, 960];

    /// The order that `blocks` describes, one term at a time.
    fn reference<T: Scalar>(measure: Measure, a: &[T], b: &[T]) -> T {
        let mut lanes = [T::ZERO; 32];
        for (i, (&x, &y)) in a.iter().zip(b).enumerate() {
            let term = match measure {
                Measure::SquaredEuclidean => (x - y) * (x - y),
                Measure::Manhattan => (x - y).abs(),
                Measure::Dot => x * y,
            };
            let whole = a.len() / 32 * 32;
            let lane = if i < whole { i % 32 } else { 32 + i - a.len() };
            lanes[lane] = lanes[lane] + term;
        }
        tree(&lanes)
    }

    fn tree<T: Scalar>(lanes: &[T]) -> T {
        match lanes {
            [lane] => *lane,
            _ => {
                let (lower, upper) = lanes.split_at(lanes.len() / 2);
                let sums: Vec<T> = lower.iter().zip(upper).map(|(&x, &y)| x + y).collect();
                tree(&sums)
            }
        }
    }

    /// Equal bits, or both NaN.
    fn same<T: Scalar>(x: T, y: T) -> bool {
        let (x, y) = (x.to_f64(), y.to_f64());
        x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
    }

    /// Values of all magnitudes: overflowing when squared, denormal, both zeros, ordinary.
    fn hostile<T: Scalar>(len: usize, rng: &mut ChaCha8Rng) -> Vec<T> {
        let (huge, tiny) = if size_of::<T>() == 4 {
            (f64::from(f32::MAX), f64::from(f32::from_bits(100)))
        } else {
            (f64::MAX, f64::from_bits(100))
        };
        let scales = [
            huge,
            tiny,
            huge.sqrt() / 8.0,
            tiny.sqrt(),
            0.0,
            1.0,
            1.0,
            1.0,
        ];
        tame::<T>(len, rng)
            .into_iter()
            .map(|value| T::from_f64(value.to_f64() * scales[rng.next_u32() as usize % 8]))
            .collect()
    }

    fn tame<T: Scalar>(len: usize, rng: &mut ChaCha8Rng) -> Vec<T> {
        let draw = |_| T::from_f64(f64::from(rng.next_u32()) / 2_147_483_648.0 - 1.0);
        (0..len).map(draw).collect()
    }

    fn equals_reference<T: Scalar>() {
        on_each_isa(|isa| {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            for (dim, measure) in DIMS.iter().flat_map(|&dim| MEASURES.map(|m| (dim, m))) {
                for values in [hostile::<T>(20 * dim, &mut rng), tame(20 * dim, &mut rng)] {
                    let rows = Rows::new(&values, dim).unwrap();
                    let pairs: Vec<(u32, u32)> =
                        (0..50).map(|n| (n * 7 % 20, n * 11 % 19)).collect();
                    let mut out = vec![T::ZERO; 3];
                    distances_of(measure, rows, rows, &pairs, &mut out, isa).unwrap();
                    assert_eq!(out.len(), pairs.len());
                    for (&(i, j), &got) in pairs.iter().zip(&out) {
                        let (a, b) = (&*rows.row(i as usize), &*rows.row(j as usize));
                        let expected = reference(measure, a, b);
                        assert!(
                            same(got, expected),
                            "{measure:?} {dim} {isa}: {got:?}, not {expected:?}"
                        );
                        assert!(same(distance(measure, a, b, isa).unwrap(), expected));
                        assert!(same(distance(measure, b, a, isa).unwrap(), expected));
                    }
                    if measure == Measure::Dot {
                        let (left, right) = (rows.slice(0..3), rows.slice(3..14));
                        let mut out = vec![T::ZERO; 3 * 11];
                        dot_products(left, right, &mut out, isa).unwrap();
                        for (at, &got) in out.iter().enumerate() {
                            let (a, b) = (&*left.row(at / 11), &*right.row(at % 11));
                            assert!(same(got, reference(measure, a, b)), "{dim} {isa}");
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn equals_reference_f32() {
        equals_reference::<f32>();
    }

    #[test]
    fn equals_reference_f64() {
        equals_reference::<f64>();
    }

    #[test]
    fn extremes_are_as_documented() {
        on_each_isa(|isa| {
            let far = |measure| distance(measure, &[2e19_f32; 40], &[-2e19; 40], isa).unwrap();
            assert_eq!(far(Measure::SquaredEuclidean), f32::INFINITY);
            assert_eq!(far(Measure::Manhattan), 1.6e21);
            assert_eq!(far(Measure::Dot), f32::NEG_INFINITY);
            let zeros = |measure| distance(measure, &[-0.0_f64; 33], &[0.0; 33], isa).unwrap();
            for measure in MEASURES {
                assert_eq!(zeros(measure).to_bits(), 0, "{measure:?}");
                assert_eq!(distance::<f32>(measure, &[], &[], isa), Ok(0.0));
            }
        });
    }

    #[test]
    fn wrong_shapes_and_indices_are_refused() {
        let rows = Rows::new(&[0.0_f32; 6], 2).unwrap();
        let wider = Rows::new(&[0.0_f32; 6], 3).unwrap();
        let (measure, isa) = (Measure::Dot, Isa::best());
        let shape = |what, got, expected| KernelError::Shape {
            what,
            got,
            expected,
        };
        let out_of_range = |what| KernelError::RowOutOfRange {
            what,
            index: 3,
            rows: 3,
        };
        assert_eq!(
            distance(measure, &[0.0_f32; 2], &[0.0; 3], isa),
            Err(shape("the second vector", 3, 2))
        );

        let out = &mut vec![1.0];
        assert_eq!(
            distances_of(measure, rows, wider, &[], out, isa),
            Err(shape("rows of the right side", 3, 2))
        );
        assert_eq!(
            dot_products(rows, wider, out, isa),
            Err(shape("rows of the right side", 3, 2))
        );
        assert_eq!(
            dot_products(rows, rows, out, isa),
            Err(shape("the dot products", 1, 9))
        );
        assert_eq!(dot_products(rows, rows.slice(0..0), &mut [], isa), Ok(()));
        for (pair, what) in [((3, 0), "left indices"), ((0, 3), "right indices")] {
            assert_eq!(
                distances_of(measure, rows, rows, &[(0, 0), pair], out, isa),
                Err(out_of_range(what))
            );
        }
        assert_eq!(*out, [1.0]);
    }
}
