//! Joins by tables of sign bits, made and dropped one after the other.

use lshjoin_kernels::{Rows, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        context::Context,
        error::{Error, Result},
        plan::{LshPlan, MOST_TABLES},
    },
    lsh::{sign_bits::SignBits, table::Table, table_functions::TableFunctions},
    pairs::{results::Neighbors, top_k_join::TopKJoin, top_k_lists::warm_start_rows},
    recall::ground_truth::ground_truth,
    vectors::{Vectors, principal_axes::PrincipalAxes},
};

/// Bits of the keys that both sides are ordered by for the warm start.
pub(crate) const ORDER_BITS: usize = 20;

/// Left rows that are expanded together: as they lie together, they have neighbours in common.
const EXPANDED: usize = 128;

/// How many times its tables a plan may take to reach its recall, before all pairs are compared.
const PATIENCE: usize = 16;

/// Both sides in the order of one key of sign bits, by which near rows mostly lie together. Rows
/// have their internal ids by it.
pub(crate) struct KeyOrder {
    items: Table,
    queries: Option<Table>,
}

impl KeyOrder {
    pub(crate) fn new<T: Scalar>(
        right: &mut Vectors<'_, T>,
        left: Option<&mut Vectors<'_, T>>,
        axes: &PrincipalAxes,
        sample: Rows<'_, T>,
        ctx: &Context,
    ) -> Result<Self> {
        let functions = axes.table(sample, ORDER_BITS, 0, u64::MAX, ctx)?;
        let in_order = |side: &mut Vectors<'_, T>| {
            let mut table = SignBits::of(side, &functions, ctx)?.table()?;
            side.reorder(table.renumber()?)?;
            Ok::<_, Error>(table)
        };
        Ok(Self {
            items: in_order(right)?,
            queries: left.map(in_order).transpose()?,
        })
    }
}

impl<T: Scalar> TopKJoin<'_, T> {
    /// Joins by tables of sign bits, then by neighbour passes until the recall is reached, if one
    /// is asked for. Where those of the plan do not reach it, one more table and one more pass at a
    /// time and, at the last, all pairs.
    pub(crate) fn by_tables(
        self,
        plan: &LshPlan,
        axes: &PrincipalAxes,
        sample: Rows<'_, T>,
    ) -> Result<Neighbors<T>> {
        let ctx = self.ctx;
        let k = self.nearest.lists.k();
        // Once a query is compared with as many rows in its buckets as there are items, comparing
        // all is quicker.
        let items = self.right.len();
        let bucket = items.checked_shr(plan.functions as u32).unwrap_or(0).max(1);
        let most = (PATIENCE * plan.tables).min(MOST_TABLES);
        let most = most.min(items / (bucket * plan.probes));
        if most < plan.tables {
            return self.all_pairs();
        }
        let ground_truth = ground_truth(plan.until_recall, self.left, self.right, k, ctx)?;
        let mut rounds = 0;
        for table in 0..most {
            ctx.begin_stage("tables");
            let functions =
                axes.table(sample, plan.functions, plan.seed, table as u64, self.ctx)?;
            let left_order = self.table(&functions, plan.probes)?;
            if table + 1 < plan.tables {
                continue;
            }
            self.complete()?;
            loop {
                let reached = match &ground_truth {
                    Some((recall, ground_truth)) => {
                        let of_left = |row| self.nearest.lists.distances_of(row, ctx);
                        let reached = ground_truth.recall(self.left(), of_left)?;
                        ctx.reached(reached);
                        ground_truth.reaches(*recall, self.left(), of_left)?
                            && !reached.falls_short(*recall)
                    }
                    None => rounds == plan.rounds,
                };
                if reached {
                    ctx.begin_stage("finish");
                    return self.nearest.finish();
                }
                // Past the plan, each further table is followed by one pass.
                if rounds >= plan.rounds.saturating_add(table + 1 - plan.tables) {
                    break;
                }
                ctx.begin_stage("neighbor passes");
                self.expand(&left_order)?;
                rounds += 1;
            }
        }
        self.all_pairs()
    }

    /// The warm start: compares the rows of short ranges of the key order. Most pairs of buckets,
    /// or of all rows, then fail the filter on codes.
    pub(crate) fn fill(&self, key_order: &KeyOrder) -> Result<()> {
        let items = &key_order.items;
        let length = warm_start_rows(self.nearest.lists.k(), self.right.len(), true);
        let (queries, blocks) = match &key_order.queries {
            None => {
                let blocks = items.chunks(length);
                let blocks = blocks.map(|rows| (rows.clone(), rows));
                (items, memory::collect(blocks, ROW_NUMBERS)?)
            }
            Some(queries) => (queries, queries.chunks_of(items, length)?),
        };
        self.join(
            &queries.order,
            &items.order,
            blocks,
            &self.nearest.unbounded(),
        )
    }

    /// Makes a table, lets each query probe `probes` of its buckets, and returns the queries in
    /// the order of their buckets.
    pub(crate) fn table(&self, functions: &TableFunctions, probes: usize) -> Result<Vec<u32>> {
        let of_items = SignBits::of(self.right, functions, self.ctx)?;
        let of_queries = self
            .left
            .map(|left| SignBits::of(left, functions, self.ctx))
            .transpose()?;
        let of_queries = of_queries.as_ref().unwrap_or(&of_items);
        let items = of_items.table()?;
        let probing = of_queries.probed_table(probes)?;
        self.join(
            &probing.order,
            &items.order,
            probing.matches(&items)?,
            &self.nearest.one_way(),
        )?;
        match self.left {
            None => Ok(items.order),
            Some(_) => Ok(of_queries.table()?.order),
        }
    }

    /// Compares left rows that lie together with the neighbours of them all and, in a self-join,
    /// with the neighbours of these.
    pub(crate) fn expand(&self, left_order: &[u32]) -> Result<()> {
        let lists = self.nearest.lists.rerank(self.ctx)?;
        let candidates: Vec<Vec<u32>> = left_order
            .par_chunks(EXPANDED)
            .map(|block| {
                let near = block.iter().flat_map(|&row| lists.of(row));
                let mut near: Vec<u32> = memory::collect(near, ROW_NUMBERS)?;
                near.sort_unstable();
                near.dedup();
                if self.left.is_none() {
                    let next = near.iter().flat_map(|&row| lists.of(row));
                    let next: Vec<u32> = memory::collect(next, ROW_NUMBERS)?;
                    memory::extend(&mut near, next, ROW_NUMBERS)?;
                    near.sort_unstable();
                    near.dedup();
                }
                Ok(near)
            })
            .collect::<Result<_>>()?;
        let mut blocks = memory::empty(candidates.len(), ROW_NUMBERS)?;
        let mut right_order = Vec::new();
        for (block, candidates) in candidates.iter().enumerate() {
            let start = right_order.len();
            memory::extend(&mut right_order, candidates.iter().copied(), ROW_NUMBERS)?;
            let left = block * EXPANDED..left_order.len().min((block + 1) * EXPANDED);
            blocks.push((left, start..right_order.len()));
        }
        self.join(left_order, &right_order, blocks, &self.nearest.one_way())
    }
}
