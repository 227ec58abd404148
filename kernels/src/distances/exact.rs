//! Distances of pairs of rows in double precision, whatever precision the rows are in.
//!
//! The pairs that a filter on codes lets pass get their final distance here, so that neighbours come in
//! the order of their true distances: where rows are long and differ little, single precision no longer
//! tells which is nearer, and where values are very large or very small their squares overflow or
//! vanish. The order of summation is fixed as in [`blocks`](super::blocks), but with 16 lanes: term i is
//! added to lane i % 16, in order, and then the upper half of the lanes to the lower until one is left.

use pulp::{Simd, WithSimd};

use super::integers::integer_distances;
use crate::{
    base::{error::Result, isa::Isa, memory},
    rows::{
        matrix::Rows,
        narrow::Narrow,
        scalar::Scalar,
        shape::{check_indices, check_len},
    },
    simd::{dispatch::dispatch, lanes::halve, prefetch::AHEAD, vectors::Vectors},
};

/// How an out-of-memory error names them.
const DISTANCES: &str = "distances";

/// Partial sums of a row, in double precision: enough to hide the latency of an addition.
const LANES: usize = 16;

/// Sums of squares within these limits have lost nothing to overflow or underflow.
const SAFE: std::ops::RangeInclusive<f64> = 1e-280..=1e300;

/// What differences are multiplied by where their squares would vanish, and values where they would
/// overflow: powers of two, so that nothing is rounded.
const ENLARGED: f64 = f64::from_bits((1023 + 700) << 52);
const REDUCED: f64 = f64::from_bits((1023 - 600) << 52);

/// Norms from here on have an inverse with all its digits.
const INVERTIBLE: f64 = 1e-300;

/// The Euclidean distance of row `i` of `left` and row `j` of `right` for each `(i, j)` of `pairs`.
///
/// Right to a few roundings for all finite rows, as far as double precision can hold the distance: of
/// single precision that is always so. Equal rows are at 0. `out` is overwritten. Pairs in order of
/// their left row are faster, as it stays in the cache.
///
/// ```
/// use lshjoin_kernels::{Isa, Rows, euclidean_distances};
///
/// let rows = Rows::new(&[0.0_f32, 3e30, 2e-40], 1)?;
/// let mut out = Vec::new();
/// euclidean_distances(rows, rows, &[(0, 1), (2, 2)], &mut out, Isa::best())?;
/// assert_eq!(out, [f64::from(3e30_f32), 0.0]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`Shape`](crate::KernelError::Shape) when the sides differ in dimension,
/// [`RowOutOfRange`](crate::KernelError::RowOutOfRange) for an index that is no row of its side; `out`
/// is then untouched. [`Memory`](crate::KernelError::Memory).
pub fn euclidean_distances<T: Scalar>(
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    pairs: &[(u32, u32)],
    out: &mut Vec<f64>,
    isa: Isa,
) -> Result<()> {
    let dim = left.dim();
    match (left.stored(), right.stored()) {
        (Some(Narrow::U8(x)), Some(Narrow::U8(y))) => {
            begin(left, right, pairs, out)?;
            integer_distances((x, y), dim, pairs, out, isa);
        }
        (Some(Narrow::I8(x)), Some(Narrow::I8(y))) => {
            begin(left, right, pairs, out)?;
            integer_distances((x, y), dim, pairs, out, isa);
        }
        _ => each_pair(left, right, pairs, Euclidean, out, isa)?,
    }
    Ok(())
}

