//! Joins by distance: all pairs nearer than a threshold, collected or in batches.

use lshjoin_kernels::{Rows, Scalar, memory};

use crate::{
    base::{
        check::{not_negative, positive, same_dimension},
        context::Run,
        error::Result,
        metric::Distance,
    },
    join::axes_filter::Leading,
    pairs::{
        batches::Batches,
        results::{JoinedPairs, PAIRS, Pair, RadiusNeighbors},
        threshold::{Found, Within},
        tile_join::{Meeting, Meetings},
    },
    vectors::Side,
};

/// All pairs, by query.
///
/// # Errors
/// As [`RadiusJoin::run`](crate::RadiusJoin::run).
pub(crate) fn radius_join<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    radius: f64,
    metric: Distance,
    run: &Run,
) -> Result<RadiusNeighbors<T>> {
    let mut pairs = Vec::new();
    stream_within_radius(queries, items, radius, metric, run, |found| {
        Ok(memory::extend(&mut pairs, found, PAIRS)?)
    })?;
    run.check()?;
    RadiusNeighbors::sorted(pairs, queries.unwrap_or(items).len())
}

/// Batches of pairs.
///
/// # Errors
/// As [`RadiusJoin::run_batches`](crate::RadiusJoin::run_batches).
pub(crate) fn radius_join_batches<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    radius: f64,
    metric: Distance,
    batch_size: usize,
    run: &Run,
    deliver: impl FnMut(JoinedPairs<T>) + Send,
) -> Result<()> {
    positive("batch_size", batch_size)?;
    let mut batches = Batches::new(batch_size, deliver, run);
    stream_within_radius(queries, items, radius, metric, run, |found| {
        batches.add(&found)
    })?;
    batches.finish()
}

fn stream_within_radius<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    radius: f64,
    metric: Distance,
    run: &Run,
    hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
) -> Result<()> {
    not_negative("radius", radius)?;
    let right = Side::new("items", items, metric.into(), run)?;
    let left = match queries {
        None => None,
        Some(queries) => {
            same_dimension(queries, items)?;
            Some(right.to_meet("queries", queries, run)?)
        }
    };
    stream_sides(left.as_ref(), &right, radius, run, hand_over)
}

/// The pairs nearer than `radius`, by number; of `right` with itself when `left` is `None`.
pub(crate) fn stream_sides<T: Scalar>(
    left: Option<&Side<'_, T>>,
    right: &Side<'_, T>,
    radius: f64,
    run: &Run,
    hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
) -> Result<()> {
    let right_order = right.numbers()?;
    let left_order = left.map(Side::numbers).transpose()?;
    let judge = match left {
        None => Within::new(right, None, radius, run),
        Some(left) => Within::new(left, Some(right), radius, run),
    };
    let leading = Leading::where_it_pays(left, right, judge.bound, run)?;
    let meetings = Meetings {
        left: left.unwrap_or(right),
        left_order: left_order.as_ref().unwrap_or(&right_order),
        right: left.map(|_| (right, right_order.as_slice())),
        codes: leading
            .as_ref()
            .map(|leading| (leading.left(), leading.right())),
        run,
    };
    let all = Meeting {
        left: 0..meetings.left_order.len(),
        right: 0..right_order.len(),
    };
    let take = |notes: &mut Found<T>| judge.take(notes);
    meetings.hold_in_order([all].into_iter(), &judge, take, hand_over)
}
