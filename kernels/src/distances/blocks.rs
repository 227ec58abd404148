//! The inner loop: sums over the values of two rows, for several pairs of rows at once.
//!
//! The order of summation is fixed, and not by the width of a vector register: terms are added to 32
//! lanes, 32 terms at a time and in order; what is left at the end, fewer than 32, goes to the last
//! lanes; then the upper half of the lanes is added to the lower half until one is left. Products and
//! sums are rounded separately: a fused multiply-add would give other bits where there is no hardware
//! for it, and saves nothing on rows that are gathered from memory, which is what is waited for.

use std::ops::Range;

use pulp::Simd;

use super::measure::Measure;
use crate::{
    rows::scalar::Scalar,
    simd::lanes::{LANES, halve_lanes},
};

/// Calls `each(i, j, measure)` for all pairs of a left and a right row, with as many sums at once as
/// registers hold: so a row is loaded once for several pairs.
#[inline(always)]
pub(crate) fn all_pairs<'a, S: Simd, T: Scalar>(
    simd: S,
    measure: Measure,
    left: (Range<usize>, impl Fn(usize) -> &'a [T]),
    right: (Range<usize>, impl Fn(usize) -> &'a [T]),
    each: impl FnMut(usize, usize, T),
) {
    // Registers of a sum, and how many there are of them.
    match (LANES / T::lanes::<S>(), S::REGISTER_COUNT) {
        (2, _) => all_pairs_by::<S, T, 2, 2, 4>(simd, measure, left, right, each),
        (4, 32) => all_pairs_by::<S, T, 4, 2, 2>(simd, measure, left, right, each),
        (4, _) => all_pairs_by::<S, T, 4, 1, 2>(simd, measure, left, right, each),
        (8, _) => all_pairs_by::<S, T, 8, 1, 1>(simd, measure, left, right, each),
        (16, _) => all_pairs_by::<S, T, 16, 1, 1>(simd, measure, left, right, each),
        _ => all_pairs_by::<S, T, LANES, 1, 1>(simd, measure, left, right, each),
    }
}

/// [`all_pairs`] with blocks of `R` × `C` rows, where `V` vectors are all lanes.
#[inline(always)]
fn all_pairs_by<'a, S: Simd, T: Scalar, const V: usize, const R: usize, const C: usize>(
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
pub(crate) fn sum<S: Simd, T: Scalar>(simd: S, measure: Measure, a: &[T], b: &[T]) -> T {
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
                    let term = measure.term::<S, T>(simd, a[r][vector], b[c][vector]);
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
                    let term = measure.term::<S, T>(simd, a, b);
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

/// Sets the last 32 values of a vector, of which the first were added already: so no copy of a
/// variable length, but for vectors that are shorter.
#[inline(always)]
fn set_last<T: Scalar>(last: &mut [T; LANES], values: &[T]) {
    match values.last_chunk() {
        Some(values) => *last = *values,
        None => last[LANES - values.len()..].copy_from_slice(values),
    }
}
