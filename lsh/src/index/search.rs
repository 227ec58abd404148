//! Queries joined with the items of an index.

use std::{borrow::Cow, sync::Arc};

use lshjoin_kernels::{Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{
        check::check_dimension,
        context::Context,
        error::{Error, Result},
        input::Input,
        magnitude,
        metric::{Distance, Metric},
        plan::{JoinPlan, PartitionPlan},
        sampling::sample,
    },
    index::{
        Index, added::Added, added_lists::AddedLists, as_given, changes::Changes,
        lists::SegmentLists, segment::Segment,
    },
    ivf::{
        coarse_quantiser::CoarseQuantiser,
        list_offsets::ListOffsets,
        margins::{probe_stats, recall_curve},
        probe_lists::ProbeLists,
        warm_start::WarmStart,
    },
    join::knn::by_plan,
    pairs::{
        by_sorting::are_most,
        code_join::CodeJoin,
        results::{NEIGHBORS, Neighbors},
        top_k_join::{TopKJoin, all_pairs},
        top_k_lists::warm_start_rows,
    },
    recall::{
        ground_truth::{GroundTruth, Split},
        others::Others,
    },
    storage::layout::MOST_HELD_OUT,
    vectors::{Sides, Vectors, augment::with_last_value},
};

/// The share of the items that queries probe, at most, and items that are joined with each other: to
/// compare all pairs is quicker than more.
const MOST: f64 = 0.8;
const MOST_WITH_ITSELF: f64 = 0.4;

