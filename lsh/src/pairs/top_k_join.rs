//! A k-nearest-neighbour join under way.

use std::ops::Range;

use lshjoin_kernels::{Quantised, Scalar, memory};

use crate::{
    base::{ROW_NUMBERS, check::positive, context::Context, error::Result, report::Estimate},
    pairs::{
        by_sorting::{are_most, by_sorting},
        groups::{GROUPS, Group, Groups},
        results::Neighbors,
        tile_join::{BlockPair, PairSink, TileJoin},
        top_k::{TopK, TopKSink},
    },
    vectors::Vectors,
};

/// A join under way: its sides, and what has been found for each left row.
pub(crate) struct TopKJoin<'a, T> {
    /// `None` in a self-join of the right side.
    pub(crate) left: Option<&'a Vectors<'a, T>>,
    pub(crate) right: &'a Vectors<'a, T>,
    pub(crate) nearest: TopK<'a, T>,
    pub(crate) ctx: &'a Context,
}

/// Right rows that all left ones are compared with first, where no row has neighbours yet: enough
/// to bound most other pairs.
pub(crate) const FIRST_ROWS: usize = 2048;

/// At most one right row in so many is compared first.
const FIRST_OF: usize = 8;

/// A side of fewer rows than this is compared in full: nothing else is quicker.
pub(crate) const EXACT_BELOW: usize = 4096;

/// Whether there are fewer items than `below`, or fewer pairs of left rows and items than those of so many
/// rows with themselves: of many items already a few left rows are worth lists.
pub(crate) const fn are_few(left: usize, items: usize, below: usize) -> bool {
    items < below || left.saturating_mul(items) < below * below
}

/// Compares all pairs, as a join's last stage: the recall is 1.
pub(crate) fn all_pairs<T: Scalar>(
    left: Option<&Vectors<'_, T>>,
    right: &Vectors<'_, T>,
    k: usize,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    ctx.begin_stage("all pairs");
    ctx.reached(Estimate::EXACT);
    exactly(left, right, k, ctx)
}

/// The k nearest, by comparing all pairs.
pub(crate) fn exactly<T: Scalar>(
    left: Option<&Vectors<'_, T>>,
    right: &Vectors<'_, T>,
    k: usize,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    positive("k", k)?;
    if are_most(k, right.len()) {
        ctx.count_pairs(pairs(left, right));
        return by_sorting(left, right, k, ctx);
    }
    TopKJoin::new(left, right, k, ctx)?.exactly()
}

/// How many pairs there are to compare; in a self-join each counts once.
pub(crate) fn pairs<T: Scalar>(left: Option<&Vectors<'_, T>>, right: &Vectors<'_, T>) -> u64 {
    let items = right.len() as u64;
    match left {
        Some(left) => left.len() as u64 * items,
        None => items * items.saturating_sub(1) / 2,
    }
}

impl<'a, T: Scalar> TopKJoin<'a, T> {
    pub(crate) fn left(&self) -> &'a Vectors<'a, T> {
        self.left.unwrap_or(self.right)
    }

    /// A self-join of `right` when `left` is `None`.
    pub(crate) fn new(
        left: Option<&'a Vectors<'a, T>>,
        right: &'a Vectors<'a, T>,
        k: usize,
        ctx: &'a Context,
    ) -> Result<Self> {
        let nearest = TopK::new(left.unwrap_or(right), left.map(|_| right), k, ctx)?;
        Ok(Self {
            left,
            right,
            nearest,
            ctx,
        })
    }

    /// Compares all pairs, as the join's last stage: the recall is 1.
    pub(crate) fn all_pairs(self) -> Result<Neighbors<T>> {
        self.ctx.begin_stage("all pairs");
        self.ctx.reached(Estimate::EXACT);
        self.exactly()
    }

    /// Compares all pairs, and ends the join.
    pub(crate) fn exactly(self) -> Result<Neighbors<T>> {
        if self.is_unbounded() {
            self.join_first()?;
        }
        self.ctx.count_pairs(pairs(self.left, self.right));
        self.join_all(None, &self.nearest.symmetric())?;
        self.nearest.finish()
    }

