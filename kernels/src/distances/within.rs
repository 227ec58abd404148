//! All pairs of two sets of rows that are within a bound, in the rows' own precision.
//!
//! For rows without 8-bit codes, and for so few that codes don't pay. What [`near_pairs`] only filters,
//! this decides: sums of whole blocks of pairs are compared with the bounds of their rows while they
//! are in registers.
//!
//! [`near_pairs`]: crate::near_pairs

use pulp::{Simd, WithSimd};

use super::{blocks::all_pairs, measure::Measure};
use crate::{
    base::{
        error::{KernelError, Result},
        isa::Isa,
    },
    rows::{
        matrix::Rows,
        scalar::Scalar,
        shape::{check_indices, check_len},
    },
    simd::dispatch::dispatch,
};

/// Bytes of right rows that stay in the first-level cache while all left rows pass by.
const CACHED: usize = 24 << 10;

/// Some rows of a matrix, each with a bound on the measure of its pairs.
#[derive(Clone, Copy, Debug)]
pub struct BoundedRows<'a, T> {
    /// The matrix.
    pub rows: Rows<'a, T>,
    /// Which of its rows.
    pub indices: &'a [u32],
    /// For each of those the largest measure of its pairs; a negative distance allows none.
    pub bounds: &'a [T],
}

/// Calls `found(i, j, measure)` for the pairs of the i-th left and the j-th right index whose measure
/// is at most one of their two bounds. Each is bitwise what [`distance`](crate::distance) gives.
///
/// The order is the same on every run with one instruction set, but of no meaning. No pair is found
/// whose measure is NaN.
///
/// ```
/// use lshjoin_kernels::{BoundedRows, Isa, Measure, Rows, pairs_within};
///
/// let rows = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let left = BoundedRows { rows, indices: &[0, 2], bounds: &[2.0, 3.0] };
/// let right = BoundedRows { rows, indices: &[1], bounds: &[-1.0] };
/// let mut pairs = Vec::new();
/// pairs_within(Measure::Manhattan, left, right, Isa::best(), &mut |i, j, distance| {
///     pairs.push((i, j, distance));
/// })?;
/// assert_eq!(pairs, [(0, 0, 1.0)]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`Shape`](crate::KernelError::Shape) when the sides differ in dimension, or there is not one bound
/// an index; [`RowOutOfRange`](crate::KernelError::RowOutOfRange) for an index that is no row of its
/// side.
pub fn pairs_within<T: Scalar>(
    measure: Measure,
    left: BoundedRows<'_, T>,
    right: BoundedRows<'_, T>,
    isa: Isa,
    found: &mut dyn FnMut(u32, u32, T),
) -> Result<()> {
    check_len("rows of the right side", right.rows.dim(), left.rows.dim())?;
    for (what, side) in [("left indices", left), ("right indices", right)] {
        check_indices(what, side.indices.iter().copied(), side.rows.len())?;
        check_len("bounds", side.bounds.len(), side.indices.len())?;
    }
    let (Some(of_left), Some(of_right)) = (left.rows.wide(), right.rows.wide()) else {
        // Widened once, and not for each pair.
        let dim = left.rows.dim();
        let of_left = left.rows.gather(left.indices)?;
        let of_right = right.rows.gather(right.indices)?;
        let all: Vec<u32> = (0..left.indices.len().max(right.indices.len()) as u32).collect();
        let [left, right] = [(left, &of_left), (right, &of_right)].map(|(side, values)| {
            let rows = Rows::new(values, dim)?;
            let indices = &all[..side.indices.len()];
            Ok::<_, KernelError>(BoundedRows {
                rows,
                indices,
                ..side
            })
        });
        return pairs_within(measure, left?, right?, isa, found);
    };
    dispatch(
        isa,
        PairsWithin {
            measure,
            dim: left.rows.dim(),
            left: (of_left, left),
            right: (of_right, right),
            found,
        },
    );
    Ok(())
}

struct PairsWithin<'a, T> {
    measure: Measure,
    dim: usize,
    /// The values of all rows beside which of them.
    left: (&'a [T], BoundedRows<'a, T>),
    right: (&'a [T], BoundedRows<'a, T>),
    found: &'a mut dyn FnMut(u32, u32, T),
}

impl<T: Scalar> WithSimd for PairsWithin<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A loop for each.
        match self.measure {
            Measure::SquaredEuclidean => self.by(simd, Measure::SquaredEuclidean),
            Measure::Manhattan => self.by(simd, Measure::Manhattan),
            Measure::Dot => self.by(simd, Measure::Dot),
        }
    }
}

