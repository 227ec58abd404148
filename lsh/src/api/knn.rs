//! The k nearest items of every query.

use lshjoin_kernels::{Rows, Scalar};

use crate::{
    base::{
        check::{check_dimension, check_recall},
        context::Context,
        error::Result,
        input::Input,
        keys::{Keys, PairKeys},
        metric::Metric,
        plan::JoinPlan,
    },
    index::as_plan::join_by_index,
    join::{
        knn::{by_plan, by_recall, study},
        within::Within,
    },
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
    within: Option<Keys<'a>>,
    apart: Option<Keys<'a>>,
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
            within: None,
            apart: None,
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

    /// Only rows of equal keys are each other's neighbours, as within a country; `None` for all. A
    /// row of no key has none.
    ///
    /// Groups of a few thousand rows and less are compared in full. Larger ones follow the plan for
    /// the largest, with lists in proportion; memory holds a copy of the rows of one at a time.
    ///
    /// ```
    /// use lshjoin::{Context, Keys, KnnJoin, NO_KEY, Rows};
    ///
    /// let items = Rows::new(&[0.0_f32, 1.0, 1.0, 5.0], 1)?;
    /// let countries = Keys::new(&[7, 8, NO_KEY, 7]);
    /// let join = KnnJoin::new(items).k(1).within(countries);
    /// assert_eq!(join.run(&Context::new()?)?.neighbors.indices, [3, -1, -1, 0]);
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    pub fn within(self, keys: impl Into<Option<Keys<'a>>>) -> Self {
        let within = keys.into();
        Self { within, ..self }
    }

    /// Rows of equal keys are not each other's neighbours, as parts of one document are not to be;
    /// `None` for none. A row of no key is kept apart from no other.
    ///
    /// ```
    /// use lshjoin::{Context, Keys, KnnJoin, NO_KEY, Rows};
    ///
    /// let items = Rows::new(&[0.0_f32, 1.0, 1.5, 5.0], 1)?;
    /// let documents = Keys::new(&[7, 7, NO_KEY, NO_KEY]);
    /// let join = KnnJoin::new(items).k(1).apart(documents);
    /// assert_eq!(join.run(&Context::new()?)?.neighbors.indices, [2, 2, 1, 2]);
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    pub fn apart(self, keys: impl Into<Option<Keys<'a>>>) -> Self {
        let apart = keys.into();
        Self { apart, ..self }
    }

    /// Joins.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, there are not as many keys as rows, `k`,
    /// the recall or a number of the plan is out of range, or the run is cancelled.
    pub fn run(&self, ctx: &Context) -> Result<KnnJoined<T>> {
        self.check_sides()?;
        match &self.plan {
            Some(plan) => plan.check()?,
            None => check_recall("recall", self.recall)?,
        }
        let join = |input: Input<'_, T>, plan| self.join(input, plan, ctx);
        let found = match self.join_within(ctx) {
            Some(within) => within.knn(self.plan, join),
            None => join(self.input(), self.plan),
        };
        found.map(|(neighbors, plan)| KnnJoined { neighbors, plan })
    }

    /// Joins these rows by a plan or, without one, by the planner's.
    fn join(
        &self,
        input: Input<'_, T>,
        plan: Option<JoinPlan>,
        ctx: &Context,
    ) -> Result<(Neighbors<T>, PredictedPlan)> {
        let Self {
            k,
            metric,
            recall,
            seed,
            ..
        } = *self;
        let Some(plan) = plan else {
            return by_recall(input, k, metric, recall, seed, ctx);
        };
        let neighbors = match plan {
            JoinPlan::Partitions(plan) => join_by_index(input, k, metric, plan, ctx),
            _ => by_plan(input, k, metric, &plan, ctx),
        };
        let predicted = None;
        Ok((neighbors?, PredictedPlan { plan, predicted }))
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
        self.check_sides()?;
        let Self {
            k,
            metric,
            recall,
            seed,
            ..
        } = *self;
        let study = |input: Input<'_, T>| study(input, k, metric, recall, seed, ctx);
        match self.join_within(ctx) {
            Some(within) => within.study(study),
            None => study(self.input()),
        }
    }

    fn input(&self) -> Input<'a, T> {
        Input {
            queries: self.queries,
            items: self.items,
            apart: self.apart,
        }
    }

    /// The join within groups, if it is one.
    fn join_within<'c>(&self, ctx: &'c Context) -> Option<Within<'c, T>>
    where
        'a: 'c,
    {
        Some(Within {
            input: self.input(),
            keys: self.within?,
            k: self.k,
            metric: self.metric,
            ctx,
        })
    }

    fn check_sides(&self) -> Result<()> {
        let queries = self.queries;
        let keys = PairKeys {
            within: self.within,
            apart: self.apart,
        };
        keys.check(queries.map(|queries| queries.len()), self.items.len())?;
        match queries {
            Some(queries) => check_dimension("queries", queries, self.items.dim()),
            None => Ok(()),
        }
    }
}
