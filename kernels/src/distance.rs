//! Exact distances between rows, bit for bit the same on every instruction set.
//!
//! Floating-point sums depend on their order, so the order is fixed here and not by the width of
//! a vector register: terms are added to 32 lanes, 32 terms at a time and in order; what is left
//! at the end, fewer than 32, goes to the last lanes; then the upper half of the lanes is added to
//! the lower half until one is left. Products and sums are rounded separately: a fused
//! multiply-add would give other bits where there is no hardware for it, and saves nothing on rows
//! that are gathered from memory, since it is the memory that is waited for. 32 lanes are two AVX-512,
//! four AVX2 or eight NEON registers of `f32`: enough sums under way at once to hide the latency of an
//! addition, few enough to stay in registers for `f64` too.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::{
    error::{KernelError, Result},
    isa::Isa,
    memory,
    rows::{Rows, Scalar},
    simd::dispatch,
    vectors::{LANES, halve_lanes},
};

/// How many pairs ahead rows are fetched from memory: measured best among 1, 2, 4, 8 and 16 for rows
/// of 100 to 384 `f32`, twice as fast as not at all.
const AHEAD: usize = 4;

/// What is computed between two rows x and y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Σ (xᵢ − yᵢ)². Infinite where it, or a term of it, exceeds the largest number of the type:
    /// for `f32`, from a distance of about 1.8 · 10¹⁹ on. Never NaN for finite rows.
    SquaredEuclidean,
    /// Σ |xᵢ − yᵢ|. Infinite where it exceeds the largest number of the type, never NaN for
    /// finite rows.
    Manhattan,
    /// Σ xᵢ·yᵢ: a similarity, the cosine for rows of length 1. When products overflow it is
    /// infinite, or NaN where they overflow to both sides.
    Dot,
}

/// The measure between two vectors of the same dimension.
///
/// Bitwise equal on every instruction set (any NaN counting as equal to any other), and with `a`
/// and `b` exchanged. To compare many pairs, [`distances_to`] and [`distances_of`] are faster.
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
/// [`KernelError::Shape`] when the lengths differ.
pub fn distance<T: Scalar>(measure: Measure, a: &[T], b: &[T], isa: Isa) -> Result<T> {
    same_dimension("the second vector", b.len(), a.len())?;
    let mut result = T::ZERO;
    let pair = |_| (a, b);
    let write = |distance| result = distance;
    dispatch(
        isa,
        Pairs {
            measure,
            count: 1,
            pair,
            write,
        },
    );
    Ok(result)
}

/// The measure between `query` and each of the rows of `items` that `indices` names, in order.
///
/// `out` is overwritten and holds one value an index. Each value is bitwise what [`distance`]
/// gives for the same two rows.
///
/// ```
/// use lshjoin_kernels::{Isa, Measure, Rows, distances_to};
///
/// let items = Rows::new(&[0.0_f64, 1.0, 2.0, 3.0], 2)?;
/// let mut out = Vec::new();
/// distances_to(Measure::Dot, &[1.0, 10.0], items, &[1, 0, 1], &mut out, Isa::best())?;
/// assert_eq!(out, [32.0, 10.0, 32.0]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Shape`] when `query` and `items` differ in dimension,
/// [`KernelError::RowOutOfRange`] for an index that is no row of `items`; `out` is then untouched.
pub fn distances_to<T: Scalar>(
    measure: Measure,
    query: &[T],
    items: Rows<'_, T>,
    indices: &[u32],
    out: &mut Vec<T>,
    isa: Isa,
) -> Result<()> {
    same_dimension("the query", query.len(), items.dim())?;
    in_range("item indices", indices.iter().copied(), items.len())?;
    let pair = |n: usize| (query, items.row(indices[n] as usize));
    collect(measure, indices.len(), pair, out, isa)
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
/// [`KernelError::Shape`] when the two sides differ in dimension, [`KernelError::RowOutOfRange`]
/// for an index that is no row of its side; `out` is then untouched.
pub fn distances_of<T: Scalar>(
    measure: Measure,
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    pairs: &[(u32, u32)],
    out: &mut Vec<T>,
    isa: Isa,
) -> Result<()> {
    same_dimension("rows of the right side", right.dim(), left.dim())?;
    in_range("left indices", pairs.iter().map(|pair| pair.0), left.len())?;
    in_range(
        "right indices",
        pairs.iter().map(|pair| pair.1),
        right.len(),
    )?;
    let pair = |n: usize| {
        let (i, j) = pairs[n];
        (left.row(i as usize), right.row(j as usize))
    };
    collect(measure, pairs.len(), pair, out, isa)
}

/// The dot products of all rows of `left` with all rows of `right`, (left rows, right rows),
/// row-major; for rows that the cache holds.
///
/// Each value is bitwise what [`distance`] gives for the same two rows.
///
/// ```
/// use lshjoin_kernels::{Isa, Rows, dot_products};
///
/// let left = Rows::new(&[1.0_f32, 2.0, 3.0, 4.0], 2)?;
/// let right = Rows::new(&[1.0_f32, 10.0], 2)?;
/// let mut out = [0.0; 2];
/// dot_products(left, right, &mut out, Isa::best())?;
/// assert_eq!(out, [21.0, 43.0]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Shape`] when the two sides differ in dimension or `out` is not of their size;
/// `out` is then untouched.
pub fn dot_products<T: Scalar>(
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    out: &mut [T],
    isa: Isa,
) -> Result<()> {
    same_dimension("rows of the right side", right.dim(), left.dim())?;
    let expected = left.len() * right.len();
    if out.len() != expected {
        return Err(KernelError::Shape {
            what: "the dot products",
            got: out.len(),
            expected,
        });
    }
    if expected > 0 {
        dispatch(isa, DotProducts { left, right, out });
    }
    Ok(())
}

/// Each row's length; one too small to square counts as one that is not.
pub(crate) fn norms<T: Scalar>(rows: Rows<'_, T>, isa: Isa) -> Vec<T> {
    dispatch(isa, Norms(rows))
}

struct Norms<'a, T>(Rows<'a, T>);

