//! Queries joined with the items of an index.

use std::borrow::Cow;

use lshjoin_kernels::{Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{
        check::{check_dimension, not_negative},
        context::Context,
        error::{Error, Result},
        magnitude,
        metric::{Distance, Metric},
        plan::{JoinPlan, PartitionPlan},
        sampling::sample,
    },
    index::{Index, as_given, segment::SegmentLists},
    ivf::{list_offsets::ListOffsets, list_probing::ListProbing},
    join::{
        knn::by_plan,
        radius::{radius_join, stream_sides},
    },
    pairs::{
        by_sorting::are_most,
        results::{NEIGHBORS, Neighbors, PAIRS, RadiusNeighbors},
        top_k_join::{TopKJoin, all_pairs},
    },
    recall::ground_truth::{GroundTruth, Split},
    storage::layout::MOST_HELD_OUT,
    vectors::{Vectors, augment::with_last_value},
};

/// Bytes that panels of an index's codes may take up at a time: so many that hardly anything is
/// gathered twice.
pub(crate) const PANEL_BYTES: usize = 1 << 30;

/// Above this share of the pairs of a self-join, comparing all, each once, is quicker than probing
/// lists; with queries, above twice the share.
pub(crate) const MOST_PROBED_OF_SELF_JOIN: f64 = 0.45;

impl Index {
    /// For each query the `k` nearest items, ids in place of rows; ties by id.
    ///
    /// # Errors
    /// When dimensions differ, a query holds NaN or infinity, `k` is 0, the plan is not exact and
    /// was not made for the lists of this index, the index is damaged, or the run is cancelled.
    pub fn knn(
        &self,
        queries: Rows<'_, f32>,
        k: usize,
        plan: &JoinPlan,
        ctx: &Context,
    ) -> Result<Neighbors<f32>> {
        self.knn_within(queries, k, plan, PANEL_BYTES, ctx)
    }

    /// [`Index::knn`] with panels of codes that take up to `panel_bytes` at a time.
    ///
    /// # Errors
    /// As [`Index::knn`].
    pub fn knn_within(
        &self,
        queries: Rows<'_, f32>,
        k: usize,
        plan: &JoinPlan,
        panel_bytes: usize,
        ctx: &Context,
    ) -> Result<Neighbors<f32>> {
        self.check_dimension(queries)?;
        if self.added.len() == 0 {
            let found = self.find(queries, k, plan, panel_bytes, ctx)?;
            return self.with_ids(found, ctx);
        }
        // Added items first: the recall that is reported is that of the items by list.
        let (ids, values) = self.added.rows()?;
        let added = Rows::new(&values, self.segment.dim)?;
        let metric = self.segment.metric;
        let added = by_plan(Some(queries), added, k, metric, &JoinPlan::Exact, ctx)?;
        let found = self.find(queries, k, plan, panel_bytes, ctx)?;
        merged([(found, self.segment.ids(ctx)?), (added, &ids)])
    }

    /// Every item nearer than `radius` (strictly) to each query, ids in place of rows.
    ///
    /// # Errors
    /// When the metric is the inner product, dimensions differ, a query holds NaN or infinity, the
    /// radius is negative or NaN, the index is damaged, or the run is cancelled.
    pub fn radius(
        &self,
        queries: Rows<'_, f32>,
        radius: f64,
        ctx: &Context,
    ) -> Result<RadiusNeighbors<f32>> {
        self.check_dimension(queries)?;
        let distance = self.distance()?;
        let right = self.segment.nearest_of(&self.removed, usize::MAX, ctx)?;
        let left = right.prepare_other("queries", queries, ctx)?;
        let mut pairs = self.within(&left, &right, radius, |_, _| true, ctx)?;
        if self.added.len() > 0 {
            let (ids, values) = self.added.rows()?;
            let added = Rows::new(&values, self.segment.dim)?;
            let added = radius_join(Some(queries), added, radius, distance, ctx)?;
            for query in 0..queries.len() {
                for at in added.lims[query] as usize..added.lims[query + 1] as usize {
                    let id = ids[added.indices[at] as usize];
                    memory::push(&mut pairs, (query as u32, id, added.distances[at]), PAIRS)?;
                }
            }
        }
        RadiusNeighbors::sorted(pairs, queries.len())
    }

