//! Joins by distance: all pairs nearer than a threshold, collected or in batches.

use lshjoin_kernels::{Isa, Near, Rows, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{
        check::{not_negative, positive, same_dimension},
        context::Run,
        error::{Error, Result},
        metric::Metric,
    },
    join::axes_filter::Leading,
    lsh::{model::LshModel, table::Table},
    pairs::{
        batches::{Batches, Pair},
        tile_join::{Judge, Meeting, Meetings},
    },
    vectors::{interval::filter_interval, vectors::Side},
};

/// What memory is asked for.
pub(crate) const PAIRS: &str = "pairs that are near";
const BUCKETS: &str = "the buckets of rows";

/// Pairs of rows and their distances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinedPairs<T> {
    /// Rows of the left side.
    pub left: Vec<i64>,
    /// Rows of the right side.
    pub right: Vec<i64>,
    /// Their distances.
    pub distances: Vec<T>,
}

impl LshModel {
    /// Pairs of a row of `a` and a row of `b` that share a bucket and are nearer than `threshold`
    /// (strictly), by left row, then by right row; of `a` with itself when `b` is `None`: each pair
    /// both ways, and each row with itself. What Spark's `approxSimilarityJoin` returns.
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
        run: &Run,
    ) -> Result<JoinedPairs<T>> {
        let mut pairs = Vec::new();
        self.stream_similar(a, b, threshold, run, |found| {
            Ok(memory::extend(&mut pairs, found, PAIRS)?)
        })?;
        run.check()?;
        pairs.par_sort_unstable_by_key(|&(left, right, _)| (left, right));
        let mut joined = JoinedPairs::new();
        joined.extend(&pairs)?;
        Ok(joined)
    }

    /// The pairs of [`LshModel::similarity_join`] in batches of `batch_size`, the last one
    /// smaller; see [`radius_join_batches`] for their order and how to stop.
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
        run: &Run,
        deliver: impl FnMut(JoinedPairs<T>) + Send,
    ) -> Result<()> {
        positive("batch_size", batch_size)?;
        let mut batches = Batches::new(batch_size, deliver, run);
        self.stream_similar(a, b, threshold, run, |found| batches.add(&found))?;
        batches.finish()
    }

    fn stream_similar<T: Scalar>(
        &self,
        a: Rows<'_, T>,
        b: Option<Rows<'_, T>>,
        threshold: f64,
        run: &Run,
        mut hand_over: impl FnMut(Vec<Pair<T>>) -> Result<()> + Send,
    ) -> Result<()> {
        self.check_dimension("left rows", a)?;
        not_negative("threshold", threshold)?;
        let left = Side::new("the left side", a, self.metric(), run)?;
        let right = match b {
            None => None,
            Some(b) => {
                self.check_dimension("right rows", b)?;
                Some(left.to_meet("the right side", b, run)?)
            }
        };
        let mut judge = Within::new(&left, right.as_ref(), threshold, run);
        self.for_each_table(b.unwrap_or(a), b.map(|_| a), run, |items, queries| {
            let take = |notes: &mut Found<T>| judge.take(notes);
            let buckets = match (&right, queries) {
                (Some(right), Some(queries)) => {
                    let matches = queries.matches(items)?;
                    let buckets =
                        BucketNumbers::of_two(queries, a.len(), items, right.rows.len(), &matches)?;
                    let meetings = Meetings {
                        left: &left,
                        left_order: &queries.order,
                        right: Some((right, &items.order)),
                        leading: None,
                        run,
                    };
                    let met = matches
                        .into_iter()
                        .map(|(left, right)| Meeting { left, right });
                    meetings.hold_in_order(met, &judge, take, &mut hand_over)?;
                    buckets
                }
                _ => {
                    let meetings = Meetings {
                        left: &left,
                        left_order: &items.order,
                        right: None,
                        leading: None,
                        run,
                    };
                    let met = items
                        .ranges()
                        .filter(|bucket| bucket.len() > 1)
                        .map(|bucket| Meeting {
                            left: bucket.clone(),
                            right: bucket,
                        });
                    meetings.hold_in_order(met, &judge, take, &mut hand_over)?;
                    BucketNumbers::of_one(items, a.len())?
                }
            };
            judge.earlier.push(buckets);
            Ok(())
        })?;
        if b.is_none() {
            hand_over(memory::collect(judge.with_itself(), PAIRS)?)?;
        }
        Ok(())
    }
}

