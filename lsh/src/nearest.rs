//! The nearest neighbours found so far, of all rows at once, for threads to add to.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use lshjoin_kernels::Scalar;
use rayon::prelude::*;

use crate::{
    error::Result,
    run::Run,
    side::{Side, distance, filter_interval},
};

/// Rows that share a lock: few enough that threads rarely meet at one.
const SHARD: usize = 64;

/// A neighbour whose distance is known to lie in an interval; distances as the filter on codes
/// measures them.
#[derive(Clone, Copy)]
struct Candidate {
    at_least: f32,
    at_most: f32,
    index: u32,
}

/// For each left row the candidates that may be among its k nearest, and the bound that new ones
/// have to beat.
///
/// A candidate comes with an interval from its 8-bit codes; a row's vectors are fetched from
/// memory only when more candidates than there is room for can't be told apart, and once at the
/// end. What ends up in the lists is the exact k nearest of all candidates that came, whatever
/// the order in which threads brought them.
pub(crate) struct NearestLists<'a, T> {
    left: &'a Side<'a, T>,
    right: &'a Side<'a, T>,
    k: usize,
    room: usize,
    shards: Vec<Mutex<Vec<Vec<Candidate>>>>,
    /// The k-th smallest `at_most` of each row, infinite until there are k; as bits.
    bounds: Vec<AtomicU32>,
}

impl<'a, T: Scalar> NearestLists<'a, T> {
    pub(crate) fn new(left: &'a Side<'a, T>, right: &'a Side<'a, T>, k: usize) -> Self {
        let rows = left.rows.len();
        let shard = |first: usize| Mutex::new(vec![Vec::new(); SHARD.min(rows - first)]);
        let unbounded = || AtomicU32::new(f32::INFINITY.to_bits());
        Self {
            left,
            right,
            k,
            room: 2 * k + 6,
            shards: (0..rows).step_by(SHARD).map(shard).collect(),
            bounds: std::iter::repeat_with(unbounded).take(rows).collect(),
        }
    }

    /// Places of each list.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// The distances of the row's k nearest of all candidates so far.
    pub(crate) fn distances_of(&self, row: u32, run: &Run) -> Result<Vec<T>> {
        let shard = &self.shards[row as usize / SHARD];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let scores = self.settle_row(row, &mut shard[row as usize % SHARD], run)?;
        Ok(scores
            .into_iter()
            .map(|score| distance(self.left.metric, score))
            .collect())
    }

    /// The bound of `row` now; a later one is never larger.
    pub(crate) fn bound(&self, row: u32) -> f32 {
        f32::from_bits(self.bounds[row as usize].load(Ordering::Relaxed))
    }

    /// Adds a candidate whose distance is known to lie between two numbers.
    pub(crate) fn insert(
        &self,
        row: u32,
        index: u32,
        at_least: f32,
        at_most: f32,
        run: &Run,
    ) -> Result<()> {
        if at_least > self.bound(row) {
            return Ok(());
        }
        let shard = &self.shards[row as usize / SHARD];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let list = &mut shard[row as usize % SHARD];
        if list.iter().any(|candidate| candidate.index == index) {
            return Ok(());
        }
        if list.len() == self.room {
            self.settle_row(row, list, run)?;
            if at_least > self.bound(row) {
                return Ok(());
            }
        }
        let place = list.partition_point(|candidate| candidate.at_most <= at_most);
        list.insert(
            place,
            Candidate {
                at_least,
                at_most,
                index,
            },
        );
        self.tighten(row, list);
        Ok(())
    }

    /// Sets the row's bound by the k-th of its list, and drops what is beyond it from the end.
    fn tighten(&self, row: u32, list: &mut Vec<Candidate>) {
        let Some(kth) = list.get(self.k - 1) else {
            return;
        };
        let bound = kth.at_most;
        self.bounds[row as usize].store(bound.to_bits(), Ordering::Relaxed);
        while list.len() > self.k && list.last().is_some_and(|last| last.at_least > bound) {
            list.pop();
        }
    }

