//! The k nearest where k is most of the items that a query is compared with: all distances are
//! computed and sorted, one query after the other.

use std::cmp::Ordering;

use lshjoin_kernels::{Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{context::Context, error::Result},
    pairs::{
        apart::Apart,
        results::{NEIGHBORS, Neighbors},
    },
    vectors::Vectors,
};

/// Whether k is so large a part of the items that no filter pays: most distances are needed anyway,
/// and merging into a list of k takes k steps for each block of items.
pub(crate) fn are_most(k: usize, items: usize) -> bool {
    k >= items / 2
}

/// The k nearest of each left row; a self-join of `right` when `left` is `None`.
///
/// # Errors
/// When there is no memory for them, or the run is cancelled.
pub(crate) fn by_sorting<T: Scalar>(
    left: Option<&Vectors<'_, T>>,
    right: &Vectors<'_, T>,
    k: usize,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    let items = right.internal_ids()?;
    among_candidates(left, right, k, |_| &items, ctx)
}

/// The k nearest of each left row among the items that `items_of` has for it; a self-join of `right`
/// when `left` is `None`.
///
/// # Errors
/// As [`by_sorting`].
pub(crate) fn among_candidates<'i, T: Scalar>(
    left: Option<&Vectors<'_, T>>,
    right: &Vectors<'_, T>,
    k: usize,
    items_of: impl Fn(u32) -> &'i [u32] + Sync,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    let with_itself = left.is_none();
    let apart = Apart::of(left, right)?;
    let left = left.unwrap_or(right);
    let (rows, slots) = (left.len(), k.min(right.len().max(1)));
    let values = rows.saturating_mul(slots);
    let mut distances = memory::filled(T::INFINITY, values, NEIGHBORS)?;
    let mut indices = memory::filled(-1, values, NEIGHBORS)?;
    ctx.expect(rows);
    distances
        .par_chunks_mut(slots)
        .zip(indices.par_chunks_mut(slots))
        .enumerate()
        .try_for_each_init(Buffers::default, |buffers, (row, (distances, indices))| {
            ctx.check()?;
            let Buffers {
                pairs,
                of_pairs,
                measured,
            } = buffers;
            let row = row as u32;
            let items = items_of(row).iter();
            let others = items.filter(|&&item| {
                (!with_itself || item != row)
                    && apart.as_ref().is_none_or(|apart| apart.lets_in(row, item))
            });
            pairs.clear();
            memory::extend(pairs, others.map(|&item| (row, item)), NEIGHBORS)?;
            left.distances(right, pairs, of_pairs, ctx.isa())?;
            measured.clear();
            let of_items = of_pairs.iter().zip(pairs.iter());
            let of_items = of_items.map(|(&distance, &(_, item))| Measured {
                distance,
                rank: right.rank(item),
                item,
            });
            memory::extend(measured, of_items, NEIGHBORS)?;
            if slots < measured.len() {
                measured.select_nth_unstable_by(slots, Measured::compare);
                measured.truncate(slots);
            }
            measured.sort_unstable_by(Measured::compare);
            for (slot, &Measured { distance, item, .. }) in measured.iter().enumerate() {
                distances[slot] = T::from_f64(distance);
                indices[slot] = item.into();
            }
            ctx.advance(1);
            Ok::<_, crate::Error>(())
        })?;
    let found = Neighbors {
        k: slots,
        distances,
        indices,
    };
    found.by_index(left, right)?.with_k(k)
}

/// A thread's buffers.
#[derive(Default)]
struct Buffers {
    pairs: Vec<(u32, u32)>,
    of_pairs: Vec<f64>,
    measured: Vec<Measured>,
}

/// An item at its distance.
struct Measured {
    distance: f64,
    rank: i64,
    item: u32,
}

impl Measured {
    fn compare(&self, other: &Self) -> Ordering {
        let by_distance = self.distance.total_cmp(&other.distance);
        by_distance.then(self.rank.cmp(&other.rank))
    }
}
