//! Joins with the items of an index.

use std::borrow::Cow;

use lshjoin_kernels::{Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{
        check::not_negative,
        context::Run,
        error::{Error, Result},
        magnitude,
        metric::{Distance, Metric},
        plan::{JoinPlan, PartitionPlan},
        sampling::sample,
    },
    index::{Index, as_given, segment::SegmentCells},
    ivf::{list_offsets::CellStarts, list_probing::Reach},
    join::{
        knn::by_plan,
        radius::{radius_join, stream_sides},
    },
    pairs::{
        by_sorting::are_most,
        results::{NEIGHBORS, Neighbors, PAIRS, RadiusNeighbors},
        top_k_join::{TopKJoin, all_pairs},
    },
    recall::ground_truth::{HeldOut, Which},
    storage::layout::HELD_OUT,
    vectors::{Side, augment::longer},
};

/// Memory that panels of an index's codes may take up at a time: large enough that hardly anything
/// is gathered twice.
pub(crate) const PANEL_BYTES: usize = 1 << 30;

/// The share of the pairs of a side with itself from which on it is quicker to meet all, each once.
pub(crate) const ALL: f64 = 0.45;

impl Index {
    /// For each query the `k` nearest items, ids in place of rows; ties by id.
    ///
    /// # Errors
    /// When dimensions differ, a query holds NaN or infinity, `k` is 0, the plan is not exact and
    /// was not made for the cells of this index, the index is damaged, or the run is cancelled.
    pub fn knn(
        &self,
        queries: Rows<'_, f32>,
        k: usize,
        plan: &JoinPlan,
        run: &Run,
    ) -> Result<Neighbors<f32>> {
        self.knn_within(queries, k, plan, PANEL_BYTES, run)
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
        run: &Run,
    ) -> Result<Neighbors<f32>> {
        self.check_dimension(queries)?;
        if self.added.len() == 0 {
            let found = self.find(queries, k, plan, panel_bytes, run)?;
            return self.with_ids(found, run);
        }
        // Those first: the recall that is reported is that of the items by cell.
        let (ids, values) = self.added.rows()?;
        let added = Rows::new(&values, self.segment.dim)?;
        let metric = self.segment.metric;
        let added = by_plan(Some(queries), added, k, metric, &JoinPlan::Exact, run)?;
        let found = self.find(queries, k, plan, panel_bytes, run)?;
        merged([(found, self.segment.ids(run)?), (added, &ids)])
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
        run: &Run,
    ) -> Result<RadiusNeighbors<f32>> {
        self.check_dimension(queries)?;
        let distance = self.distance()?;
        let right = self.segment.nearest_of(&self.removed, usize::MAX, run)?;
        let left = right.to_meet("queries", queries, run)?;
        let mut pairs = self.within(&left, &right, radius, |_, _| true, run)?;
        if self.added.len() > 0 {
            let (ids, values) = self.added.rows()?;
            let added = Rows::new(&values, self.segment.dim)?;
            let added = radius_join(Some(queries), added, radius, distance, run)?;
            for query in 0..queries.len() {
                for at in added.lims[query] as usize..added.lims[query + 1] as usize {
                    let id = ids[added.indices[at] as usize];
                    memory::push(&mut pairs, (query as u32, id, added.distances[at]), PAIRS)?;
                }
            }
        }
        RadiusNeighbors::sorted(pairs, queries.len())
    }

    /// The `k` nearest of the items by cell, by row.
    pub(crate) fn find(
        &self,
        queries: Rows<'_, f32>,
        k: usize,
        plan: &JoinPlan,
        panel_bytes: usize,
        run: &Run,
    ) -> Result<Neighbors<f32>> {
        let segment = &self.segment;
        run.begin("codes");
        let longer = self.longer(queries, run)?;
        let rows = Rows::new(&longer, segment.width())?;
        let right = segment.nearest_of(&self.removed, k, run)?;
        match segment.cells(run)? {
            None => {
                // A plan for other cells is refused all the same.
                self.cells_of(plan, run)?;
                let left = right.to_meet("queries", rows, run)?;
                all_pairs(Some(&left), &right, k, run)
            }
            Some(cells) => {
                let (left, of_left) = self.left(&longer, &right, &cells, run)?;
                let (sides, tables) = ((Some(&left), &right), (&of_left, &*cells));
                let plan = self.cells_of(plan, run)?.map(|(plan, _)| plan);
                let visits = plan.map(|plan| {
                    let rows = held_out_rows(&left);
                    self.visits(sides, rows, tables, k, plan, panel_bytes, run)
                });
                match visits.transpose()?.flatten() {
                    None => exactly((&left, &right), tables, k, panel_bytes, run),
                    Some(visits) => look(&left, &right, k, visits, run),
                }
            }
        }
    }

