//! Joins of packed bits.

use lshjoin_kernels::Rows;

use crate::{
    api::knn::KnnJoined,
    base::{context::Context, error::Result, keys::Keys, plan::JoinPlan},
    binary::{
        knn::{KnnParams, choose, knn},
        metric::BinaryMetric,
        radius::{radius_join, radius_join_batches},
        sides::BinarySides,
    },
    pairs::results::{JoinedPairs, RadiusNeighbors},
    planner::prediction::{PlanStudy, PredictedPlan},
};

/// A join for the k nearest items of each query, as [`KnnJoin`](crate::KnnJoin), of packed bits: a row is
/// so many bytes, as `numpy.packbits` and FAISS's binary indexes have them.
///
/// By default 10 neighbours by Hamming distance, at a recall of 0.95.
///
/// All pairs are compared, or those of a query and the items in the inverted lists near it, as many as
/// held-out rows need for the recall ([`JoinPlan::Ivf`], without rounds). Small joins compare all pairs
/// whatever the plan, as do those within groups. Distances are whole numbers for
/// [`BinaryMetric::Hamming`].
///
/// ```
/// use lshjoin::{BinaryKnnJoin, BinaryMetric, Context, Rows};
///
/// let items = Rows::new(&[0b0000_1111_u8, 0b0000_0111, 0b1111_0000], 1)?;
/// let ctx = Context::new()?;
/// let found = BinaryKnnJoin::new(items).k(1).run(&ctx)?.neighbors;
/// assert_eq!((found.indices, found.distances), (vec![1, 0, 1], vec![1.0, 1.0, 7.0]));
/// let found = BinaryKnnJoin::new(items).k(1).metric(BinaryMetric::Jaccard).run(&ctx)?;
/// assert_eq!(found.neighbors.distances, [0.25, 0.25, 1.0]);
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is joined before `run`"]
pub struct BinaryKnnJoin<'a> {
    sides: BinarySides<'a>,
    params: KnnParams,
}

impl<'a> BinaryKnnJoin<'a> {
    /// A join of these items with themselves.
    pub fn new(items: Rows<'a, u8>) -> Self {
        Self {
            sides: BinarySides::of(items),
            params: KnnParams {
                k: 10,
                recall: 0.95,
                seed: 0,
                plan: None,
            },
        }
    }

    /// Joins these queries, of as many bytes, with the items; `None` for the items themselves.
    pub fn queries(mut self, queries: impl Into<Option<Rows<'a, u8>>>) -> Self {
        self.sides.queries = queries.into();
        self
    }

    /// Neighbours of each query, at least 1.
    pub fn k(mut self, k: usize) -> Self {
        self.params.k = k;
        self
    }

    /// What "near" means.
    pub fn metric(mut self, metric: BinaryMetric) -> Self {
        self.sides.metric = metric;
        self
    }

    /// The share of the true neighbours that is to be found, above 0 and at most 1.
    pub fn recall(mut self, recall: f64) -> Self {
        self.params.recall = recall;
        self
    }

    /// Seed of random choices.
    pub fn seed(mut self, seed: u64) -> Self {
        self.params.seed = seed;
        self
    }

    /// Follows this plan, [`JoinPlan::Exact`] or [`JoinPlan::Ivf`] without rounds, in place of one for
    /// the recall; `None` for the latter.
    pub fn plan(mut self, plan: impl Into<Option<JoinPlan>>) -> Self {
        self.params.plan = plan.into();
        self
    }

    /// Only rows of equal keys are each other's neighbours; `None` for all. A row of no key has none.
    pub fn within(mut self, keys: impl Into<Option<Keys<'a>>>) -> Self {
        self.sides.keys.within = keys.into();
        self
    }

    /// Rows of equal keys are not each other's neighbours; `None` for none. A row of no key is kept
    /// apart from no other.
    pub fn apart(mut self, keys: impl Into<Option<Keys<'a>>>) -> Self {
        self.sides.keys.apart = keys.into();
        self
    }

    /// Joins.
    ///
    /// # Errors
    /// When rows have different numbers of bytes, or two megabytes and more; there are not as many keys
    /// as rows; `k`, the recall or a number of the plan is out of range, or the plan is another; or the
    /// run is cancelled.
    pub fn run(&self, ctx: &Context) -> Result<KnnJoined<f32>> {
        let (neighbors, plan) = knn(&self.sides, &self.params, ctx)?;
        let predicted = None;
        Ok(KnnJoined {
            neighbors,
            plan: PredictedPlan { plan, predicted },
        })
    }

