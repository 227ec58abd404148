//! Lists that are most of the items: these are sorted by distance, one query after the other.

use lshjoin_kernels::{Scalar, memory};
use rayon::prelude::*;

use crate::{
    error::Result,
    nearest::{NEIGHBORS, Neighbors},
    run::Run,
    side::{Side, distance},
};

/// Whether the k nearest are so many of the items that no filter pays: most distances are asked for,
/// and a list that is merged into takes k steps for each block of items.
pub(crate) fn are_most(k: usize, items: usize) -> bool {
    k >= items / 2
}

/// The k nearest of each left row, of `right` with itself when `left` is `None`.
///
/// # Errors
/// When there is no memory for them, or the run is cancelled.
pub(crate) fn by_sorting<T: Scalar>(
    left: Option<&Side<'_, T>>,
    right: &Side<'_, T>,
    k: usize,
    run: &Run,
) -> Result<Neighbors<T>> {
    let items = right.numbers()?;
    let with_itself = left.is_none();
    let left = left.unwrap_or(right);
    let (rows, places) = (left.rows.len(), k.min(right.rows.len().max(1)));
    let values = rows.saturating_mul(places);
    let mut distances = memory::filled(T::INFINITY, values, NEIGHBORS)?;
    let mut indices = memory::filled(-1, values, NEIGHBORS)?;
    run.expect(rows);
    distances
        .par_chunks_mut(places)
        .zip(indices.par_chunks_mut(places))
        .enumerate()
        .try_for_each_init(Buffers::default, |buffers, (row, (distances, indices))| {
            run.check()?;
            let Buffers {
                pairs,
                scores,
                scored,
            } = buffers;
            let row = row as u32;
            let others = items.iter().filter(|&&item| !with_itself || item != row);
            pairs.clear();
            memory::extend(pairs, others.map(|&item| (row, item)), NEIGHBORS)?;
            left.scores(right, pairs, scores, run.isa())?;
            scored.clear();
            let of_items = scores.iter().zip(pairs.iter());
            let of_items = of_items.map(|(&score, &(_, item))| (score, right.rank(item), item));
            memory::extend(scored, of_items, NEIGHBORS)?;
            let nearer = |x: &(T, i64, u32), y: &(T, i64, u32)| {
                let by_score = x.0.partial_cmp(&y.0).unwrap_or(std::cmp::Ordering::Equal);
                by_score.then(x.1.cmp(&y.1))
            };
            if places < scored.len() {
                scored.select_nth_unstable_by(places, nearer);
                scored.truncate(places);
            }
            scored.sort_unstable_by(nearer);
            for (place, &(score, _, item)) in scored.iter().enumerate() {
                distances[place] = distance(left.metric, score);
                indices[place] = item.into();
            }
            run.advance(1);
            Ok::<_, crate::Error>(())
        })?;
    let found = Neighbors {
        k: places,
        distances,
        indices,
    };
    found.by_index(left, right)?.padded(k)
}

/// A thread's buffers.
struct Buffers<T> {
    pairs: Vec<(u32, u32)>,
    scores: Vec<T>,
    scored: Vec<(T, i64, u32)>,
}

impl<T> Default for Buffers<T> {
    fn default() -> Self {
        Self {
            pairs: Vec::new(),
            scores: Vec::new(),
            scored: Vec::new(),
        }
    }
}
