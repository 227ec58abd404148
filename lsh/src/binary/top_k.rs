//! The nearest of each row of a block of left rows.

use std::ops::Range;

use lshjoin_kernels::{DifferenceLimit, LeftBits, NearBits, RightBits, memory, near_bits};
use rayon::prelude::*;

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
        per_thread::PerThread,
    },
    binary::sides::{BinarySides, OF_GROUP},
    pairs::{
        code_lists::key,
        results::{NEIGHBORS, Neighbors},
    },
};

/// Groups that rows without k neighbours are compared with at first: all of them are kept.
const FIRST_GROUPS: usize = 4;

/// Beyond twice k, so many are kept before the furthest are dropped.
const SPARE: usize = 64;

/// A distance and a row as one number: see [`key`].
type Key = i64;

fn of_key(key: Key) -> (f32, u32) {
    (f32::from_bits((key >> 32) as u32), key as u32)
}

/// The nearest that a left row has found, in any order.
struct List {
    keys: Vec<Key>,
    /// The last of k; only what is before it is of interest. The largest number before there are k.
    bound: Key,
}

impl List {
    fn insert(&mut self, key: Key, k: usize) -> Result<()> {
        if key < self.bound {
            memory::push(&mut self.keys, key, NEIGHBORS)?;
            if self.keys.len() >= 2 * k + SPARE {
                self.prune(k);
            }
        }
        Ok(())
    }

    /// Leaves k of them, and bounds what is to come by the last.
    fn prune(&mut self, k: usize) {
        let is_bound = self.bound < Key::MAX && self.keys.len() == k;
        if self.keys.len() >= k && !is_bound {
            let (_, &mut last, _) = self.keys.select_nth_unstable(k - 1);
            self.keys.truncate(k);
            self.bound = last;
        }
    }
}

/// A block of left rows, the nearest that they have found, and a thread's buffers.
pub(crate) struct TopKBlock<'a> {
    sides: &'a BinarySides<'a>,
    k: usize,
    ctx: &'a Context,
    rows: Vec<u32>,
    left: LeftBits,
    lists: Vec<List>,
    limits: Vec<DifferenceLimit>,
    near: Vec<NearBits>,
    pairs: u64,
}

impl<'a> TopKBlock<'a> {
    fn new(sides: &'a BinarySides<'a>, k: usize, ctx: &'a Context) -> Self {
        Self {
            sides,
            k,
            ctx,
            rows: Vec::new(),
            left: LeftBits::default(),
            lists: Vec::new(),
            limits: Vec::new(),
            near: Vec::new(),
            pairs: 0,
        }
    }

    /// Begins with these left rows.
    fn begin(&mut self, rows: &[u32]) -> Result<()> {
        self.rows.clear();
        memory::extend(&mut self.rows, rows.iter().copied(), NEIGHBORS)?;
        self.left.gather(self.sides.left(), rows)?;
        let fresh = || List {
            keys: Vec::new(),
            bound: Key::MAX,
        };
        self.lists.resize_with(rows.len(), fresh);
        (0..rows.len()).for_each(|row| self.forget(row));
        Ok(())
    }

    fn forget(&mut self, row: usize) {
        self.lists[row].keys.clear();
        self.lists[row].bound = Key::MAX;
    }

    /// The rows as they are compared.
    pub(crate) fn left(&self) -> &LeftBits {
        &self.left
    }

    /// Compares those of the rows at these places with the rows of these groups, which rise.
    pub(crate) fn compare(
        &mut self,
        chosen: &[u32],
        right: &RightBits,
        groups: Range<usize>,
    ) -> Result<()> {
        let most = self.sides.most_groups();
        let full = |list: &List| list.bound < Key::MAX;
        let all_full = chosen.iter().all(|&row| full(&self.lists[row as usize]));
        let mut step = if all_full { most } else { FIRST_GROUPS };
        let mut first = groups.start;
        while first < groups.end && !chosen.is_empty() {
            self.ctx.check()?;
            let last = groups.end.min(first + step);
            self.compare_some(chosen, right, first..last)?;
            (first, step) = (last, most.min(2 * step));
        }
        Ok(())
    }

