//! Joins by distance: all pairs nearer than a threshold, collected or in batches.

use lshjoin_kernels::{Rows, Scalar, memory};

use crate::{
    base::{
        check::{not_negative, positive, same_dimension},
        context::Run,
        error::{Error, Result},
        metric::Metric,
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

/// Every item nearer than `radius` (strictly) to each query; among `items` themselves when
/// `queries` is `None`, a row then not being its own neighbour.
///
/// Exact: all pairs are met, as tiles; by a part of their principal dimensions first, where most
/// pairs are too far apart by these.
///
/// ```
/// use lshjoin::{Metric, Rows, Run, radius_join};
///
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let near = radius_join(None, items, 2.0, Metric::Euclidean, &Run::new()?)?;
/// assert_eq!((near.lims, near.indices), (vec![0, 1, 2, 2], vec![1, 0]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
///
/// # Errors
/// When dimensions differ, a row holds NaN or infinity, the radius is negative or NaN, or the run
/// is cancelled.
pub fn radius_join<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    radius: f64,
    metric: Metric,
    run: &Run,
) -> Result<RadiusNeighbors<T>> {
    let mut pairs = Vec::new();
    stream_within_radius(queries, items, radius, metric, run, |found| {
        Ok(memory::extend(&mut pairs, found, PAIRS)?)
    })?;
    run.check()?;
    RadiusNeighbors::sorted(pairs, queries.unwrap_or(items).len())
}

/// The pairs of [`radius_join`] in batches of `batch_size`, the last one smaller: for results that
/// need not fit in memory.
///
/// The same arguments give the same batches on any number of threads and every instruction set,
/// but not sorted: blocks of pairs come as they are found, each by left row, then by right row.
/// `deliver` is called on threads of the pool, one batch at a time; while it takes its time, the
/// join waits. It may end the join by [`Run::cancel`], and is then not called again.
///
/// Beside the rows and their codes, memory holds a batch and, for each thread, what two panels of
/// some thousand rows bring.
///
/// ```
/// use lshjoin::{Metric, Rows, Run, radius_join_batches};
///
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0, 1.5], 1)?;
/// let mut lengths = Vec::new();
/// radius_join_batches(None, items, 2.0, Metric::Euclidean, 4, &Run::new()?, |pairs| {
///     lengths.push(pairs.left.len());
/// })?;
/// assert_eq!(lengths, [4, 2]);
/// # Ok::<(), lshjoin::Error>(())
/// ```
///
/// # Errors
/// As [`radius_join`], and when `batch_size` is 0.
pub fn radius_join_batches<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    radius: f64,
    metric: Metric,
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
    metric: Metric,
    run: &Run,
    hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
) -> Result<()> {
    not_negative("radius", radius)?;
    if metric == Metric::InnerProduct {
        return Err(Error::Parameter {
            name: "metric",
            must_be: "a distance; inner products have none but in knn_join",
            value: metric.to_string(),
        });
    }
    let right = Side::new("items", items, metric, run)?;
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