/// All pairs of a query and an item within a radius.
#[derive(Clone, Debug, PartialEq)]
pub struct RadiusNeighbors<T> {
    /// The neighbours of query i are at places `lims[i]..lims[i + 1]`.
    pub lims: Vec<i64>,
    /// Distances, rising for each query.
    pub distances: Vec<T>,
    /// Rows of the items; at the same distance the lower row comes first.
    pub indices: Vec<i64>,
}

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
        leading: leading.as_ref(),
        run,
    };
    let all = Meeting {
        left: 0..meetings.left_order.len(),
        right: 0..right_order.len(),
    };
    let take = |notes: &mut Found<T>| judge.take(notes);
    meetings.hold_in_order([all].into_iter(), &judge, take, hand_over)
}

/// Keeps the pairs nearer than a threshold that no earlier table has brought together.
struct Within<'a, T> {
    left: &'a Side<'a, T>,
    right: &'a Side<'a, T>,
    threshold: f64,
    bound: f32,
    /// Of a side with itself, each pair is met once but wanted both ways.
    with_itself: bool,
    isa: Isa,
    /// For each earlier table, the buckets of the left and right rows.
    earlier: Vec<BucketNumbers>,
}

/// What one thread has found in a task, and its buffers.
struct Found<T> {
    found: Vec<Pair<T>>,
    pairs: Vec<(u32, u32)>,
    distances: Vec<f64>,
}

impl<'a, T: Scalar> Within<'a, T> {
    /// Of `left` with itself when `right` is `None`.
    fn new(
        left: &'a Side<'a, T>,
        right: Option<&'a Side<'a, T>>,
        threshold: f64,
        run: &Run,
    ) -> Self {
        let (_, bound) = filter_interval::<T>(left.metric, threshold, left.rows.dim());
        Self {
            left,
            right: right.unwrap_or(left),
            threshold,
            bound,
            with_itself: right.is_none(),
            isa: run.isa(),
            earlier: Vec::new(),
        }
    }

    /// The pairs found, by row: the order in which tiles bring them is nobody's promise.
    fn take(&self, notes: &mut Found<T>) -> Result<Vec<Pair<T>>> {
        let mut found = std::mem::take(&mut notes.found);
        if self.with_itself {
            let more = found.len();
            memory::reserve(&mut found, more, PAIRS)?;
            for pair in 0..found.len() {
                let (left, right, distance) = found[pair];
                found.push((right, left, distance));
            }
        }
        // One number is compared in half the time of two.
        found.sort_unstable_by_key(|&(left, right, _)| u64::from(left) << 32 | u64::from(right));
        Ok(found)
    }

    /// Each row with itself: at distance 0, but for what has no direction.
    fn with_itself(&self) -> impl Iterator<Item = Pair<T>> {
        let rows = self.left.rows;
        let distance = move |row: u32| match self.left.metric {
            Metric::Cosine if rows.row(row as usize).iter().all(|&x| x == T::ZERO) => 1.0,
            _ => 0.0,
        };
        (0..rows.len() as u32)
            .map(move |row| (row, row, distance(row)))
            .filter(|pair| pair.2 < self.threshold)
            .map(|(left, right, distance)| (left, right, T::from_f64(distance)))
    }
}

