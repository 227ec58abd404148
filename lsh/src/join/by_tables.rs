//! Joins by tables of sign bits, made and dropped one after the other.

use lshjoin_kernels::{Rows, Scalar, memory};

use crate::{
    base::{
        ROW_NUMBERS,
        context::Run,
        error::{Error, Result},
        plan::{LshPlan, MOST_TABLES},
    },
    lsh::{sign_bits::Signs, table::Table, table_functions::TableFunctions},
    pairs::{results::Neighbors, top_k_join::TopKJoin, top_k_lists::to_begin_with},
    recall::ground_truth::held_out,
    vectors::{Side, principal_axes::PrincipalAxes},
};

/// Bits of the keys that order the rows of the stretches that meet before buckets do.
pub(crate) const STRETCH_BITS: usize = 20;

/// How many times its tables a plan may take to reach its recall; then all pairs are met.
pub(crate) const PATIENCE: usize = 16;

/// Both sides in the order of one key of many bits, by which their rows are numbered from then on.
pub(crate) struct Stretches {
    items: Table,
    queries: Option<Table>,
}

impl Stretches {
    pub(crate) fn new<T: Scalar>(
        right: &mut Side<'_, T>,
        left: Option<&mut Side<'_, T>>,
        axes: &PrincipalAxes,
        sample: Rows<'_, T>,
        run: &Run,
    ) -> Result<Self> {
        let functions = axes.table(sample, STRETCH_BITS, 0, u64::MAX, run)?;
        let in_order = |side: &mut Side<'_, T>| {
            let mut table = Signs::of(side, &functions, run)?.table()?;
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
    pub(crate) fn by_tables(
        self,
        plan: &LshPlan,
        axes: &PrincipalAxes,
        sample: Rows<'_, T>,
    ) -> Result<Neighbors<T>> {
        let run = self.run;
        let k = self.nearest.lists.k();
        // Once queries meet as many in buckets as there are items, it is quicker to meet all.
        let items = self.right.len();
        let bucket = items.checked_shr(plan.functions as u32).unwrap_or(0).max(1);
        let most = (PATIENCE * plan.tables).min(MOST_TABLES);
        let most = most.min(items / (bucket * plan.probes));
        if most < plan.tables {
            return self.all_pairs();
        }
        let held_out = held_out(plan.until_recall, self.left, self.right, k, run)?;
        let mut rounds = 0;
        for table in 0..most {
            run.begin("tables");
            let functions =
                axes.table(sample, plan.functions, plan.seed, table as u64, self.run)?;
            let left_order = self.table(&functions, plan.probes)?;
            if table + 1 < plan.tables {
                continue;
            }
            self.complete()?;
            loop {
                let reached = match &held_out {
                    Some((recall, held_out)) => {
                        let reached = held_out.recall(&self)?;
                        run.reached(reached);
                        held_out.reaches(*recall, &self)? && !reached.falls_short(*recall)
                    }
                    None => rounds == plan.rounds,
                };
                if reached {
                    run.begin("finish");
                    return self.nearest.finish();
                }
                // Past the plan, each further table is followed by a round.
                if rounds >= plan.rounds.saturating_add(table + 1 - plan.tables) {
                    break;
                }
                run.begin("rounds");
                self.expand(&left_order)?;
                rounds += 1;
            }
        }
        self.all_pairs()
    }

    /// Meets the rows of short stretches: that fills the lists, so that in whole buckets most pairs
    /// already fail the test.
    pub(crate) fn fill(&self, stretches: &Stretches) -> Result<()> {
        let items = &stretches.items;
        let length = to_begin_with(self.nearest.lists.k(), self.right.len());
        let (queries, met) = match &stretches.queries {
            None => {
                let met = items.stretches(length);
                let met = met.map(|rows| (rows.clone(), rows));
                (items, memory::collect(met, ROW_NUMBERS)?)
            }
            Some(queries) => (queries, queries.stretches_of(items, length)?),
        };
        self.meet(&queries.order, &items.order, met, &self.nearest.first())
    }

    /// Makes a table, lets each query look into `probes` of its buckets, and returns the queries in
    /// the order of their buckets.
    pub(crate) fn table(&self, functions: &TableFunctions, probes: usize) -> Result<Vec<u32>> {
        let of_items = Signs::of(self.right, functions, self.run)?;
        let of_queries = self
            .left
            .map(|left| Signs::of(left, functions, self.run))
            .transpose()?;
        let of_queries = of_queries.as_ref().unwrap_or(&of_items);
        let items = of_items.table()?;
        let probing = of_queries.probed_table(probes)?;
        self.meet(
            &probing.order,
            &items.order,
            probing.matches(&items)?,
            &self.nearest.for_left(),
        )?;
        match self.left {
            None => Ok(items.order),
            Some(_) => Ok(of_queries.table()?.order),
        }
    }
}
