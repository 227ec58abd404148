//! The batch join: the k nearest items of every query, all queries known beforehand.

use lshjoin_kernels::{Rows, Scalar};

use crate::{
    base::{
        check::positive, context::Context, error::Result, input::Input, metric::Metric,
        plan::JoinPlan,
    },
    ivf::{
        coarse_quantiser::CoarseQuantiser,
        margins::{ProbeStats, Reach},
        neighbor_pass::TAKES,
        probe_lists::ProbeLists,
        state::{IvfState, PlannedJoin},
    },
    join::{
        by_tables::{KeyOrder, ORDER_BITS},
        exact::by_leading_axes,
        inner_product::{self, Products},
    },
    pairs::{
        by_sorting::are_most,
        code_join::CodeJoin,
        results::Neighbors,
        top_k_join::{EXACT_BELOW, TopKJoin, all_pairs, are_few},
    },
    planner::{
        Planner,
        prediction::{PlanStudy, PredictedPlan},
    },
    vectors::{
        Sides, Vectors,
        duplicates::Distinct,
        principal_axes::{self, PrincipalAxes},
    },
};

/// Joins by a plan that needs no index. Both sides have the same dimension, here and below.
///
/// # Errors
/// As [`KnnJoin::run`](crate::KnnJoin::run).
pub(crate) fn by_plan<T: Scalar>(
    input: Input<'_, T>,
    k: usize,
    metric: Metric,
    plan: &JoinPlan,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    if metric == Metric::InnerProduct {
        return join_products(&Products::new(input, ctx)?, k, plan, ctx);
    }
    join_by(input, k, metric, plan, ctx)
}

/// The same for rows that are ready for their metric: for inner products, augmented.
fn join_by<T: Scalar>(
    input: Input<'_, T>,
    k: usize,
    metric: Metric,
    plan: &JoinPlan,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    let choose = |_: Sides<'_, '_, T>, _| Ok((PlannedJoin::of(*plan), ()));
    Ok(join(input, k, metric, ctx, choose)?.0)
}

/// Joins by inner product, group by group, by the plan for the largest.
fn join_products<T: Scalar>(
    products: &Products<'_, T>,
    k: usize,
    plan: &JoinPlan,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    let others = products.others(k);
    products.knn(k, ctx, |input, k| {
        let plan = plan.for_fewer(input.items.len() as f64 / products.most().max(1) as f64);
        let plan = plan.until(|recall| others.of_all(recall));
        join_by(input, k, Metric::InnerProduct, &plan, ctx)
    })
}

/// Joins by the plan that is chosen for the rows that take part and for so many neighbours. Also
/// returns what else `choose` does.
fn join<T: Scalar, E>(
    input: Input<'_, T>,
    k: usize,
    metric: Metric,
    ctx: &Context,
    choose: impl FnOnce(Sides<'_, '_, T>, usize) -> Result<(PlannedJoin<T>, E)>,
) -> Result<(Neighbors<T>, E)> {
    ctx.begin_stage("duplicates");
    let distinct = Distinct::of_input(&input, None, k, ctx)?;
    ctx.begin_stage("codes");
    let (mut left, mut right) = Vectors::of_input(input, metric, distinct, ctx)?;
    let (choice, other) = choose((left.as_ref(), &right), k)?;
    let found = join_sides(left.as_mut(), &mut right, k, choice, ctx)?;
    ctx.foresee(0.0);
    Ok((found, other))
}

/// How many pairs a join by lists will probably compare, or the like, from the assignment on.
fn foreseen<T: Scalar>(
    (left, right): Sides<'_, '_, T>,
    quantiser: &CoarseQuantiser,
    stats: &ProbeStats,
    reach: &Reach,
) -> f64 {
    let rows = left.unwrap_or(right).len() as f64;
    let of_row = quantiser.lists_of_row() as f64
        + (stats.share + stats.warm_start) * right.len() as f64
        + reach.before_pass.map_or(0.0, |_| TAKES as f64);
    rows * of_row
}