    /// Leaves in `list` the exact k nearest of it, by (distance, index); returns their scores.
    fn settle_row(&self, row: u32, list: &mut Vec<Candidate>, run: &Run) -> Result<Vec<T>> {
        let bound = self.bound(row);
        list.retain(|candidate| candidate.at_least <= bound);
        let pairs: Vec<(u32, u32)> = list
            .iter()
            .map(|candidate| (row, candidate.index))
            .collect();
        let mut scores = Vec::new();
        self.left
            .scores(self.right, &pairs, &mut scores, run.isa())?;
        let mut scored: Vec<(T, u32)> = scores
            .into_iter()
            .zip(pairs.iter().map(|pair| pair.1))
            .collect();
        scored.sort_unstable_by(|x, y| {
            x.0.partial_cmp(&y.0)
                .unwrap_or(std::cmp::Ordering::Equal)
                .then(x.1.cmp(&y.1))
        });
        scored.truncate(self.k);
        list.clear();
        list.extend(scored.iter().map(|&(score, index)| {
            let distance = distance(self.left.metric, score).to_f64();
            let (at_least, at_most) =
                filter_interval::<T>(self.left.metric, distance, self.left.rows.dim());
            Candidate {
                at_least,
                at_most,
                index,
            }
        }));
        // Intervals of equal scores are equal, so the list stays sorted by `at_most`.
        self.tighten(row, list);
        Ok(scored.into_iter().map(|(score, _)| score).collect())
    }

    /// Settles every row, and returns the neighbours of each at this moment.
    pub(crate) fn settle(&self, run: &Run) -> Result<Neighbors<T>> {
        let rows = self.bounds.len();
        let mut distances = vec![T::INFINITY; rows * self.k];
        let mut indices = vec![-1; rows * self.k];
        let places = SHARD * self.k;
        self.shards
            .par_iter()
            .zip(
                distances
                    .par_chunks_mut(places)
                    .zip(indices.par_chunks_mut(places)),
            )
            .enumerate()
            .try_for_each(|(number, (shard, (distances, indices)))| {
                run.check()?;
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let of_rows = distances.chunks_mut(self.k).zip(indices.chunks_mut(self.k));
                for ((offset, list), (distances, indices)) in
                    shard.iter_mut().enumerate().zip(of_rows)
                {
                    let row = (number * SHARD + offset) as u32;
                    let scores = self.settle_row(row, list, run)?;
                    for (place, (score, candidate)) in scores.into_iter().zip(list).enumerate() {
                        distances[place] = distance(self.left.metric, score);
                        indices[place] = i64::from(candidate.index);
                    }
                }
                Ok::<_, crate::Error>(())
            })?;
        Ok(Neighbors {
            k: self.k,
            distances,
            indices,
        })
    }
}

/// The k nearest items of each query.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbors<T> {
    /// Places a query.
    pub k: usize,
    /// Distances, (queries, k) row-major, rising, infinite where there are fewer than k.
    pub distances: Vec<T>,
    /// Rows of the items, in the same places; −1 where there are fewer than k. Among items at
    /// the same distance the lower row comes first.
    pub indices: Vec<i64>,
}

impl<T: Scalar> Neighbors<T> {
    /// The neighbours of one query, nearest first.
    pub(crate) fn of(&self, query: u32) -> impl Iterator<Item = u32> {
        let places = &self.indices[query as usize * self.k..][..self.k];
        places
            .iter()
            .take_while(|&&index| index >= 0)
            .map(|&index| index as u32)
    }

    /// The same with the indices of items that were themselves numbered by `rows`.
    pub(crate) fn renumbered(mut self, rows: &[u32]) -> Self {
        for index in self.indices.iter_mut().filter(|index| **index >= 0) {
            *index = i64::from(rows[*index as usize]);
        }
        self
    }

    /// For each of `places` the list at that place.
    pub(crate) fn copied_to(self, places: &[u32]) -> Self {
        let range = |&place: &u32| place as usize * self.k..(place as usize + 1) * self.k;
        Self {
            k: self.k,
            distances: places
                .iter()
                .flat_map(|place| &self.distances[range(place)])
                .copied()
                .collect(),
            indices: places
                .iter()
                .flat_map(|place| &self.indices[range(place)])
                .copied()
                .collect(),
        }
    }

    /// The same with `k` places a query, not fewer than there are.
    pub(crate) fn padded(self, k: usize) -> Self {
        if k == self.k {
            return self;
        }
        let queries = self.indices.len() / self.k;
        let mut distances = vec![T::INFINITY; queries * k];
        let mut indices = vec![-1; queries * k];
        for query in 0..queries {
            let (from, to) = (query * self.k, query * k);
            distances[to..to + self.k].copy_from_slice(&self.distances[from..from + self.k]);
            indices[to..to + self.k].copy_from_slice(&self.indices[from..from + self.k]);
        }
        Self {
            k,
            distances,
            indices,
        }
    }
}
