//! Joins by inverted lists, and neighbour passes after that.

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{ROW_NUMBERS, error::Result, plan::IvfPlan},
    ivf::probe_lists::ProbeLists,
    pairs::{
        results::Neighbors,
        top_k_join::{TopKJoin, all_pairs},
    },
    recall::ground_truth::GroundTruth,
};

/// Neighbour passes beyond the plan's, where a recall is not reached, before all pairs are
/// compared.
const MORE_ROUNDS: usize = 3;

/// Above this share of the pairs, comparing all of them is quicker than probing lists.
pub(crate) const MOST_PROBED: f64 = 0.8;

impl<T: Scalar> TopKJoin<'_, T> {
    /// Joins by the lists that each row probes: the warm start first, then the probes, then what
    /// [`TopKJoin::expanded`] does.
    pub(crate) fn by_lists(
        self,
        plan: &IvfPlan,
        probe_lists: ProbeLists,
        ground_truth: Option<(f64, GroundTruth<T>)>,
    ) -> Result<Neighbors<T>> {
        let ctx = self.ctx;
        ctx.begin_stage("probes");
        let (left, right) = (self.left().internal_ids()?, self.right.internal_ids()?);
        let (near, blocks) = probe_lists.warm_start()?;
        self.join(&left, &near, blocks, &self.nearest.unbounded())?;
        drop((left, near));
        for blocks in probe_lists.parts() {
            self.join(
                probe_lists.order(),
                &right,
                blocks,
                &self.nearest.symmetric(),
            )?;
        }
        drop(probe_lists);
        self.expanded(plan.rounds, ground_truth)
    }

    /// Ends the join after so many neighbour passes. Where a recall is asked for and not reached,
    /// more of them and, at the last, all pairs.
    pub(crate) fn expanded(
        self,
        rounds: usize,
        ground_truth: Option<(f64, GroundTruth<T>)>,
    ) -> Result<Neighbors<T>> {
        let ctx = self.ctx;
        let order = memory::collect(0..self.left().len() as u32, ROW_NUMBERS)?;
        for _ in 0..rounds {
            ctx.begin_stage("neighbor passes");
            self.expand(&order)?;
        }
        self.complete()?;
        if let Some((recall, ground_truth)) = &ground_truth {
            ctx.begin_stage("check");
            let mut reached = ground_truth.recall(&self)?;
            for _ in 0..MORE_ROUNDS {
                if reached.falls_short(*recall) {
                    self.expand(&order)?;
                    reached = ground_truth.recall(&self)?;
                }
            }
            if reached.falls_short(*recall) {
                let k = self.nearest.k;
                return all_pairs(self.left, self.right, k, ctx);
            }
            ctx.reached(reached);
        }
        ctx.begin_stage("finish");
        self.nearest.finish()
    }
}
