//! Joins by inverted lists, and neighbour passes after that.

use lshjoin_kernels::Scalar;

use crate::{
    base::{error::Result, plan::IvfPlan},
    ivf::probe_lists::ProbeLists,
    pairs::{code_join::CodeJoin, results::Neighbors, top_k_join::all_pairs},
    recall::ground_truth::GroundTruth,
};

/// Neighbour passes beyond the plan's, where a recall is not reached, before all pairs are
/// compared.
const MORE_ROUNDS: usize = 3;

/// Above this share of the pairs, comparing all of them is quicker than probing lists.
pub(crate) const MOST_PROBED: f64 = 0.8;

impl<T: Scalar> CodeJoin<'_, T> {
    /// Joins by the lists that each row probes: the warm start first, then the probes, then the
    /// plan's neighbour passes. With `try_pass`, a pass comes before the last of the probes, which
    /// are left out if the recall asked for is reached then. Where it is not reached in the end, more
    /// passes and, at the last, all pairs.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn by_lists(
        self,
        plan: &IvfPlan,
        probe_lists: ProbeLists,
        ground_truth: Option<(f64, GroundTruth<T>)>,
        try_pass: bool,
    ) -> Result<Neighbors<T>> {
        let ctx = self.ctx;
        ctx.begin_stage("probes");
        let (left, right) = (self.left().internal_ids()?, self.right.internal_ids()?);
        let (near, blocks) = probe_lists.warm_start()?;
        self.join(&left, &near, blocks, &self.unbounded())?;
        drop((left, near));
        let mut parts = probe_lists.parts();
        while let Some(blocks) = parts.next() {
            self.join(probe_lists.order(), &right, blocks, &self.symmetric())?;
            // What a part has left is the last.
            if try_pass
                && parts.len() == 1
                && let Some((recall, ground_truth)) = &ground_truth
            {
                self.pass()?;
                let found = |row| self.distances_of(row);
                ctx.begin_stage("check");
                if ground_truth.reaches(*recall, self.left(), found)? {
                    break;
                }
                ctx.begin_stage("probes");
            }
        }
        drop((parts, right));
        drop(probe_lists);
        for _ in 0..plan.rounds {
            self.pass()?;
        }
        self.complete()?;
        if let Some((recall, ground_truth)) = &ground_truth {
            ctx.begin_stage("check");
            let found = |row| self.distances_of(row);
            let mut reached = ground_truth.recall(self.left(), found)?;
            for _ in 0..MORE_ROUNDS {
                if reached.falls_short(*recall) {
                    self.pass()?;
                    reached = ground_truth.recall(self.left(), found)?;
                }
            }
            if reached.falls_short(*recall) {
                return all_pairs(self.left, self.right, self.k, ctx);
            }
            ctx.reached(reached);
        }
        ctx.begin_stage("finish");
        self.finish()
    }

    fn pass(&self) -> Result<()> {
        self.ctx.begin_stage("neighbor passes");
        self.neighbor_pass()
    }
}