/// The cosine distance, 1 − cos ∠(x, y), of row `i` of `left` and row `j` of `right` for each `(i, j)`
/// of `pairs`; 1 where one of them is all zeros.
///
/// Computed as half the squared distance of the two directions, which has no difference of nearly
/// equal numbers: also the smallest distances are right to a few roundings of the directions, and
/// equal rows are at 0. Each side comes with its [`norms`]. `out` is overwritten.
///
/// ```
/// use lshjoin_kernels::{Isa, Rows, cosine_distances, norms};
///
/// let rows = Rows::new(&[1.0_f32, 0.0, 1.0, 1e-6], 2)?;
/// let side = (rows, &norms(rows, Isa::best())[..]);
/// let mut out = Vec::new();
/// cosine_distances(side, side, &[(0, 0), (0, 1)], &mut out, Isa::best())?;
/// assert!(out[0] == 0.0 && (out[1] / 5e-13 - 1.0).abs() < 1e-6);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// As [`euclidean_distances`], and [`Shape`](crate::KernelError::Shape) when there is not a norm for
/// each row.
pub fn cosine_distances<T: Scalar>(
    (left, of_left): (Rows<'_, T>, &[f64]),
    (right, of_right): (Rows<'_, T>, &[f64]),
    pairs: &[(u32, u32)],
    out: &mut Vec<f64>,
    isa: Isa,
) -> Result<()> {
    for (rows, norms) in [(left, of_left), (right, of_right)] {
        check_len("norms", norms.len(), rows.len())?;
    }
    let formula = Cosine { of_left, of_right };
    each_pair(left, right, pairs, formula, out, isa)
}

/// The dot product of row `i` of `left` and row `j` of `right` for each `(i, j)` of `pairs`.
///
/// Of single precision the products are exact, so that only their sum is rounded. `out` is overwritten.
///
/// ```
/// use lshjoin_kernels::{Isa, Rows, exact_dot_products};
///
/// let rows = Rows::new(&[1e8_f32, 1.0, 1e8, -1e8], 2)?;
/// let mut out = Vec::new();
/// exact_dot_products(rows, rows, &[(0, 0)], &mut out, Isa::best())?;
/// assert_eq!(out, [1e16 + 1.0]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// As [`euclidean_distances`].
pub fn exact_dot_products<T: Scalar>(
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    pairs: &[(u32, u32)],
    out: &mut Vec<f64>,
    isa: Isa,
) -> Result<()> {
    each_pair(left, right, pairs, Dot, out, isa)
}

/// Each row's Euclidean norm; as [`euclidean_distances`] of it from zero.
///
/// ```
/// use lshjoin_kernels::{Isa, Rows, norms};
///
/// let rows = Rows::new(&[3.0_f32, 4.0, 0.0, 1e-30], 2)?;
/// assert_eq!(norms(rows, Isa::best()), [5.0, f64::from(1e-30_f32)]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
pub fn norms<T: Scalar>(rows: Rows<'_, T>, isa: Isa) -> Vec<f64> {
    dispatch(isa, Norms(rows))
}

struct Norms<'a, T>(Rows<'a, T>);

impl<T: Scalar> WithSimd for Norms<'_, T> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f64> {
        let zeros = vec![T::ZERO; self.0.dim()];
        let mut widened = Vec::new();
        widen(&zeros, 1.0, &mut widened);
        let (mut norms, mut room) = (Vec::with_capacity(self.0.len()), Vec::new());
        for row in 0..self.0.len() {
            let row = self.0.row_in(row, &mut room);
            norms.push(Euclidean.of(simd, (0, 0), (&zeros, &widened), row));
        }
        norms
    }
}

/// What is computed of a pair of rows: a type and not a function, so as to be inlined where an
/// instruction set is enabled.
trait Formula {
    /// What the values of a left row are multiplied by when they are widened.
    fn scale(&self, _: u32) -> f64 {
        1.0
    }

    /// Of a left row, which comes with its values [widened](widen), and a right one.
    fn of<S: Simd, T: Scalar>(
        &self,
        simd: S,
        pair: (u32, u32),
        left: (&[T], &[f64]),
        right: &[T],
    ) -> f64;
}

struct Euclidean;

