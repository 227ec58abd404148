//! The k nearest items of every query, of packed bits.

use crate::{
    base::{
        check::{check_recall, positive},
        context::Context,
        error::{Error, Result},
        plan::{IvfPlan, JoinPlan, lists_for},
        report::Estimate,
    },
    binary::{
        lists::InvertedLists,
        sides::{BinarySides, Whole},
        top_k::nearest,
    },
    pairs::{results::Neighbors, top_k_join::EXACT_BELOW},
};

/// So many bytes of pairs are compared in about the time that lists take to be learnt.
const BYTES_BELOW: f64 = (1_u64 << 36) as f64;

/// To be compared list by list takes a pair so many times as long as among all pairs.
const OF_LISTS: f64 = 2.0;

/// Joins by a plan, or by that which reaches the recall soonest.
///
/// # Errors
/// As [`BinaryKnnJoin::run`](crate::BinaryKnnJoin::run).
pub(crate) fn knn(
    sides: &BinarySides<'_>,
    k: usize,
    recall: f64,
    seed: u64,
    plan: Option<JoinPlan>,
    ctx: &Context,
) -> Result<(Neighbors<f32>, JoinPlan)> {
    positive("k", k)?;
    sides.check()?;
    let plan = match plan {
        Some(plan) => {
            plan.check()?;
            plan
        }
        None => {
            check_recall("recall", recall)?;
            let bytes = sides.pairs() * sides.items.dim() as f64;
            match recall < 1.0 && bytes >= BYTES_BELOW {
                false => JoinPlan::Exact,
                true => JoinPlan::Ivf(
                    IvfPlan::new(lists_for(sides.items.len()), 1)
                        .seed(seed)
                        .until_recall(recall),
                ),
            }
        }
    };
    // No list gets longer than there are items, whatever k asks for.
    let few = k.min(sides.items.len().max(1));
    let by_lists = match plan {
        JoinPlan::Exact => None,
        JoinPlan::Ivf(plan) if plan.rounds == 0 => by_lists(sides, few, plan, ctx)?,
        _ => {
            let must_be = "exact, or by lists without rounds, for packed bits";
            return Err(Error::parameter("plan", must_be, "another"));
        }
    };
    let (found, plan) = match by_lists {
        Some((found, plan)) => (found, JoinPlan::Ivf(plan)),
        None => (exact(sides, few, ctx)?, JoinPlan::Exact),
    };
    Ok((found.with_k(k)?, plan))
}

/// Compares all pairs, or those of rows with equal keys.
fn exact(sides: &BinarySides<'_>, k: usize, ctx: &Context) -> Result<Neighbors<f32>> {
    ctx.begin_stage("all pairs");
    let whole = Whole::new(sides)?;
    let near = nearest(sides, whole.left(), k, ctx, |block, places| {
        for (list, places) in whole.lists(places) {
            let chosen: Vec<u32> = places.collect();
            block.compare(&chosen, &whole.right, whole.right.groups(list))?;
        }
        Ok(())
    })?;
    ctx.reached(Estimate::EXACT);
    whole.by_row(near, sides.left().len())
}

/// Compares the items of the lists that a query probes; `None` where all pairs are compared sooner.
fn by_lists(
    sides: &BinarySides<'_>,
    k: usize,
    plan: IvfPlan,
    ctx: &Context,
) -> Result<Option<(Neighbors<f32>, IvfPlan)>> {
    let rows = sides.items.len().min(sides.left().len());
    if sides.keys.within.is_some() || rows < EXACT_BELOW {
        return Ok(None);
    }
    let lists = InvertedLists::new(sides, plan.lists.min(rows), plan.seed, ctx)?;
    let margin = match plan.until_recall {
        Some(recall) => lists.margin_for(recall, k)?,
        None => lists.margin_of(plan.probes, k)?,
    };
    if margin.items * OF_LISTS > sides.items.len() as f64 {
        return Ok(None);
    }
    let found = lists.join(margin.distance, k)?;
    match margin.recall {
        Some(recall) => ctx.reached(recall),
        None => ctx.reached_unknown(),
    }
    // What was learnt for: the same plan learns, and probes, the same again.
    let probes = match plan.until_recall {
        Some(_) => (margin.probes.round() as usize).max(1),
        None => plan.probes,
    };
    Ok(Some((found, IvfPlan { probes, ..plan })))
}
