//! The pairs nearer than a radius among those that may be: ranges of rows, in parts.

use std::ops::Range;

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{context::Context, error::Result, keys::PairKeys},
    ivf::bisectors::{Bisectors, Looking, Probe},
    pairs::{
        results::{PAIRS, Pair},
        threshold::{ThresholdScratch, ThresholdSink},
        tile_join::{BlockPair, TileJoin},
    },
    vectors::Vectors,
};

/// The pairs nearer than a radius among those that may be: ranges of rows, in parts.
pub(crate) struct RadiusBlocks<'a, T> {
    sink: ThresholdSink<'a, T>,
    /// The right rows, in the order that ranges refer to.
    right_order: &'a [u32],
    ctx: &'a Context,
}

impl<'a, T: Scalar> RadiusBlocks<'a, T> {
    /// Of these sides.
    pub(crate) fn new(
        left: &'a Vectors<'a, T>,
        (right, right_order): (&'a Vectors<'a, T>, &'a [u32]),
        radius: f64,
        ctx: &'a Context,
    ) -> Self {
        Self {
            sink: ThresholdSink::new(left, Some(right), radius, ctx),
            right_order,
            ctx,
        }
    }

    /// Only pairs of these keys, by internal id.
    pub(crate) fn keys(mut self, keys: PairKeys<'a>) -> Self {
        self.sink.keys = keys;
        self
    }

    /// Compares left rows, by internal id, with those of the lists that they probe, by which right rows
    /// are in order.
    ///
    /// # Errors
    /// As [`RadiusBlocks::run`].
    pub(crate) fn by_lists(
        &self,
        rows: &[u32],
        bisectors: &Bisectors<'_>,
        looking: &Looking,
        mut hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
    ) -> Result<()> {
        let Some(codes) = &self.sink.left.codes else {
            return Ok(());
        };
        let mut probes = Vec::new();
        let mut compare = |probes: &mut Vec<Probe>| {
            let probed = bisectors.by_list(probes)?;
            probes.clear();
            self.run(&probed.rows, probed.blocks.into_iter(), &mut hand_over)
        };
        for rows in rows.chunks(bisectors.rows_at_once()) {
            let more = bisectors.probes(codes, rows, looking, self.ctx)?;
            memory::extend(&mut probes, more, PAIRS)?;
            if Bisectors::are_many(&probes) {
                compare(&mut probes)?;
            }
        }
        compare(&mut probes)
    }

    /// Compares ranges of left rows, in this order, with ranges of right ones.
    ///
    /// # Errors
    /// When the run is cancelled, or what `hand_over` returns.
    pub(crate) fn run(
        &self,
        left_order: &[u32],
        blocks: impl Iterator<Item = (Range<usize>, Range<usize>)>,
        hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
    ) -> Result<()> {
        let tiles = TileJoin {
            left: self.sink.left,
            left_order,
            right: Some((self.sink.right, self.right_order)),
            codes: None,
            ctx: self.ctx,
        };
        let blocks = blocks.map(|(left, right)| BlockPair { left, right });
        let take = |scratch: &mut ThresholdScratch<T>| self.sink.take(scratch);
        tiles.run_ordered(blocks, &self.sink, take, hand_over)
    }
}
