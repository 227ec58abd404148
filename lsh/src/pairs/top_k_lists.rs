//! The nearest neighbours found so far, of all rows at once, for threads to add to.

use std::{
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use bytemuck::Zeroable;
use lshjoin_kernels::{Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
    },
    pairs::results::{NEIGHBORS, Neighbors},
    vectors::Vectors,
};

/// Rows that share a lock: few enough that threads rarely wait at one.
const SHARD: usize = 64;

/// An item that may be among a row's nearest: its distance, as the filter on codes measures it,
/// lies between two numbers.
#[derive(Clone, Copy, Default, Zeroable)]
pub(crate) struct Candidate {
    pub(crate) index: u32,
    pub(crate) lower: f32,
    pub(crate) upper: f32,
}

/// With so many candidates in a list, and so many new ones, it is quicker to mark those of the list
/// in a bitmap than to search it for each new one.
const LONG: (usize, usize) = (64, 8);

/// An interval that is wider than this part of its upper end is one of codes: an exact distance is
/// known to a few parts in a million.
const WIDE: f32 = 1e-4;

/// A thread's memory for what is merged into lists.
#[derive(Default)]
pub(crate) struct Merging {
    merged: Vec<Candidate>,
    marks: Marks,
    measured: Measured,
}

/// Pairs and their distances.
#[derive(Default)]
struct Measured {
    pairs: Vec<(u32, u32)>,
    distances: Vec<f64>,
}

/// A bit for each item, all 0 between uses.
#[derive(Default)]
struct Marks(Vec<u64>);

impl Marks {
    /// Marks some of so many items.
    fn set(&mut self, candidates: &[Candidate], items: usize) -> Result<()> {
        if self.0.is_empty() {
            self.0 = memory::zeroed(items.div_ceil(64), NEIGHBORS)?;
        }
        for candidate in candidates {
            self.0[candidate.index as usize / 64] |= 1 << (candidate.index % 64);
        }
        Ok(())
    }

    fn clear(&mut self, candidates: &[Candidate]) {
        for candidate in candidates {
            self.0[candidate.index as usize / 64] = 0;
        }
    }

    fn contain(&self, index: u32) -> bool {
        self.0[index as usize / 64] >> (index % 64) & 1 == 1
    }
}

/// Candidates that a list holds: the k nearest, and those whose intervals overlap with the k-th's.
pub(crate) const fn capacity(k: usize) -> usize {
    k + k / 2 + 8
}

/// How many of `of` rows to compare a row with first, to fill its top-k: after many times k rows
/// most others are too far. What they cost rises with their number, what they save with k, and with
/// the pairs that come after them: `all`, or those of a few lists.
pub(crate) fn warm_start_rows(k: usize, of: usize, all: bool) -> usize {
    let most = (of / 16).next_power_of_two();
    let enough = match all {
        true => k.saturating_mul(64).clamp(256, 2048),
        false => k.saturating_mul(16).clamp(128, 2048),
    };
    enough.min(most)
}

/// The lists of some rows.
struct Shard {
    /// Candidates of each row.
    lengths: [usize; SHARD],
    /// Space for `capacity` candidates a row; by rising `upper`.
    candidates: Vec<Candidate>,
}

/// For each left row the candidates that may be among its k nearest, and the bound that new ones
/// have to beat.
///
/// A candidate comes with an interval from 8-bit codes. Vectors are read only when more candidates
/// than a list holds cannot be told apart, and once at the end. What ends up in the lists is the
/// exact k nearest of all candidates that came, whatever the order in which threads brought them.
pub(crate) struct TopKLists<'a, T> {
    left: &'a Vectors<'a, T>,
    right: &'a Vectors<'a, T>,
    k: usize,
    capacity: usize,
    shards: Vec<Mutex<Shard>>,
    /// The k-th smallest `upper` of each row, infinite until there are k; as bits.
    bounds: Vec<AtomicU32>,
}

impl<'a, T: Scalar> TopKLists<'a, T> {
    /// Empty lists for all left rows.
    ///
    /// # Errors
    /// When there is no memory for them, or for what [`TopKLists::finish`] makes of them.
    pub(crate) fn new(
        left: &'a Vectors<'a, T>,
        right: &'a Vectors<'a, T>,
        k: usize,
    ) -> Result<Self> {
        let rows = left.len();
        let capacity = capacity(k);
        let of_row = capacity * size_of::<Candidate>() + k * (size_of::<T>() + size_of::<i64>());
        memory::check(rows.saturating_mul(of_row), NEIGHBORS)?;
        let shard = |first: usize| {
            Ok(Mutex::new(Shard {
                lengths: [0; SHARD],
                candidates: memory::zeroed(SHARD.min(rows - first) * capacity, NEIGHBORS)?,
            }))
        };
        let shards = (0..rows).into_par_iter().step_by(SHARD).map(shard);
        let unbounded = || AtomicU32::new(f32::INFINITY.to_bits());
        let bounds = std::iter::repeat_with(unbounded).take(rows);
        Ok(Self {
            left,
            right,
            k,
            capacity,
            shards: shards.collect::<Result<_>>()?,
            bounds: memory::collect(bounds, NEIGHBORS)?,
        })
    }