    /// Queries as the items are kept, as one side by cell.
    pub(crate) fn left<'a>(
        &self,
        longer: &'a [f32],
        right: &Side<'_, f32>,
        cells: &SegmentCells,
        run: &Run,
    ) -> Result<(Side<'a, f32>, CellStarts)> {
        let rows = Rows::new(longer, self.segment.width())?;
        let mut left = right.to_meet("queries", rows, run)?;
        let table = cells.cells().starts(&mut left, run)?;
        Ok((left, table))
    }

    /// Some of the items, as they came.
    pub(crate) fn items_at(&self, rows: Vec<u32>, run: &Run) -> Result<Vec<f32>> {
        let all = self.segment.nearest_of(&self.removed, usize::MAX, run)?;
        all.check(rows.iter().copied())?;
        let rows = rows.iter().map(|&row| row as usize);
        as_given(all.rows, rows, self.segment.dim)
    }

    pub(crate) fn check_dimension(&self, queries: Rows<'_, f32>) -> Result<()> {
        if queries.dim() == self.segment.dim {
            return Ok(());
        }
        Err(Error::Dimension {
            what: "queries",
            got: queries.dim(),
            expected: self.segment.dim,
        })
    }

    /// The metric, if it is a distance.
    pub(crate) fn distance(&self) -> Result<Distance> {
        self.segment.metric.try_into()
    }

    /// Queries as the items are kept.
    pub(crate) fn longer<'a>(&self, queries: Rows<'a, f32>, run: &Run) -> Result<Cow<'a, [f32]>> {
        if self.segment.metric != Metric::InnerProduct {
            return Ok(queries.values().into());
        }
        // Of other metrics, a side checks its rows as it is made.
        magnitude::check("queries", queries, Metric::InnerProduct, run)?;
        Ok(longer(queries, |_| 0.0)?.into())
    }

    /// The numbers of the plan and the cells that it is about; none where all pairs are met.
    pub(crate) fn cells_of(
        &self,
        plan: &JoinPlan,
        run: &Run,
    ) -> Result<Option<(PartitionPlan, std::sync::Arc<SegmentCells>)>> {
        plan.check()?;
        let plan = match plan {
            JoinPlan::Exact => return Ok(None),
            JoinPlan::Partitions(plan) => *plan,
            JoinPlan::Lsh(_) | JoinPlan::Cells(_) => {
                return Err(Error::Parameter {
                    name: "plan",
                    must_be: "exact or of partitions for an index",
                    value: format!("{plan:?}"),
                });
            }
        };
        let own = self.segment.plan;
        if (plan.seed, plan.axes, plan.cells) != (own.seed, own.axes, own.cells) {
            return Err(Error::Parameter {
                name: "plan",
                must_be: "of the index's own seed, axes and cells",
                value: format!(
                    "of seed {}, {} axes and {} cells (the index has seed {}, {} axes and {} cells)",
                    plan.seed, plan.axes, plan.cells, own.seed, own.axes, own.cells
                ),
            });
        }
        let cells = self.segment.cells(run)?;
        Ok(cells.map(|cells| (plan, cells)))
    }

    /// How left rows look into the cells of the index; none where they had better meet all. `rows`
    /// are those of the left side that recall is measured by.
    #[expect(clippy::too_many_arguments, reason = "two sides, and all of a plan")]
    pub(crate) fn visits<'a>(
        &self,
        (left, right): (Option<&Side<'_, f32>>, &Side<'_, f32>),
        rows: Vec<u32>,
        (of_left, cells): (&'a CellStarts, &'a SegmentCells),
        k: usize,
        plan: PartitionPlan,
        panel_bytes: usize,
        run: &Run,
    ) -> Result<Option<Reach<'a>>> {
        let neighbors = Cow::Borrowed(cells.neighbors.as_slice());
        let mut visits = Reach::over(neighbors, of_left, &cells.table, plan.probes);
        if let Some(recall) = plan.until_recall {
            run.begin("held-out rows");
            let k = k.min(right.rows.len());
            let held_out = HeldOut::of_rows(left, right, rows, k, run)?;
            visits.extend(recall, held_out.numbered(left, right, Which::All));
            let most = if left.is_none() { ALL } else { 2.0 * ALL };
            if visits.share() > most || !visits.is_known() {
                return Ok(None);
            }
        }
        Ok(Some(visits.within(panel_bytes)))
    }

    /// The pairs nearer than `radius` that are wanted, with the ids of the right rows.
    pub(crate) fn within(
        &self,
        left: &Side<'_, f32>,
        right: &Side<'_, f32>,
        radius: f64,
        wanted: impl Fn(u32, u32) -> bool + Sync,
        run: &Run,
    ) -> Result<Vec<(u32, i64, f32)>> {
        not_negative("radius", radius)?;
        let ids = self.segment.ids(run)?;
        let mut pairs = Vec::new();
        stream_sides(Some(left), right, radius, run, |found| {
            let found = found.into_iter().filter(|pair| wanted(pair.0, pair.1));
            let found = found.map(|(left, right, far)| (left, ids[right as usize], far));
            Ok(memory::extend(&mut pairs, found, PAIRS)?)
        })?;
        run.check()?;
        Ok(pairs)
    }

    /// Ids in place of row numbers.
    pub(crate) fn with_ids(&self, mut found: Neighbors<f32>, run: &Run) -> Result<Neighbors<f32>> {
        let ids = self.segment.ids(run)?;
        for index in found.indices.iter_mut() {
            // What is not there has no distance either.
            *index = usize::try_from(*index).map_or(-1, |row| ids[row]);
        }
        Ok(found)
    }
}

