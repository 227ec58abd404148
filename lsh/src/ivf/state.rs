//! What a join by inverted lists starts with.

use lshjoin_kernels::Scalar;

use crate::{
    base::{
        context::Context,
        error::Result,
        plan::{IvfPlan, JoinPlan},
    },
    ivf::{
        coarse_quantiser::CoarseQuantiser,
        margins::{ProbeStats, Reach, margin_for, margin_of, probe_stats},
        warm_start::WarmStart,
    },
    pairs::top_k_lists::warm_start_rows,
    recall::ground_truth::{GroundTruth, ground_truth},
    vectors::Sides,
};

/// A plan, and what its join starts with, if the planner has made that.
pub(crate) struct PlannedJoin<T> {
    pub(crate) plan: JoinPlan,
    pub(crate) prepared: Option<IvfState<T>>,
}

impl<T> PlannedJoin<T> {
    pub(crate) fn of(plan: JoinPlan) -> Self {
        Self {
            plan,
            prepared: None,
        }
    }
}

/// What a join by inverted lists starts with.
pub(crate) struct IvfState<T> {
    pub(crate) quantiser: CoarseQuantiser,
    pub(crate) warm_start: WarmStart,
    /// The recall that is asked for and held-out rows to reach it by; `None` where none is asked
    /// for.
    pub(crate) ground_truth: Option<(f64, GroundTruth<T>)>,
    /// How far rows probe.
    pub(crate) reach: Reach,
    /// What they probe with the margin of that.
    pub(crate) stats: ProbeStats,
}

impl<T: Scalar> IvfState<T> {
    pub(crate) fn new(
        plan: &IvfPlan,
        (left, right): Sides<'_, '_, T>,
        k: usize,
        ctx: &Context,
    ) -> Result<Self> {
        let ground_truth = ground_truth(plan.until_recall, left, right, k, ctx)?;
        ctx.begin_stage("lists");
        Self::with_ground_truth(plan, ground_truth, (left, right), k, ctx)
    }

    /// The same where held-out rows have been joined, if a recall is asked for.
    pub(crate) fn with_ground_truth(
        plan: &IvfPlan,
        mut ground_truth: Option<(f64, GroundTruth<T>)>,
        (left, right): Sides<'_, '_, T>,
        k: usize,
        ctx: &Context,
    ) -> Result<Self> {
        let (quantiser, warm_start) = learn(
            plan.lists,
            (plan.until_recall, plan.seed),
            (left, right),
            k,
            ctx,
        )?;
        let (reach, stats) = match &mut ground_truth {
            Some((recall, ground_truth)) => {
                let sides = (left, right);
                let study =
                    margin_for(&quantiser, &warm_start, sides, ground_truth, *recall, ctx)?.0;
                (study.reach, study.stats)
            }
            None => {
                let side = left.unwrap_or(right);
                let margin = margin_of(&quantiser, side, plan.probes, ctx)?;
                let [stats] = probe_stats(&quantiser, &warm_start, side, [margin], ctx)?;
                (Reach::without_pass(margin, stats.lists), stats)
            }
        };
        Ok(Self {
            quantiser,
            warm_start,
            ground_truth,
            reach,
            stats,
        })
    }
}

/// Learns so many lists of the right side, and the warm start of each.
pub(crate) fn learn<T: Scalar>(
    lists: usize,
    (recall, seed): (Option<f64>, u64),
    (left, right): Sides<'_, '_, T>,
    k: usize,
    ctx: &Context,
) -> Result<(CoarseQuantiser, WarmStart)> {
    let quantiser = CoarseQuantiser::of_side(right, lists, recall, seed, ctx)?;
    let rows = warm_start_rows(k, right.len(), false);
    let warm_start = WarmStart::new(&quantiser, right, left.is_none(), rows, ctx)?;
    Ok((quantiser, warm_start))
}