    /// Neighbours that each row wants.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// The bound of `row` now; a later one is never larger.
    pub(crate) fn bound(&self, row: u32) -> f32 {
        f32::from_bits(self.bounds[row as usize].load(Ordering::Relaxed))
    }

    /// How many candidates a row has.
    pub(crate) fn len_of(&self, row: u32) -> usize {
        self.shard(row).lengths[row as usize % SHARD]
    }

    /// The rows that have fewer candidates than `wanted`.
    pub(crate) fn shorter_than(&self, wanted: usize) -> Vec<u32> {
        let of_shard = |(index, shard): (usize, &Mutex<Shard>)| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let rows = self.bounds.len() - index * SHARD;
            let lengths = (0..).zip(shard.lengths).take(rows);
            let unfilled = lengths.filter(|&(_, length)| length < wanted);
            let unfilled = unfilled.map(|(row, _)| (index * SHARD + row) as u32);
            unfilled.collect::<Vec<u32>>()
        };
        let shards = self.shards.par_iter().enumerate();
        shards.flat_map_iter(of_shard).collect()
    }

    /// Adds those of `candidates` to the list of `row` that are new and near enough. They are of
    /// different rows, by rising `upper`.
    pub(crate) fn insert(
        &self,
        row: u32,
        candidates: &[Candidate],
        Merging {
            merged,
            marks,
            measured,
        }: &mut Merging,
        ctx: &Context,
    ) -> Result<()> {
        let bound = self.bound(row);
        let far = |candidate: &Candidate| candidate.lower > bound;
        if candidates.iter().all(far) {
            return Ok(());
        }
        let mut shard = self.shard(row);
        let known = &shard.candidates[self.slots(&shard, row)];
        let look_up = known.len() >= LONG.0 && candidates.len() >= LONG.1;
        if look_up {
            marks.set(known, self.right.len())?;
        }
        let is_known = |new: &Candidate| match look_up {
            true => marks.contain(new.index),
            false => known.iter().any(|other| other.index == new.index),
        };
        merged.clear();
        memory::reserve(merged, known.len() + candidates.len(), NEIGHBORS)?;
        let mut keep = |candidate: &Candidate| {
            // Merged by rising upper ends, so that the k-th has the bound.
            if merged.len() < self.k || candidate.lower <= merged[self.k - 1].upper {
                merged.push(*candidate);
            }
        };
        let mut old = known;
        for new in candidates {
            if far(new) || is_known(new) {
                continue;
            }
            while let Some((first, rest)) = old.split_first()
                && first.upper <= new.upper
            {
                keep(first);
                old = rest;
            }
            keep(new);
        }
        old.iter().for_each(keep);
        if look_up {
            marks.clear(known);
        }
        if merged.len() > self.capacity {
            self.measure(row, merged, measured, ctx)?;
        }
        if merged.len() > self.capacity {
            self.rerank_list(row, merged, ctx)?;
        }
        self.set_list(row, &mut shard, merged);
        Ok(())
    }

    fn shard(&self, row: u32) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[row as usize / SHARD];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the candidates of `row` are in its shard.
    fn slots(&self, shard: &Shard, row: u32) -> Range<usize> {
        let row = row as usize % SHARD;
        row * self.capacity..row * self.capacity + shard.lengths[row]
    }

    fn set_list(&self, row: u32, shard: &mut Shard, list: &[Candidate]) {
        shard.lengths[row as usize % SHARD] = list.len();
        let slots = self.slots(shard, row);
        shard.candidates[slots].copy_from_slice(list);
        if let Some(kth) = list.get(self.k - 1) {
            self.bounds[row as usize].store(kth.upper.to_bits(), Ordering::Relaxed);
        }
    }

    /// Computes the distances of candidates that are known by codes alone, and leaves those that
    /// may be among the k nearest: all that overlap with the k-th.
    fn measure(
        &self,
        row: u32,
        list: &mut Vec<Candidate>,
        Measured { pairs, distances }: &mut Measured,
        ctx: &Context,
    ) -> Result<()> {
        let is_wide = |other: &Candidate| other.upper - other.lower > WIDE * other.upper;
        pairs.clear();
        memory::reserve(pairs, list.len(), NEIGHBORS)?;
        let wide = list.iter().filter(|&other| is_wide(other));
        pairs.extend(wide.map(|other| (row, other.index)));
        self.left
            .distances(self.right, pairs, distances, ctx.isa())?;
        let wide = list.iter_mut().filter(|other| is_wide(other));
        for (other, &distance) in wide.zip(distances.iter()) {
            let pair = (row, other.index);
            (other.lower, other.upper) = self.left.filter_interval(self.right, pair, distance);
        }
        list.sort_unstable_by(|x, y| x.upper.total_cmp(&y.upper));
        let bound = list[self.k - 1].upper;
        list.retain(|other| other.lower <= bound);
        Ok(())
    }

    /// Leaves in the list of `row` its exact k nearest, by distance and then by rank; returns their
    /// distances.
    fn rerank_list(&self, row: u32, list: &mut Vec<Candidate>, ctx: &Context) -> Result<Vec<f64>> {
        let pairs = list.iter().map(|other| (row, other.index));
        let pairs = memory::collect(pairs, NEIGHBORS)?;
        let mut distances = Vec::new();
        self.left
            .distances(self.right, &pairs, &mut distances, ctx.isa())?;
        let measured = distances.iter().copied();
        let measured = measured.zip(list.iter().map(|other| other.index));
        let mut measured: Vec<(f64, u32)> = memory::collect(measured, NEIGHBORS)?;
        measured.sort_unstable_by(|x, y| {
            let by_distance = x.0.total_cmp(&y.0);
            by_distance.then_with(|| self.right.rank(x.1).cmp(&self.right.rank(y.1)))
        });
        measured.truncate(self.k);
        list.clear();
        // Intervals of equal distances are equal, so the list stays sorted.
        list.extend(measured.iter().map(|&(distance, index)| {
            let pair = (row, index);
            let (lower, upper) = self.left.filter_interval(self.right, pair, distance);
            Candidate {
                index,
                lower,
                upper,
            }
        }));
        distances.clear();
        distances.extend(measured.into_iter().map(|(distance, _)| distance));
        Ok(distances)
    }

    /// Reranks the list of `row` in its shard; returns what is left of it and the distances.
    fn rerank_row(
        &self,
        row: u32,
        shard: &mut Shard,
        ctx: &Context,
    ) -> Result<(Vec<Candidate>, Vec<f64>)> {
        let list = &shard.candidates[self.slots(shard, row)];
        let mut list = memory::copied(list, NEIGHBORS)?;
        let distances = self.rerank_list(row, &mut list, ctx)?;
        self.set_list(row, shard, &list);
        Ok((list, distances))
    }

    /// The distances of the row's k nearest of all candidates so far.
    pub(crate) fn distances_of(&self, row: u32, ctx: &Context) -> Result<Vec<T>> {
        let (_, distances) = self.rerank_row(row, &mut self.shard(row), ctx)?;
        Ok(distances.into_iter().map(T::from_f64).collect())
    }

    /// Reranks every row, and returns the neighbours so far; rows and neighbours by internal id.
    pub(crate) fn rerank(&self, ctx: &Context) -> Result<Neighbors<T>> {
        let rows = self.bounds.len();
        let mut distances = memory::filled(T::INFINITY, rows.saturating_mul(self.k), NEIGHBORS)?;
        let mut indices = memory::filled(-1, rows.saturating_mul(self.k), NEIGHBORS)?;
        let of_shard = SHARD * self.k;
        self.shards
            .par_iter()
            .zip(
                distances
                    .par_chunks_mut(of_shard)
                    .zip(indices.par_chunks_mut(of_shard)),
            )
            .enumerate()
            .try_for_each(|(index, (shard, (distances, indices)))| {
                ctx.check()?;
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let of_rows = distances.chunks_mut(self.k).zip(indices.chunks_mut(self.k));
                for (row, (distances, indices)) in (index as u32 * SHARD as u32..).zip(of_rows) {
                    let (list, exact) = self.rerank_row(row, &mut shard, ctx)?;
                    for (slot, (distance, found)) in exact.into_iter().zip(list).enumerate() {
                        distances[slot] = T::from_f64(distance);
                        indices[slot] = i64::from(found.index);
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

    /// The k nearest of each left row; rows and neighbours by index.
    pub(crate) fn finish(self, ctx: &Context) -> Result<Neighbors<T>> {
        let found = self.rerank(ctx)?;
        drop(self.shards);
        found.by_index(self.left, self.right)
    }
}
