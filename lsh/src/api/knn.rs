//! The k nearest items of every query.

use lshjoin_kernels::{Rows, Scalar};

use crate::{
    base::{
        check::check_dimension, context::Context, error::Result, metric::Metric, plan::JoinPlan,
    },
    index::as_plan::join_by_index,
    join::knn::{by_plan, by_recall, study},
    pairs::results::Neighbors,
    planner::prediction::{PlanStudy, PredictedPlan},
};

/// A join for the k nearest items of each query, all queries known beforehand; without queries, of
/// `items` with themselves, a row then not being its own neighbour (its exact duplicates are).
///
/// By default 10 neighbours by Euclidean distance, at a recall of 0.95.
///
/// [`JoinPlan::Exact`] compares all pairs, as tiles. [`JoinPlan::Ivf`] has inverted lists over a
/// coarse quantiser: the rows of a list are compared with those that probe it. [`JoinPlan::Lsh`]
/// compares the rows of each bucket of tables of sign bits. Both may go on with the neighbours of
/// neighbours. [`JoinPlan::Partitions`] has the lists of an [`Index`](crate::Index), as joins out
/// of core do. All compare 8-bit codes and compute the exact distances of what these can't tell
/// apart, so that each query gets the nearest of all the items that it was compared with. Manhattan
/// distance has no such codes, and a side of less than a few thousand rows needs no lists: then all
/// pairs are compared whatever the plan.
///
/// ```
/// use lshjoin::{JoinPlan, KnnJoin, Rows, Context};
///
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let found = KnnJoin::new(items).k(1).recall(0.9).run(&Context::new()?)?;
/// assert_eq!(found.neighbors.indices, [1, 0, 1]);
/// assert_eq!(found.neighbors.distances, [1.0, 1.0, 4.0]);
/// assert_eq!(found.plan.plan, JoinPlan::Exact);
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is joined before `run`"]
pub struct KnnJoin<'a, T> {
    items: Rows<'a, T>,
    queries: Option<Rows<'a, T>>,
    k: usize,
    metric: Metric,
    recall: f64,
    seed: u64,
    plan: Option<JoinPlan>,
}

/// What a [`KnnJoin`] returns.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KnnJoined<T> {
    /// The k nearest items of each query.
    pub neighbors: Neighbors<T>,
    /// The plan that was followed, with what was predicted of it if the planner made it.
    pub plan: PredictedPlan,
}

impl<'a, T: Scalar> KnnJoin<'a, T> {
    /// A join of these items with themselves.
    pub fn new(items: Rows<'a, T>) -> Self {
        Self {
            items,
            queries: None,
            k: 10,
            metric: Metric::Euclidean,
            recall: 0.95,
            seed: 0,
            plan: None,
        }
    }

    /// Joins these queries, of the same dimension, with the items; `None` for the items themselves.
    pub fn queries(self, queries: impl Into<Option<Rows<'a, T>>>) -> Self {
        let queries = queries.into();
        Self { queries, ..self }
    }

    /// Neighbours of each query, at least 1.
    pub fn k(self, k: usize) -> Self {
        Self { k, ..self }
    }

    /// What "near" means.
    pub fn metric(self, metric: impl Into<Metric>) -> Self {
        let metric = metric.into();
        Self { metric, ..self }
    }

    /// The share of the true neighbours that is to be found, above 0 and at most 1, by a plan that
    /// the planner makes.
    pub fn recall(self, recall: f64) -> Self {
        Self { recall, ..self }
    }

    /// Seed of the planner's random choices.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Follows this plan, in place of one that the planner makes; `None` for the planner's.
    pub fn plan(self, plan: impl Into<Option<JoinPlan>>) -> Self {
        let plan = plan.into();
        Self { plan, ..self }
    }

    /// Joins.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, `k`, the recall or a number of the plan
    /// is out of range, or the run is cancelled.
    pub fn run(&self, ctx: &Context) -> Result<KnnJoined<T>> {
        let Self {
            items,
            queries,
            k,
            metric,
            recall,
            seed,
            plan,
        } = *self;
        self.check_dimension()?;
        let Some(plan) = plan else {
            let (neighbors, plan) = by_recall(queries, items, k, metric, recall, seed, ctx)?;
            return Ok(KnnJoined { neighbors, plan });
        };
        plan.check()?;
        let neighbors = match plan {
            JoinPlan::Partitions(plan) => join_by_index(queries, items, k, metric, plan, ctx),
            _ => by_plan(queries, items, k, metric, &plan, ctx),
        };
        let predicted = None;
        let plan = PredictedPlan { plan, predicted };
        neighbors.map(|neighbors| KnnJoined { neighbors, plan })
    }

    /// The plan of the least predicted time, with what it was chosen from; joins nothing.
    ///
    /// Joins that take less than the planning are exact at once, as is a recall of 1. So are joins
    /// by Manhattan distance, which has no other plan.
    ///
    /// ```
    /// use lshjoin::{JoinPlan, KnnJoin, Rows, Context};
    ///
    /// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
    /// let study = KnnJoin::new(items).k(1).study(&Context::new()?)?;
    /// assert_eq!(study.chosen.plan, JoinPlan::Exact);
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    ///
    /// # Errors
    /// When dimensions differ, `k` is 0, the recall is not above 0 and at most 1, a row that is
    /// read holds NaN or infinity, or the run is cancelled.
    pub fn study(&self, ctx: &Context) -> Result<PlanStudy> {
        self.check_dimension()?;
        let Self { recall, seed, .. } = *self;
        study(
            self.queries,
            self.items,
            self.k,
            self.metric,
            recall,
            seed,
            ctx,
        )
    }

    fn check_dimension(&self) -> Result<()> {
        match self.queries {
            Some(queries) => check_dimension("queries", queries, self.items.dim()),
            None => Ok(()),
        }
    }
}