impl Formula for Euclidean {
    #[inline(always)]
    fn of<S: Simd, T: Scalar>(
        &self,
        simd: S,
        _: (u32, u32),
        (x, widened): (&[T], &[f64]),
        y: &[T],
    ) -> f64 {
        let square = sum(simd, widened, y, |x, y| square(simd, simd.sub_f64s(x, y)));
        if SAFE.contains(&square) {
            square.sqrt()
        } else {
            rescaled(x, y, square < 1.0)
        }
    }
}

/// The Euclidean distance of rows that are too near, or too far apart, for the squares of their
/// differences.
#[cold]
fn rescaled<T: Scalar>(x: &[T], y: &[T], near: bool) -> f64 {
    if near {
        sum_plainly(x, y, |x, y| ((x - y) * ENLARGED).powi(2)).sqrt() / ENLARGED
    } else {
        sum_plainly(x, y, |x, y| (x * REDUCED - y * REDUCED).powi(2)).sqrt() / REDUCED
    }
}

struct Cosine<'a> {
    of_left: &'a [f64],
    of_right: &'a [f64],
}

impl Formula for Cosine<'_> {
    #[inline(always)]
    fn scale(&self, i: u32) -> f64 {
        self.of_left[i as usize].recip()
    }

    #[inline(always)]
    fn of<S: Simd, T: Scalar>(
        &self,
        simd: S,
        (i, j): (u32, u32),
        (x, widened): (&[T], &[f64]),
        y: &[T],
    ) -> f64 {
        let (of_x, of_y) = (self.of_left[i as usize], self.of_right[j as usize]);
        if of_x == 0.0 || of_y == 0.0 {
            return 1.0;
        }
        if of_x.min(of_y) < INVERTIBLE {
            return of_small(x, of_x, y, of_y);
        }
        let of_y = simd.splat_f64s(of_y.recip());
        let square = sum(simd, widened, y, |x, y| {
            square(simd, simd.sub_f64s(x, simd.mul_f64s(y, of_y)))
        });
        (0.5 * square).min(2.0)
    }
}

/// The cosine distance of rows of which one is so small that its norm has no inverse, and few digits.
#[cold]
fn of_small<T: Scalar>(x: &[T], of_x: f64, y: &[T], of_y: f64) -> f64 {
    let enlarged = |row: &[T], norm: f64| {
        if norm < INVERTIBLE {
            let norm = sum_plainly(row, row, |x, _| (x * ENLARGED).powi(2)).sqrt();
            (ENLARGED, norm)
        } else {
            (1.0, norm)
        }
    };
    let ((more_x, of_x), (more_y, of_y)) = (enlarged(x, of_x), enlarged(y, of_y));
    let direction = |value: f64, more: f64, norm: f64| value * more / norm;
    let difference = |x, y| direction(x, more_x, of_x) - direction(y, more_y, of_y);
    (0.5 * sum_plainly(x, y, |x, y| difference(x, y).powi(2))).min(2.0)
}

struct Dot;

impl Formula for Dot {
    #[inline(always)]
    fn of<S: Simd, T: Scalar>(
        &self,
        simd: S,
        _: (u32, u32),
        (_, widened): (&[T], &[f64]),
        y: &[T],
    ) -> f64 {
        sum(simd, widened, y, |x, y| simd.mul_f64s(x, y))
    }
}

/// Refuses pairs of rows that are not there, or of two dimensions, and makes room for the others.
fn begin<T: Scalar>(
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    pairs: &[(u32, u32)],
    out: &mut Vec<f64>,
) -> Result<()> {
    check_len("rows of the right side", right.dim(), left.dim())?;
    check_indices("left indices", pairs.iter().map(|pair| pair.0), left.len())?;
    let of_right = pairs.iter().map(|pair| pair.1);
    check_indices("right indices", of_right, right.len())?;
    out.clear();
    memory::reserve(out, pairs.len(), DISTANCES)
}