    /// The plan of [`BinaryKnnJoin::run`], as of [`KnnJoin::study`](crate::KnnJoin::study), without a
    /// prediction: lists are learnt, and held-out rows tell how many of them each row probes.
    ///
    /// ```
    /// use lshjoin::{BinaryKnnJoin, Context, JoinPlan, Rows};
    ///
    /// let items = Rows::new(&[0b0000_1111_u8, 0b0000_0111, 0b1111_0000], 1)?;
    /// let study = BinaryKnnJoin::new(items).study(&Context::new()?)?;
    /// assert_eq!(study.chosen.plan, JoinPlan::Exact);
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`BinaryKnnJoin::run`].
    pub fn study(&self, ctx: &Context) -> Result<PlanStudy> {
        let plan = choose(&self.sides, &self.params, ctx)?;
        Ok(PlanStudy {
            chosen: PredictedPlan {
                plan,
                predicted: None,
            },
            considered: Vec::new(),
            near: Vec::new(),
            random: Vec::new(),
        })
    }
}

/// A join for every item nearer than a radius (strictly) to each query, as
/// [`RadiusJoin`](crate::RadiusJoin), of packed bits. By Hamming distance, unless another is given.
///
/// Exact: all pairs are compared.
///
/// ```
/// use lshjoin::{BinaryRadiusJoin, Context, Rows};
///
/// let items = Rows::new(&[0b0000_1111_u8, 0b0000_0111, 0b1111_0000], 1)?;
/// let near = BinaryRadiusJoin::new(items, 2.0).run(&Context::new()?)?;
/// assert_eq!((near.lims, near.indices), (vec![0, 1, 2, 2], vec![1, 0]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is joined before `run`"]
pub struct BinaryRadiusJoin<'a> {
    sides: BinarySides<'a>,
    radius: f64,
}

impl<'a> BinaryRadiusJoin<'a> {
    /// A join of these items with themselves; the radius is in the metric's own unit.
    pub fn new(items: Rows<'a, u8>, radius: f64) -> Self {
        Self {
            sides: BinarySides::of(items),
            radius,
        }
    }

    /// Joins these queries, of as many bytes, with the items; `None` for the items themselves.
    pub fn queries(mut self, queries: impl Into<Option<Rows<'a, u8>>>) -> Self {
        self.sides.queries = queries.into();
        self
    }

    /// What "near" means.
    pub fn metric(mut self, metric: BinaryMetric) -> Self {
        self.sides.metric = metric;
        self
    }

    /// Only rows of equal keys are each other's neighbours; `None` for all. A row of no key has none.
    pub fn within(mut self, keys: impl Into<Option<Keys<'a>>>) -> Self {
        self.sides.keys.within = keys.into();
        self
    }

    /// Rows of equal keys are not each other's neighbours; `None` for none. A row of no key is kept
    /// apart from no other.
    pub fn apart(mut self, keys: impl Into<Option<Keys<'a>>>) -> Self {
        self.sides.keys.apart = keys.into();
        self
    }

    /// Joins.
    ///
    /// # Errors
    /// When rows have different numbers of bytes, or two megabytes and more; there are not as many keys
    /// as rows; the radius is negative or NaN; or the run is cancelled.
    pub fn run(&self, ctx: &Context) -> Result<RadiusNeighbors<f32>> {
        radius_join(&self.sides, self.radius, ctx)
    }

    /// The pairs of [`BinaryRadiusJoin::run`] in batches, as those of
    /// [`RadiusJoin::run_batches`](crate::RadiusJoin::run_batches).
    ///
    /// ```
    /// use lshjoin::{BinaryRadiusJoin, Context, Rows};
    ///
    /// let items = Rows::new(&[0b0000_1111_u8, 0b0000_0111, 0b1111_0000], 1)?;
    /// let mut pairs = Vec::new();
    /// BinaryRadiusJoin::new(items, 2.0).run_batches(1, &Context::new()?, |batch| {
    ///     pairs.push((batch.left[0], batch.right[0]));
    /// })?;
    /// assert_eq!(pairs, [(0, 1), (1, 0)]);
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`BinaryRadiusJoin::run`], and when `batch_size` is 0.
    pub fn run_batches(
        &self,
        batch_size: usize,
        ctx: &Context,
        deliver: impl FnMut(JoinedPairs<f32>) + Send,
    ) -> Result<()> {
        radius_join_batches(&self.sides, self.radius, batch_size, ctx, deliver)
    }
}