/// Of fewer queries it is not measured how far they have to probe.
const FEW_QUERIES: usize = 4096;

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
        self.check_dimension(queries)?;
        let augmented = self.as_kept(queries, ctx)?;
        let mut search = Search::new(self, &augmented, k, plan, ctx)?;
        if self.changes.added.len() == 0 {
            return self.with_ids(search.items(ctx)?, ctx);
        }
        // Added items first: the recall that is reported is that of the items by list.
        if let Some((found, ids)) = search.added(&self.changes.added, ctx)? {
            return merged([(search.items(ctx)?, self.segment.ids(ctx)?), (found, ids)]);
        }
        let (ids, values) = self.changes.added.rows()?;
        let added = Rows::new(&values, self.segment.dim)?;
        let input = Input::new(Some(queries), added);
        let found = by_plan(input, k, self.segment.metric, &JoinPlan::Exact, ctx)?;
        merged([(search.items(ctx)?, self.segment.ids(ctx)?), (found, &ids)])
    }

    /// The `k` nearest of the items by list, without those that were added; by row.
    pub(crate) fn find(
        &self,
        queries: Rows<'_, f32>,
        k: usize,
        plan: &JoinPlan,
        ctx: &Context,
    ) -> Result<Neighbors<f32>> {
        let augmented = self.as_kept(queries, ctx)?;
        Search::new(self, &augmented, k, plan, ctx)?.items(ctx)
    }

    /// The margin with which these queries probe; `None` where comparing all pairs is quicker.
    fn margin_of_queries(
        &self,
        (left, right): (&Vectors<'_, f32>, &Vectors<'_, f32>),
        k: usize,
        plan: PartitionPlan,
        lists: &SegmentLists,
        ctx: &Context,
    ) -> Result<Option<f32>> {
        let Some(recall) = plan.until_recall else {
            return Ok(Some(lists.margin_of(right, plan.probes, ctx)?));
        };
        match left.len() < FEW_QUERIES {
            false => self.margin_for((Some(left), right), None, k, recall, lists, ctx),
            // Few say little of what they need, and it would take longer than to answer them. What is
            // kept of it knows no keys.
            true if self.apart.is_some() => self.margin_for_items(k, recall, lists, ctx),
            true => lists.margin_for(k, recall, || self.margin_for_items(k, recall, lists, ctx)),
        }
    }

    /// The margin with which items, asked as queries, find their neighbours.
    pub(crate) fn margin_for_items(
        &self,
        k: usize,
        recall: f64,
        lists: &SegmentLists,
        ctx: &Context,
    ) -> Result<Option<f32>> {
        let rows = self.segment.ground_truth(ctx)?;
        let asked = self.asked_for(rows.iter().map(|&row| row as usize))?;
        // Removed items, too: what follows of these rows is kept.
        let all = Self {
            changes: Changes {
                removed: Arc::default(),
                ..asked.changes.clone()
            },
            ..asked.clone()
        };
        let right = all.items(k.saturating_add(1), ctx)?;
        let values = self.items_at(rows, ctx)?;
        let augmented = self.as_kept(Rows::new(&values, self.segment.dim)?, ctx)?;
        let rows = Rows::new(&augmented, self.segment.width())?;
        let left = asked.asked(lists.prepare(&right, rows, ctx)?)?;
        if self.apart.is_some() {
            return self.margin_for((Some(&left), &right), None, k, recall, lists, ctx);
        }
        // Each finds itself, too.
        let recall = Others { k: Some(k) }.of_all(recall);
        self.margin_for((Some(&left), &right), None, k + 1, recall, lists, ctx)
    }

    /// The margin with which held-out rows find as many of their neighbours as are asked for;
    /// `None` where comparing all pairs is quicker. They are rows of the right side in a self-join,
    /// and else some of the left one.
    pub(crate) fn margin_for(
        &self,
        (left, right): Sides<'_, '_, f32>,
        rows: Option<Vec<u32>>,
        k: usize,
        recall: f64,
        lists: &SegmentLists,
        ctx: &Context,
    ) -> Result<Option<f32>> {
        ctx.begin_stage("ground truth");
        let probing = left.unwrap_or(right);
        let rows = rows.unwrap_or_else(|| sample(probing.rows.len(), MOST_HELD_OUT));
        let k = k.min(right.rows.len());
        let ground_truth = GroundTruth::of_rows(left, right, rows, k, ctx)?;
        let warm_start = lists.warm_start(left.is_none(), k)?;
        let known = ground_truth.known(Split::All);
        let quantiser = &lists.quantiser;
        let curve = recall_curve(quantiser, &warm_start, left, right, &known, ctx)?;
        let margin = curve.threshold_for(recall);
        let [stats] = probe_stats(quantiser, &warm_start, probing, [margin], ctx)?;
        let most = match left {
            None => MOST_WITH_ITSELF,
            Some(_) => MOST,
        };
        let is_worth = margin < f32::INFINITY && stats.share + stats.warm_start <= most;
        Ok(is_worth.then_some(margin))
    }

    /// Some of the items, as they were given.
    pub(crate) fn items_at(&self, rows: Vec<u32>, ctx: &Context) -> Result<Vec<f32>> {
        let all = self
            .segment
            .nearest_of(&self.changes.removed, usize::MAX, ctx)?;
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
            return Ok(queries.values()?);
        }
        // For other metrics rows are checked when they are prepared.
        magnitude::check("queries", queries, Metric::InnerProduct, ctx)?;
        Ok(with_last_value(queries, |_| 0.0)?.into())
    }

    /// The plan, which has to be one for this index; `None` where all pairs are compared.
    pub(crate) fn partition_plan(&self, plan: &JoinPlan) -> Result<Option<PartitionPlan>> {
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
        if (plan.seed, plan.lists) != (own.seed, own.lists) {
            return Err(Error::parameter(
                "plan",
                "of the index's own seed and lists",
                format!(
                    "of seed {} and {} lists (the index has seed {} and {} lists)",
                    plan.seed, plan.lists, own.seed, own.lists
                ),
            ));
        }
        Ok(Some(plan))
    }

    /// Neighbours with ids in place of rows.
    pub(crate) fn with_ids(&self, found: Neighbors<f32>, ctx: &Context) -> Result<Neighbors<f32>> {
        Ok(with_ids(found, self.segment.ids(ctx)?))
    }
}

/// The same with these ids in place of rows.
pub(crate) fn with_ids(mut found: Neighbors<f32>, ids: &[i64]) -> Neighbors<f32> {
    for index in found.indices.iter_mut() {
        // It stays −1 where there is no neighbour.
        *index = usize::try_from(*index).map_or(-1, |row| ids[row]);
    }
    found
}

/// Queries and the items of an index, ready to be joined.
struct Search<'a> {
    segment: &'a Segment,
    queries: Vectors<'a, f32>,
    items: Vectors<'a, f32>,
    k: usize,
    lists: Option<Arc<SegmentLists>>,
    /// The margin with which queries probe; `None` where all pairs are compared.
    margin: Option<f32>,
}

impl<'a> Search<'a> {
    /// For queries with as many values as stored items have.
    fn new(
        index: &'a Index,
        queries: &'a [f32],
        k: usize,
        plan: &JoinPlan,
        ctx: &Context,
    ) -> Result<Self> {
        let segment = &index.segment;
        ctx.begin_stage("codes");
        let queries = Rows::new(queries, segment.width())?;
        let items = index.items(k, ctx)?;
        let plan = index.partition_plan(plan)?;
        let lists = segment.lists(ctx)?;
        let lists = lists.filter(|_| !are_most(k, items.rows.len()));
        let queries = match &lists {
            Some(lists) => lists.prepare(&items, queries, ctx)?,
            None => items.prepare_other("queries", queries, ctx)?,
        };
        let queries = index.asked(queries)?;
        let margin = match (plan, &lists) {
            (Some(plan), Some(lists)) => {
                index.margin_of_queries((&queries, &items), k, plan, lists, ctx)?
            }
            _ => None,
        };
        Ok(Self {
            segment,
            queries,
            items,
            k,
            lists,
            margin,
        })
    }