fn each_pair<T: Scalar>(
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    pairs: &[(u32, u32)],
    formula: impl Formula,
    out: &mut Vec<f64>,
    isa: Isa,
) -> Result<()> {
    begin(left, right, pairs, out)?;
    let pairs = Pairs {
        left,
        right,
        pairs,
        formula,
        out,
    };
    dispatch(isa, pairs);
    Ok(())
}

struct Pairs<'a, T, F> {
    left: Rows<'a, T>,
    right: Rows<'a, T>,
    pairs: &'a [(u32, u32)],
    formula: F,
    out: &'a mut Vec<f64>,
}

impl<T: Scalar, F: Formula> WithSimd for Pairs<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (mut widened, mut last) = (Vec::new(), None);
        let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
        let mut x: &[T] = &[];
        for (at, &(i, j)) in self.pairs.iter().enumerate() {
            if let Some(&(_, next)) = self.pairs.get(at + AHEAD) {
                self.right.prefetch(next as usize);
            }
            if last != Some(i) {
                x = self.left.row_in(i as usize, &mut of_left);
                widen(x, self.formula.scale(i), &mut widened);
                last = Some(i);
            }
            let y = self.right.row_in(j as usize, &mut of_right);
            let value = self.formula.of(simd, (i, j), (x, &widened), y);
            self.out.push(value);
        }
    }
}

#[inline(always)]
fn square<S: Simd>(simd: S, value: S::f64s) -> S::f64s {
    simd.mul_f64s(value, value)
}

/// The values times a scale, and zeros up to whole chunks of lanes.
#[inline(always)]
fn widen<T: Scalar>(row: &[T], scale: f64, widened: &mut Vec<f64>) {
    widened.clear();
    widened.extend(row.iter().map(|value| value.to_f64() * scale));
    widened.resize(row.len().next_multiple_of(LANES), 0.0);
}

/// The sum of a term of each two values, one of them of a [widened](widen) row, in the order that the
/// module describes; terms of zeros are zero.
#[inline(always)]
fn sum<S: Simd, T: Scalar>(
    simd: S,
    x: &[f64],
    y: &[T],
    term: impl Fn(S::f64s, S::f64s) -> S::f64s,
) -> f64 {
    let mut sums = [simd.splat_f64s(0.0); LANES];
    let (x, (y, rest)) = (x.as_chunks::<LANES>().0, y.as_chunks::<LANES>());
    let mut last = [T::ZERO; LANES];
    last[..rest.len()].copy_from_slice(rest);
    // In one loop: what is inlined twice is inlined nowhere, and then compiled for no instruction set.
    for (chunk, x) in x.iter().enumerate() {
        let y = y.get(chunk).unwrap_or(&last).map(T::to_f64);
        let values = f64::vectors::<S>(x).iter().zip(f64::vectors::<S>(&y));
        for (sum, (&x, &y)) in sums.iter_mut().zip(values) {
            *sum = simd.add_f64s(*sum, term(x, y));
        }
    }
    let mut lanes = [0.0; LANES];
    lanes.copy_from_slice(&f64::values::<S>(&sums)[..LANES]);
    halve(&mut lanes, |x, y| x + y)
}