impl<T: Scalar> WithSimd for Norms<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<T> {
        let mut norms = vec![T::ZERO; self.0.len()];
        for (row, norm) in norms.iter_mut().enumerate() {
            let row = self.0.row(row);
            *norm = sum(simd, Measure::Dot, row, row);
        }
        for norm in &mut norms {
            *norm = norm.sqrt();
            if norm.to_f64() < T::TINY_NORM {
                *norm = T::from_f64(T::TINY_NORM);
            }
        }
        norms
    }
}

pub(crate) fn same_dimension(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        Ok(())
    } else {
        Err(KernelError::Shape {
            what,
            got,
            expected,
        })
    }
}

pub(crate) fn in_range(
    what: &'static str,
    indices: impl Iterator<Item = u32>,
    rows: usize,
) -> Result<()> {
    match indices.max() {
        Some(index) if index as usize >= rows => Err(KernelError::RowOutOfRange {
            what,
            index: index as usize,
            rows,
        }),
        _ => Ok(()),
    }
}

fn collect<'a, T: Scalar>(
    measure: Measure,
    count: usize,
    pair: impl Fn(usize) -> (&'a [T], &'a [T]),
    out: &mut Vec<T>,
    isa: Isa,
) -> Result<()> {
    out.clear();
    memory::reserve(out, count, "distances")?;
    let write = |distance| out.push(distance);
    dispatch(
        isa,
        Pairs {
            measure,
            count,
            pair,
            write,
        },
    );
    Ok(())
}

/// `count` pairs of rows of one dimension, measured one after the other in one dispatch.
struct Pairs<P, W> {
    measure: Measure,
    count: usize,
    pair: P,
    write: W,
}

impl<'a, T, P, W> WithSimd for Pairs<P, W>
where
    T: Scalar,
    P: Fn(usize) -> (&'a [T], &'a [T]),
    W: FnMut(T),
{
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

impl<'a, T, P, W> Pairs<P, W>
where
    T: Scalar,
    P: Fn(usize) -> (&'a [T], &'a [T]),
    W: FnMut(T),
{
    #[inline(always)]
    fn sum<S: Simd>(mut self, simd: S, measure: Measure) {
        for n in 0..self.count {
            if n + AHEAD < self.count {
                let (_, row) = (self.pair)(n + AHEAD);
                prefetch(row);
            }
            let (a, b) = (self.pair)(n);
            (self.write)(sum(simd, measure, a, b));
        }
    }
}

/// Every left row with every right row, of which there are some.
struct DotProducts<'a, T> {
    left: Rows<'a, T>,
    right: Rows<'a, T>,
    out: &'a mut [T],
}

