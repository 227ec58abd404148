//! The nearest neighbours found so far by codes alone, of all rows at once, for threads to add to.
//!
//! A few more than the k that are wanted are kept of each row, as far as 8-bit codes tell; those are
//! measured at the end. That is quicker than to bound distances (see
//! [`top_k_lists`](crate::pairs::top_k_lists)), and for joins that need not find all.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use lshjoin_kernels::{
    Isa, LeftPanel, Near, RightPanel, Scalar, insert_keys, memory, near_pairs, nearest_codes,
};
use rayon::prelude::*;

use crate::{
    base::{
        check::positive,
        context::Context,
        counting_sort::sort_by_row,
        error::{Error, Result},
    },
    pairs::{
        apart::Apart,
        results::{NEIGHBORS, Neighbors, gathered},
        tile_join::PairSink,
    },
    vectors::Vectors,
};

/// Rows that share a lock: few enough that threads rarely wait at one.
const SHARD: usize = 64;

/// Keys of a list are a multiple of this, which [`insert_keys`] is quickest with.
const KEYS: usize = 8;

/// For each left row the nearest items so far, and the bound that new ones have to beat.
///
/// What ends up in the lists are the nearest of all pairs that came, by distance and then by item,
/// whatever the order in which threads brought them.
pub(crate) struct CodeLists {
    k: usize,
    /// Items that are kept of each row.
    kept: usize,
    rows: usize,
    /// The lists of [`SHARD`] rows: sorted keys of distance and item, or [`NONE`].
    shards: Vec<Mutex<Vec<i64>>>,
    /// The largest distance of each list, infinite until it is full; as bits.
    bounds: Vec<AtomicU32>,
}

/// To fetch the vectors of a pair takes about as long as to compare so many in tiles.
const FETCHED: usize = 128;

/// A place of a list that has no item yet.
const NONE: i64 = i64::MAX;

/// Keys order by distance, then by item: positive numbers order as their bits do.
pub(crate) fn key(distance: f32, item: u32) -> i64 {
    i64::from(distance.to_bits()) << 32 | i64::from(item)
}

fn item(key: i64) -> u32 {
    key as u32
}

/// Items that are kept of a row, of which the `k` nearest are wanted: a few more, since codes do not
/// tell quite which these are.
const fn kept(k: usize) -> usize {
    k.saturating_add(k / 16 + 2)
}

/// What the list of a row takes up, at most.
pub(crate) const fn bytes_of_row(k: usize) -> usize {
    let keys = kept(k).saturating_add(KEYS);
    keys.saturating_mul(size_of::<i64>())
}

impl CodeLists {
    /// Empty lists for so many rows, that will find the `k` nearest of `others` items.
    ///
    /// # Errors
    /// When `k` is 0, or there is no memory for the lists.
    pub(crate) fn new(rows: usize, k: usize, others: usize) -> Result<Self> {
        positive("k", k)?;
        let k = k.min(others.max(1));
        let kept = kept(k).min(others.max(1));
        let length = kept.next_multiple_of(KEYS);
        memory::check(rows.saturating_mul(bytes_of_row(k)), NEIGHBORS)?;
        let shard = |first: usize| {
            let keys = SHARD.min(rows - first) * length;
            Ok::<_, Error>(Mutex::new(memory::filled(NONE, keys, NEIGHBORS)?))
        };
        let shards = (0..rows).into_par_iter().step_by(SHARD).map(shard);
        let unbounded = || AtomicU32::new(f32::INFINITY.to_bits());
        let bounds = std::iter::repeat_with(unbounded).take(rows);
        Ok(Self {
            k,
            kept,
            rows,
            shards: shards.collect::<Result<_>>()?,
            bounds: memory::collect(bounds, NEIGHBORS)?,
        })
    }

    /// The bound of `row` now; a later one is never larger.
    pub(crate) fn bound(&self, row: u32) -> f32 {
        f32::from_bits(self.bounds[row as usize].load(Ordering::Relaxed))
    }

    fn shard(&self, row: u32) -> MutexGuard<'_, Vec<i64>> {
        let shard = &self.shards[row as usize / SHARD];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn length(&self) -> usize {
        self.kept.next_multiple_of(KEYS)
    }

