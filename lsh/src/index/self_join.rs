//! The items of an index joined with themselves, chunk by chunk.

use std::{borrow::Cow, ops::Range};

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
        search::{PANEL_BYTES, exactly, held_out_rows, probe},
    },
    ivf::list_probing::ListProbing,
    pairs::{
        results::{Neighbors, RadiusNeighbors},
        top_k_join::{EXACT_BELOW, all_pairs},
    },
    recall::others::Others,
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
        let Some((mut plan, lists)) = self.lists_for(plan, ctx)? else {
            return Ok(JoinPlan::Exact);
        };
        if most.min(items) < EXACT_BELOW {
            return Ok(JoinPlan::Exact);
        }
        if plan.until_recall.is_none() {
            return Ok(JoinPlan::Partitions(plan));
        }
        let right = self
            .segment
            .nearest_of(&self.removed, k.saturating_add(1), ctx)?;
        let own;
        let (queries, k) = match queries {
            Some((queries, _)) => (Some(queries), k),
            // A stored item has another last value than it has as a query, so this is no self-join.
            None if self.segment.metric == Metric::InnerProduct => {
                own = self.items_at(self.segment.ground_truth(ctx)?, ctx)?;
                let others = Others { k: Some(k) };
                plan.until_recall = plan.until_recall.map(|recall| others.of_all(recall));
                (Some(Rows::new(&own, self.segment.dim)?), k + 1)
            }
            None => (None, k),
        };
        let probes = match queries {
            None => {
                let rows = self.segment.ground_truth(ctx)?;
                let tables = (&lists.table, &*lists);
                let probing =
                    self.list_probing((None, &right), rows, tables, k, plan, PANEL_BYTES, ctx)?;
                probing.map(|probing| probing.probes())
            }
            Some(queries) => {
                self.check_dimension(queries)?;
                let augmented = self.as_kept(queries, ctx)?;
                let (left, of_left) = self.left(&augmented, &right, &lists, ctx)?;
                let (sides, tables) = ((Some(&left), &right), (&of_left, &*lists));
                let rows = held_out_rows(&left);
                let probing = self.list_probing(sides, rows, tables, k, plan, PANEL_BYTES, ctx)?;
                probing.map(|probing| probing.probes())
            }
        };
        Ok(match probes {
            None => JoinPlan::Exact,
            Some(probes) => JoinPlan::Partitions(PartitionPlan {
                probes,
                until_recall: None,
                ..plan
            }),
        })
    }

    /// The ids of some of the items, by list, and the `k` nearest others of each: a chunk of the
    /// join of all items with themselves. The chunks of `0..len` make up the whole.
    ///
    /// Panels of codes take up to `panel_bytes`. Beside these, each item of the chunk takes about
    /// 30 bytes for each of k + 7 neighbours.
    ///
    /// # Errors
    /// When the chunk is not one, something was added or removed, the plan is not fixed, or as
    /// [`Index::knn`].
    pub fn knn_of_chunk(
        &self,
        chunk: Range<usize>,
        k: usize,
        plan: &JoinPlan,
        panel_bytes: usize,
        ctx: &Context,
    ) -> Result<(Vec<i64>, Neighbors<f32>)> {
        ctx.begin_stage("codes");
        // One more, since each item finds itself.
        let wanted = k.saturating_add(usize::from(k > 0));
        let (left, right) = self.chunk(&chunk, wanted, ctx)?;
        let lists = self.lists_for(plan, ctx)?;
        if let Some((plan, _)) = &lists
            && plan.until_recall.is_some()
        {
            return Err(Error::parameter(
                "plan",
                "a fixed one, where items are joined chunk by chunk",
                format!("{plan:?}"),
            ));
        }
        let found = match lists {
            _ if self.segment.metric == Metric::InnerProduct => {
                let rows = chunk.start as u32..chunk.end as u32;
                let rows = memory::collect(rows, ROW_NUMBERS)?;
                let values = self.items_at(rows, ctx)?;
                let queries = Rows::new(&values, self.segment.dim)?;
                self.find(queries, wanted, plan, panel_bytes, ctx)?
            }
            None => match self.segment.lists(ctx)? {
                None => all_pairs(Some(&left), &right, wanted, ctx)?,
                Some(lists) => {
                    let of_left = lists.table.slice(&chunk);
                    let tables = (&of_left, &*lists);
                    exactly((&left, &right), tables, wanted, panel_bytes, ctx)?
                }
            },
            Some((plan, lists)) => {
                let of_left = lists.table.slice(&chunk);
                let neighbors = Cow::Borrowed(lists.neighbors.as_slice());
                let probing = ListProbing::over(neighbors, &of_left, &lists.table, plan.probes);
                let probing = probing.within(panel_bytes);
                probe(&left, &right, wanted, probing, ctx)?
            }
        };
        let found = without_itself(found, chunk.start);
        let ids = &self.segment.ids(ctx)?[chunk];
        let ids = memory::copied(ids, ROW_NUMBERS)?;
        Ok((ids, self.with_ids(found, ctx)?))
    }

    /// The ids of some of the items, by list, and every other item nearer than `radius` to each:
    /// see [`Index::knn_of_chunk`].
    ///
    /// # Errors
    /// When the chunk is not one, something was added or removed, or as [`Index::radius`].
    pub fn radius_of_chunk(
        &self,
        chunk: Range<usize>,
        radius: f64,
        ctx: &Context,
    ) -> Result<(Vec<i64>, RadiusNeighbors<f32>)> {
        self.distance()?;
        let (left, right) = self.chunk(&chunk, usize::MAX, ctx)?;
        let first = chunk.start as u32;
        let other = |left: u32, right: u32| first + left != right;
        let pairs = self.within(&left, &right, radius, other, ctx)?;
        let ids = &self.segment.ids(ctx)?[chunk];
        let ids = memory::copied(ids, ROW_NUMBERS)?;
        let found = RadiusNeighbors::sorted(pairs, ids.len())?;
        Ok((ids, found))
    }

    /// Some of the items, and all, to find the `k` nearest among.
    fn chunk(
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
        let segment = &self.segment;
        Ok((
            segment.side(chunk, &self.removed, usize::MAX, ctx)?,
            segment.nearest_of(&self.removed, k, ctx)?,
        ))
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
