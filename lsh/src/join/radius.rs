//! Joins by distance: all pairs nearer than a threshold, collected or in batches.

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{
        check::{check_dimension, not_negative, positive},
        context::Context,
        error::Result,
        input::Input,
        keys::{Keys, PairKeys},
        metric::Distance,
    },
    join::{axes_filter::AxesFilter, near_lists::NearLists},
    pairs::{
        batches::Batches,
        groups::{Group, Groups},
        results::{JoinedPairs, PAIRS, Pair, RadiusNeighbors},
        threshold::{ThresholdScratch, ThresholdSink},
        tile_join::{BlockPair, TileJoin},
    },
    vectors::Vectors,
};

/// All pairs nearer than a radius, by query.
///
/// # Errors
/// As [`RadiusJoin::run`](crate::RadiusJoin::run).
pub(crate) fn radius_join<T: Scalar>(
    input: Input<'_, T>,
    within: Option<Keys<'_>>,
    radius: f64,
    metric: Distance,
    ctx: &Context,
) -> Result<RadiusNeighbors<T>> {
    let mut pairs = Vec::new();
    stream_within_radius(input, within, radius, metric, ctx, |found| {
        Ok(memory::extend(&mut pairs, found, PAIRS)?)
    })?;
    ctx.check()?;
    RadiusNeighbors::sorted(pairs, input.left())
}

/// The same pairs in batches.
///
/// # Errors
/// As [`RadiusJoin::run_batches`](crate::RadiusJoin::run_batches).
pub(crate) fn radius_join_batches<T: Scalar>(
    input: Input<'_, T>,
    within: Option<Keys<'_>>,
    radius: f64,
    metric: Distance,
    batch_size: usize,
    ctx: &Context,
    deliver: impl FnMut(JoinedPairs<T>) + Send,
) -> Result<()> {
    positive("batch_size", batch_size)?;
    let mut batches = Batches::new(batch_size, deliver, ctx);
    stream_within_radius(input, within, radius, metric, ctx, |found| {
        batches.add(&found)
    })?;
    batches.finish()
}

fn stream_within_radius<T: Scalar>(
    Input {
        queries,
        items,
        apart,
    }: Input<'_, T>,
    within: Option<Keys<'_>>,
    radius: f64,
    metric: Distance,
    ctx: &Context,
    hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
) -> Result<()> {
    not_negative("radius", radius)?;
    let keys = PairKeys { within, apart };
    keys.check(queries.map(|queries| queries.len()), items.len())?;
    let right = Vectors::new("items", items, metric.into(), ctx)?;
    let left = match queries {
        None => None,
        Some(queries) => {
            check_dimension("queries", queries, items.dim())?;
            Some(right.prepare_other("queries", queries, ctx)?)
        }
    };
    stream_sides(left.as_ref(), &right, keys, radius, ctx, hand_over)
}

/// The pairs nearer than `radius` that `keys`, of all rows, let in, by internal id; a self-join of
/// `right` when `left` is `None`.
pub(crate) fn stream_sides<T: Scalar>(
    left: Option<&Vectors<'_, T>>,
    right: &Vectors<'_, T>,
    keys: PairKeys<'_>,
    radius: f64,
    ctx: &Context,
    mut hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
) -> Result<()> {
    let groups = match keys.within {
        Some(keys) => Groups::new(keys.queries, keys.items)?,
        None => Groups::of_all(
            left.map(Vectors::internal_ids).transpose()?,
            right.internal_ids()?,
        ),
    };
    let (left_order, right_order) = groups.order();
    let mut sink = match left {
        None => ThresholdSink::new(right, None, radius, ctx),
        Some(left) => ThresholdSink::new(left, Some(right), radius, ctx),
    };
    sink.keys = keys;
    let pairs = groups.pairs();
    if keys.within.is_none()
        && let Some(lists) = NearLists::learn((left, right), sink.bound, pairs, ctx)?
        && lists.join(
            (left, right),
            keys,
            (radius, sink.bound, pairs),
            ctx,
            &mut hand_over,
        )?
    {
        return Ok(());
    }
    let filter = AxesFilter::where_it_pays(left, right, pairs, sink.bound, ctx)?;
    let tiles = TileJoin {
        left: left.unwrap_or(right),
        left_order,
        right: left.map(|_| (right, right_order)),
        codes: filter
            .as_ref()
            .map(|filter| (filter.left(), filter.right())),
        ctx,
    };
    let blocks = groups.blocks()?.into_iter();
    let blocks = blocks.map(|Group { left, right }| BlockPair { left, right });
    let take = |scratch: &mut ThresholdScratch<T>| sink.take(scratch);
    tiles.run_ordered(blocks, &sink, take, hand_over)
}