/// [`sum`] of a row that is not widened yet, for rare cases.
fn sum_plainly<T: Scalar>(x: &[T], y: &[T], term: impl Fn(f64, f64) -> f64) -> f64 {
    let mut widened = Vec::new();
    widen(x, 1.0, &mut widened);
    sum(pulp::Scalar::new(), &widened, y, term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::dispatch::on_each_isa;

    const DIMS: [usize; 8] = [1, 2, 15, 16, 17, 33, 100, 385];

    /// Values between -1 and 1.
    fn values(count: usize, seed: usize) -> Vec<f64> {
        let value = |at: usize| ((at * 7919 + seed * 104_729) % 2003) as f64 / 1001.0 - 1.0;
        (0..count).map(value).collect()
    }

    fn close(got: f64, expected: f64) -> bool {
        (got - expected).abs() <= expected.abs() * 1e-12
    }

    /// All pairs of `n` rows.
    fn all(n: u32) -> Vec<(u32, u32)> {
        (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).collect()
    }

    fn reference(x: &[f64], y: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
        let mut lanes = [0.0; 16];
        let whole = x.len() / 16 * 16;
        for (at, (&x, &y)) in x.iter().zip(y).enumerate() {
            lanes[if at < whole { at % 16 } else { at - whole }] += term(x, y);
        }
        for width in [8, 4, 2, 1] {
            for at in 0..width {
                lanes[at] += lanes[at + width];
            }
        }
        lanes[0]
    }

    fn agrees<T: Scalar>() {
        for dim in DIMS {
            let values: Vec<T> = values(9 * dim, 1).into_iter().map(T::from_f64).collect();
            let rows = Rows::new(&values, dim).unwrap();
            let wide: Vec<Vec<f64>> = (0..9)
                .map(|row| rows.row(row).iter().map(|value| value.to_f64()).collect())
                .collect();
            let pairs = all(9);
            on_each_isa(|isa| {
                let norms = norms(rows, isa);
                let (mut euclidean, mut cosine, mut dot) = (vec![1.0], Vec::new(), Vec::new());
                euclidean_distances(rows, rows, &pairs, &mut euclidean, isa).unwrap();
                let side = (rows, norms.as_slice());
                cosine_distances(side, side, &pairs, &mut cosine, isa).unwrap();
                exact_dot_products(rows, rows, &pairs, &mut dot, isa).unwrap();
                for (at, &(i, j)) in pairs.iter().enumerate() {
                    let (x, y) = (&wide[i as usize], &wide[j as usize]);
                    let square = reference(x, y, |x, y| (x - y) * (x - y));
                    assert_eq!(euclidean[at].to_bits(), square.sqrt().to_bits());
                    let product = reference(x, y, |x, y| x * y);
                    assert_eq!(dot[at].to_bits(), product.to_bits());
                    let of = |row: &[f64]| reference(row, row, |x, y| x * y).sqrt().recip();
                    let (of_x, of_y) = (of(x), of(y));
                    let square = reference(x, y, |x, y| (x * of_x - y * of_y).powi(2));
                    assert_eq!(cosine[at].to_bits(), (0.5 * square).min(2.0).to_bits());
                    let norm = dot[10 * i as usize].sqrt();
                    assert_eq!(norms[i as usize].to_bits(), norm.to_bits());
                }
            });
        }
    }

    #[test]
    fn sums_are_the_references_bit_by_bit() {
        agrees::<f32>();
        agrees::<f64>();
    }

    #[test]
    fn euclidean_distances_are_right_at_all_magnitudes() {
        let unit: Vec<f64> = values(6 * 33, 2);
        let exact = |values: &[f64], i: u32, j: u32| {
            let row = |i: u32| &values[i as usize * 33..][..33];
            let differences = row(i).iter().zip(row(j)).map(|(x, y)| x - y);
            differences
                .map(|difference| difference * difference)
                .sum::<f64>()
                .sqrt()
        };
        for power in -1070..=1016 {
            // In two steps, since not all of these are numbers.
            let scale = |value: f64| value * 2_f64.powi(power / 2) * 2_f64.powi(power - power / 2);
            // Not more digits than subnormal numbers have here.
            let unit: Vec<f64> = unit.iter().map(|value| (value * 8.0).round()).collect();
            let scaled: Vec<f64> = unit.iter().map(|&value| scale(value)).collect();
            let rows = Rows::new(&scaled, 33).unwrap();
            let mut out = Vec::new();
            euclidean_distances(rows, rows, &all(6), &mut out, Isa::best()).unwrap();
            for (&got, (i, j)) in out.iter().zip(all(6)) {
                let expected = scale(exact(&unit, i, j));
                let of_subnormals = f64::from_bits(1);
                assert!(
                    (got - expected).abs() <= expected * 1e-12 + of_subnormals,
                    "2^{power}"
                );
            }
        }
        for power in (-140..=120).step_by(5) {
            let scaled: Vec<f32> = unit
                .iter()
                .map(|&value| (value * 2_f64.powi(power)) as f32)
                .collect();
            let wide: Vec<f64> = scaled.iter().copied().map(f64::from).collect();
            let rows = Rows::new(&scaled, 33).unwrap();
            let mut out = Vec::new();
            euclidean_distances(rows, rows, &all(6), &mut out, Isa::best()).unwrap();
            for (&got, (i, j)) in out.iter().zip(all(6)) {
                assert!(close(got, exact(&wide, i, j)), "2^{power}");
            }
        }
    }

    #[test]
    fn a_tiny_difference_of_large_rows_is_kept() {
        let rows = [1e300, 1e-200, 1e300, 3e-200];
        let rows = Rows::new(&rows, 2).unwrap();
        let mut out = Vec::new();
        euclidean_distances(rows, rows, &[(0, 1)], &mut out, Isa::best()).unwrap();
        assert!(close(out[0], 2e-200), "{}", out[0]);
    }

    #[test]
    fn small_cosine_distances_are_right() {
        // Of subnormal rows too.
        let rows = [3e-310, 4e-310, 6.0, 8.0, 4e-310, -3e-310];
        let rows = Rows::new(&rows, 2).unwrap();
        let (of_rows, mut out) = (norms(rows, Isa::best()), Vec::new());
        let side = (rows, of_rows.as_slice());
        let pairs = [(0, 1), (0, 2), (2, 2)];
        cosine_distances(side, side, &pairs, &mut out, Isa::best()).unwrap();
        assert!(
            out[0] < 1e-25 && close(out[1], 1.0) && out[2] == 0.0,
            "{out:?}"
        );
        for angle in [1.0, 1e-2, 1e-4, 1e-6, 1e-8] {
            // Exact in single precision but for the angle itself.
            let rows = [3.0_f32, 0.0, 7.0, angle * 7.0, 0.0, 0.0];
            let rows = Rows::new(&rows, 2).unwrap();
            let norms = norms(rows, Isa::best());
            let side = (rows, norms.as_slice());
            let mut out = Vec::new();
            let pairs = [(0, 0), (0, 1), (1, 1), (0, 2), (2, 2)];
            cosine_distances(side, side, &pairs, &mut out, Isa::best()).unwrap();
            let angle = f64::from(rows.row(1)[1] / 7.0).atan();
            let expected = 2.0 * (angle / 2.0).sin().powi(2);
            assert!((out[1] / expected - 1.0).abs() < 1e-6, "{angle} {}", out[1]);
            assert_eq!((out[0], out[2], out[3], out[4]), (0.0, 0.0, 1.0, 1.0));
        }
    }

    #[test]
    fn wrong_shapes_and_indices_are_refused() {
        let values = [0.0_f32; 6];
        let (two, three) = (
            Rows::new(&values, 2).unwrap(),
            Rows::new(&values, 3).unwrap(),
        );
        let (out, isa) = (&mut vec![1.0], Isa::best());
        assert!(euclidean_distances(two, three, &[], out, isa).is_err());
        assert!(exact_dot_products(two, two, &[(0, 0), (3, 0)], out, isa).is_err());
        assert!(exact_dot_products(two, two, &[(0, 3)], out, isa).is_err());
        let (some, all) = ([1.0; 2], [1.0; 3]);
        assert!(cosine_distances((two, &some), (two, &all), &[], out, isa).is_err());
        assert!(cosine_distances((two, &all), (two, &some), &[], out, isa).is_err());
        assert_eq!(*out, [1.0]);
    }
}