    /// The `k` nearest of the items by list, by row.
    fn items(&mut self, ctx: &Context) -> Result<Neighbors<f32>> {
        let k = self.k;
        match (&self.lists, self.margin) {
            (None, _) => all_pairs(Some(&self.queries), &self.items, k, ctx),
            (Some(lists), None) => exactly((&mut self.queries, &self.items), lists, k, ctx),
            (Some(lists), Some(margin)) => {
                let warm_start = lists.warm_start(false, k)?;
                let items = (&self.items, &lists.starts);
                probe(
                    &lists.quantiser,
                    (&mut self.queries, items),
                    k,
                    (warm_start, margin),
                    ctx,
                )
            }
        }
    }

    /// The `k` nearest of the added items with the ids of all of these, where they are by list: as far
    /// from the queries as for the others. Not for inner products, for which rows get a value more that
    /// depends on the longest.
    fn added(
        &mut self,
        added: &'a Added<f32>,
        ctx: &Context,
    ) -> Result<Option<(Neighbors<f32>, &'a [i64])>> {
        let (Some(lists), Some(margin)) = (&self.lists, self.margin) else {
            return Ok(None);
        };
        if self.segment.metric == Metric::InnerProduct || are_most(self.k, added.len()) {
            return Ok(None);
        }
        let find =
            |ids: &[i64], values: &[f32]| AddedLists::new((ids, values), &self.items, lists, ctx);
        let Some(added) = added.lists(find)? else {
            return Ok(None);
        };
        let (items, starts) = added.side(self.segment)?;
        let wanted = warm_start_rows(self.k, starts.rows(), false) as f64 / starts.rows() as f64;
        let warm_start = WarmStart::of_lists(&lists.quantiser, starts, false, wanted);
        let sides = (&mut self.queries, (&items, starts));
        let how = (Arc::new(warm_start), margin);
        let found = probe(&lists.quantiser, sides, self.k, how, ctx)?;
        Ok(Some((found, added.ids())))
    }
}

/// Lets queries probe the lists of items.
fn probe(
    quantiser: &CoarseQuantiser,
    (queries, (items, starts)): (&mut Vectors<'_, f32>, (&Vectors<'_, f32>, &ListOffsets)),
    k: usize,
    (warm_start, margin): (Arc<WarmStart>, f32),
    ctx: &Context,
) -> Result<Neighbors<f32>> {
    ctx.begin_stage("lists");
    let items_by_list = (items, starts);
    let probe_lists =
        ProbeLists::of_queries(quantiser, warm_start, queries, items_by_list, margin, ctx)?;
    by_lists(queries, items, k, None, probe_lists, ctx)
}

/// Lets left rows probe lists. They are the right ones from `first` on, where that is given.
pub(crate) fn by_lists(
    left: &Vectors<'_, f32>,
    right: &Vectors<'_, f32>,
    k: usize,
    first: Option<u32>,
    probe_lists: ProbeLists,
    ctx: &Context,
) -> Result<Neighbors<f32>> {
    let (Some(of_left), Some(of_right)) = (&left.codes, &right.codes) else {
        return all_pairs(Some(left), right, k, ctx);
    };
    let mut join = CodeJoin::new(Some(left), right, (Some(of_left), of_right), k, ctx)?;
    if let Some(first) = first {
        join = join.of_chunk(first);
    }
    ctx.reached_unknown();
    join.probe(&probe_lists)?;
    drop(probe_lists);
    join.complete()?;
    join.lists.finish(k, (left, right), ctx)
}

/// Compares all pairs, after those of left rows and their own lists: nearly all others then fail
/// the filter on codes.
pub(crate) fn exactly(
    (left, right): (&mut Vectors<'_, f32>, &Vectors<'_, f32>),
    lists: &SegmentLists,
    k: usize,
    ctx: &Context,
) -> Result<Neighbors<f32>> {
    let own = ProbeLists::own_lists(&lists.quantiser, left, (right, &lists.starts), ctx)?;
    ctx.begin_stage("probes");
    let join = TopKJoin::new(Some(left), right, k, ctx)?;
    join.join(&own.left, &own.right, own.blocks, &join.nearest.unbounded())?;
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
