//! The batch join: the k nearest items of every query, all queries known beforehand.

use std::ops::Range;

use lshjoin_kernels::{Rows, Scalar};
use rayon::prelude::*;

use crate::{
    cells::Cells,
    directions::{PrincipalAxes, TableFunctions},
    duplicates::Distinct,
    error::{Error, Result},
    held_out::HeldOut,
    inner_product::knn_join_by_inner_product,
    knn::{Nearer, Nearest},
    meet::{Meeting, Meetings},
    metric::Metric,
    nearest::Neighbors,
    plan::{CellPlan, JoinPlan, LshPlan},
    run::Run,
    side::Side,
    signs::Signs,
    similarity::same_dimension,
    table::Table,
    visits::Visits,
};

/// For each query its k nearest items; among `items` themselves when `queries` is `None`, a row
/// then not being its own neighbour (its exact duplicates are).
///
/// [`JoinPlan::Exact`] meets all pairs, as tiles, after tables have brought rough neighbours
/// together so that nearly all pairs fail the first test. [`JoinPlan::Lsh`] meets the rows of
/// each bucket, and the neighbours of neighbours; [`JoinPlan::Cells`] the rows of near cells. All
/// compare 8-bit codes and compute the distances of what these can't tell apart, so that each
/// query gets the nearest of all the items that it met. Manhattan distance has no such codes, and a side of less than a few thousand rows
/// needs no tables: then all pairs are met whatever the plan.
///
/// ```
/// use lshjoin::{JoinPlan, Metric, Rows, Run, knn_join};
///
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let near = knn_join(None, items, 1, Metric::Euclidean, &JoinPlan::Exact, &Run::new()?)?;
/// assert_eq!((near.indices, near.distances), (vec![1, 0, 1], vec![1.0, 1.0, 4.0]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
///
/// # Errors
/// When dimensions differ, a row holds NaN or infinity, `k` or a number of the plan is out of
/// range, or the run is cancelled.
pub fn knn_join<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    plan: &JoinPlan,
    run: &Run,
) -> Result<Neighbors<T>> {
    if let Some(queries) = queries {
        same_dimension(queries, items)?;
    }
    plan.check()?;
    if metric == Metric::InnerProduct {
        return knn_join_by_inner_product(queries, items, k, plan, run);
    }
    let keep = if queries.is_some() {
        k
    } else {
        k.saturating_add(1)
    };
    let Some(distinct) = Distinct::of(items, keep, run)? else {
        return join_distinct(queries, items, k, metric, plan, run);
    };
    let kept: Vec<T> = distinct
        .kept
        .iter()
        .flat_map(|&row| items.row(row as usize))
        .copied()
        .collect();
    let kept = Rows::new(&kept, items.dim())?;
    let found = join_distinct(queries, kept, k, metric, plan, run)?.renumbered(&distinct.kept);
    Ok(match queries {
        Some(_) => found,
        None => found.copied_to(&distinct.places),
    })
}

/// The join of items without most of their duplicates.
fn join_distinct<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    plan: &JoinPlan,
    run: &Run,
) -> Result<Neighbors<T>> {
    let mut right = Side::new("items", items, metric, run)?;
    let mut left = queries
        .map(|queries| Side::new("queries", queries, metric, run))
        .transpose()?;
    let most = left
        .as_ref()
        .map_or(right.rows.len(), |left| left.rows.len());
    if right.codes.is_none() || most.min(right.rows.len()) < MANY {
        return KnnJoin::new(left.as_ref(), &right, k, run)?.exactly();
    }
    let (axes, tables) = match plan {
        JoinPlan::Exact => (STRETCH_BITS, None),
        JoinPlan::Lsh(plan) => (plan.axes, Some(plan)),
        JoinPlan::Cells(plan) => {
            let axes = PrincipalAxes::of_sample(items, plan.axes, run)?;
            let cells = Cells::of_sample(&axes, &right, plan.cells, plan.seed, run)?;
            let of_right = cells.table(&mut right, run)?;
            let of_left = left
                .as_mut()
                .map(|left| cells.table(left, run))
                .transpose()?;
            let visits = Visits::new(&cells, of_left.as_ref(), &of_right, run)?;
            drop((of_left, of_right));
            return KnnJoin::new(left.as_ref(), &right, k, run)?.by_cells(plan, visits);
        }
    };
    let axes = PrincipalAxes::of_sample(items, axes, run)?;
    let stretches = Stretches::new(&mut right, left.as_mut(), &axes, run)?;
    let join = KnnJoin::new(left.as_ref(), &right, k, run)?;
    join.fill(&stretches)?;
    match tables {
        None => join.exactly(),
        Some(plan) => join.by_tables(plan, &axes),
    }
}