    /// The `k` nearest of the items by list, without those that were added; by row.
    pub(crate) fn find(
        &self,
        queries: Rows<'_, f32>,
        k: usize,
        plan: &JoinPlan,
        panel_bytes: usize,
        ctx: &Context,
    ) -> Result<Neighbors<f32>> {
        let segment = &self.segment;
        ctx.begin_stage("codes");
        let augmented = self.as_kept(queries, ctx)?;
        let rows = Rows::new(&augmented, segment.width())?;
        let right = segment.nearest_of(&self.removed, k, ctx)?;
        match segment.lists(ctx)? {
            None => {
                // A plan for other lists is refused all the same.
                self.lists_for(plan, ctx)?;
                let left = right.prepare_other("queries", rows, ctx)?;
                all_pairs(Some(&left), &right, k, ctx)
            }
            Some(lists) => {
                let (left, of_left) = self.left(&augmented, &right, &lists, ctx)?;
                let (sides, tables) = ((Some(&left), &right), (&of_left, &*lists));
                let plan = self.lists_for(plan, ctx)?.map(|(plan, _)| plan);
                let probing = plan.map(|plan| {
                    let rows = held_out_rows(&left);
                    self.list_probing(sides, rows, tables, k, plan, panel_bytes, ctx)
                });
                match probing.transpose()?.flatten() {
                    None => exactly((&left, &right), tables, k, panel_bytes, ctx),
                    Some(probing) => probe(&left, &right, k, probing, ctx),
                }
            }
        }
    }

    /// Queries, augmented as the items are, prepared and in order of lists; and where the lists
    /// start.
    pub(crate) fn left<'a>(
        &self,
        augmented: &'a [f32],
        right: &Vectors<'_, f32>,
        lists: &SegmentLists,
        ctx: &Context,
    ) -> Result<(Vectors<'a, f32>, ListOffsets)> {
        let rows = Rows::new(augmented, self.segment.width())?;
        let mut left = right.prepare_other("queries", rows, ctx)?;
        let table = lists.quantiser().starts(&mut left, ctx)?;
        Ok((left, table))
    }

    /// Some of the items, as they were given.
    pub(crate) fn items_at(&self, rows: Vec<u32>, ctx: &Context) -> Result<Vec<f32>> {
        let all = self.segment.nearest_of(&self.removed, usize::MAX, ctx)?;
        all.check(rows.iter().copied())?;
        let rows = rows.iter().map(|&row| row as usize);
        as_given(all.rows, rows, self.segment.dim)
    }

    pub(crate) fn check_dimension(&self, queries: Rows<'_, f32>) -> Result<()> {
        check_dimension("queries", queries, self.segment.dim)
    }

    /// The metric, if it is a distance.
    pub(crate) fn distance(&self) -> Result<Distance> {
        self.segment.metric.try_into()
    }

    /// Queries with as many values as stored items have: for inner products, augmented.
    pub(crate) fn as_kept<'a>(
        &self,
        queries: Rows<'a, f32>,
        ctx: &Context,
    ) -> Result<Cow<'a, [f32]>> {
        if self.segment.metric != Metric::InnerProduct {
            return Ok(queries.values().into());
        }
        // For other metrics rows are checked when they are prepared.
        magnitude::check("queries", queries, Metric::InnerProduct, ctx)?;
        Ok(with_last_value(queries, |_| 0.0)?.into())
    }

    /// The plan, which has to be one for this index, and the lists; `None` where all pairs are
    /// compared.
    pub(crate) fn lists_for(
        &self,
        plan: &JoinPlan,
        ctx: &Context,
    ) -> Result<Option<(PartitionPlan, std::sync::Arc<SegmentLists>)>> {
        plan.check()?;
        let plan = match plan {
            JoinPlan::Exact => return Ok(None),
            JoinPlan::Partitions(plan) => *plan,
            JoinPlan::Lsh(_) | JoinPlan::Ivf(_) => {
                return Err(Error::parameter(
                    "plan",
                    "exact or of partitions for an index",
                    format!("{plan:?}"),
                ));
            }
        };
        let own = self.segment.plan;
        if (plan.seed, plan.axes, plan.lists) != (own.seed, own.axes, own.lists) {
            return Err(Error::parameter(
                "plan",
                "of the index's own seed, axes and lists",
                format!(
                    "of seed {}, {} axes and {} lists (the index has seed {}, {} axes and {} lists)",
                    plan.seed, plan.axes, plan.lists, own.seed, own.axes, own.lists
                ),
            ));
        }
        let lists = self.segment.lists(ctx)?;
        Ok(lists.map(|lists| (plan, lists)))
    }

    /// How left rows probe the lists of the index; `None` where comparing all pairs is quicker.
    /// `rows` are the left rows that are held out.
    #[expect(clippy::too_many_arguments, reason = "two sides, and all of a plan")]
    pub(crate) fn list_probing<'a>(
        &self,
        (left, right): (Option<&Vectors<'_, f32>>, &Vectors<'_, f32>),
        rows: Vec<u32>,
        (of_left, lists): (&'a ListOffsets, &'a SegmentLists),
        k: usize,
        plan: PartitionPlan,
        panel_bytes: usize,
        ctx: &Context,
    ) -> Result<Option<ListProbing<'a>>> {
        let neighbors = Cow::Borrowed(lists.neighbors.as_slice());
        let mut probing = ListProbing::over(neighbors, of_left, &lists.table, plan.probes);
        if let Some(recall) = plan.until_recall {
            ctx.begin_stage("ground truth");
            let k = k.min(right.rows.len());
            let ground_truth = GroundTruth::of_rows(left, right, rows, k, ctx)?;
            probing.extend(recall, ground_truth.by_internal_id(left, right, Split::All));
            let most = if left.is_none() {
                MOST_PROBED_OF_SELF_JOIN
            } else {
                2.0 * MOST_PROBED_OF_SELF_JOIN
            };
            if probing.share() > most || !probing.is_known() {
                return Ok(None);
            }
        }
        Ok(Some(probing.within(panel_bytes)))
    }

    /// The pairs nearer than `radius` that are wanted, with the ids of the right rows.
    pub(crate) fn within(
        &self,
        left: &Vectors<'_, f32>,
        right: &Vectors<'_, f32>,
        radius: f64,
        wanted: impl Fn(u32, u32) -> bool + Sync,
        ctx: &Context,
    ) -> Result<Vec<(u32, i64, f32)>> {
        not_negative("radius", radius)?;
        let ids = self.segment.ids(ctx)?;
        let mut pairs = Vec::new();
        stream_sides(Some(left), right, radius, ctx, |found| {
            let found = found.into_iter().filter(|pair| wanted(pair.0, pair.1));
            let found = found.map(|(left, right, far)| (left, ids[right as usize], far));
            Ok(memory::extend(&mut pairs, found, PAIRS)?)
        })?;
        ctx.check()?;
        Ok(pairs)
    }

    /// The same with ids in place of rows.
    pub(crate) fn with_ids(
        &self,
        mut found: Neighbors<f32>,
        ctx: &Context,
    ) -> Result<Neighbors<f32>> {
        let ids = self.segment.ids(ctx)?;
        for index in found.indices.iter_mut() {
            // It stays −1 where there is no neighbour.
            *index = usize::try_from(*index).map_or(-1, |row| ids[row]);
        }
        Ok(found)
    }
}