    /// Compares the rows of each group, and ends the join.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn in_groups(self, groups: &Groups) -> Result<Neighbors<T>> {
        self.ctx.count_pairs(groups.pairs());
        let (left, right) = groups.order();
        let cut = |right: &Range<usize>| right.end.min(right.start + FIRST_ROWS);
        let first = groups.groups.iter().map(|Group { left, right }| {
            let right = right.start..cut(right);
            (left.clone(), right)
        });
        let rest = groups.groups.iter().map(|Group { left, right }| {
            let right = cut(right)..right.end;
            (left.clone(), right)
        });
        let rest = rest.filter(|(_, right)| !right.is_empty());
        let (first, rest) = (
            memory::collect(first, GROUPS)?,
            memory::collect(rest, GROUPS)?,
        );
        // The nearest of a panel may all be such as are kept apart.
        let unbounded = match self.nearest.apart {
            None => self.nearest.unbounded(),
            Some(_) => self.nearest.one_way(),
        };
        self.run(left, right, first, &unbounded)?;
        self.run(left, right, rest, &self.nearest.one_way())?;
        self.nearest.finish()
    }

    /// Whether rows have no neighbours yet: the first speaks for all.
    fn is_unbounded(&self) -> bool {
        !self.left().is_empty() && self.nearest.lists.bound(0).is_infinite()
    }

    /// Compares all left rows with some right ones from all over, so that most other pairs then
    /// fail the filter on codes. (Without codes there is no such filter.)
    fn join_first(&self) -> Result<()> {
        let (left, right) = (self.left().internal_ids()?, self.right.internal_ids()?);
        let k = self.nearest.lists.k();
        let count = FIRST_ROWS.max(4 * k).min(right.len() / FIRST_OF);
        if self.right.codes.is_none() || count < 2 * k {
            return Ok(());
        }
        let step = right.len().div_ceil(count);
        let some = memory::collect(right.into_iter().step_by(step), ROW_NUMBERS)?;
        // Not counted as compared: all of these pairs are compared again.
        let blocks = vec![(0..left.len(), 0..some.len())];
        self.run(&left, &some, blocks, &self.nearest.unbounded())
    }

    /// Compares all pairs, by these codes (see [`TileJoin::codes`]) or the sides' own.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn join_all<J: PairSink<T>>(
        &self,
        codes: Option<(&Quantised<'_>, &Quantised<'_>)>,
        sink: &J,
    ) -> Result<()> {
        let (left_order, right_order) = (self.left().internal_ids()?, self.right.internal_ids()?);
        let tiles = TileJoin {
            left: self.left(),
            left_order: &left_order,
            right: self.left.map(|_| (self.right, right_order.as_slice())),
            codes,
            ctx: self.ctx,
        };
        let all = BlockPair {
            left: 0..left_order.len(),
            right: 0..right_order.len(),
        };
        tiles.run([all].into_iter(), sink)
    }

    /// Compares the rows whose top-k is not full, though there are rows enough, with all others.
    /// The lists and buckets that they probed may have held too few, as those of outliers do.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn complete(&self) -> Result<()> {
        let own = usize::from(self.left.is_none());
        let unfilled = |others: usize| {
            let lists = &self.nearest.lists;
            lists.shorter_than(self.nearest.k.min(others.saturating_sub(own)))
        };
        if unfilled(self.right.len()).is_empty() {
            return Ok(());
        }
        let right = self.right.internal_ids()?;
        let mut rows = unfilled(right.len());
        let mut sink = self.nearest.unbounded();
        if let Some(apart) = &self.nearest.apart {
            let lists = &self.nearest.lists;
            apart.unfilled(&mut rows, lists.k(), |row| lists.len_of(row));
            sink = self.nearest.one_way();
        }
        let blocks = vec![(0..rows.len(), 0..right.len())];
        self.join(&rows, &right, blocks, &sink)
    }

    /// Compares ranges of positions in two orders of rows, and counts their pairs.
    pub(crate) fn join(
        &self,
        left_order: &[u32],
        right_order: &[u32],
        blocks: Vec<(Range<usize>, Range<usize>)>,
        sink: &TopKSink<'_, T>,
    ) -> Result<()> {
        let pairs = blocks.iter().map(|(left, right)| left.len() * right.len());
        self.ctx.count_pairs(pairs.sum::<usize>() as u64);
        self.run(left_order, right_order, blocks, sink)
    }

    /// Compares ranges of positions in two orders of rows.
    pub(crate) fn run(
        &self,
        left_order: &[u32],
        right_order: &[u32],
        blocks: Vec<(Range<usize>, Range<usize>)>,
        sink: &TopKSink<'_, T>,
    ) -> Result<()> {
        let right = Some((self.right, right_order));
        let tiles = TileJoin {
            left: self.left(),
            left_order,
            right,
            codes: None,
            ctx: self.ctx,
        };
        let blocks = blocks
            .into_iter()
            .map(|(left, right)| BlockPair { left, right });
        tiles.run(blocks, sink)
    }
}
