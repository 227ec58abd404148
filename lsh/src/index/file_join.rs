//! Joins of files, planned by numbers alone before a row is read: by which plan they go, and what they
//! keep in memory, for those who have to keep to a limit.

use std::ops::RangeInclusive;

use lshjoin_kernels::Quantised;
use serde::Serialize;

use crate::{
    base::{
        check::check_recall,
        error::Result,
        plan::{JoinPlan, PartitionPlan, lists_for},
    },
    binary::knn::lists_until,
    index::builder::default_plan,
    ivf::{bisectors::MOST_BISECTED, coarse_quantiser::sample_step},
    pairs::top_k_lists::{Candidate, capacity},
};

/// The fewest queries of a chunk: for each chunk the index is gone through once.
const LEAST_CHUNK: usize = 1024;

/// Bytes of an item while an index is built: its list, and positions in some orders.
const OF_ITEM: usize = 24;

/// Copies of the sample that an index is learnt from, and of a batch while its rows are brought to
/// their lists.
const COPIES_OF_SAMPLE: usize = 3;
const COPIES_OF_BATCH: usize = 6;

/// Bytes of a query beside its top-k list and its vector, and of a top-k list beside its slots.
const OF_QUERY: usize = 64;
const OF_TOP_K: usize = 12;

/// Bytes of a list beside its centroid: the lists near it.
const OF_LIST: usize = 512;

/// Bytes of an item of a self-join beside the lists that it probes, and of each of these while they are
/// brought in order.
const OF_PROBING: usize = 12;
const OF_PROBE: usize = 8;

/// Bytes of an item of packed bits beside these: its row number, its list, and how many bits are set.
const OF_BITS: usize = 32;

/// Bytes of an item of a radius join, its place in the order of lists; and of two lists, how far their
/// centroids are apart.
const OF_ORDER: usize = 4;
const OF_LISTS_APART: usize = 4;

/// Lists that an item probes, where nothing is known of that.
const LIKELY_PROBES: f64 = 8.0;

/// A join of rows that lie in files. What it keeps in memory is told in bytes.
///
/// ```
/// use lshjoin::FileJoin;
///
/// let join = FileJoin::new(1_000_000, 96).k(10);
/// assert!(join.in_memory().vectors >= 1_000_000 * 96 * 4);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FileJoin {
    queries: Option<usize>,
    items: usize,
    dim: usize,
    width: usize,
    packed_bits: bool,
    k: Option<usize>,
    lists: Option<usize>,
    probes: f64,
}

/// What is kept of both sides where they are joined in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InMemory {
    /// Of the vectors: where some are equal, they are copied without their duplicates.
    pub vectors: usize,
    /// Of their codes, once as they come and once by list.
    pub codes: usize,
    /// Of top-k lists and results.
    pub neighbours: usize,
}

/// How the join goes by an index on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OutOfCore {
    /// Queries that are joined at a time.
    pub chunk: usize,
    /// Items that the index is learnt from at a time, and items that are on their way to it after
    /// that, when it no longer holds a sample.
    pub batches: [usize; 2],
    /// Of all codes of the index, which lie on disk.
    pub codes: usize,
    /// Of the lists, and of which items probe them, while queries are joined.
    pub lists: usize,
    /// Of the queries of a chunk, their top-k lists and results.
    pub neighbours: usize,
    /// Of what the index is learnt from, or what is known of each item, while it is built.
    pub index: usize,
    /// Of the items on their way to it.
    pub vectors: usize,
}

impl FileJoin {
    /// Of so many items with themselves, in single precision and within a radius, unless what
    /// follows says otherwise.
    pub const fn new(items: usize, dim: usize) -> Self {
        Self {
            queries: None,
            items,
            dim,
            width: size_of::<f32>(),
            packed_bits: false,
            k: None,
            lists: None,
            probes: LIKELY_PROBES,
        }
    }

    /// Rows of the queries; `None` where items are joined with themselves.
    #[must_use]
    pub fn queries(self, queries: impl Into<Option<usize>>) -> Self {
        let queries = queries.into();
        Self { queries, ..self }
    }

    /// Bytes of a value in memory, from 1 to 8; of a distance they are 4 at least.
    #[must_use]
    pub const fn width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Whether rows are packed bits, `dim` bytes of them, which are joined in memory alone.
    #[must_use]
    pub const fn packed_bits(self, packed_bits: bool) -> Self {
        Self {
            packed_bits,
            ..self
        }
    }

    /// Neighbours of a query; `None` where pairs are within a radius.
    #[must_use]
    pub fn k(self, k: impl Into<Option<usize>>) -> Self {
        let k = k.into();
        Self { k, ..self }
    }

    /// Lists of the index that it may go by; as many as so many items ask for if `None`.
    #[must_use]
    pub fn lists(self, lists: impl Into<Option<usize>>) -> Self {
        let lists = lists.into();
        Self { lists, ..self }
    }

    /// Lists that each row probes on average; 8 unless it is known.
    #[must_use]
    pub fn probes(self, probes: impl Into<Option<f64>>) -> Self {
        let probes = probes.into().unwrap_or(LIKELY_PROBES);
        Self { probes, ..self }
    }