/// Both sides in the order of one key of many bits, by which their rows are numbered from then on.
struct Stretches {
    items: Table,
    queries: Option<Table>,
}

impl Stretches {
    fn new<T: Scalar>(
        right: &mut Side<'_, T>,
        left: Option<&mut Side<'_, T>>,
        axes: &PrincipalAxes,
        run: &Run,
    ) -> Result<Self> {
        let functions = axes.table(right.rows, STRETCH_BITS, 0, u64::MAX, run)?;
        let in_order = |side: &mut Side<'_, T>| {
            let mut table = Signs::of(side, &functions, run)?.table()?;
            side.reorder(table.renumber())?;
            Ok::<_, Error>(table)
        };
        Ok(Self {
            items: in_order(right)?,
            queries: left.map(in_order).transpose()?,
        })
    }
}

/// A join under way.
pub(crate) struct KnnJoin<'a, T> {
    /// `None` when the right side is joined with itself.
    pub(crate) left: Option<&'a Side<'a, T>>,
    pub(crate) right: &'a Side<'a, T>,
    pub(crate) nearest: Nearest<'a, T>,
    pub(crate) run: &'a Run,
}

/// Left rows that are expanded together: near each other, they have neighbours in common.
const EXPANDED: usize = 128;

/// Rows of the stretches that meet before buckets do, and bits of the keys that order them.
const STRETCH: usize = 256;
const STRETCH_BITS: usize = 20;

/// The share of the pairs from which on it is quicker to meet all.
const ALL: f64 = 0.8;

/// Rows of both sides from which on it pays to do anything but meet all pairs.
pub(crate) const MANY: usize = 4096;

/// How many times its tables a plan may take to reach its recall; then all pairs are met.
const PATIENCE: usize = 16;

impl<'a, T: Scalar> KnnJoin<'a, T> {
    fn left(&self) -> &'a Side<'a, T> {
        self.left.unwrap_or(self.right)
    }

    /// Of `right` with itself when `left` is `None`.
    pub(crate) fn new(
        left: Option<&'a Side<'a, T>>,
        right: &'a Side<'a, T>,
        k: usize,
        run: &'a Run,
    ) -> Result<Self> {
        let nearest = Nearest::new(left.unwrap_or(right), left.map(|_| right), k, run)?;
        Ok(Self {
            left,
            right,
            nearest,
            run,
        })
    }

    /// Meets all pairs, and ends the join.
    pub(crate) fn exactly(self) -> Result<Neighbors<T>> {
        self.meet_all(&self.nearest.for_all())?;
        self.nearest.finish()
    }

    /// Meets all pairs.
    pub(crate) fn meet_all(&self, judge: &Nearer<'_, T>) -> Result<()> {
        let (left_order, right_order) = (self.left().numbers(), self.right.numbers());
        let meetings = Meetings {
            left: self.left(),
            left_order: &left_order,
            right: self.left.map(|_| (self.right, right_order.as_slice())),
            run: self.run,
        };
        let all = Meeting {
            left: 0..left_order.len(),
            right: 0..right_order.len(),
        };
        meetings.hold([all].into_iter(), judge)
    }

    fn by_cells(self, plan: &CellPlan, visits: Visits) -> Result<Neighbors<T>> {
        let enough = match plan.until_recall {
            Some(recall) => visits.enough_for_recall(recall, &HeldOut::of(&self)?),
            None => visits.enough_for_share(plan.probes as f64 / plan.cells as f64),
        };
        let mut meetings = visits.with(enough);
        let (left, right) = (self.left(), self.right);
        meetings.hold_first(left, right, &self.nearest, self.run)?;
        if meetings.share() > ALL {
            return self.exactly();
        }
        meetings.hold(left, right, &self.nearest, self.run)?;
        self.expanded(plan.rounds)
    }

    /// Ends the join after so many rounds of meeting the neighbours of neighbours.
    pub(crate) fn expanded(self, rounds: usize) -> Result<Neighbors<T>> {
        let order: Vec<u32> = (0..self.left().rows.len() as u32).collect();
        for _ in 0..rounds {
            self.expand(&order)?;
        }
        self.nearest.finish()
    }