impl<T: Scalar> Judge<T> for Within<'_, T> {
    type Notes = Found<T>;

    fn notes(&self) -> Self::Notes {
        Found {
            found: Vec::new(),
            pairs: Vec::new(),
            distances: Vec::new(),
        }
    }

    fn left_bound(&self, _: u32) -> f32 {
        self.bound
    }

    fn right_bound(&self, _: u32) -> f32 {
        -1.0
    }

    fn judge(
        &self,
        left: &[u32],
        right: &[u32],
        near: &mut Vec<Near>,
        notes: &mut Self::Notes,
    ) -> Result<()> {
        let rows = |pair: &Near| (left[pair.left as usize], right[pair.right as usize]);
        notes.pairs.clear();
        memory::extend(&mut notes.pairs, near.iter().map(rows), PAIRS)?;
        self.left
            .distances(self.right, &notes.pairs, &mut notes.distances, self.isa)?;
        for (&(left, right), &distance) in notes.pairs.iter().zip(&notes.distances) {
            let distance = T::from_f64(distance);
            if distance.to_f64() < self.threshold
                && !self.earlier.iter().any(|table| table.shared(left, right))
            {
                memory::push(&mut notes.found, (left, right, distance), PAIRS)?;
            }
        }
        Ok(())
    }
}

/// The bucket of each row in one table, numbered alike on both sides.
struct BucketNumbers {
    left: Vec<u32>,
    /// Empty when the two sides are one.
    right: Vec<u32>,
}

impl BucketNumbers {
    /// In no bucket that the other side has rows in: two numbers, so that they never match.
    const NONE_LEFT: u32 = u32::MAX;
    const NONE_RIGHT: u32 = u32::MAX - 1;

    fn of_one(table: &Table, rows: usize) -> Result<Self> {
        let mut left = memory::filled(Self::NONE_LEFT, rows, BUCKETS)?;
        for (number, bucket) in (0..).zip(table.ranges()) {
            table.order[bucket]
                .iter()
                .for_each(|&row| left[row as usize] = number);
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
        let mut numbers = Self {
            left: memory::filled(Self::NONE_LEFT, left_rows, BUCKETS)?,
            right: memory::filled(Self::NONE_RIGHT, right_rows, BUCKETS)?,
        };
        for (number, (l, r)) in (0..).zip(matches) {
            left.order[l.clone()]
                .iter()
                .for_each(|&row| numbers.left[row as usize] = number);
            right.order[r.clone()]
                .iter()
                .for_each(|&row| numbers.right[row as usize] = number);
        }
        Ok(numbers)
    }

    fn shared(&self, left: u32, right: u32) -> bool {
        let of_right = if self.right.is_empty() {
            &self.left
        } else {
            &self.right
        };
        self.left[left as usize] == of_right[right as usize]
    }
}

impl<T: Scalar> JoinedPairs<T> {
    pub(crate) fn new() -> Self {
        Self {
            left: Vec::new(),
            right: Vec::new(),
            distances: Vec::new(),
        }
    }

    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn extend(&mut self, pairs: &[Pair<T>]) -> Result<()> {
        let left = pairs.iter().map(|pair| i64::from(pair.0));
        memory::extend(&mut self.left, left, PAIRS)?;
        let right = pairs.iter().map(|pair| i64::from(pair.1));
        memory::extend(&mut self.right, right, PAIRS)?;
        let distances = pairs.iter().map(|pair| pair.2);
        Ok(memory::extend(&mut self.distances, distances, PAIRS)?)
    }
}

impl<T: Scalar> RadiusNeighbors<T> {
    /// Of queries, items and distances.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn sorted<I>(mut pairs: Vec<(u32, I, T)>, queries: usize) -> Result<Self>
    where
        I: Into<i64> + Ord + Copy + Send + Sync,
    {
        pairs.par_sort_unstable_by(|x, y| {
            let by_distance = || x.2.partial_cmp(&y.2).unwrap_or(std::cmp::Ordering::Equal);
            x.0.cmp(&y.0).then_with(by_distance).then(x.1.cmp(&y.1))
        });
        let mut lims = memory::zeroed(queries + 1, PAIRS)?;
        for pair in &pairs {
            lims[pair.0 as usize + 1] += 1;
        }
        for query in 0..queries {
            lims[query + 1] += lims[query];
        }
        Ok(Self {
            lims,
            distances: memory::par_collect(pairs.par_iter().map(|pair| pair.2), PAIRS)?,
            indices: memory::par_collect(pairs.par_iter().map(|pair| pair.1.into()), PAIRS)?,
        })
    }
}
