//! Nearest-neighbour joins: the k nearest items of every query.

use lshjoin_kernels::{KeyLayout, Rows, Scalar};

use crate::{
    error::{Error, Result},
    family::{HashFamily, RandomHyperplanes},
    meet::{Judge, Meeting, Meetings},
    metric::Metric,
    model::LshModel,
    nearest::{NearestLists, Neighbors},
    run::Run,
    side::Side,
    similarity::same_dimension,
};

impl LshModel {
    /// For each query the k nearest of the items that share a bucket with it; fewer where there
    /// are not as many.
    ///
    /// For one query this is Spark's `approxNearestNeighbors`; for many it is what Spark has not.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, `k` is 0, a bucket does not fit 32
    /// bits, or the run is cancelled.
    pub fn nearest_neighbors<T: Scalar>(
        &self,
        queries: Rows<'_, T>,
        items: Rows<'_, T>,
        k: usize,
        run: &Run,
    ) -> Result<Neighbors<T>> {
        self.check_dimension("queries", queries)?;
        self.check_dimension("items", items)?;
        let left = Side::new("queries", queries, self.metric(), run)?;
        let right = Side::new("items", items, self.metric(), run)?;
        let nearest = Nearest::new(&left, Some(&right), k)?;
        self.for_each_table(items, Some(queries), run, |items, queries| {
            let Some(queries) = queries else { return Ok(()) };
            let meetings = Meetings {
                left: &left,
                left_order: &queries.order,
                right: Some((&right, &items.order)),
            };
            let met = queries.matches(items).into_iter();
            meetings.hold(met.map(|(left, right)| Meeting { left, right }), &nearest, run)?;
            Ok(())
        })?;
        Ok(nearest.finish())
    }
}

/// For each query its k nearest items; among `items` themselves when `queries` is `None`, a row
/// then not being its own neighbour (its exact duplicates are).
///
/// Exact: all pairs are met, as tiles, after a few tables have brought rough neighbours together
/// so that nearly all pairs fail the first test.
///
/// ```
/// use lshjoin::{Metric, Rows, Run, knn_join};
///
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let near = knn_join(None, items, 1, Metric::Euclidean, &Run::new()?)?;
/// assert_eq!((near.indices, near.distances), (vec![1, 0, 1], vec![1.0, 1.0, 4.0]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
///
/// # Errors
/// When dimensions differ, a row holds NaN or infinity, `k` is 0, or the run is cancelled.
pub fn knn_join<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    run: &Run,
) -> Result<Neighbors<T>> {
    let right = Side::new("items", items, metric, run)?;
    let left = match queries {
        None => None,
        Some(queries) => {
            same_dimension(queries, items)?;
            Some(Side::new("queries", queries, metric, run)?)
        }
    };
    let nearest = match &left {
        Some(left) => Nearest::new(left, Some(&right), k)?,
        None => Nearest::new(&right, None, k)?,
    };
    let (mut left_order, mut right_order) = (Vec::new(), Vec::new());
    // Sorted by a key of many hyperplanes, neighbours are often in the same short stretch.
    for table in 0..ROUGH_TABLES {
        let layout = KeyLayout::new(&[(0, 1); ROUGH_BITS]);
        let functions = RandomHyperplanes.draw(ROUGH_BITS, items.dim(), table)?;
    }
    todo!()
}
