//! One hash table: rows sorted by key, so that a bucket is a range of rows.

use std::{cmp::Ordering, ops::Range};

use lshjoin_kernels::{Key, Sorter, memory};

use crate::base::{ROW_NUMBERS, error::Result};

/// How an out-of-memory error names them.
const BUCKETS: &str = "buckets";

/// Rows in order of their keys.
pub(crate) struct Table {
    /// The rows, by key; rows of one key as they came.
    pub(crate) order: Vec<u32>,
    /// The key of each bucket, rising, and where in `order` it starts.
    buckets: Vec<(u128, u32)>,
}

impl Table {
    /// Sorts `rows` by the low `bits` bits of their keys, rows of equal keys as they come. A row
    /// may come with several keys.
    pub(crate) fn build<K: Key + Copy + PartialEq + Into<u128>>(
        rows: &[u32],
        keys: &[K],
        bits: u32,
    ) -> Result<Self> {
        let mut order = Vec::new();
        Sorter::default().sort(keys, bits, &mut order)?;
        let mut buckets: Vec<(u128, u32)> = Vec::new();
        let mut last = None;
        for (position, entry) in (0..).zip(&mut order) {
            let key = keys[*entry as usize];
            if last != Some(key) {
                memory::push(&mut buckets, (key.into(), position), BUCKETS)?;
                last = Some(key);
            }
            *entry = rows[*entry as usize];
        }
        Ok(Self { order, buckets })
    }

    /// Makes the position of each row in this table its new internal id, and returns the old
    /// ids in that order.
    pub(crate) fn renumber(&mut self) -> Result<Vec<u32>> {
        let ids = memory::collect(0..self.order.len() as u32, ROW_NUMBERS)?;
        Ok(std::mem::replace(&mut self.order, ids))
    }

    fn range(&self, bucket: usize) -> Range<usize> {
        let end = self
            .buckets
            .get(bucket + 1)
            .map_or(self.order.len(), |next| next.1 as usize);
        self.buckets[bucket].1 as usize..end
    }

    /// The ranges of `order` that are buckets.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.buckets.len()).map(|bucket| self.range(bucket))
    }

    /// Ranges of `length` rows in order of keys, wherever buckets end.
    pub(crate) fn chunks(&self, length: usize) -> impl Iterator<Item = Range<usize>> {
        let end = self.order.len();
        (0..end)
            .step_by(length)
            .map(move |start| start..end.min(start + length))
    }

    /// Ranges of `length` rows of `other`, each after the range of this table's rows whose keys
    /// fall into it.
    pub(crate) fn chunks_of(
        &self,
        other: &Table,
        length: usize,
    ) -> Result<Vec<(Range<usize>, Range<usize>)>> {
        let mut matches = Vec::new();
        let mut mine = 0;
        for theirs in other.chunks(length) {
            let start = mine;
            // The first bucket that starts at or after the end of the range belongs to the next.
            let next = other
                .buckets
                .partition_point(|bucket| (bucket.1 as usize) < theirs.end);
            mine = match other.buckets.get(next) {
                Some(&(key, _)) => {
                    let bucket = self.buckets.partition_point(|bucket| bucket.0 < key);
                    self.buckets
                        .get(bucket)
                        .map_or(self.order.len(), |bucket| bucket.1 as usize)
                }
                None => self.order.len(),
            };
            if mine > start {
                memory::push(&mut matches, (start..mine, theirs), BUCKETS)?;
            }
        }
        Ok(matches)
    }

    /// The ranges of this table's and of `other`'s rows that share a key.
    pub(crate) fn matches(&self, other: &Table) -> Result<Vec<(Range<usize>, Range<usize>)>> {
        let (mut mine, mut theirs, mut matches) = (0, 0, Vec::new());
        while mine < self.buckets.len() && theirs < other.buckets.len() {
            match self.buckets[mine].0.cmp(&other.buckets[theirs].0) {
                Ordering::Less => mine += 1,
                Ordering::Greater => theirs += 1,
                Ordering::Equal => {
                    let both = (self.range(mine), other.range(theirs));
                    memory::push(&mut matches, both, BUCKETS)?;
                    (mine, theirs) = (mine + 1, theirs + 1);
                }
            }
        }
        Ok(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_the_rows_of_equal_keys() {
        let table = Table::build(&[0, 1, 3, 4], &[7_u128, 3, 7, 1 << 100], 128).unwrap();
        assert_eq!(table.order, [1, 0, 3, 4]);
        assert_eq!(table.ranges().collect::<Vec<_>>(), [0..1, 1..3, 3..4]);
        let other = Table::build(&[0, 1, 2], &[1_u128 << 100, 8, 3], 128).unwrap();
        assert_eq!(table.matches(&other).unwrap(), [(0..1, 0..1), (3..4, 2..3)]);
    }

    #[test]
    fn no_rows_make_no_bucket() {
        let table = Table::build::<u64>(&[], &[], 0).unwrap();
        assert_eq!(table.ranges().count(), 0);
    }
}
