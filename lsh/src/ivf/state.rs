//! What a join by inverted lists starts with.

use lshjoin_kernels::Scalar;

use crate::{
    base::{
        context::Run,
        error::Result,
        plan::{CellPlan, JoinPlan},
    },
    ivf::{
        coarse_quantiser::Cells,
        margins::{Extent, extents, margin_for, margin_of},
        warm_start::Filling,
    },
    pairs::top_k_lists::to_begin_with,
    recall::ground_truth::{HeldOut, held_out},
    vectors::Sides,
};

/// A plan, and what it starts with if the planner made that.
pub(crate) struct Choice<T> {
    pub(crate) plan: JoinPlan,
    pub(crate) prepared: Option<Prepared<T>>,
}

impl<T> Choice<T> {
    pub(crate) fn of(plan: JoinPlan) -> Self {
        Self {
            plan,
            prepared: None,
        }
    }
}

/// What a join by cells starts with.
pub(crate) struct Prepared<T> {
    pub(crate) cells: Cells,
    pub(crate) filling: Filling,
    /// The rows to reach a recall by, where one is asked for.
    pub(crate) held_out: Option<(f64, HeldOut<T>)>,
    pub(crate) margin: f32,
    pub(crate) extent: Extent,
}

impl<T: Scalar> Prepared<T> {
    pub(crate) fn new(
        plan: &CellPlan,
        (left, right): Sides<'_, '_, T>,
        k: usize,
        run: &Run,
    ) -> Result<Self> {
        let mut held_out = held_out(plan.until_recall, left, right, k, run)?;
        run.begin("cells");
        let (cells, filling) = learn(plan.cells, plan.seed, (left, right), k, run)?;
        let margin = match &mut held_out {
            Some((recall, held_out)) => {
                margin_for(&cells, &filling, (left, right), held_out, *recall, run)?.0
            }
            None => margin_of(&cells, left.unwrap_or(right), plan.probes, run)?,
        };
        let extent = extents(&cells, &filling, left.unwrap_or(right), &[margin], run)?[0];
        Ok(Self {
            cells,
            filling,
            held_out,
            margin,
            extent,
        })
    }
}

/// So many cells of the right side, and what fills the lists of each.
pub(crate) fn learn<T: Scalar>(
    cells: usize,
    seed: u64,
    (left, right): Sides<'_, '_, T>,
    k: usize,
    run: &Run,
) -> Result<(Cells, Filling)> {
    let cells = Cells::of_side(right, cells, seed, run)?;
    let rows = to_begin_with(k, right.len());
    let filling = Filling::new(&cells, right, left.is_none(), rows, run)?;
    Ok((cells, filling))
}