pub(crate) fn held_out_rows(side: &Side<'_, f32>) -> Vec<u32> {
    sample(side.rows.len(), HELD_OUT)
}

/// Lets left rows look into near cells, and further where these hold fewer than `k` rows: into all that
/// are listed and, where not enough of their rows take part, beyond.
pub(crate) fn look(
    left: &Side<'_, f32>,
    right: &Side<'_, f32>,
    k: usize,
    visits: Reach<'_>,
    run: &Run,
) -> Result<Neighbors<f32>> {
    if are_most(k, right.rows.len()) {
        return all_pairs(Some(left), right, k, run);
    }
    run.begin("visits");
    let join = TopKJoin::new(Some(left), right, k, run)?;
    visits.at_least(k).hold(left, right, &join.nearest, run)?;
    join.complete()?;
    run.reached_unknown();
    join.nearest.finish()
}

/// Lets left rows look into their own cells, so that nearly all pairs fail the first test when all
/// meet after that.
pub(crate) fn exactly(
    (left, right): (&Side<'_, f32>, &Side<'_, f32>),
    (of_left, cells): (&CellStarts, &SegmentCells),
    k: usize,
    panel_bytes: usize,
    run: &Run,
) -> Result<Neighbors<f32>> {
    if are_most(k, right.rows.len()) {
        return all_pairs(Some(left), right, k, run);
    }
    let neighbors = Cow::Borrowed(cells.neighbors.as_slice());
    run.begin("visits");
    let visits = Reach::over(neighbors, of_left, &cells.table, 1).within(panel_bytes);
    let join = TopKJoin::new(Some(left), right, k, run)?;
    visits.hold(left, right, &join.nearest, run)?;
    join.all_pairs()
}

/// The nearest of both, whose rows have these ids.
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
            for (place, (distance, id)) in all.into_iter().take(k).enumerate() {
                (distances[place], indices[place]) = (distance, id);
            }
            Ok::<_, Error>(())
        });
    merged_lists?;
    Ok(merged)
}
