//! The items of an index joined with themselves, chunk by chunk.

use std::ops::Range;

use lshjoin_kernels::{Rows, memory};

use crate::{
    base::{
        ROW_NUMBERS,
        context::Context,
        error::{Error, Result},
        metric::Metric,
        plan::{JoinPlan, PartitionPlan},
    },
    index::{
        Index,
        search::{by_lists, exactly},
    },
    ivf::{margins::probes_within, probe_lists::ProbeLists},
    pairs::{
        by_sorting::are_most,
        results::Neighbors,
        top_k_join::{EXACT_BELOW, all_pairs},
    },
    vectors::Vectors,
};

impl Index {
    /// The plan with its probes fixed: in place of `until_recall`, as many as a sample of the
    /// queries needs, or the exact plan where that comes to most pairs. A fixed plan gives the same
    /// neighbours however queries are cut into batches.
    ///
    /// `queries` are a sample of the queries, at equal steps, and how many there are in all.
    /// Without them the plan is for the items joined with themselves.
    ///
    /// # Errors
    /// As [`Index::knn`].
    pub fn fixed_plan(
        &self,
        queries: Option<(Rows<'_, f32>, usize)>,
        k: usize,
        plan: &JoinPlan,
        ctx: &Context,
    ) -> Result<JoinPlan> {
        let items = self.segment.len();
        let most = queries.map_or(items, |(_, all)| all);
        let lists = self.segment.lists(ctx)?;
        let (Some(plan), Some(lists)) = (self.partition_plan(plan)?, lists) else {
            return Ok(JoinPlan::Exact);
        };
        if most.min(items) < EXACT_BELOW {
            return Ok(JoinPlan::Exact);
        }
        let Some(recall) = plan.until_recall else {
            return Ok(JoinPlan::Partitions(plan));
        };
        let wanted = k.saturating_add(1);
        let right = self.items(wanted, ctx)?;
        let margin = match queries {
            Some((queries, _)) => {
                self.check_dimension(queries)?;
                let augmented = self.as_kept(queries, ctx)?;
                let rows = Rows::new(&augmented, self.segment.width())?;
                let left = self.asked(lists.prepare(&right, rows, ctx)?)?;
                self.margin_for((Some(&left), &right), None, k, recall, &lists, ctx)?
            }
            // A stored item has another last value than it has as a query, so this is no self-join.
            None if self.segment.metric == Metric::InnerProduct => {
                self.margin_for_items(k, recall, &lists, ctx)?
            }
            None => {
                let rows = self.segment.ground_truth(ctx)?;
                self.margin_for((None, &right), Some(rows), k, recall, &lists, ctx)?
            }
        };
        let Some(margin) = margin else {
            return Ok(JoinPlan::Exact);
        };
        let probes = probes_within(&lists.quantiser, &right, margin, ctx)?;
        Ok(JoinPlan::Partitions(PartitionPlan {
            probes,
            until_recall: None,
            ..plan
        }))
    }

    /// The ids of some of the items, by list, and the `k` nearest others of each: a chunk of the
    /// join of all items with themselves. The chunks of `0..len` make up the whole.
    ///
    /// Each item of the chunk takes about 20 bytes for each of k + 10 neighbours. Beside these, the
    /// lists that items probe are kept in memory, 4 bytes each.
    ///
    /// # Errors
    /// When the chunk is not one, something was added or removed, the plan is not fixed, or as
    /// [`Index::knn`].
    pub fn knn_of_chunk(
        &self,
        chunk: Range<usize>,
        k: usize,
        plan: &JoinPlan,
        ctx: &Context,
    ) -> Result<(Vec<i64>, Neighbors<f32>)> {
        ctx.begin_stage("codes");
        // One more, since each item finds itself.
        let wanted = k.saturating_add(usize::from(k > 0));
        let (mut left, right) = self.chunk(&chunk, wanted, ctx)?;
        let first = chunk.start as u32;
        let plan_of_lists = self.partition_plan(plan)?;
        if let Some(plan) = &plan_of_lists
            && plan.until_recall.is_some()
        {
            return Err(Error::parameter(
                "plan",
                "a fixed one, where items are joined chunk by chunk",
                format!("{plan:?}"),
            ));
        }
        let lists = self.segment.lists(ctx)?;
        let lists = lists.filter(|_| !are_most(wanted, right.rows.len()));
        let found = match (lists, plan_of_lists) {
            _ if self.segment.metric == Metric::InnerProduct => {
                let rows = first..chunk.end as u32;
                let rows = memory::collect(rows, ROW_NUMBERS)?;
                let values = self.items_at(rows, ctx)?;
                let queries = Rows::new(&values, self.segment.dim)?;
                let asked = self.asked_for(chunk.clone())?;
                without_itself(asked.find(queries, wanted, plan, ctx)?, chunk.start)
            }
            (None, _) => without_itself(all_pairs(Some(&left), &right, wanted, ctx)?, chunk.start),
            (Some(lists), None) => {
                let found = exactly((&mut left, &right), &lists, wanted, ctx)?;
                without_itself(found, chunk.start)
            }
            (Some(lists), Some(plan)) => {
                let margin = lists.margin_of(&right, plan.probes, ctx)?;
                let of_items = lists.probes(&right, k, margin, ctx)?;
                let warm_start = lists.warm_start(true, k)?;
                let probe_lists =
                    ProbeLists::of_chunk(warm_start, &lists.starts, of_items, chunk.clone());
                by_lists(&left, &right, k, Some(first), probe_lists, ctx)?
            }
        };
        let ids = &self.segment.ids(ctx)?[chunk];
        let ids = memory::copied(ids, ROW_NUMBERS)?;
        Ok((ids, self.with_ids(found, ctx)?))
    }

    /// Some of the items, and all, to find the `k` nearest among.
    pub(crate) fn chunk(
        &self,
        chunk: &Range<usize>,
        k: usize,
        ctx: &Context,
    ) -> Result<(Vectors<'_, f32>, Vectors<'_, f32>)> {
        if self.is_changed() {
            return Err(Error::parameter(
                "an index joined with itself",
                "saved and opened anew after a change",
                "changed",
            ));
        }
        if chunk.start > chunk.end || chunk.end > self.segment.len() {
            return Err(Error::parameter(
                "the chunk",
                "one of the items",
                format!("{chunk:?} of {}", self.segment.len()),
            ));
        }
        Ok((self.some_items(chunk, ctx)?, self.items(k, ctx)?))
    }
}

/// The neighbours of rows from `first` on without the rows themselves, one fewer for each. In
/// place, as they take up much of the memory of a chunk.
fn without_itself(mut found: Neighbors<f32>, first: usize) -> Neighbors<f32> {
    let (before, after) = (found.k, found.k - 1);
    let rows = found.indices.len() / before;
    for row in 0..rows {
        let own = (first + row) as i64;
        let list = &found.indices[row * before..][..before];
        // Among many equal items it may not have found itself: then the last one goes.
        let at = list.iter().position(|&index| index == own);
        let at = at.unwrap_or(after);
        for slot in 0..after {
            let from = row * before + slot + usize::from(slot >= at);
            found.indices[row * after + slot] = found.indices[from];
            found.distances[row * after + slot] = found.distances[from];
        }
    }
    found.indices.truncate(rows * after);
    found.distances.truncate(rows * after);
    Neighbors { k: after, ..found }
}
