//! Pairs that share a bucket and are nearer than a threshold.

use lshjoin_kernels::{Rows, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{
        check::{not_negative, positive},
        context::Context,
        error::Result,
    },
    lsh::{model::LshModel, table::Table},
    pairs::{
        batches::Batches,
        results::{JoinedPairs, PAIRS, Pair},
        threshold::{BucketIds, ThresholdScratch, ThresholdSink},
        tile_join::{BlockPair, TileJoin},
    },
    vectors::Vectors,
};

impl LshModel {
    /// Pairs of a row of `a` and a row of `b` that share a bucket and are nearer than `threshold`
    /// (strictly), by left row, then by right row. In a self-join, where `b` is `None`, each pair
    /// comes both ways, and each row with itself. That is what Spark's `approxSimilarityJoin`
    /// returns.
    ///
    /// Memory grows with the results and with rows × tables, not with the candidates.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, the threshold is negative or NaN, a
    /// bucket does not fit 32 bits, or the run is cancelled.
    pub fn similarity_join<T: Scalar>(
        &self,
        a: Rows<'_, T>,
        b: Option<Rows<'_, T>>,
        threshold: f64,
        ctx: &Context,
    ) -> Result<JoinedPairs<T>> {
        let mut pairs = Vec::new();
        self.stream_similar(a, b, threshold, ctx, |found| {
            Ok(memory::extend(&mut pairs, found, PAIRS)?)
        })?;
        ctx.check()?;
        pairs.par_sort_unstable_by_key(|&(left, right, _)| (left, right));
        let mut joined = JoinedPairs::new();
        joined.extend(&pairs)?;
        Ok(joined)
    }

    /// The pairs of [`LshModel::similarity_join`] in batches of `batch_size`, the last one smaller;
    /// see [`RadiusJoin::run_batches`](crate::RadiusJoin::run_batches) for their order and how to
    /// stop.
    ///
    /// Memory grows with rows × tables alone.
    ///
    /// # Errors
    /// As [`LshModel::similarity_join`], and when `batch_size` is 0.
    pub fn similarity_join_batches<T: Scalar>(
        &self,
        a: Rows<'_, T>,
        b: Option<Rows<'_, T>>,
        threshold: f64,
        batch_size: usize,
        ctx: &Context,
        deliver: impl FnMut(JoinedPairs<T>) + Send,
    ) -> Result<()> {
        positive("batch_size", batch_size)?;
        let mut batches = Batches::new(batch_size, deliver, ctx);
        self.stream_similar(a, b, threshold, ctx, |found| batches.add(&found))?;
        batches.finish()
    }

    fn stream_similar<T: Scalar>(
        &self,
        a: Rows<'_, T>,
        b: Option<Rows<'_, T>>,
        threshold: f64,
        ctx: &Context,
        mut hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
    ) -> Result<()> {
        self.check_dimension("left rows", a)?;
        not_negative("threshold", threshold)?;
        let left = Vectors::new("the left side", a, self.distance().into(), ctx)?;
        let right = match b {
            None => None,
            Some(b) => {
                self.check_dimension("right rows", b)?;
                Some(left.prepare_other("the right side", b, ctx)?)
            }
        };
        let mut sink = ThresholdSink::new(&left, right.as_ref(), threshold, ctx);
        self.for_each_table(b.unwrap_or(a), b.map(|_| a), ctx, |items, queries| {
            let take = |scratch: &mut ThresholdScratch<T>| sink.take(scratch);
            let buckets = match (&right, queries) {
                (Some(right), Some(queries)) => {
                    let matches = queries.matches(items)?;
                    let buckets =
                        BucketIds::of_two(queries, a.len(), items, right.rows.len(), &matches)?;
                    let tiles = TileJoin {
                        left: &left,
                        left_order: &queries.order,
                        right: Some((right, &items.order)),
                        codes: None,
                        ctx,
                    };
                    let blocks = matches
                        .into_iter()
                        .map(|(left, right)| BlockPair { left, right });
                    tiles.run_ordered(blocks, &sink, take, &mut hand_over)?;
                    buckets
                }
                _ => {
                    let tiles = TileJoin {
                        left: &left,
                        left_order: &items.order,
                        right: None,
                        codes: None,
                        ctx,
                    };
                    let blocks = items
                        .ranges()
                        .filter(|bucket| bucket.len() > 1)
                        .map(|bucket| BlockPair {
                            left: bucket.clone(),
                            right: bucket,
                        });
                    tiles.run_ordered(blocks, &sink, take, &mut hand_over)?;
                    BucketIds::of_one(items, a.len())?
                }
            };
            sink.earlier.push(buckets);
            Ok(())
        })?;
        if b.is_none() {
            hand_over(memory::collect(sink.with_itself(), PAIRS)?)?;
        }
        Ok(())
    }
}

/// How an out-of-memory error names them.
const BUCKETS: &str = "the buckets of rows";

impl BucketIds {
    /// Of rows in no bucket that the other side has rows in: one id for each side, so that they
    /// never match.
    const NONE_LEFT: u32 = u32::MAX;
    const NONE_RIGHT: u32 = u32::MAX - 1;

    fn of_one(table: &Table, rows: usize) -> Result<Self> {
        let mut left = memory::filled(Self::NONE_LEFT, rows, BUCKETS)?;
        for (id, bucket) in (0..).zip(table.ranges()) {
            table.order[bucket]
                .iter()
                .for_each(|&row| left[row as usize] = id);
        }
        Ok(Self {
            left,
            right: Vec::new(),
        })
    }

    fn of_two(
        left: &Table,
        left_rows: usize,
        right: &Table,
        right_rows: usize,
        matches: &[(std::ops::Range<usize>, std::ops::Range<usize>)],
    ) -> Result<Self> {
        let mut ids = Self {
            left: memory::filled(Self::NONE_LEFT, left_rows, BUCKETS)?,
            right: memory::filled(Self::NONE_RIGHT, right_rows, BUCKETS)?,
        };
        for (id, (l, r)) in (0..).zip(matches) {
            left.order[l.clone()]
                .iter()
                .for_each(|&row| ids.left[row as usize] = id);
            right.order[r.clone()]
                .iter()
                .for_each(|&row| ids.right[row as usize] = id);
        }
        Ok(ids)
    }
}
