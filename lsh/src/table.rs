//! One hash table: rows sorted by key, so that a bucket is a stretch of rows.

use std::{cmp::Ordering, ops::Range};

use lshjoin_kernels::Sorter;

use crate::error::Result;

/// Rows in order of their keys.
pub(crate) struct Table {
    /// Row numbers, by key, then by row.
    pub(crate) order: Vec<u32>,
    /// The key of each bucket, rising, and where in `order` it starts.
    buckets: Vec<(u128, u32)>,
}

impl Table {
    /// Sorts the rows that have a key, by the keys' low `bits` bits.
    pub(crate) fn build(keys: impl Iterator<Item = Option<u128>>, bits: u32) -> Result<Self> {
        let (rows, keys): (Vec<u32>, Vec<u128>) = (0..)
            .zip(keys)
            .filter_map(|(row, key)| Some((row, key?)))
            .unzip();
        let mut order = Vec::new();
        Sorter::default().sort(&keys, bits, &mut order)?;
        let mut buckets: Vec<(u128, u32)> = Vec::new();
        for (place, row) in (0..).zip(&mut order) {
            let key = keys[*row as usize];
            if buckets.last().is_none_or(|&(last, _)| last != key) {
                buckets.push((key, place));
            }
            *row = rows[*row as usize];
        }
        Ok(Self { order, buckets })
    }

    /// The buckets that each query looks into, as a table in which a query is in several.
    pub(crate) fn of_probes(bits: usize, margins: &[f32], probes: usize) -> Result<Self> {
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        for ((row, m), key) in (0..).zip(margins.chunks(bits)).zip(crate::knn_join::keys(margins, bits)) {
            let mut idx: Vec<usize> = (0..bits).collect();
            idx.sort_by(|&a, &b| m[a].abs().total_cmp(&m[b].abs()));
            keys.push(key); rows.push(row);
            let mut cand: Vec<(f32, u128)> = Vec::new();
            for (n, &a) in idx.iter().enumerate() {
                cand.push((m[a] * m[a], 1 << a));
                for &b in &idx[..n] { cand.push((m[a] * m[a] + m[b] * m[b], 1 << a | 1 << b)); }
            }
            cand.sort_by(|a, b| a.0.total_cmp(&b.0));
            for c in cand.iter().take(probes - 1) { keys.push(key ^ c.1); rows.push(row); }
        }
        let mut t = Self::build(keys.into_iter().map(Some), bits as u32)?;
        for o in &mut t.order { *o = rows[*o as usize]; }
        Ok(t)
    }

    fn range(&self, bucket: usize) -> Range<usize> {
        let end = self
            .buckets
            .get(bucket + 1)
            .map_or(self.order.len(), |next| next.1 as usize);
        self.buckets[bucket].1 as usize..end
    }

    /// The stretches of `order` that are buckets.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.buckets.len()).map(|bucket| self.range(bucket))
    }

    /// Stretches of `length` rows, whatever their keys.
    pub(crate) fn stretches(&self, length: usize) -> impl Iterator<Item = Range<usize>> {
        let end = self.order.len();
        (0..end)
            .step_by(length)
            .map(move |start| start..end.min(start + length))
    }

    /// The stretches of `length` rows of `other`, each with the stretch of this table's rows whose
    /// keys belong there.
    pub(crate) fn stretches_of(
        &self,
        other: &Table,
        length: usize,
    ) -> Vec<(Range<usize>, Range<usize>)> {
        let mut met = Vec::new();
        let mut mine = 0;
        for theirs in other.stretches(length) {
            let start = mine;
            // The first bucket that starts at or after the end of the stretch belongs to the next.
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
                met.push((start..mine, theirs));
            }
        }
        met
    }

    /// The stretches of this table's and of `other`'s rows that share a key.
    pub(crate) fn matches(&self, other: &Table) -> Vec<(Range<usize>, Range<usize>)> {
        let (mut mine, mut theirs, mut matches) = (0, 0, Vec::new());
        while mine < self.buckets.len() && theirs < other.buckets.len() {
            match self.buckets[mine].0.cmp(&other.buckets[theirs].0) {
                Ordering::Less => mine += 1,
                Ordering::Greater => theirs += 1,
                Ordering::Equal => {
                    matches.push((self.range(mine), other.range(theirs)));
                    (mine, theirs) = (mine + 1, theirs + 1);
                }
            }
        }
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_the_rows_of_equal_keys() {
        let keys = [Some(7), Some(3), None, Some(7), Some(1 << 100)];
        let table = Table::build(keys.into_iter(), 128).unwrap();
        assert_eq!(table.order, [1, 0, 3, 4]);
        assert_eq!(table.ranges().collect::<Vec<_>>(), [0..1, 1..3, 3..4]);
        let other = Table::build([Some(1 << 100), Some(8), Some(3)].into_iter(), 128).unwrap();
        assert_eq!(table.matches(&other), [(0..1, 0..1), (3..4, 2..3)]);
    }

    #[test]
    fn no_rows_make_no_bucket() {
        let table = Table::build(std::iter::empty(), 0).unwrap();
        assert_eq!(table.ranges().count(), 0);
    }
}
