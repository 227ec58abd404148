//! Neighbour passes: a row's neighbours are likely to be near each other (W. Dong, C. Moses and K.
//! Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", 2011).

use lshjoin_kernels::{Scalar, code_distances, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, error::Result, per_thread::PerThread},
    ivf::list_offsets::ListOffsets,
    pairs::{code_join::CodeJoin, code_lists::key},
};

/// Left rows that a thread takes at a time, in the order of their lists: they have neighbours in
/// common, whose codes stay in the cache.
const ROWS: usize = 256;

/// Rows that have found an item, at most, whose neighbours are compared with a row that has found it, too.
/// Some items are near to very many rows: of these, those next to the row in the order of lists.
const FINDERS: usize = 32;

/// Rows that a pass may compare a row with, at most, before they are few of all that there are: so many,
/// or one in so many items.
const FEW: usize = 1000;
const ITEMS_OF_CANDIDATE: usize = 600;

/// A pass takes about as long for a row as to compare it with so many others in tiles.
pub(crate) const TAKES: usize = 4096;

/// How an out-of-memory error names them.
const CANDIDATES: &str = "neighbours of neighbours";

/// What each row has found before a pass: the pass reads these, whatever it has found by then, so
/// that it does not depend on which row comes first.
struct Before {
    /// Those of a row after those of the other, each filled up with [`none`](Self::none).
    items: Vec<u32>,
    width: usize,
    /// In place of an item where there is none: the number after the last.
    none: u32,
    /// For each item the rows that have found it; `None` in a self-join, where rows are items.
    found_by: Option<(ListOffsets, Vec<u32>)>,
}

/// A thread's buffers.
#[derive(Default)]
struct Buffers {
    seen: Seen,
    candidates: Vec<u32>,
    distances: Vec<f32>,
    keys: Vec<i64>,
}

impl Before {
    fn of(&self, row: u32) -> &[u32] {
        &self.items[row as usize * self.width..][..self.width]
    }

    /// Adds what is near an item that `row` has found: in a self-join the neighbours of that row, else
    /// what the rows have found that have found it.
    fn near(&self, row: u32, item: u32, near: &mut Vec<u32>) -> Result<()> {
        match &self.found_by {
            None => memory::extend(near, self.of(item).iter().copied(), CANDIDATES)?,
            Some((starts, rows)) => {
                for &other in next_to(row, &rows[starts.of(item)], FINDERS) {
                    memory::extend(near, self.of(other).iter().copied(), CANDIDATES)?;
                }
            }
        }
        Ok(())
    }
}