impl<T: Scalar> PairsWithin<'_, T> {
    #[inline(always)]
    fn by<S: Simd>(self, simd: S, measure: Measure) {
        let Self {
            dim,
            left: (of_left, left),
            right: (of_right, right),
            ..
        } = self;
        let cached = (CACHED / (dim * size_of::<T>())).max(8);
        for first in (0..right.indices.len()).step_by(cached) {
            let lefts = 0..left.indices.len();
            let rights = first..right.indices.len().min(first + cached);
            let left_row = |at: usize| &of_left[left.indices[at] as usize * dim..][..dim];
            let right_row = |at: usize| &of_right[right.indices[at] as usize * dim..][..dim];
            all_pairs(
                simd,
                measure,
                (lefts, left_row),
                (rights, right_row),
                |i, j, score| {
                    if score <= left.bounds[i] || score <= right.bounds[j] {
                        (self.found)(i as u32, j as u32, score);
                    }
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{distances::pairs::distance, simd::dispatch::on_each_isa};

    fn agrees<T: Scalar>() {
        for (dim, n) in [(1, 5), (7, 33), (32, 17), (100, 40), (385, 23)] {
            let value = |at: usize| T::from_f64((at * 7919 % 1021) as f64 / 64.0 - 8.0);
            let values: Vec<T> = (0..2 * n * dim).map(value).collect();
            let rows = Rows::new(&values, dim).unwrap();
            // Rows twice, and in no order.
            let lefts: Vec<u32> = (0..n as u32).map(|at| at * 3 % n as u32).collect();
            let rights: Vec<u32> = (0..n as u32 + 3)
                .map(|at| at * 5 % (2 * n as u32))
                .collect();
            for measure in [Measure::SquaredEuclidean, Measure::Manhattan, Measure::Dot] {
                let exact = |i: usize, j: usize| {
                    let (x, y) = (rows.row(lefts[i] as usize), rows.row(rights[j] as usize));
                    distance(measure, &x, &y, Isa::SCALAR).unwrap()
                };
                // Some rows allow no pair, some a pair that is just within.
                let bounds = |count: usize, of: &dyn Fn(usize) -> T| -> Vec<T> {
                    let bound = |at| {
                        if at % 3 == 0 {
                            T::from_f64(-1e9)
                        } else {
                            of(at)
                        }
                    };
                    (0..count).map(bound).collect()
                };
                let of_left = bounds(lefts.len(), &|i| exact(i, i / 2));
                let of_right = bounds(rights.len(), &|j| exact(j % lefts.len(), j));
                let mut expected = Vec::new();
                for (i, of_left) in of_left.iter().enumerate() {
                    for (j, of_right) in of_right.iter().enumerate() {
                        let score = exact(i, j);
                        if score <= *of_left || score <= *of_right {
                            expected.push((i as u32, j as u32, score.to_f64().to_bits()));
                        }
                    }
                }
                assert!(n < 10 || !expected.is_empty() && expected.len() < n * n);
                let left = BoundedRows {
                    rows,
                    indices: &lefts,
                    bounds: &of_left,
                };
                let right = BoundedRows {
                    rows,
                    indices: &rights,
                    bounds: &of_right,
                };
                on_each_isa(|isa| {
                    let mut found = Vec::new();
                    let mut note = |i, j, score: T| found.push((i, j, score.to_f64().to_bits()));
                    pairs_within(measure, left, right, isa, &mut note).unwrap();
                    found.sort_unstable();
                    assert_eq!(found, expected, "{isa} {measure:?} {dim}");
                });
            }
        }
    }

    #[test]
    fn what_is_found_is_what_the_reference_finds() {
        agrees::<f32>();
        agrees::<f64>();
    }

    #[test]
    fn wrong_shapes_are_refused() {
        let (one, two) = (
            Rows::new(&[1.0_f32; 4], 1).unwrap(),
            Rows::new(&[1.0_f32; 4], 2).unwrap(),
        );
        let bounded = |rows, indices, bounds| BoundedRows {
            rows,
            indices,
            bounds,
        };
        let run =
            |left, right| pairs_within(Measure::Dot, left, right, Isa::best(), &mut |_, _, _| {});
        let good = bounded(one, &[3], &[1.0]);
        assert_eq!(run(good, good), Ok(()));
        assert!(run(good, bounded(two, &[1], &[1.0])).is_err());
        assert!(run(good, bounded(one, &[4], &[1.0])).is_err());
        assert!(run(bounded(one, &[3], &[]), good).is_err());
        assert_eq!(run(bounded(one, &[], &[]), good), Ok(()));
    }
}
