//! Joins by inverted lists, and rounds over the neighbours of neighbours.

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{ROW_NUMBERS, error::Result, plan::CellPlan},
    ivf::probe_lists::Visits,
    pairs::{results::Neighbors, top_k_join::TopKJoin},
    recall::ground_truth::HeldOut,
};

/// Rounds beyond the plan, where a recall is not reached, before all pairs are met.
pub(crate) const MORE_ROUNDS: usize = 3;

/// The share of the pairs from which on it is quicker to meet all.
pub(crate) const ALL: f64 = 0.8;

impl<T: Scalar> TopKJoin<'_, T> {
    pub(crate) fn by_cells(
        self,
        plan: &CellPlan,
        visits: Visits,
        held_out: Option<(f64, HeldOut<T>)>,
    ) -> Result<Neighbors<T>> {
        let run = self.run;
        run.begin("visits");
        let (left, right) = (self.left().numbers()?, self.right.numbers()?);
        let (near, met) = visits.first()?;
        self.meet(&left, &near, met, &self.nearest.first())?;
        drop((left, near));
        for met in visits.parts() {
            self.meet(visits.order(), &right, met, &self.nearest.for_all())?;
        }
        drop(visits);
        self.expanded(plan.rounds, held_out)
    }

    /// Ends the join after so many rounds of meeting the neighbours of neighbours, and more where
    /// a recall is not reached.
    pub(crate) fn expanded(
        self,
        rounds: usize,
        held_out: Option<(f64, HeldOut<T>)>,
    ) -> Result<Neighbors<T>> {
        let run = self.run;
        let order = memory::collect(0..self.left().len() as u32, ROW_NUMBERS)?;
        for _ in 0..rounds {
            run.begin("rounds");
            self.expand(&order)?;
        }
        self.complete()?;
        if let Some((recall, held_out)) = &held_out {
            run.begin("check");
            let mut reached = held_out.recall(&self)?;
            for _ in 0..MORE_ROUNDS {
                if reached.falls_short(*recall) {
                    self.expand(&order)?;
                    reached = held_out.recall(&self)?;
                }
            }
            if reached.falls_short(*recall) {
                return self.all_pairs();
            }
            run.reached(reached);
        }
        run.begin("finish");
        self.nearest.finish()
    }
}
