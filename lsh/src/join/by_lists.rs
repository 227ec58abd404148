//! Joins by inverted lists, and neighbour passes after that.

use lshjoin_kernels::Scalar;

use crate::{
    base::error::Result,
    ivf::{coarse_quantiser::CoarseQuantiser, margins::Reach, probe_lists::ProbeLists},
    pairs::{code_join::CodeJoin, code_lists::CodeLists},
    recall::ground_truth::GroundTruth,
};

/// Neighbour passes beyond the plan's, where a recall is not reached and they compare few pairs, before
/// all pairs are compared.
const MORE_ROUNDS: usize = 3;

impl<T: Scalar> CodeJoin<'_, T> {
    /// Joins by the lists that each row probes, then by so many neighbour passes. Where `reach` says so, a
    /// pass comes before the last of the probes, which are left out if the recall asked for is reached
    /// then. Where it is not reached in the end, more passes or, where these would take longer, more
    /// probes. What was found of each row is to be measured; `None` where the recall is not even reached
    /// by those, so that all pairs have to be compared.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn by_lists(
        self,
        rounds: usize,
        (quantiser, probe_lists): (&CoarseQuantiser, ProbeLists),
        reach: Reach,
        ground_truth: Option<(f64, GroundTruth<T>)>,
    ) -> Result<Option<CodeLists>> {
        let ctx = self.ctx;
        let pass = ground_truth
            .as_ref()
            .filter(|_| reach.before_pass.is_some());
        self.probe(&probe_lists, pass)?;
        for _ in 0..rounds {
            self.pass()?;
        }
        self.complete()?;
        if let Some((recall, ground_truth)) = &ground_truth {
            ctx.begin_stage("check");
            let found = |row| self.distances_of(row);
            let mut reached = ground_truth.recall(self.left(), found)?;
            let passes = match self.has_few_candidates() {
                true => MORE_ROUNDS,
                false => 0,
            };
            for _ in 0..passes {
                if reached.falls_short(*recall) {
                    self.pass()?;
                    reached = ground_truth.recall(self.left(), found)?;
                }
            }
            if passes == 0 && reached.falls_short(*recall) {
                ctx.begin_stage("probes");
                let further = probe_lists.further(quantiser, self.left(), reach.wider, ctx)?;
                self.probe_part(&further, 0)?;
                ctx.begin_stage("check");
                reached = ground_truth.recall(self.left(), found)?;
            }
            if reached.falls_short(*recall) {
                return Ok(None);
            }
            ctx.reached(reached);
        }
        Ok(Some(self.lists))
    }

    /// Compares what rows probe: the warm start first, then the probes. Where a recall is given, a pass
    /// comes before the last of the probes, which are left out if it is reached then.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn probe(
        &self,
        probe_lists: &ProbeLists,
        recall_of_pass: Option<&(f64, GroundTruth<T>)>,
    ) -> Result<()> {
        let ctx = self.ctx;
        ctx.begin_stage("probes");
        let near = probe_lists.warm_start()?;
        self.join(&near.left, &near.right, near.blocks, &self.unbounded())?;
        drop((near.left, near.right));
        let last = probe_lists.parts() - 1;
        for part in 0..=last {
            self.probe_part(probe_lists, part)?;
            if part + 1 == last
                && let Some((recall, ground_truth)) = recall_of_pass
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
        Ok(())
    }

    fn probe_part(&self, probe_lists: &ProbeLists, part: usize) -> Result<()> {
        for step in probe_lists.part(part)? {
            self.join(&step.left, &step.right, step.blocks, &self.symmetric())?;
        }
        Ok(())
    }

    fn pass(&self) -> Result<()> {
        self.ctx.begin_stage("neighbor passes");
        self.neighbor_pass()
    }
}