    /// The plan by which it goes for a recall where all pairs would take longer: out of core or, of
    /// packed bits, in memory.
    ///
    /// # Errors
    /// When `recall` is not above 0 and at most 1.
    pub fn plan(&self, recall: f64, seed: u64) -> Result<JoinPlan> {
        check_recall("recall", recall)?;
        if recall == 1.0 {
            return Ok(JoinPlan::Exact);
        }
        Ok(match self.packed_bits {
            true => JoinPlan::Ivf(lists_until(recall, self.items, seed)),
            false => {
                let plan = PartitionPlan::new(lists_for(self.items), 1.0).seed(seed);
                JoinPlan::Partitions(plan.until_recall(recall))
            }
        })
    }

    /// What it keeps where both sides are in memory.
    pub fn in_memory(&self) -> InMemory {
        let rows = self.items.saturating_add(self.queries.unwrap_or(0));
        let (vectors, codes) = match self.packed_bits {
            // The rows as they come, and those of the right side once more, in groups.
            true => (
                product(rows, self.dim),
                product(self.items, self.dim.saturating_add(OF_BITS)),
            ),
            false => (
                product(product(2, rows), self.of_row()),
                product(product(2, rows), self.of_codes()),
            ),
        };
        InMemory {
            vectors,
            codes,
            neighbours: product(self.asked(), self.of_top_k()),
        }
    }

    /// How it goes by an index in so much memory; `None` where that takes more, [`FileJoin::least`].
    ///
    /// `batch` is the fewest bytes of items that are worth bringing to the index at a time, and the
    /// most that make it quicker.
    pub fn out_of_core(&self, memory: usize, batch: &RangeInclusive<usize>) -> Option<OutOfCore> {
        let available = memory.saturating_sub(self.of_search());
        let chunk = available / self.of_query();
        let chunk = chunk.min(self.asked());
        let vectors = self.of_build().map(|of_build| {
            let vectors = memory.saturating_sub(of_build) / COPIES_OF_BATCH;
            vectors.min(*batch.end())
        });
        if chunk < LEAST_CHUNK.min(self.asked()) || vectors[0].min(vectors[1]) < *batch.start() {
            return None;
        }
        // One after the other: what counts is the one that takes more.
        let phases = self.of_build().into_iter().zip(vectors);
        let phases = phases.map(|(index, vectors)| (index, product(COPIES_OF_BATCH, vectors)));
        let (index, of_batch) =
            phases.max_by_key(|&(index, of_batch)| index.saturating_add(of_batch))?;
        Some(OutOfCore {
            chunk: chunk.max(1),
            batches: vectors.map(|vectors| (vectors / self.of_row().max(1)).max(1)),
            codes: product(self.items, self.of_codes()),
            lists: self.of_search(),
            neighbours: product(chunk, self.of_query()),
            index,
            vectors: of_batch,
        })
    }

    /// The least memory in which it can go by an index.
    pub fn least(&self, batch: &RangeInclusive<usize>) -> usize {
        let chunk = product(2 * LEAST_CHUNK, self.of_query());
        let join = chunk.saturating_add(self.of_search());
        join.max(self.most_of_build() + COPIES_OF_BATCH * batch.start())
    }

    /// Items that are brought to an index at a time where it alone is made in so much memory.
    pub fn batch(&self, memory: usize, batch: &RangeInclusive<usize>) -> usize {
        let vectors = memory.saturating_sub(self.most_of_build()) / COPIES_OF_BATCH;
        (vectors.min(*batch.end()).max(*batch.start()) / self.of_row().max(1)).max(1)
    }

    /// Queries whose top-k lists and results take up so much memory at most, but one.
    pub fn chunk(&self, memory: usize) -> usize {
        (memory / self.of_query()).max(1)
    }

    /// How many queries are asked.
    fn asked(&self) -> usize {
        self.queries.unwrap_or(self.items)
    }

    /// The vector of a row.
    fn of_row(&self) -> usize {
        product(self.width, self.dim)
    }

    /// Its codes.
    fn of_codes(&self) -> usize {
        Quantised::stride(self.dim) + Quantised::KNOWN
    }

    /// The top-k list of a query, and its neighbours, as they are found and as they are put in order.
    fn of_top_k(&self) -> usize {
        let Some(k) = self.k else { return 0 };
        let slots = capacity(k.min(u32::MAX as usize)); // more are not found
        let distance = self.width.max(size_of::<f32>());
        let found = product(2 * k.min(usize::MAX / 2), distance + size_of::<i64>());
        found.saturating_add(slots * size_of::<Candidate>() + OF_TOP_K)
    }

    /// A query of a chunk: those that are items are in the index.
    fn of_query(&self) -> usize {
        let vector = match self.queries {
            None => 0,
            Some(_) => 2 * self.of_row() + self.of_codes(),
        };
        self.of_top_k().saturating_add(OF_QUERY + vector)
    }