/// Joins prepared rows by a plan or, where no plan can be quicker than that, all pairs.
fn join_sides<T: Scalar>(
    mut left: Option<&mut Vectors<'_, T>>,
    right: &mut Vectors<'_, T>,
    k: usize,
    choice: PlannedJoin<T>,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    let items = right.len();
    let most = left.as_ref().map_or(items, |left| left.len());
    let few = match choice.plan {
        JoinPlan::Exact => most.min(items) < EXACT_BELOW,
        _ => are_few(most, items, EXACT_BELOW),
    };
    if are_most(k, items) || right.codes.is_none() || few {
        return all_pairs(left.as_deref(), right, k, ctx);
    }
    if choice.plan == JoinPlan::Exact
        && let Some(found) = by_leading_axes(left.as_deref_mut(), right, k, ctx)?
    {
        return Ok(found);
    }
    let (axes, tables) = match &choice.plan {
        // A plan of partitions is followed by an index, and does not come here.
        JoinPlan::Exact | JoinPlan::Partitions(_) => (ORDER_BITS, None),
        JoinPlan::Lsh(plan) => (plan.axes, Some(plan)),
        JoinPlan::Ivf(plan) => {
            let prepared = match choice.prepared {
                Some(prepared) => prepared,
                None => IvfState::new(plan, (left.as_deref(), right), k, ctx)?,
            };
            let IvfState {
                quantiser,
                warm_start,
                ground_truth,
                reach,
                stats,
            } = prepared;
            ctx.begin_stage("lists");
            ctx.foresee(foreseen(
                (left.as_deref(), right),
                &quantiser,
                &stats,
                &reach,
            ));
            let rows = left.as_deref().unwrap_or(right).len();
            if !stats.are_too_many(rows) {
                let probe_lists = ProbeLists::new(
                    &quantiser,
                    warm_start,
                    left.as_deref_mut(),
                    right,
                    reach,
                    ctx,
                )?;
                let of_left = left.as_ref().and_then(|left| left.codes.as_ref());
                if let Some(of_right) = &right.codes {
                    let codes = (of_left, of_right);
                    let join = CodeJoin::new(left.as_deref(), right, codes, k, ctx)?;
                    let lists = (&quantiser, probe_lists);
                    let found = join.by_lists(plan.rounds, lists, reach, ground_truth)?;
                    let Some(lists) = found else {
                        return all_pairs(left.as_deref(), right, k, ctx);
                    };
                    // They are not read again, and what is returned takes as much.
                    left.iter_mut().for_each(|left| left.codes = None);
                    right.codes = None;
                    let right = &*right;
                    return lists.finish(k, (left.as_deref().unwrap_or(right), right), ctx);
                }
            }
            (ORDER_BITS, None)
        }
    };
    ctx.begin_stage("key order");
    let sample = right.strided_sample(principal_axes::axes_sample_step(items, right.rows.dim()))?;
    let sample = Rows::new(&sample, right.rows.dim())?;
    let axes = PrincipalAxes::of_sample(sample, axes, ctx)?;
    let key_order = KeyOrder::new(right, left.as_deref_mut(), &axes, sample, ctx)?;
    let join = TopKJoin::new(left.as_deref(), right, k, ctx)?;
    join.fill(&key_order)?;
    match tables {
        None => join.all_pairs(),
        Some(plan) => join.by_tables(plan, &axes, sample),
    }
}

/// Joins by the plan that the planner makes.
///
/// # Errors
/// As [`KnnJoin::run`](crate::KnnJoin::run).
pub(crate) fn by_recall<T: Scalar>(
    input: Input<'_, T>,
    k: usize,
    metric: Metric,
    recall: f64,
    seed: u64,
    ctx: &Context,
) -> Result<(Neighbors<T>, PredictedPlan)> {
    let planner = Planner::new(recall, seed, ctx)?;
    if metric != Metric::InnerProduct {
        return join(input, k, metric, ctx, |sides, k| planner.choose(sides, k));
    }
    let products = Products::new(input, ctx)?;
    if products.groups() > 1 {
        let planned = inner_product::study(planner, &products, k)?.chosen;
        let found = join_products(&products, k, &planned.plan, ctx)?;
        return Ok((found, planned));
    }
    let planner = planner.for_others(products.others(k));
    let mut planned = None;
    let found = products.knn(k, ctx, |input, k| {
        let (found, chosen) = join(input, k, metric, ctx, |sides, k| planner.choose(sides, k))?;
        planned = Some(chosen);
        Ok(found)
    })?;
    // One group is always joined.
    let exact = || PredictedPlan {
        plan: JoinPlan::Exact,
        predicted: None,
    };
    Ok((found, planned.unwrap_or_else(exact)))
}

/// The plan of the least predicted time, with what it was chosen from.
///
/// # Errors
/// As [`KnnJoin::study`](crate::KnnJoin::study).
pub(crate) fn study<T: Scalar>(
    input: Input<'_, T>,
    k: usize,
    metric: Metric,
    recall: f64,
    seed: u64,
    ctx: &Context,
) -> Result<PlanStudy> {
    positive("k", k)?;
    let planner = Planner::new(recall, seed, ctx)?;
    if metric == Metric::InnerProduct {
        return inner_product::study(planner, &Products::new(input, ctx)?, k);
    }
    planner.study_rows(input, k, metric)
}