/// Left rows to choose by how far to probe.
pub(crate) fn held_out_rows(side: &Vectors<'_, f32>) -> Vec<u32> {
    sample(side.rows.len(), MOST_HELD_OUT)
}

/// Lets left rows probe near lists, and further ones until they hold `k` rows. Where too few of
/// these take part, left rows are compared with all.
pub(crate) fn probe(
    left: &Vectors<'_, f32>,
    right: &Vectors<'_, f32>,
    k: usize,
    probing: ListProbing<'_>,
    ctx: &Context,
) -> Result<Neighbors<f32>> {
    if are_most(k, right.rows.len()) {
        return all_pairs(Some(left), right, k, ctx);
    }
    ctx.begin_stage("probes");
    let join = TopKJoin::new(Some(left), right, k, ctx)?;
    probing
        .covering_at_least(k)
        .run(left, right, &join.nearest, ctx)?;
    join.complete()?;
    ctx.reached_unknown();
    join.nearest.finish()
}

/// Compares all pairs, after those of left rows and their own lists: nearly all others then fail
/// the filter on codes.
pub(crate) fn exactly(
    (left, right): (&Vectors<'_, f32>, &Vectors<'_, f32>),
    (of_left, lists): (&ListOffsets, &SegmentLists),
    k: usize,
    panel_bytes: usize,
    ctx: &Context,
) -> Result<Neighbors<f32>> {
    if are_most(k, right.rows.len()) {
        return all_pairs(Some(left), right, k, ctx);
    }
    let neighbors = Cow::Borrowed(lists.neighbors.as_slice());
    ctx.begin_stage("probes");
    let probing = ListProbing::over(neighbors, of_left, &lists.table, 1).within(panel_bytes);
    let join = TopKJoin::new(Some(left), right, k, ctx)?;
    probing.run(left, right, &join.nearest, ctx)?;
    join.all_pairs()
}

/// The nearest of both results, with the ids in place of rows.
pub(crate) fn merged(both: [(Neighbors<f32>, &[i64]); 2]) -> Result<Neighbors<f32>> {
    let (k, values) = (both[0].0.k, both[0].0.indices.len());
    let mut merged = Neighbors {
        k,
        distances: memory::filled(f32::INFINITY, values, NEIGHBORS)?,
        indices: memory::filled(-1, values, NEIGHBORS)?,
    };
    let lists = merged.distances.par_chunks_mut(k);
    let lists = lists.zip(merged.indices.par_chunks_mut(k));
    let merged_lists = lists
        .enumerate()
        .try_for_each(|(query, (distances, indices))| {
            let list = |(found, ids): &(Neighbors<f32>, &[i64])| {
                let ids = found.of(query as u32).map(|row| ids[row as usize]);
                let distances = found.distances[query * k..].iter().copied();
                memory::collect(distances.zip(ids), NEIGHBORS)
            };
            let mut all: Vec<(f32, i64)> = list(&both[0])?;
            memory::extend(&mut all, list(&both[1])?, NEIGHBORS)?;
            all.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
            for (slot, (distance, id)) in all.into_iter().take(k).enumerate() {
                (distances[slot], indices[slot]) = (distance, id);
            }
            Ok::<_, Error>(())
        });
    merged_lists?;
    Ok(merged)
}