    /// The lists of the index, ready to be compared, and which items probe them.
    fn of_search(&self) -> usize {
        let lists = self.most_lists();
        let (of_item, of_list) = match (self.queries, self.k) {
            (None, Some(_)) => (
                OF_PROBING + product(OF_PROBE, self.probes.ceil() as usize),
                0,
            ),
            (Some(_), Some(_)) => (0, 0),
            // More lists tell nothing of a radius.
            (_, None) => (OF_ORDER, product(OF_LISTS_APART, lists.min(MOST_BISECTED))),
        };
        let of_list = self.of_list().saturating_add(of_list);
        product(lists, of_list).saturating_add(product(self.items, of_item))
    }

    /// A list: its centroid, as it is saved and as codes, once by itself and once in a panel.
    fn of_list(&self) -> usize {
        let centroid = product(self.dim, size_of::<f32>());
        centroid.saturating_add(OF_LIST + product(2, self.of_codes()))
    }

    /// What the builder of the index holds beside items on their way: first the sample that it learns
    /// from, then a little of each item.
    fn of_build(&self) -> [usize; 2] {
        let sampled = self
            .items
            .div_ceil(sample_step(self.items, self.most_lists()));
        let learnt_from = product(COPIES_OF_SAMPLE, product(sampled, self.of_row()));
        let assigned = product(self.most_lists(), self.of_list() + self.of_row());
        [
            learnt_from,
            product(OF_ITEM, self.items).saturating_add(assigned),
        ]
    }

    fn most_of_build(&self) -> usize {
        let [learnt_from, assigned] = self.of_build();
        learnt_from.max(assigned)
    }

    /// Lists of the index that it may go by.
    fn most_lists(&self) -> usize {
        let lists = self.lists.unwrap_or(default_plan(self.items, 0).lists);
        lists.max(1)
    }
}

/// Bytes of so many of them, or all that there are.
fn product(count: usize, bytes: usize) -> usize {
    count.saturating_mul(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: RangeInclusive<usize> = 1 << 16..=1 << 20;

    const JOIN: FileJoin = FileJoin {
        queries: Some(15_000),
        items: 20_000,
        dim: 16,
        width: 4,
        packed_bits: false,
        k: Some(5),
        lists: Some(60),
        probes: LIKELY_PROBES,
    };

    #[test]
    fn a_join_keeps_to_its_memory() {
        let least = JOIN.least(&BATCH);
        assert_eq!(JOIN.out_of_core(least / 2, &BATCH), None);
        let mut last = 0;
        for memory in [least, 2 * least, 4 * least] {
            let told = JOIN.out_of_core(memory, &BATCH).unwrap();
            assert!(told.lists + told.neighbours <= memory);
            assert!(told.index + told.vectors <= memory);
            assert!(told.chunk > last || told.chunk == 15_000);
            last = told.chunk;
        }
    }

    #[test]
    fn the_nearest_of_many_have_more_lists_than_serve_a_radius() {
        let many = FileJoin {
            items: 20_000_000,
            lists: None,
            ..JOIN
        };
        let JoinPlan::Partitions(plan) = many.plan(0.9, 7).unwrap() else {
            panic!("not by an index");
        };
        assert_eq!((plan.seed, plan.until_recall), (7, Some(0.9)));
        assert!(plan.lists > 3 * MOST_BISECTED);
        assert_eq!(many.most_lists(), MOST_BISECTED);
    }

    #[test]
    fn numbers_without_end_are_no_overflow() {
        let endless = FileJoin {
            queries: None,
            items: u32::MAX as usize,
            dim: 1 << 20,
            k: Some(usize::MAX),
            ..JOIN
        };
        assert_eq!(endless.in_memory().neighbours, usize::MAX);
        assert_eq!(endless.out_of_core(usize::MAX / 2, &BATCH), None);
        assert_eq!(endless.least(&BATCH), usize::MAX);
    }

    #[test]
    fn packed_bits_take_little_more_than_themselves() {
        let bits = JOIN.packed_bits(true);
        let told = bits.in_memory();
        assert_eq!(told.vectors, 35_000 * 16);
        assert!(told.codes < 2 * JOIN.in_memory().codes / 3);
        assert_eq!(told.neighbours, JOIN.in_memory().neighbours);
        assert_eq!(bits.plan(1.0, 0).unwrap(), JoinPlan::Exact);
        let JoinPlan::Ivf(plan) = bits.plan(0.9, 7).unwrap() else {
            panic!("not by lists");
        };
        assert_eq!((plan.seed, plan.until_recall), (7, Some(0.9)));
    }

    #[test]
    fn narrow_values_take_as_little_as_they_lie_in() {
        let (told, single) = (JOIN.width(1).in_memory(), JOIN.in_memory());
        assert_eq!(4 * told.vectors, single.vectors);
        assert_eq!(
            (told.codes, told.neighbours),
            (single.codes, single.neighbours)
        );
    }

    #[test]
    fn no_queries_are_asked_in_one_chunk() {
        let none = FileJoin {
            queries: Some(0),
            ..JOIN
        };
        let told = none.out_of_core(none.least(&BATCH), &BATCH).unwrap();
        assert_eq!((told.chunk, told.neighbours), (1, 0));
    }
}