impl<T: Scalar> WithSimd for DotProducts<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, out } = self;
        let width = right.len();
        let (lefts, rights) = (0..left.len(), 0..width);
        let (left, right) = (|row| left.row(row), |row| right.row(row));
        meet(
            simd,
            Measure::Dot,
            (lefts, left),
            (rights, right),
            |i, j, dot| {
                out[i * width + j] = dot;
            },
        );
    }
}

/// Calls `each(i, j, measure)` for all pairs of a left and a right row, with as many sums under way
/// at once as registers hold: so rows are loaded once for several pairs.
#[inline(always)]
pub(crate) fn meet<'a, S: Simd, T: Scalar>(
    simd: S,
    measure: Measure,
    left: (Range<usize>, impl Fn(usize) -> &'a [T]),
    right: (Range<usize>, impl Fn(usize) -> &'a [T]),
    each: impl FnMut(usize, usize, T),
) {
    // Registers of a sum, and how many there are of them.
    match (LANES / T::lanes::<S>(), S::REGISTER_COUNT) {
        (2, _) => meet_by::<S, T, 2, 2, 4>(simd, measure, left, right, each),
        (4, 32) => meet_by::<S, T, 4, 2, 2>(simd, measure, left, right, each),
        (4, _) => meet_by::<S, T, 4, 1, 2>(simd, measure, left, right, each),
        (8, _) => meet_by::<S, T, 8, 1, 1>(simd, measure, left, right, each),
        (16, _) => meet_by::<S, T, 16, 1, 1>(simd, measure, left, right, each),
        _ => meet_by::<S, T, LANES, 1, 1>(simd, measure, left, right, each),
    }
}

/// [`meet`] with blocks of `R` × `C` rows, where `V` vectors are all lanes.
#[inline(always)]
fn meet_by<'a, S: Simd, T: Scalar, const V: usize, const R: usize, const C: usize>(
    simd: S,
    measure: Measure,
    (lefts, left): (Range<usize>, impl Fn(usize) -> &'a [T]),
    (rights, right): (Range<usize>, impl Fn(usize) -> &'a [T]),
    mut each: impl FnMut(usize, usize, T),
) {
    for i in lefts.clone().step_by(R) {
        for j in rights.clone().step_by(C) {
            if i + R <= lefts.end && j + C <= rights.end {
                let a = std::array::from_fn(|r| left(i + r));
                let b = std::array::from_fn(|c| right(j + c));
                let sums = sums::<S, T, V, R, C>(simd, measure, a, b);
                for (i, sums) in (i..).zip(sums) {
                    for (j, sum) in (j..).zip(sums) {
                        each(i, j, sum);
                    }
                }
            } else {
                for i in i..lefts.end.min(i + R) {
                    for j in j..rights.end.min(j + C) {
                        let [[sum]] = sums::<S, T, V, 1, 1>(simd, measure, [left(i)], [right(j)]);
                        each(i, j, sum);
                    }
                }
            }
        }
    }
}

/// The measure of two rows of one dimension.
#[inline(always)]
fn sum<S: Simd, T: Scalar>(simd: S, measure: Measure, a: &[T], b: &[T]) -> T {
    let [[sum]] = match LANES / T::lanes::<S>() {
        2 => sums::<S, T, 2, 1, 1>(simd, measure, [a], [b]),
        4 => sums::<S, T, 4, 1, 1>(simd, measure, [a], [b]),
        8 => sums::<S, T, 8, 1, 1>(simd, measure, [a], [b]),
        16 => sums::<S, T, 16, 1, 1>(simd, measure, [a], [b]),
        _ => sums::<S, T, LANES, 1, 1>(simd, measure, [a], [b]),
    };
    sum
}

/// The measure of each `a` with each `b`, all of one dimension, in the order that the module
/// describes; `V` vectors are all lanes.
#[inline(always)]
fn sums<S: Simd, T: Scalar, const V: usize, const R: usize, const C: usize>(
    simd: S,
    measure: Measure,
    a: [&[T]; R],
    b: [&[T]; C],
) -> [[T; C]; R] {
    let zero = T::splat(simd, T::ZERO);
    let mut lanes = [[[zero; V]; C]; R];
    let dim = a[0].len();
    let (a_chunks, b_chunks) = (a.map(|a| a.as_chunks().0), b.map(|b| b.as_chunks().0));
    for at in 0..dim / LANES {
        let a = a_chunks.map(|chunks| vectors_of::<S, T>(&chunks[at]));
        let b = b_chunks.map(|chunks| vectors_of::<S, T>(&chunks[at]));
        for vector in 0..V {
            for r in 0..R {
                for c in 0..C {
                    let term = term::<S, T>(simd, measure, a[r][vector], b[c][vector]);
                    lanes[r][c][vector] = T::plus(simd, lanes[r][c][vector], term);
                }
            }
        }
    }
    let rest = dim % LANES;
    if rest > 0 {
        // The lanes before get +0, which changes no bit of them: a sum that starts from +0 is never −0.
        let skip = T::splat(simd, T::from_f64((LANES - rest) as f64));
        let indices = std::array::from_fn(|lane| T::from_f64(lane as f64));
        let indices = vectors_of::<S, T>(&indices);
        let (mut a_last, mut b_last) = ([[T::ZERO; LANES]; R], [[T::ZERO; LANES]; C]);
        for (last, a) in a_last.iter_mut().zip(a) {
            set_last(last, a);
        }
        for (last, b) in b_last.iter_mut().zip(b) {
            set_last(last, b);
        }
        for vector in 0..V {
            for r in 0..R {
                for c in 0..C {
                    let a = vectors_of::<S, T>(&a_last[r])[vector];
                    let b = vectors_of::<S, T>(&b_last[c])[vector];
                    let term = term::<S, T>(simd, measure, a, b);
                    let term = T::zero_if_less(simd, indices[vector], skip, term);
                    lanes[r][c][vector] = T::plus(simd, lanes[r][c][vector], term);
                }
            }
        }
    }
    let mut sums = [[T::ZERO; C]; R];
    for r in 0..R {
        for c in 0..C {
            let add = |x, y| T::plus(simd, x, y);
            sums[r][c] = halve_lanes::<S, T>(&mut lanes[r][c], add, |x, y| x + y);
        }
    }
    sums
}

#[inline(always)]
fn vectors_of<S: Simd, T: Scalar>(chunk: &[T; LANES]) -> &[T::Vector<S>] {
    T::vectors::<S>(chunk)
}

#[inline(always)]
fn term<S: Simd, T: Scalar>(
    simd: S,
    measure: Measure,
    x: T::Vector<S>,
    y: T::Vector<S>,
) -> T::Vector<S> {
    match measure {
        Measure::SquaredEuclidean => {
            let difference = T::minus(simd, x, y);
            T::times(simd, difference, difference)
        }
        Measure::Manhattan => T::absolute(simd, T::minus(simd, x, y)),
        Measure::Dot => T::times(simd, x, y),
    }
}

/// Sets the last 32 values of a vector, of which the first were added already: so no copy of a
/// variable length, but for vectors that are shorter.
#[inline(always)]
fn set_last<T: Scalar>(last: &mut [T; LANES], values: &[T]) {
    match values.last_chunk() {
        Some(values) => *last = *values,
        None => last[LANES - values.len()..].copy_from_slice(values),
    }
}

/// Asks for the cache lines of what will be read soon.
#[inline(always)]
pub(crate) fn prefetch<T>(row: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in row.chunks(64 / size_of::<T>()) {
            // SAFETY: a prefetch is a hint, sound for any address, and SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::simd::on_each_isa;

    const MEASURES: [Measure; 3] = [Measure::SquaredEuclidean, Measure::Manhattan, Measure::Dot];
    const DIMS: [usize; 15] = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 384, 960];

    /// The order of the module's description, one term at a time.
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
                        let (a, b) = (rows.row(i as usize), rows.row(j as usize));
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
                            let (a, b) = (left.row(at / 11), right.row(at % 11));
                            assert!(same(got, reference(measure, a, b)), "{dim} {isa}");
                        }
                    }
                    let indices = [19, 0, 0, 5, 7, 3];
                    distances_to(measure, rows.row(4), rows, &indices, &mut out, isa).unwrap();
                    assert_eq!(out.len(), indices.len());
                    for (&j, &got) in indices.iter().zip(&out) {
                        let expected = reference(measure, rows.row(4), rows.row(j as usize));
                        assert!(same(got, expected));
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
        let query = [0.0; 3];
        assert_eq!(
            distances_to(measure, &query, rows, &[0], out, isa),
            Err(shape("the query", 3, 2))
        );
        assert_eq!(
            distances_to(measure, &query[..2], rows, &[0, 3, 1], out, isa),
            Err(out_of_range("item indices"))
        );
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