    fn compare_some(
        &mut self,
        chosen: &[u32],
        right: &RightBits,
        groups: Range<usize>,
    ) -> Result<()> {
        let Self {
            sides,
            k,
            ctx,
            rows,
            left,
            lists,
            limits,
            near,
            pairs,
        } = self;
        let (k, metric) = (*k, sides.metric);
        let populations = left.populations();
        let first_row = right.row((groups.start * OF_GROUP) as u32);
        limits.clear();
        memory::reserve(limits, chosen.len(), NEIGHBORS)?;
        limits.extend(chosen.iter().map(|&row| {
            let (list, set) = (&mut lists[row as usize], populations[row as usize]);
            list.prune(k);
            if list.bound == Key::MAX {
                return metric.within(f32::INFINITY, set);
            }
            let (distance, last) = of_key(list.bound);
            // Of rows at the same distance the lower ones count.
            match last < first_row {
                true => metric.nearer(distance, set),
                false => metric.within(distance, set),
            }
        }));
        near.clear();
        near_bits(left, chosen, limits, right, groups.clone(), ctx.isa(), near)?;
        for pair in near.iter() {
            let place = chosen[pair.left as usize] as usize;
            let row = right.row(pair.slot);
            let other = right.population(pair.slot);
            let distance = metric.distance(pair.differing, populations[place], other);
            let key = key(distance, row);
            let list = &mut lists[place];
            if key < list.bound && sides.let_in(rows[place], row) {
                list.insert(key, k)?;
            }
        }
        *pairs += (chosen.len() * groups.len() * OF_GROUP) as u64;
        Ok(())
    }

    /// Compares rows at these places with all rows of `right`.
    pub(crate) fn compare_all(&mut self, chosen: &[u32], right: &RightBits) -> Result<()> {
        (0..right.lists()).try_for_each(|list| self.compare(chosen, right, right.groups(list)))
    }

    /// Compares rows that have found fewer than k, or than there are others, with all rows of `right`,
    /// anew.
    pub(crate) fn fill(&mut self, others: usize, right: &RightBits) -> Result<()> {
        let few = self.k.min(others);
        let lacks = |&row: &u32| self.lists[row as usize].keys.len() < few;
        let lacking: Vec<u32> = (0..self.rows.len() as u32).filter(lacks).collect();
        lacking.iter().for_each(|&row| self.forget(row as usize));
        self.compare_all(&lacking, right)
    }

    fn finish(&mut self, distances: &mut [f32], indices: &mut [i64]) {
        let slots = distances.chunks_mut(self.k).zip(indices.chunks_mut(self.k));
        for (list, (distances, indices)) in self.lists.iter_mut().zip(slots) {
            list.prune(self.k);
            list.keys.sort_unstable();
            for (slot, &key) in list.keys.iter().enumerate() {
                let (distance, row) = of_key(key);
                (distances[slot], indices[slot]) = (distance, row.into());
            }
        }
    }
}

/// The k nearest of each of these left rows, block by block: `visit` compares the rows of a block, which
/// are those at these places of `left`.
///
/// # Errors
/// What `visit` returns; when there is no memory.
pub(crate) fn nearest<'a>(
    sides: &'a BinarySides<'a>,
    left: &[u32],
    k: usize,
    ctx: &'a Context,
    visit: impl Fn(&mut TopKBlock<'a>, Range<usize>) -> Result<()> + Sync,
) -> Result<Neighbors<f32>> {
    let slots = left.len().saturating_mul(k);
    let mut distances = memory::filled(f32::INFINITY, slots, NEIGHBORS)?;
    let mut indices = memory::filled(-1, slots, NEIGHBORS)?;
    let size = sides.block_rows();
    let of_block = size.saturating_mul(k);
    let threads = PerThread::new(|| TopKBlock::new(sides, k, ctx));
    ctx.expect(left.len().div_ceil(size));
    let blocks = left.par_chunks(size).enumerate();
    let slots = distances
        .par_chunks_mut(of_block)
        .zip(indices.par_chunks_mut(of_block));
    blocks
        .zip(slots)
        .try_for_each(|((block, rows), (distances, indices))| {
            let mut own = threads.own();
            own.begin(rows)?;
            let start = block * size;
            visit(&mut own, start..start + rows.len())?;
            own.finish(distances, indices);
            ctx.count_pairs(std::mem::take(&mut own.pairs));
            ctx.advance(1);
            Ok::<_, Error>(())
        })?;
    Ok(Neighbors {
        k,
        distances,
        indices,
    })
}