    fn by_tables(self, plan: &LshPlan, axes: &PrincipalAxes) -> Result<Neighbors<T>> {
        let held_out = plan
            .until_recall
            .map(|recall| HeldOut::of(&self).map(|held_out| (recall, held_out)))
            .transpose()?;
        let mut rounds = 0;
        for table in 0..plan.tables.saturating_mul(PATIENCE) {
            let functions = axes.table(
                self.right.rows,
                plan.functions,
                plan.seed,
                table as u64,
                self.run,
            )?;
            let left_order = self.table(&functions, plan.probes)?;
            if table + 1 < plan.tables {
                continue;
            }
            loop {
                let reached = match &held_out {
                    Some((recall, held_out)) => held_out.reaches(*recall, &self.nearest.lists)?,
                    None => rounds == plan.rounds,
                };
                if reached {
                    return self.nearest.finish();
                }
                // Past the plan, each further table is followed by a round.
                if rounds >= plan.rounds.saturating_add(table + 1 - plan.tables) {
                    break;
                }
                self.expand(&left_order)?;
                rounds += 1;
            }
        }
        self.exactly()
    }

    fn meet(
        &self,
        left_order: &[u32],
        right_order: &[u32],
        met: Vec<(Range<usize>, Range<usize>)>,
        judge: &Nearer<'_, T>,
    ) -> Result<()> {
        let right = Some((self.right, right_order));
        let meetings = Meetings {
            left: self.left(),
            left_order,
            right,
            run: self.run,
        };
        let met = met.into_iter().map(|(left, right)| Meeting { left, right });
        meetings.hold(met, judge)
    }

    /// Meets the rows of short stretches: that fills the lists, so that in whole buckets most pairs
    /// already fail the test.
    fn fill(&self, stretches: &Stretches) -> Result<()> {
        let items = &stretches.items;
        let (queries, met) = match &stretches.queries {
            None => {
                let met = items.stretches(STRETCH);
                (items, met.map(|rows| (rows.clone(), rows)).collect())
            }
            Some(queries) => (queries, queries.stretches_of(items, STRETCH)),
        };
        self.meet(&queries.order, &items.order, met, &self.nearest.first())
    }

    /// Makes a table, lets each query look into `probes` of its buckets, and returns the queries in
    /// the order of their buckets.
    fn table(&self, functions: &TableFunctions, probes: usize) -> Result<Vec<u32>> {
        let of_items = Signs::of(self.right, functions, self.run)?;
        let of_queries = self
            .left
            .map(|left| Signs::of(left, functions, self.run))
            .transpose()?;
        let of_queries = of_queries.as_ref().unwrap_or(&of_items);
        let items = of_items.table()?;
        let probing = of_queries.probed_table(probes)?;
        self.meet(
            &probing.order,
            &items.order,
            probing.matches(&items),
            &self.nearest.for_left(),
        )?;
        match self.left {
            None => Ok(items.order),
            Some(_) => Ok(of_queries.table()?.order),
        }
    }

    /// Neighbours of neighbours: left rows that lie together meet the neighbours of them all
    /// and, where the items are joined with themselves, these neighbours' neighbours.
    fn expand(&self, left_order: &[u32]) -> Result<()> {
        let lists = self.nearest.lists.settle(self.run)?;
        let candidates: Vec<Vec<u32>> = left_order
            .par_chunks(EXPANDED)
            .map(|block| {
                let mut near: Vec<u32> = block.iter().flat_map(|&row| lists.of(row)).collect();
                near.sort_unstable();
                near.dedup();
                if self.left.is_none() {
                    let next: Vec<u32> = near.iter().flat_map(|&row| lists.of(row)).collect();
                    near.extend(next);
                    near.sort_unstable();
                    near.dedup();
                }
                near
            })
            .collect();
        let mut met = Vec::with_capacity(candidates.len());
        let mut right_order = Vec::new();
        for (block, candidates) in candidates.iter().enumerate() {
            let start = right_order.len();
            right_order.extend(candidates);
            let left = block * EXPANDED..left_order.len().min((block + 1) * EXPANDED);
            met.push((left, start..right_order.len()));
        }
        self.meet(left_order, &right_order, met, &self.nearest.for_left())
    }
}
