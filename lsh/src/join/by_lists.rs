//! Joins by inverted lists, and neighbour passes after that.

use lshjoin_kernels::Scalar;

use crate::{
    base::error::Result,
    ivf::{
        coarse_quantiser::CoarseQuantiser,
        margins::Reach,
        probe_lists::ProbeLists,
        probes::{Parts, Probes},
    },
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
        let lists = (quantiser, &probe_lists);
        self.probe_up_to(reach, lists, ground_truth.as_ref())?;
        for _ in 0..rounds {
            self.pass()?;
        }
        self.complete()?;
        if let Some((recall, ground_truth)) = &ground_truth {
            ctx.begin_stage("check");
            let found = |row| self.distances_of(row);
            let mut reached = ground_truth.recall(self.left(), found)?;
            if self.has_few_candidates() {
                for _ in 0..MORE_ROUNDS {
                    if reached.falls_short(*recall) {
                        self.pass()?;
                        reached = ground_truth.recall(self.left(), found)?;
                    }
                }
            } else if reached.falls_short(*recall) {
                ctx.begin_stage("probes");
                self.probe_batches(lists, Parts::between(reach.margin, reach.wider))?;
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

    /// Compares what rows probe: the warm start first, then the probes as far as `reach` says. Where a
    /// recall is given, a pass comes before the last of them, which are left out if it is reached then.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn probe_up_to(
        &self,
        reach: Reach,
        lists: (&CoarseQuantiser, &ProbeLists),
        ground_truth: Option<&(f64, GroundTruth<T>)>,
    ) -> Result<()> {
        let ctx = self.ctx;
        self.probe(lists.1)?;
        if lists.1.probes().is_none() {
            self.probe_batches(lists, Parts::up_to(reach.first()))?;
        }
        let Some(before) = reach.before_pass else {
            return Ok(());
        };
        if let Some((recall, ground_truth)) = ground_truth {
            self.pass()?;
            ctx.begin_stage("check");
            if ground_truth.reaches(*recall, self.left(), |row| self.distances_of(row))? {
                return Ok(());
            }
            ctx.begin_stage("probes");
        }
        self.probe_batches(lists, Parts::between(before, reach.margin))
    }

    /// Compares what rows probe: the warm start first, then the probes that are there.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn probe(&self, probe_lists: &ProbeLists) -> Result<()> {
        self.ctx.begin_stage("probes");
        let near = probe_lists.warm_start()?;
        self.join(&near.left, &near.right, near.blocks, &self.unbounded())?;
        drop((near.left, near.right));
        probe_lists
            .probes()
            .map_or(Ok(()), |probes| self.compare(probe_lists, probes))
    }

    /// Compares what rows probe, found batch by batch.
    fn probe_batches(
        &self,
        (quantiser, probe_lists): (&CoarseQuantiser, &ProbeLists),
        parts: Parts,
    ) -> Result<()> {
        for rows in probe_lists.batches() {
            let left = self.left();
            let probes = probe_lists.probes_of(rows, quantiser, left, parts.clone(), self.ctx)?;
            self.compare(probe_lists, &probes)?;
        }
        Ok(())
    }

    fn compare(&self, probe_lists: &ProbeLists, probes: &Probes) -> Result<()> {
        for part in 0..probes.parts() {
            for step in probe_lists.part(probes, part)? {
                self.join(&step.left, &step.right, step.blocks, &self.symmetric())?;
            }
        }
        Ok(())
    }

    fn pass(&self) -> Result<()> {
        self.ctx.begin_stage("neighbor passes");
        self.neighbor_pass()
    }
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::Rows;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::{
        base::{context::Context, metric::Metric, random::gaussian},
        ivf::margins::margin_of,
        ivf::state::learn,
        vectors::Vectors,
    };

    /// Joins by 30 lists of which rows probe too few for a recall of 0.98, and says in which stages it
    /// was reached.
    fn stages(k: usize, two_sided: bool) -> Vec<&'static str> {
        const DIM: usize = 6;
        let ctx = Context::new().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut gaussians = |rows: usize| -> Vec<f32> {
            let values = (0..rows * DIM).map(|_| gaussian(&mut rng) as f32);
            values.collect()
        };
        let (queries, items) = (gaussians(4000), gaussians(3000));
        let side = |values| {
            let rows = Rows::new(values, DIM).unwrap();
            Vectors::new("rows", rows, Metric::Euclidean, &ctx).unwrap()
        };
        let (mut left, mut right) = (two_sided.then(|| side(&queries)), side(&items));
        let (quantiser, warm_start) =
            learn(30, (None, 0), (left.as_ref(), &right), k, &ctx).unwrap();
        let ground_truth = GroundTruth::of(left.as_ref(), &right, k, &ctx).unwrap();
        let margin = |probes| margin_of(&quantiser, left.as_ref().unwrap_or(&right), probes, &ctx);
        let reach = Reach {
            margin: margin(2.0).unwrap(),
            before_pass: None,
            lists: 2.0,
            wider: margin(20.0).unwrap(),
        };
        let sides = (left.as_mut(), &mut right);
        let probe_lists = ProbeLists::new(&quantiser, warm_start, sides.0, sides.1, reach, &ctx);
        let probe_lists = probe_lists.unwrap();
        let of_left = left.as_ref().and_then(|left| left.codes.as_ref());
        let codes = (of_left, right.codes.as_ref().unwrap());
        let join = CodeJoin::new(left.as_ref(), &right, codes, k, &ctx).unwrap();
        let found = join.by_lists(
            0,
            (&quantiser, probe_lists),
            reach,
            Some((0.98, ground_truth)),
        );
        assert!(
            found.unwrap().is_some(),
            "{k} {two_sided} {:?}",
            ctx.report()
        );
        let report = ctx.report();
        assert!(report.recall.unwrap().high >= 0.98);
        report.seconds.iter().map(|stage| stage.0).collect()
    }

    #[test]
    fn what_is_missed_is_found_by_passes_or_where_these_are_dear_by_more_probes() {
        for (k, two_sided, passes) in [
            (8, false, true),
            (8, true, true),
            (60, false, false),
            (60, true, false),
        ] {
            let stages = stages(k, two_sided);
            let has_passes = stages.contains(&"neighbor passes");
            assert_eq!(has_passes, passes, "{k} {two_sided}: {stages:?}");
        }
    }
}
