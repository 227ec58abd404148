//! The two sides of a join of packed bits.

use std::ops::Range;

use lshjoin_kernels::{KernelError, LeftBits, RightBits, Rows, memory};

use crate::{
    base::{ROW_NUMBERS, check::check_dimension, error::Result, keys::PairKeys},
    binary::metric::BinaryMetric,
    pairs::{
        groups::{Group, Groups},
        results::{NEIGHBORS, Neighbors},
    },
};

/// What is joined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BinarySides<'a> {
    /// `None` where the items are joined with themselves.
    pub(crate) queries: Option<Rows<'a, u8>>,
    pub(crate) items: Rows<'a, u8>,
    pub(crate) metric: BinaryMetric,
    pub(crate) keys: PairKeys<'a>,
}

/// Bytes of left rows, and of right ones, that are compared without a look at anything else: they fit a
/// first-level cache together.
const OF_BLOCK: usize = 32 << 10;

/// Right rows of a group.
pub(crate) const OF_GROUP: usize = 16;

impl<'a> BinarySides<'a> {
    /// These items with themselves, by Hamming distance, whatever their keys.
    pub(crate) fn of(items: Rows<'a, u8>) -> Self {
        Self {
            queries: None,
            items,
            metric: BinaryMetric::Hamming,
            keys: PairKeys::default(),
        }
    }

    /// The queries, which may be the items.
    pub(crate) fn left(&self) -> Rows<'a, u8> {
        self.queries.unwrap_or(self.items)
    }

    /// # Errors
    /// When rows are of different widths, or of more than can be handled, or keys are not one a row.
    pub(crate) fn check(&self) -> Result<()> {
        check_dimension("queries", self.left(), self.items.dim())?;
        let limit = u32::MAX as usize;
        let rows = self.left().len().max(self.items.len());
        if rows >= limit {
            return Err(KernelError::TooManyRows { rows, limit }.into());
        }
        // What they refuse, they refuse before memory is taken for all.
        LeftBits::default().gather(self.items, &[])?;
        let queries = self.queries.map(|queries| queries.len());
        self.keys.check(queries, self.items.len())
    }

    /// Left rows of a block.
    pub(crate) fn block_rows(&self) -> usize {
        (OF_BLOCK / self.items.dim()).clamp(OF_GROUP, 1024)
    }

    /// Groups of right rows that a block is compared with, before anything else is looked at.
    pub(crate) fn most_groups(&self) -> usize {
        (OF_BLOCK / (OF_GROUP * self.items.dim())).clamp(4, 64)
    }

    /// Whether a pair of rows may be neighbours, beside what `within` says.
    pub(crate) fn let_in(&self, left: u32, right: u32) -> bool {
        (self.queries.is_some() || left != right) && self.keys.let_in((left, right))
    }
}

/// Which left rows are compared with which lists of right ones: all, or those of equal keys.
pub(crate) struct Whole {
    left: Vec<u32>,
    /// The rows of each group, in the left order; of the right rows there is a list for each.
    groups: Vec<Range<usize>>,
    pub(crate) right: RightBits,
}

impl Whole {
    /// # Errors
    /// When there is no memory.
    pub(crate) fn new(sides: &BinarySides<'_>) -> Result<Self> {
        let all = |rows: Rows<'_, u8>| memory::collect(0..rows.len() as u32, ROW_NUMBERS);
        let groups = match sides.keys.within {
            Some(keys) => Groups::new(keys.queries, keys.items)?,
            None => Groups::of_all(sides.queries.map(all).transpose()?, all(sides.items)?),
        };
        let (left, right) = groups.order();
        // Right rows of groups that no left one is of lie between.
        let mut order = memory::empty(right.len(), ROW_NUMBERS)?;
        let mut offsets = memory::collect([0], ROW_NUMBERS)?;
        for Group {
            right: of_group, ..
        } in &groups.groups
        {
            order.extend_from_slice(&right[of_group.clone()]);
            memory::push(&mut offsets, order.len(), ROW_NUMBERS)?;
        }
        Ok(Self {
            left: memory::copied(left, ROW_NUMBERS)?,
            right: RightBits::new(sides.items, &order, &offsets)?,
            groups: memory::collect(
                groups.groups.iter().map(|group| group.left.clone()),
                ROW_NUMBERS,
            )?,
        })
    }

    /// Where the left rows begin that a list is compared with.
    pub(crate) fn first_place(&self, list: usize) -> usize {
        self.groups[list].start
    }

    /// What was found in the left order, for all `rows` in theirs: none for those that have no group.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn by_row(&self, found: Neighbors<f32>, rows: usize) -> Result<Neighbors<f32>> {
        if self.left.len() == rows && self.left.is_sorted() {
            return Ok(found);
        }
        let k = found.k;
        let slots = rows.saturating_mul(k);
        let mut by_row = Neighbors {
            k,
            distances: memory::filled(f32::INFINITY, slots, NEIGHBORS)?,
            indices: memory::filled(-1, slots, NEIGHBORS)?,
        };
        for (place, &row) in self.left.iter().enumerate() {
            let (from, to) = (place * k, row as usize * k);
            by_row.distances[to..to + k].copy_from_slice(&found.distances[from..from + k]);
            by_row.indices[to..to + k].copy_from_slice(&found.indices[from..from + k]);
        }
        Ok(by_row)
    }

    /// The left rows that are compared with any, in the order of blocks.
    pub(crate) fn left(&self) -> &[u32] {
        &self.left
    }

    /// For each list that some left rows at these places are compared with: which list, and which of
    /// the places, counted from the first.
    pub(crate) fn lists(&self, places: Range<usize>) -> impl Iterator<Item = (usize, Range<u32>)> {
        let first = self
            .groups
            .partition_point(|group| group.end <= places.start);
        let rest = self.groups[first..].iter();
        let in_time = move |group: &&Range<usize>| group.start < places.end;
        let of_group = move |group: &Range<usize>| {
            let start = group.start.max(places.start) - places.start;
            start as u32..(group.end.min(places.end) - places.start) as u32
        };
        let rest = rest.take_while(in_time).map(of_group);
        (first..).zip(rest)
    }
}
