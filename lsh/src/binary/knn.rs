//! The k nearest items of every query, of packed bits.

use crate::{
    base::{
        check::{check_recall, positive},
        context::Context,
        error::{Error, Result},
        plan::{IvfPlan, JoinPlan, LISTS_OF_ROW, as_probes, lists_for},
        report::Estimate,
    },
    binary::{
        lists::{InvertedLists, Margin},
        sides::{BinarySides, Whole},
        top_k::nearest,
    },
    pairs::{results::Neighbors, top_k_join::EXACT_BELOW},
};

/// So many bytes of pairs are compared in about the time that lists take to be learnt.
const BYTES_BELOW: f64 = (1_u64 << 36) as f64;

/// To be compared list by list takes a pair so many times as long as among all pairs.
const OF_LISTS: f64 = 2.0;

/// What is asked of a join.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnnParams {
    pub(crate) k: usize,
    pub(crate) recall: f64,
    pub(crate) seed: u64,
    /// In place of one for the recall.
    pub(crate) plan: Option<JoinPlan>,
}

/// Joins by a plan, or by that which reaches the recall soonest.
///
/// # Errors
/// As [`BinaryKnnJoin::run`](crate::BinaryKnnJoin::run).
pub(crate) fn knn(
    sides: &BinarySides<'_>,
    params: &KnnParams,
    ctx: &Context,
) -> Result<(Neighbors<f32>, JoinPlan)> {
    let k = params.k;
    let (found, plan) = match by_lists(sides, params, ctx)? {
        None => (exact(sides, few(sides, k), ctx)?, JoinPlan::Exact),
        Some(ByLists {
            lists,
            margin,
            plan,
        }) => {
            let found = lists.join(margin.distance, few(sides, k))?;
            match margin.recall {
                Some(recall) => ctx.reached(recall),
                None => ctx.reached_unknown(),
            }
            (found, JoinPlan::Ivf(plan))
        }
    };
    Ok((found.with_k(k)?, plan))
}

/// The plan that [`knn`] follows.
///
/// # Errors
/// As [`knn`].
pub(crate) fn choose(
    sides: &BinarySides<'_>,
    params: &KnnParams,
    ctx: &Context,
) -> Result<JoinPlan> {
    let by_lists = by_lists(sides, params, ctx)?;
    Ok(by_lists.map_or(JoinPlan::Exact, |by_lists| JoinPlan::Ivf(by_lists.plan)))
}

/// The plan by which so many queries and items of `dim` bytes are joined for a recall: exact where all
/// pairs take no longer than lists take to be learnt.
///
/// # Errors
/// When `recall` is not above 0 and at most 1.
pub(crate) fn plan_until(
    recall: f64,
    (queries, items): (usize, usize),
    dim: usize,
    seed: u64,
) -> Result<JoinPlan> {
    check_recall("recall", recall)?;
    let bytes = queries as f64 * items as f64 * dim as f64;
    if recall == 1.0 || bytes < BYTES_BELOW {
        return Ok(JoinPlan::Exact);
    }
    Ok(JoinPlan::Ivf(lists_until(recall, items, seed)))
}

/// The plan by which so many items are joined for a recall where all pairs would take longer.
pub(crate) fn lists_until(recall: f64, items: usize, seed: u64) -> IvfPlan {
    // Rows of bits are compared with all lists.
    let plan = IvfPlan::new(lists_for(items).min(LISTS_OF_ROW), 1.0);
    plan.seed(seed).until_recall(recall)
}

/// Lists that are learnt, and how far each row probes them.
struct ByLists<'a> {
    lists: InvertedLists<'a>,
    margin: Margin,
    plan: IvfPlan,
}

/// No list gets longer than there are items, whatever k asks for.
fn few(sides: &BinarySides<'_>, k: usize) -> usize {
    k.min(sides.items.len().max(1))
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

/// The lists by which a plan, or the one for a recall, joins; `None` where all pairs are compared.
fn by_lists<'a>(
    sides: &'a BinarySides<'a>,
    params: &KnnParams,
    ctx: &'a Context,
) -> Result<Option<ByLists<'a>>> {
    let KnnParams {
        k,
        recall,
        seed,
        plan,
    } = *params;
    positive("k", k)?;
    sides.check()?;
    let plan = match plan {
        None => {
            let rows = (sides.left().len(), sides.items.len());
            plan_until(recall, rows, sides.items.dim(), seed)?
        }
        Some(plan) => plan,
    };
    plan.check()?;
    let plan = match plan {
        JoinPlan::Exact => return Ok(None),
        JoinPlan::Ivf(plan) if plan.rounds == 0 => plan,
        _ => {
            let must_be = "exact, or by lists without rounds, for packed bits";
            return Err(Error::parameter("plan", must_be, format!("{plan:?}")));
        }
    };
    let rows = sides.items.len().min(sides.left().len());
    if sides.keys.within.is_some() || rows < EXACT_BELOW {
        return Ok(None);
    }
    let k = few(sides, k);
    let lists = InvertedLists::new(sides, plan.lists.min(rows), plan.seed, ctx)?;
    let margin = match plan.until_recall {
        Some(recall) => lists.margin_for(recall, k)?,
        None => lists.margin_of(plan.probes, k)?,
    };
    if margin.items * OF_LISTS > sides.items.len() as f64 {
        return Ok(None);
    }
    // What was learnt for: the same plan learns, and probes, the same again.
    let probes = match plan.until_recall {
        Some(_) => as_probes(margin.probes),
        None => plan.probes,
    };
    let plan = IvfPlan { probes, ..plan };
    Ok(Some(ByLists {
        lists,
        margin,
        plan,
    }))
}
