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

/// What each row has found before a pass: the pass reads these, whatever it has found by then, so
/// that it does not depend on which row comes first.
struct Before {
    items: Vec<u32>,
    width: usize,
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
    /// The items of a row; empty places are `u32::MAX`.
    fn of(&self, row: u32) -> impl Iterator<Item = u32> {
        let items = &self.items[row as usize * self.width..][..self.width];
        items.iter().copied().take_while(|&item| item != u32::MAX)
    }

    /// Calls `found` with what is near an item: in a self-join the neighbours of that row, else what
    /// the rows have found that have found it.
    fn near(&self, item: u32, mut found: impl FnMut(u32)) {
        match &self.found_by {
            None => self.of(item).for_each(found),
            Some((starts, rows)) => {
                for &row in &rows[starts.of(item)] {
                    self.of(row).for_each(&mut found);
                }
            }
        }
    }
}

impl<T: Scalar> CodeJoin<'_, T> {
    /// Compares each left row with the neighbours of its neighbours; where there are two sides, with
    /// the neighbours of the rows that have a neighbour in common with it.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn neighbor_pass(&self) -> Result<()> {
        let (items, width) = self.lists.all_items()?;
        let found_by = match self.left {
            None => None,
            Some(_) => {
                let found = items.iter().copied().enumerate();
                let found = found.filter(|&(_, item)| item != u32::MAX);
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
            found_by,
        };
        let buffers = PerThread::new(Buffers::default);
        let rows = memory::collect(0..self.left().len() as u32, ROW_NUMBERS)?;
        self.ctx.expect(rows.len().div_ceil(ROWS));
        rows.par_chunks(ROWS).try_for_each(|rows| {
            self.ctx.check()?;
            let mut buffers = buffers.own();
            let mut pairs = 0;
            for &row in rows {
                pairs += self.compare_with_near(row, &before, &mut buffers)?;
            }
            self.ctx.count_pairs(pairs as u64);
            self.ctx.advance(1);
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
        seen.clear();
        if self.left.is_none() {
            seen.insert(row);
        }
        before.of(row).for_each(|item| {
            seen.insert(item);
        });
        candidates.clear();
        let lets_in = |other| {
            let apart = self.apart.as_ref();
            apart.is_none_or(|apart| apart.lets_in(row, other))
        };
        for item in before.of(row) {
            before.near(item, |other| {
                if seen.insert(other) && lets_in(other) {
                    candidates.push(other);
                }
            });
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

/// A set of a few numbers that is quickly cleared: the places of a hash table that were filled since
/// then have its present mark.
struct Seen {
    places: Vec<(u32, u32)>,
    mark: u32,
    len: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            places: vec![(0, 0); 1024],
            mark: 1,
            len: 0,
        }
    }
}

impl Seen {
    fn clear(&mut self) {
        self.len = 0;
        self.mark = self.mark.wrapping_add(1);
        if self.mark == 0 {
            self.places.fill((0, 0));
            self.mark = 1;
        }
    }

    /// Whether the number is new.
    fn insert(&mut self, number: u32) -> bool {
        if 2 * self.len >= self.places.len() {
            self.grow();
        }
        let place = self.place(number);
        let is_new = self.places[place].1 != self.mark;
        self.places[place] = (number, self.mark);
        self.len += usize::from(is_new);
        is_new
    }

    /// Where the number is, or has its free place.
    fn place(&self, number: u32) -> usize {
        let mask = self.places.len() - 1;
        // Fibonacci hashing: neighbouring numbers are spread.
        let mut place = (number.wrapping_mul(0x9E37_79B9) >> 7) as usize & mask;
        while self.places[place].1 == self.mark && self.places[place].0 != number {
            place = (place + 1) & mask;
        }
        place
    }

    fn grow(&mut self) {
        let twice = vec![(0, 0); 2 * self.places.len()];
        let before = std::mem::replace(&mut self.places, twice);
        for (number, mark) in before {
            if mark == self.mark {
                let place = self.place(number);
                self.places[place] = (number, mark);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_new_once_until_they_are_cleared() {
        let mut seen = Seen::default();
        for round in 1..4 {
            seen.clear();
            let mut known = BTreeSet::new();
            for at in 0..3000 * round {
                let number = at * 7919 % 2503 * round;
                assert_eq!(seen.insert(number), known.insert(number));
            }
        }
        seen.mark = u32::MAX;
        seen.insert(5);
        seen.clear();
        assert!(seen.insert(5) && !seen.insert(5));
    }
}