impl<T: Scalar> CodeJoin<'_, T> {
    /// Whether a pass compares a row with few others: the neighbours of its neighbours or, where there are
    /// two sides, those of the rows that have found its neighbours, too.
    pub(crate) fn has_few_candidates(&self) -> bool {
        let (left, right) = (self.left().len(), self.right.len());
        let of_neighbor = match self.left {
            None => self.k,
            Some(_) => self.k * (self.k * left).div_ceil(right.max(1)).min(FINDERS),
        };
        self.k * of_neighbor <= FEW.max(right / ITEMS_OF_CANDIDATE)
    }

    /// Compares each left row with the neighbours of its neighbours; where there are two sides, with
    /// the neighbours of the rows that have a neighbour in common with it.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn neighbor_pass(&self) -> Result<()> {
        let none = self.right.len() as u32;
        let (items, width) = self.lists.all_items(none)?;
        let found_by = match self.left {
            None => None,
            Some(_) => {
                let found = items.iter().copied().enumerate();
                let found = found.filter(|&(_, item)| item != none);
                let found = found.map(|(place, item)| (item, (place / width) as u32));
                let of_items = found.clone().map(|(item, _)| item);
                let starts = ListOffsets::new(of_items, self.right.len());
                let rows = starts.by_list(found, ROW_NUMBERS)?;
                Some((starts, rows))
            }
        };
        let before = Before {
            items,
            width,
            none,
            found_by,
        };
        let buffers = PerThread::new(Buffers::default);
        let rows = memory::collect(0..self.left().len() as u32, ROW_NUMBERS)?;
        self.ctx.expect(rows.len() * TAKES);
        rows.par_chunks(ROWS).try_for_each(|rows| {
            self.ctx.check()?;
            let mut buffers = buffers.own();
            let mut pairs = 0;
            for &row in rows {
                pairs += self.compare_with_near(row, &before, &mut buffers)?;
            }
            self.ctx.count_pairs(pairs as u64);
            self.ctx.advance(rows.len() * TAKES);
            Ok(())
        })
    }

    /// Compares a left row with what is near its neighbours, and returns with how many.
    fn compare_with_near(
        &self,
        row: u32,
        before: &Before,
        Buffers {
            seen,
            candidates,
            distances,
            keys,
        }: &mut Buffers,
    ) -> Result<usize> {
        seen.reserve(self.right.len() + 1)?;
        let own = || {
            let itself = self.left.is_none().then_some(row);
            let items = before.of(row).iter().copied();
            items.chain(itself).chain([before.none])
        };
        own().for_each(|item| _ = seen.insert(item));
        // First all of them, so that the processor waits for many of these lists at a time.
        candidates.clear();
        let mut items = before.of(row).iter().filter(|&&item| item != before.none);
        items.try_for_each(|&item| before.near(row, item, candidates))?;
        // Most have been seen, in no order that a processor could guess: so each is kept, and the next
        // one takes its place unless it is new.
        let mut found = 0;
        for position in 0..candidates.len() {
            let candidate = candidates[position];
            candidates[found] = candidate;
            found += usize::from(seen.insert(candidate));
        }
        candidates.truncate(found);
        own()
            .chain(candidates.iter().copied())
            .for_each(|item| seen.remove(item));
        if let Some(apart) = &self.apart {
            candidates.retain(|&other| apart.lets_in(row, other));
        }
        let (of_left, of_right) = &self.codes;
        let of_left = of_left.as_ref().unwrap_or(of_right);
        let isa = self.ctx.isa();
        code_distances((of_left, row), of_right, candidates, distances, isa)?;
        keys.clear();
        let bound = self.lists.bound(row);
        for (&item, &distance) in candidates.iter().zip(distances.iter()) {
            if distance <= bound {
                keys.push(key(distance, item));
            }
            if self.left.is_none() && distance <= self.lists.bound(item) {
                self.lists.insert(item, &[key(distance, row)], isa);
            }
        }
        if !keys.is_empty() {
            self.lists.insert(row, keys, isa);
        }
        Ok(candidates.len())
    }
}

/// At most so many of these rows, which rise: those about where `row` would be.
fn next_to(row: u32, rows: &[u32], most: usize) -> &[u32] {
    let place = rows.partition_point(|&other| other < row);
    let last = rows.len().saturating_sub(most);
    let start = place.saturating_sub(most / 2).min(last);
    &rows[start..rows.len().min(start + most)]
}

/// A set of items: a bit each. Rows that come one after the other have near items, whose bits are in
/// the same few cache lines.
#[derive(Default)]
struct Seen {
    bits: Vec<u64>,
}

impl Seen {
    /// For items below `items`, with room for which the set is made once.
    fn reserve(&mut self, items: usize) -> Result<()> {
        memory::resize(&mut self.bits, items.div_ceil(64), 0, "neighbours seen")?;
        Ok(())
    }

    /// Whether the item is new.
    fn insert(&mut self, item: u32) -> bool {
        let word = &mut self.bits[item as usize / 64];
        let bit = item % 64;
        let is_new = *word >> bit & 1 == 0;
        *word |= 1 << bit;
        is_new
    }

    fn remove(&mut self, item: u32) {
        self.bits[item as usize / 64] &= !(1 << (item % 64));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_next_to_a_row_are_some_of_those_around_it() {
        let rows = [2, 3, 5, 8, 13, 21];
        assert_eq!(next_to(8, &rows, 4), [3, 5, 8, 13]);
        assert_eq!(next_to(0, &rows, 4), [2, 3, 5, 8]);
        assert_eq!(next_to(99, &rows, 4), [5, 8, 13, 21]);
        assert_eq!(next_to(8, &rows, 9), rows);
        assert!(next_to(8, &[], 4).is_empty());
    }

    #[test]
    fn items_are_new_once_until_they_are_removed() {
        let mut seen = Seen::default();
        seen.reserve(2503).unwrap();
        let mut known = BTreeSet::new();
        for at in 0..3000 {
            let item = at * 7919 % 2503;
            assert_eq!(seen.insert(item), known.insert(item));
            if at % 3 == 0 {
                seen.remove(item);
                known.remove(&item);
            }
        }
    }
}
