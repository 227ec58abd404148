//! The nearest neighbours found so far, of all rows at once, for threads to add to.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use lshjoin_kernels::Scalar;
use rayon::prelude::*;

use crate::{
    error::{Error, Result},
    run::Run,
    side::{Side, distance, filter_interval},
};

/// Rows that share a lock: few enough that threads rarely meet at one.
const SHARD: usize = 64;

/// The lists of some rows: neighbours whose distances are known to lie in intervals, by rising
/// upper end; distances as the filter on codes measures them.
struct Shard {
    /// Candidates of each row.
    lengths: [usize; SHARD],
    /// `room` places a row.
    at_least: Vec<f32>,
    at_most: Vec<f32>,
    indices: Vec<u32>,
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
    shards: Vec<Mutex<Shard>>,
    /// The k-th smallest `at_most` of each row, infinite until there are k; as bits.
    bounds: Vec<AtomicU32>,
}

impl<'a, T: Scalar> NearestLists<'a, T> {
    pub(crate) fn new(left: &'a Side<'a, T>, right: &'a Side<'a, T>, k: usize) -> Self {
        let rows = left.rows.len();
        // Beside the k nearest, those that overlap with the k-th.
        let room = 2 * k + 10;
        let shard = |first: usize| {
            let places = SHARD.min(rows - first) * room;
            Mutex::new(Shard {
                lengths: [0; SHARD],
                at_least: vec![0.0; places],
                at_most: vec![0.0; places],
                indices: vec![0; places],
            })
        };
        let unbounded = || AtomicU32::new(f32::INFINITY.to_bits());
        Self {
            left,
            right,
            k,
            room,
            shards: (0..rows).step_by(SHARD).map(shard).collect(),
            bounds: std::iter::repeat_with(unbounded).take(rows).collect(),
        }
    }

    /// Places of each list.
    pub(crate) fn k(&self) -> usize {
        self.k
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
        let places = self.places(&shard, row);
        if shard.indices[places.clone()].contains(&index) {
            return Ok(());
        }
        if places.len() == self.room {
            self.settle_row(row, &mut shard, run)?;
            if at_least > self.bound(row) {
                return Ok(());
            }
        }
        let Range { start, end } = self.places(&shard, row);
        let before = shard.at_most[start..end]
            .iter()
            .filter(|&&other| other <= at_most)
            .count();
        let place = start + before;
        let moved = place..end;
        shard.at_least.copy_within(moved.clone(), place + 1);
        shard.at_most.copy_within(moved.clone(), place + 1);
        shard.indices.copy_within(moved, place + 1);
        shard.at_least[place] = at_least;
        shard.at_most[place] = at_most;
        shard.indices[place] = index;
        shard.lengths[row as usize % SHARD] += 1;
        self.tighten(row, &mut shard);
        Ok(())
    }

    /// Where the candidates of `row` are in its shard.
    fn places(&self, shard: &Shard, row: u32) -> Range<usize> {
        let row = row as usize % SHARD;
        row * self.room..row * self.room + shard.lengths[row]
    }

    /// Sets the row's bound by the k-th of its list, and drops what is beyond it from the end.
    fn tighten(&self, row: u32, shard: &mut Shard) {
        let Range { start, mut end } = self.places(shard, row);
        if end - start < self.k {
            return;
        }
        let bound = shard.at_most[start + self.k - 1];
        self.bounds[row as usize].store(bound.to_bits(), Ordering::Relaxed);
        while end - start > self.k && shard.at_least[end - 1] > bound {
            end -= 1;
        }
        shard.lengths[row as usize % SHARD] = end - start;
    }

    /// Leaves in the list of `row` its exact k nearest, by (distance, row); returns their scores.
    fn settle_row(&self, row: u32, shard: &mut Shard, run: &Run) -> Result<Vec<T>> {
        let places = self.places(shard, row);
        let bound = self.bound(row);
        let pairs: Vec<(u32, u32)> = places
            .clone()
            .filter(|&place| shard.at_least[place] <= bound)
            .map(|place| (row, shard.indices[place]))
            .collect();
        let mut scores = Vec::new();
        self.left
            .scores(self.right, &pairs, &mut scores, run.isa())?;
        let mut scored: Vec<(T, u32)> = scores
            .into_iter()
            .zip(pairs.iter().map(|pair| pair.1))
            .collect();
        scored.sort_unstable_by(|x, y| {
            let by_score = x.0.partial_cmp(&y.0).unwrap_or(std::cmp::Ordering::Equal);
            by_score.then_with(|| self.right.row(x.1).cmp(&self.right.row(y.1)))
        });
        scored.truncate(self.k);
        for (place, &(score, index)) in places.zip(&scored) {
            let distance = distance(self.left.metric, score).to_f64();
            let dim = self.left.rows.dim();
            let (at_least, at_most) = filter_interval::<T>(self.left.metric, distance, dim);
            shard.at_least[place] = at_least;
            // Intervals of equal scores are equal, so the list stays sorted.
            shard.at_most[place] = at_most;
            shard.indices[place] = index;
        }
        shard.lengths[row as usize % SHARD] = scored.len();
        self.tighten(row, shard);
        Ok(scored.into_iter().map(|(score, _)| score).collect())
    }

    /// The distances of the row's k nearest of all candidates so far.
    pub(crate) fn distances_of(&self, row: u32, run: &Run) -> Result<Vec<T>> {
        let shard = &self.shards[row as usize / SHARD];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let scores = self.settle_row(row, &mut shard, run)?;
        Ok(scores
            .into_iter()
            .map(|score| distance(self.left.metric, score))
            .collect())
    }

    /// Settles every row, and returns the neighbours of each at this moment, rows and neighbours
    /// by their number.
    pub(crate) fn settle(&self, run: &Run) -> Result<Neighbors<T>> {
        let rows = self.bounds.len();
        let mut distances = vec![T::INFINITY; rows * self.k];
        let mut indices = vec![-1; rows * self.k];
        let of_shard = SHARD * self.k;
        self.shards
            .par_iter()
            .zip(
                distances
                    .par_chunks_mut(of_shard)
                    .zip(indices.par_chunks_mut(of_shard)),
            )
            .enumerate()
            .try_for_each(|(number, (shard, (distances, indices)))| {
                run.check()?;
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let of_rows = distances.chunks_mut(self.k).zip(indices.chunks_mut(self.k));
                for (row, (distances, indices)) in (number as u32 * SHARD as u32..).zip(of_rows) {
                    let scores = self.settle_row(row, &mut shard, run)?;
                    let found = &shard.indices[self.places(&shard, row)];
                    for (place, (score, &index)) in scores.into_iter().zip(found).enumerate() {
                        distances[place] = distance(self.left.metric, score);
                        indices[place] = i64::from(index);
                    }
                }
                Ok::<_, Error>(())
            })?;
        Ok(Neighbors {
            k: self.k,
            distances,
            indices,
        })
    }

    /// The k nearest of each left row, rows and neighbours by their index.
    pub(crate) fn finish(self, run: &Run) -> Result<Neighbors<T>> {
        let found = self.settle(run)?;
        let numbers = |side: &Side<'_, T>| 0..side.rows.len() as u32;
        let rows: Vec<u32> = numbers(self.right)
            .map(|number| self.right.row(number))
            .collect();
        let places: Vec<u32> = numbers(self.left)
            .map(|row| self.left.number(row))
            .collect();
        drop(self.shards);
        Ok(found.renumbered(&rows).copied_to(&places))
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
