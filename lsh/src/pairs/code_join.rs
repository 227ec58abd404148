//! A k-nearest-neighbour join under way that compares rows by their codes, and measures what is left
//! at the end.

use std::ops::Range;

use lshjoin_kernels::{Quantised, Scalar};

use crate::{
    base::{context::Context, error::Result},
    pairs::{
        apart::Apart,
        code_lists::{CodeLists, CodeSink},
        tile_join::{BlockPair, TileJoin},
    },
    vectors::Vectors,
};

/// A join under way: its sides, and what has been found for each left row.
pub(crate) struct CodeJoin<'a, T> {
    /// `None` in a self-join of the right side.
    pub(crate) left: Option<&'a Vectors<'a, T>>,
    pub(crate) right: &'a Vectors<'a, T>,
    /// The right row that the first left one is, where left rows are also right ones.
    first: Option<u32>,
    /// The codes of the left side, if there is one, and of the right, without their errors.
    pub(crate) codes: (Option<Quantised<'a>>, Quantised<'a>),
    pub(crate) lists: CodeLists,
    pub(crate) apart: Option<Apart<'a>>,
    /// Neighbours that are asked for; there may be fewer.
    pub(crate) k: usize,
    pub(crate) ctx: &'a Context,
}

impl<'a, T: Scalar> CodeJoin<'a, T> {
    /// A self-join of `right` when `left` is `None`; `codes` are those of the sides.
    ///
    /// # Errors
    /// When `k` is 0, or there is no memory.
    pub(crate) fn new(
        left: Option<&'a Vectors<'a, T>>,
        right: &'a Vectors<'a, T>,
        codes: (Option<&'a Quantised<'a>>, &'a Quantised<'a>),
        k: usize,
        ctx: &'a Context,
    ) -> Result<Self> {
        let of_left = codes.0.map(Quantised::without_errors);
        Ok(Self {
            left,
            right,
            first: left.is_none().then_some(0),
            codes: (of_left, codes.1.without_errors()),
            lists: CodeLists::new(left.unwrap_or(right).len(), k, right.len())?,
            apart: Apart::of(left, right)?,
            k,
            ctx,
        })
    }

    /// The left rows are those of the right side from `first` on.
    pub(crate) fn of_chunk(self, first: u32) -> Self {
        let first = Some(first);
        Self { first, ..self }
    }

    pub(crate) fn left(&self) -> &'a Vectors<'a, T> {
        self.left.unwrap_or(self.right)
    }

    /// Both sides.
    pub(crate) fn sides(&self) -> (&'a Vectors<'a, T>, &'a Vectors<'a, T>) {
        (self.left(), self.right)
    }

    /// For the first comparisons, of rows that have no neighbours yet. Serves left rows only.
    pub(crate) fn unbounded(&self) -> CodeSink<'_> {
        CodeSink {
            lists: &self.lists,
            first: self.first,
            apart: self.apart.as_ref(),
            both_ways: false,
            // The nearest of a panel may all be such as are kept apart.
            of_panel: self.apart.is_none(),
            isa: self.ctx.isa(),
        }
    }

    /// For comparisons that bring each pair once: in a self-join it serves both rows.
    pub(crate) fn symmetric(&self) -> CodeSink<'_> {
        CodeSink {
            both_ways: self.first.is_some(),
            of_panel: false,
            ..self.unbounded()
        }
    }

    /// Compares ranges of positions in two orders of rows, and counts their pairs.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn join(
        &self,
        left_order: &[u32],
        right_order: &[u32],
        blocks: Vec<(Range<usize>, Range<usize>)>,
        sink: &CodeSink<'_>,
    ) -> Result<()> {
        let pairs = blocks.iter().map(|(left, right)| left.len() * right.len());
        self.ctx.count_pairs(pairs.sum::<usize>() as u64);
        let (of_left, of_right) = &self.codes;
        let tiles = TileJoin {
            left: self.left(),
            left_order,
            right: Some((self.right, right_order)),
            codes: Some((of_left.as_ref().unwrap_or(of_right), of_right)),
            ctx: self.ctx,
        };
        let blocks = blocks.into_iter();
        tiles.run(blocks.map(|(left, right)| BlockPair { left, right }), sink)
    }

    /// Compares the rows that have not found k, though there are rows enough, with all others. The
    /// lists that they probed may have held too few, as those of outliers do.
    ///
    /// # Errors
    /// As [`CodeJoin::join`].
    pub(crate) fn complete(&self) -> Result<()> {
        let own = usize::from(self.first.is_some());
        let short = |others: usize| {
            let wanted = self.k.min(others.saturating_sub(own));
            self.lists.shorter_than(wanted)
        };
        if short(self.right.len()).is_empty() {
            return Ok(());
        }
        let right = self.right.internal_ids()?;
        let mut rows = short(right.len());
        if let Some(apart) = &self.apart {
            apart.unfilled(&mut rows, self.k, |row| self.lists.items(row).len());
        }
        if rows.is_empty() {
            return Ok(());
        }
        let blocks = vec![(0..rows.len(), 0..right.len())];
        self.join(&rows, &right, blocks, &self.unbounded())
    }

    /// The distances of the k nearest so far of a left row.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn distances_of(&self, row: u32) -> Result<Vec<T>> {
        let measured = self.lists.measured(row, self.sides(), self.ctx)?;
        let distances = measured.into_iter();
        Ok(distances
            .map(|(distance, _)| T::from_f64(distance))
            .collect())
    }
}