    /// The list of `row` in its shard.
    fn list<'s>(&self, shard: &'s [i64], row: u32) -> &'s [i64] {
        &shard[row as usize % SHARD * self.length()..][..self.length()]
    }

    /// Adds those of `keys` to the list of `row` that are new and near enough.
    pub(crate) fn insert(&self, row: u32, keys: &[i64], isa: Isa) {
        let mut shard = self.shard(row);
        let length = self.length();
        let list = &mut shard[row as usize % SHARD * length..][..length];
        insert_keys(list, keys, isa);
        let last = list[self.kept - 1];
        if last != NONE {
            let bound = (last >> 32) as u32;
            self.bounds[row as usize].store(bound, Ordering::Relaxed);
        }
    }

    /// The items that `row` has so far, the nearest first.
    pub(crate) fn items(&self, row: u32) -> Vec<u32> {
        let shard = self.shard(row);
        let list = self.list(&shard, row).iter().take(self.kept);
        let found = list.take_while(|&&key| key != NONE);
        found.map(|&key| item(key)).collect()
    }

    /// The items of all rows, as many places a row as are returned; empty ones hold `none`.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn all_items(&self, none: u32) -> Result<(Vec<u32>, usize)> {
        let width = self.k;
        let places = self.rows.saturating_mul(width);
        let mut items = memory::filled(none, places, NEIGHBORS)?;
        let shards = self
            .shards
            .par_iter()
            .zip(items.par_chunks_mut(SHARD * width));
        shards.for_each(|(shard, items)| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (list, items) in shard.chunks(self.length()).zip(items.chunks_mut(width)) {
                let found = list.iter().take_while(|&&key| key != NONE);
                for (to, &key) in items.iter_mut().zip(found) {
                    *to = item(key);
                }
            }
        });
        Ok((items, width))
    }

    /// The rows that have found fewer than `wanted`.
    pub(crate) fn shorter_than(&self, wanted: usize) -> Vec<u32> {
        let of_shard = |(index, shard): (usize, &Mutex<Vec<i64>>)| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let lists = shard.chunks(self.length()).enumerate();
            let short = lists.filter(|(_, list)| wanted > 0 && list[wanted - 1] == NONE);
            let short = short.map(|(row, _)| (index * SHARD + row) as u32);
            short.collect::<Vec<u32>>()
        };
        let shards = self.shards.par_iter().enumerate();
        shards.flat_map_iter(of_shard).collect()
    }

    /// The k nearest of those that a row has, measured, by distance and then by rank.
    pub(crate) fn measured<T: Scalar>(
        &self,
        row: u32,
        (left, right): (&Vectors<'_, T>, &Vectors<'_, T>),
        ctx: &Context,
    ) -> Result<Vec<(f64, u32)>> {
        let items = self.items(row);
        let pairs = memory::collect(items.iter().map(|&item| (row, item)), NEIGHBORS)?;
        let mut distances = Vec::new();
        left.distances(right, &pairs, &mut distances, ctx.isa())?;
        let mut measured = memory::collect(distances.into_iter().zip(items), NEIGHBORS)?;
        rank(&mut measured, self.k, right);
        Ok(measured)
    }

    /// Measures what is left, as a join's last stage: the `k` nearest of each left row; rows and
    /// neighbours by index. Where there are fewer items, what is beyond them is empty.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn finish<T: Scalar>(
        mut self,
        k: usize,
        (left, right): (&Vectors<'_, T>, &Vectors<'_, T>),
        ctx: &Context,
    ) -> Result<Neighbors<T>> {
        ctx.begin_stage("finish");
        let distances = self.measure((left, right), ctx)?;
        let length = self.length();
        let lists: Vec<Vec<i64>> = self.shards.into_iter().map(unlocked).collect();
        // Each in its place at once: a copy in another order would take as much memory again.
        let ids = left.ids_by_row();
        let rows = ids.map_or(self.rows, <[u32]>::len);
        let mut indices = memory::zeroed(rows.saturating_mul(self.k), NEIGHBORS)?;
        let to = indices.par_chunks_mut(self.k).enumerate();
        to.for_each(|(row, to)| {
            let id = ids.map_or(row, |ids| ids[row] as usize);
            let list = &lists[id / SHARD][id % SHARD * length..];
            for (to, &key) in to.iter_mut().zip(list) {
                *to = match key {
                    NONE => -1,
                    key => i64::from(right.row(item(key))),
                };
            }
        });
        drop(lists);
        let distances = match ids {
            Some(ids) => gathered(distances, self.k, ids, T::INFINITY)?,
            None => distances,
        };
        let found = Neighbors {
            k: self.k,
            distances,
            indices,
        };
        found.with_k(k)
    }

    /// The distances of the k nearest of each row, which its list then begins with.
    fn measure<T: Scalar>(
        &mut self,
        (left, right): (&Vectors<'_, T>, &Vectors<'_, T>),
        ctx: &Context,
    ) -> Result<Vec<T>> {
        let (length, kept, k) = (self.length(), self.kept, self.k);
        let places = self.rows.saturating_mul(k);
        let mut distances = memory::filled(T::INFINITY, places, NEIGHBORS)?;
        ctx.expect(self.rows * kept * FETCHED);
        let shards = self.shards.par_iter_mut().enumerate();
        let shards = shards.zip(distances.par_chunks_mut(SHARD * k));
        shards.try_for_each(|((index, shard), distances)| {
            ctx.check()?;
            ctx.advance(SHARD.min(self.rows - index * SHARD) * kept * FETCHED);
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            let lists = (index as u32 * SHARD as u32..).zip(shard.chunks(length));
            let pairs = lists.flat_map(|(row, list)| {
                let found = list.iter().take(kept).take_while(|&&key| key != NONE);
                found.map(move |&key| (row, item(key)))
            });
            // At once for all rows of a shard: the kernel asks for vectors ahead.
            let pairs = memory::collect(pairs, NEIGHBORS)?;
            let mut exact = Vec::new();
            left.distances(right, &pairs, &mut exact, ctx.isa())?;
            let mut measured = Vec::new();
            let mut start = 0;
            for of_row in pairs.chunk_by(|x, y| x.0 == y.0) {
                let exact = &exact[start..][..of_row.len()];
                start += of_row.len();
                measured.clear();
                measured.extend(exact.iter().copied().zip(of_row.iter().map(|pair| pair.1)));
                rank(&mut measured, k, right);
                let row = of_row[0].0 as usize % SHARD;
                let to = shard[row * length..]
                    .iter_mut()
                    .zip(&mut distances[row * k..]);
                for ((key, to), &(distance, item)) in to.zip(&measured) {
                    *key = i64::from(item);
                    *to = T::from_f64(distance);
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(distances)
    }
}

/// Leaves the k nearest, by distance and then by rank.
fn rank<T: Scalar>(measured: &mut Vec<(f64, u32)>, k: usize, right: &Vectors<'_, T>) {
    measured.sort_unstable_by(|x, y| {
        let by_distance = x.0.total_cmp(&y.0);
        by_distance.then_with(|| right.rank(x.1).cmp(&right.rank(y.1)))
    });
    measured.truncate(k);
}

/// What a lock guarded.
fn unlocked<V>(lock: Mutex<V>) -> V {
    lock.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Adds near pairs to the lists of their left rows and, where it serves both, to those of their right
/// rows.
pub(crate) struct CodeSink<'a> {
    pub(crate) lists: &'a CodeLists,
    /// The right row that the first left one is, where left rows are also right ones: a row is not
    /// its own neighbour.
    pub(crate) first: Option<u32>,
    /// Which pairs are left out.
    pub(crate) apart: Option<&'a Apart<'a>>,
    /// Whether a pair is added to the list of its right row too.
    pub(crate) both_ways: bool,
    /// Take from each panel only what is among its own nearest: for rows that have no bound yet.
    pub(crate) of_panel: bool,
    pub(crate) isa: Isa,
}

/// A thread's buffers for one block of pairs.
#[derive(Default)]
pub(crate) struct Groups {
    bounds: Vec<f32>,
    found: Vec<(u32, i64)>,
    /// Where the keys of each row end, once they are in the order of rows.
    ends: Vec<usize>,
    keys: Vec<i64>,
}

/// In place of a left row where there is none.
const NO_ROW: u32 = u32::MAX;

/// Positions in the left and the right rows, and the distance.
fn straight(pair: &Near) -> (u32, u32, f32) {
    (pair.left, pair.right, pair.upper)
}

impl CodeSink<'_> {
    /// The left row that a right one is, if it is one.
    fn left_row(&self, row: u32) -> Option<u32> {
        let row = row.checked_sub(self.first?)?;
        ((row as usize) < self.lists.rows).then_some(row)
    }

    /// Adds to the lists of `rows` those of `others`, whose numbers count from `first`, that are near:
    /// given as positions in both, with their distance.
    fn insert(
        &self,
        rows: &[u32],
        (others, first): (&[u32], u32),
        near: impl ExactSizeIterator<Item = (u32, u32, f32)>,
        groups: &mut Groups,
    ) -> Result<()> {
        let Groups {
            bounds,
            found,
            ends,
            keys,
        } = groups;
        bounds.clear();
        bounds.extend(rows.iter().map(|&row| match row {
            NO_ROW => -1.0,
            row => self.lists.bound(row),
        }));
        found.clear();
        memory::reserve(found, near.len(), NEIGHBORS)?;
        ends.clear();
        ends.resize(rows.len(), 0);
        for (row, other, distance) in near {
            if distance <= bounds[row as usize] {
                ends[row as usize] += 1;
                found.push((row, key(distance, first + others[other as usize])));
            }
        }
        // So that each list is locked once for all that is new to it.
        sort_by_row(found, ends, keys, NONE, NEIGHBORS)?;
        let mut start = 0;
        for (&row, &end) in rows.iter().zip(ends.iter()) {
            if start < end {
                self.lists.insert(row, &keys[start..end], self.isa);
            }
            start = end;
        }
        Ok(())
    }
}

impl<T: Scalar> PairSink<T> for CodeSink<'_> {
    type Scratch = Groups;

    fn scratch(&self) -> Groups {
        Groups::default()
    }

    fn left_bound(&self, row: u32) -> f32 {
        self.lists.bound(row)
    }

    fn right_bound(&self, row: u32) -> f32 {
        match self.left_row(row) {
            Some(row) if self.both_ways => self.lists.bound(row),
            _ => -1.0,
        }
    }

    fn pairs(&self, left: &LeftPanel, right: &RightPanel, near: &mut Vec<Near>) -> Result<()> {
        if self.of_panel {
            // One more, since a row may be the nearest to itself.
            nearest_codes(
                left,
                right,
                self.lists.kept + usize::from(self.first.is_some()),
                near,
            )?;
        } else {
            near_pairs(left, right, near)?;
        }
        Ok(())
    }

    fn consume(
        &self,
        left: &[u32],
        right: &[u32],
        near: &mut Vec<Near>,
        groups: &mut Groups,
    ) -> Result<()> {
        if let Some(apart) = self.apart {
            near.retain(|pair| apart.lets_in(left[pair.left as usize], right[pair.right as usize]));
        }
        let Some(first) = self.first else {
            return self.insert(left, (right, 0), near.iter().map(straight), groups);
        };
        near.retain(|pair| first + left[pair.left as usize] != right[pair.right as usize]);
        if self.both_ways {
            let turned = near.iter();
            let turned = turned.map(|pair| (pair.right, pair.left, pair.upper));
            let rows = right
                .iter()
                .map(|&row| self.left_row(row).unwrap_or(NO_ROW));
            let rows = memory::collect(rows, NEIGHBORS)?;
            self.insert(&rows, (left, first), turned, groups)?;
        }
        self.insert(left, (right, 0), near.iter().map(straight), groups)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Threads bring pairs in any order, and some of them twice.
        #[test]
        fn the_same_is_left_in_any_order(
            distances in prop::collection::vec(0..20_u8, 1..60),
            blocks in prop::collection::vec(1..9_usize, 60),
            k in 1..12_usize,
        ) {
            let keys: Vec<i64> = (0..).zip(&distances)
                .map(|(item, &distance)| key(f32::from(distance), item))
                .collect();
            let backwards: Vec<i64> = keys.iter().rev().copied().collect();
            let after = |orders: &[&[i64]]| {
                let lists = CodeLists::new(1, k, 100).unwrap();
                for &(mut rest) in orders {
                    for &length in &blocks {
                        let (block, others) = rest.split_at(length.min(rest.len()));
                        lists.insert(0, block, Isa::best());
                        rest = others;
                    }
                }
                (lists.items(0), lists.bound(0))
            };
            let lists = CodeLists::new(1, k, 100).unwrap();
            let mut expected = keys.clone();
            expected.sort_unstable();
            let bound = expected.get(lists.kept - 1);
            let bound = bound.map_or(f32::INFINITY, |&key| f32::from_bits((key >> 32) as u32));
            expected.truncate(lists.kept);
            let expected: Vec<u32> = expected.into_iter().map(item).collect();
            for orders in [[&keys[..], &[]], [&backwards, &[]], [&keys, &backwards]] {
                prop_assert_eq!(after(&orders), (expected.clone(), bound));
            }
        }
    }
}
