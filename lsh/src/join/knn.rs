//! The batch join: the k nearest items of every query, all queries known beforehand.

use std::ops::Range;

use lshjoin_kernels::{Rows, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        check::{positive, same_dimension},
        context::Run,
        error::{Error, Result},
        metric::Metric,
        plan::{CellPlan, JoinPlan, LshPlan, MOST_TABLES},
        report::Estimate,
    },
    index::join_by_index,
    ivf::{
        coarse_quantiser::Cells,
        margins::{Extent, extents, margin_for, margin_of},
        probe_lists::Visits,
        warm_start::Filling,
    },
    join::inner_product::Products,
    lsh::{sign_bits::Signs, table::Table},
    pairs::{
        by_sorting::{are_most, by_sorting},
        tile_join::{Meeting, Meetings},
        top_k::{Nearer, Nearest},
        top_k_lists::{Neighbors, to_begin_with},
    },
    planner::planner::{Planner, PredictedPlan},
    recall::ground_truth::HeldOut,
    vectors::{
        duplicates::{Distinct, kept},
        principal_axes::{self, PrincipalAxes, TableFunctions},
        vectors::Side,
    },
};

/// For each query its k nearest items; among `items` themselves when `queries` is `None`, a row
/// then not being its own neighbour (its exact duplicates are).
///
/// [`JoinPlan::Exact`] meets all pairs, as tiles, after tables have brought rough neighbours
/// together so that nearly all pairs fail the first test. [`JoinPlan::Lsh`] meets the rows of
/// each bucket, and the neighbours of neighbours; [`JoinPlan::Cells`] those of a cell and the rows
/// that look into it; [`JoinPlan::Partitions`] those of near cells of an [`Index`](crate::Index), as
/// joins out of core do. All compare 8-bit codes and compute the distances of what these can't tell
/// apart, so that each query gets the nearest of all the items that it met. Manhattan distance has no
/// such codes, and a side of less than a few thousand rows needs no tables: then all pairs are met
/// whatever the plan.
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
    if let JoinPlan::Partitions(plan) = plan {
        return join_by_index(queries, items, k, metric, *plan, run);
    }
    if metric == Metric::InnerProduct {
        return join_products(&Products::new(queries, items, run)?, k, plan, run);
    }
    join_by(queries, items, k, metric, plan, run)
}

/// The join by a plan that needs no index.
fn join_by<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    plan: &JoinPlan,
    run: &Run,
) -> Result<Neighbors<T>> {
    let choose = |_: Sides<'_, '_, T>, _| Ok((Choice::of(*plan), ()));
    Ok(join(queries, items, k, metric, run, choose)?.0)
}

/// The join by inner product, group by group by the plan of the largest.
fn join_products<T: Scalar>(
    products: &Products<'_, T>,
    k: usize,
    plan: &JoinPlan,
    run: &Run,
) -> Result<Neighbors<T>> {
    let others = products.others(k);
    products.knn(k, run, |queries, items, k| {
        let plan = plan.for_fewer(items.len() as f64 / products.most().max(1) as f64);
        let plan = plan.until(|recall| others.of_all(recall));
        join_by(Some(queries), items, k, Metric::InnerProduct, &plan, run)
    })
}

/// [`knn_join`] by the plan that [`plan_knn_join`](crate::plan_knn_join) makes for the same
/// arguments, which is returned beside the neighbours.
///
/// ```
/// use lshjoin::{JoinPlan, Metric, Rows, Run, knn_join_for_recall};
///
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let run = Run::new()?;
/// let (near, planned) = knn_join_for_recall(None, items, 1, Metric::Euclidean, 0.9, 0, &run)?;
/// assert_eq!((near.indices, planned.plan), (vec![1, 0, 1], JoinPlan::Exact));
/// # Ok::<(), lshjoin::Error>(())
/// ```
///
/// # Errors
/// As of both.
pub fn knn_join_for_recall<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    recall: f64,
    seed: u64,
    run: &Run,
) -> Result<(Neighbors<T>, PredictedPlan)> {
    if let Some(queries) = queries {
        same_dimension(queries, items)?;
    }
    let planner = Planner::new(recall, seed, run)?;
    if metric != Metric::InnerProduct {
        return join(queries, items, k, metric, run, |sides, k| {
            planner.choose(sides, k)
        });
    }
    let products = Products::new(queries, items, run)?;
    if products.groups() > 1 {
        let planned = planner.study_products(&products, k)?.chosen;
        let found = join_products(&products, k, &planned.plan, run)?;
        return Ok((found, planned));
    }
    let planner = planner.for_others(products.others(k));
    let mut planned = None;
    let found = products.knn(k, run, |queries, items, k| {
        let (found, chosen) = join(Some(queries), items, k, metric, run, |sides, k| {
            planner.choose(sides, k)
        })?;
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

/// The left side of a join, if it is not the right one, and the right one.
pub(crate) type Sides<'s, 'a, T> = (Option<&'s Side<'a, T>>, &'s Side<'a, T>);

/// A plan, and what it starts with if the planner made that.
pub(crate) struct Choice<T> {
    pub(crate) plan: JoinPlan,
    pub(crate) prepared: Option<Prepared<T>>,
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

impl<T> Choice<T> {
    pub(crate) fn of(plan: JoinPlan) -> Self {
        Self {
            plan,
            prepared: None,
        }
    }
}

/// The join by the plan that is chosen for the rows that take part in it and so many neighbours, with
/// what else comes of choosing.
fn join<T: Scalar, E>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    run: &Run,
    choose: impl FnOnce(Sides<'_, '_, T>, usize) -> Result<(Choice<T>, E)>,
) -> Result<(Neighbors<T>, E)> {
    run.begin("distinct");
    let distinct = Distinct::of(items, kept(queries.is_none(), k), run)?;
    run.begin("codes");
    let mut right = Side::of_items(items, metric, distinct, run)?;
    let mut left = queries
        .map(|queries| right.to_meet("queries", queries, run))
        .transpose()?;
    let (choice, other) = choose((left.as_ref(), &right), k)?;
    let found = join_sides(left.as_mut(), &mut right, k, choice, run)?;
    Ok((found, other))
}

fn join_sides<T: Scalar>(
    mut left: Option<&mut Side<'_, T>>,
    right: &mut Side<'_, T>,
    k: usize,
    choice: Choice<T>,
    run: &Run,
) -> Result<Neighbors<T>> {
    let items = right.len();
    let most = left.as_ref().map_or(items, |left| left.len());
    if are_most(k, items) || right.codes.is_none() || most.min(items) < MANY {
        return all_pairs(left.as_deref(), right, k, run);
    }
    let (axes, tables) = match &choice.plan {
        // An index has followed it before it comes to this.
        JoinPlan::Exact | JoinPlan::Partitions(_) => (STRETCH_BITS, None),
        JoinPlan::Lsh(plan) => (plan.axes, Some(plan)),
        JoinPlan::Cells(plan) => {
            let prepared = match choice.prepared {
                Some(prepared) => prepared,
                None => Prepared::new(plan, (left.as_deref(), right), k, run)?,
            };
            let Prepared {
                cells,
                filling,
                held_out,
                margin,
                extent,
            } = prepared;
            run.begin("cells");
            let most = if left.is_none() { ALL / 2.0 } else { ALL };
            if extent.share <= most {
                let visits = Visits::new(&cells, filling, left.as_deref_mut(), right, margin, run)?;
                let join = KnnJoin::new(left.as_deref(), right, k, run)?;
                return join.by_cells(plan, visits, held_out);
            }
            (STRETCH_BITS, None)
        }
    };
    run.begin("stretches");
    let sample = right.spread(principal_axes::sample_step(items, right.rows.dim()))?;
    let sample = Rows::new(&sample, right.rows.dim())?;
    let axes = PrincipalAxes::of_sample(sample, axes, run)?;
    let stretches = Stretches::new(right, left.as_deref_mut(), &axes, sample, run)?;
    let join = KnnJoin::new(left.as_deref(), right, k, run)?;
    join.fill(&stretches)?;
    match tables {
        None => join.all_pairs(),
        Some(plan) => join.by_tables(plan, &axes, sample),
    }
}

impl<T: Scalar> Prepared<T> {
    fn new(plan: &CellPlan, (left, right): Sides<'_, '_, T>, k: usize, run: &Run) -> Result<Self> {
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

/// The k nearest of all pairs, as the one thing that is left to do.
pub(crate) fn all_pairs<T: Scalar>(
    left: Option<&Side<'_, T>>,
    right: &Side<'_, T>,
    k: usize,
    run: &Run,
) -> Result<Neighbors<T>> {
    run.begin("all pairs");
    run.reached(Estimate::ALL);
    exactly(left, right, k, run)
}

/// The k nearest of all pairs.
pub(crate) fn exactly<T: Scalar>(
    left: Option<&Side<'_, T>>,
    right: &Side<'_, T>,
    k: usize,
    run: &Run,
) -> Result<Neighbors<T>> {
    positive("k", k)?;
    if are_most(k, right.len()) {
        run.meets(pairs(left, right));
        return by_sorting(left, right, k, run);
    }
    KnnJoin::new(left, right, k, run)?.exactly()
}

/// How many pairs there are, of a side with itself each once.
fn pairs<T: Scalar>(left: Option<&Side<'_, T>>, right: &Side<'_, T>) -> u64 {
    let items = right.len() as u64;
    match left {
        Some(left) => left.len() as u64 * items,
        None => items * items.saturating_sub(1) / 2,
    }
}

/// The rows to reach a recall by, where one is asked for.
fn held_out<T: Scalar>(
    recall: Option<f64>,
    left: Option<&Side<'_, T>>,
    right: &Side<'_, T>,
    k: usize,
    run: &Run,
) -> Result<Option<(f64, HeldOut<T>)>> {
    let Some(recall) = recall else {
        return Ok(None);
    };
    run.begin("held-out rows");
    Ok(Some((recall, HeldOut::of(left, right, k, run)?)))
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
        sample: Rows<'_, T>,
        run: &Run,
    ) -> Result<Self> {
        let functions = axes.table(sample, STRETCH_BITS, 0, u64::MAX, run)?;
        let in_order = |side: &mut Side<'_, T>| {
            let mut table = Signs::of(side, &functions, run)?.table()?;
            side.reorder(table.renumber()?)?;
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

/// Bits of the keys that order the rows of the stretches that meet before buckets do.
const STRETCH_BITS: usize = 20;

/// The share of the pairs from which on it is quicker to meet all.
const ALL: f64 = 0.8;

/// Rows of both sides from which on it pays to do anything but meet all pairs.
pub(crate) const MANY: usize = 4096;

/// Right rows that all left ones meet before they meet the rest, where nothing is known of them, and
/// of how many that is one at most.
const FEW: usize = 2048;
const FEW_OF: usize = 8;

/// How many times its tables a plan may take to reach its recall; then all pairs are met.
const PATIENCE: usize = 16;

/// Rounds beyond the plan, where a recall is not reached, before all pairs are met.
const MORE_ROUNDS: usize = 3;

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

    /// Meets all pairs as the one thing that is left to do.
    pub(crate) fn all_pairs(self) -> Result<Neighbors<T>> {
        self.run.begin("all pairs");
        self.run.reached(Estimate::ALL);
        self.exactly()
    }

    /// Meets all pairs, and ends the join.
    pub(crate) fn exactly(self) -> Result<Neighbors<T>> {
        if self.is_unbounded() {
            self.meet_some()?;
        }
        self.run.meets(pairs(self.left, self.right));
        self.meet_all(&self.nearest.for_all())?;
        self.nearest.finish()
    }

    /// Whether rows have no neighbours yet.
    fn is_unbounded(&self) -> bool {
        !self.left().is_empty() && self.nearest.lists.bound(0).is_infinite()
    }

    /// Brings all left rows together with a few right ones from all over, so that most other pairs
    /// fail the first test. (Without codes there is no such test.)
    fn meet_some(&self) -> Result<()> {
        let (left, right) = (self.left().numbers()?, self.right.numbers()?);
        let k = self.nearest.lists.k();
        let few = FEW.max(4 * k).min(right.len() / FEW_OF);
        if self.right.codes.is_none() || few < 2 * k {
            return Ok(());
        }
        let step = right.len().div_ceil(few);
        let some = memory::collect(right.into_iter().step_by(step), ROW_NUMBERS)?;
        // Not counted as met: all of these pairs meet again.
        let met = vec![(0..left.len(), 0..some.len())];
        self.hold(&left, &some, met, &self.nearest.first())
    }

    /// Meets all pairs.
    pub(crate) fn meet_all(&self, judge: &Nearer<'_, T>) -> Result<()> {
        let (left_order, right_order) = (self.left().numbers()?, self.right.numbers()?);
        let meetings = Meetings {
            left: self.left(),
            left_order: &left_order,
            right: self.left.map(|_| (self.right, right_order.as_slice())),
            leading: None,
            run: self.run,
        };
        let all = Meeting {
            left: 0..left_order.len(),
            right: 0..right_order.len(),
        };
        meetings.hold([all].into_iter(), judge)
    }

    fn by_cells(
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
    fn expanded(self, rounds: usize, held_out: Option<(f64, HeldOut<T>)>) -> Result<Neighbors<T>> {
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

    fn by_tables(
        self,
        plan: &LshPlan,
        axes: &PrincipalAxes,
        sample: Rows<'_, T>,
    ) -> Result<Neighbors<T>> {
        let run = self.run;
        let k = self.nearest.lists.k();
        // Once queries meet as many in buckets as there are items, it is quicker to meet all.
        let items = self.right.len();
        let bucket = items.checked_shr(plan.functions as u32).unwrap_or(0).max(1);
        let most = (PATIENCE * plan.tables).min(MOST_TABLES);
        let most = most.min(items / (bucket * plan.probes));
        if most < plan.tables {
            return self.all_pairs();
        }
        let held_out = held_out(plan.until_recall, self.left, self.right, k, run)?;
        let mut rounds = 0;
        for table in 0..most {
            run.begin("tables");
            let functions =
                axes.table(sample, plan.functions, plan.seed, table as u64, self.run)?;
            let left_order = self.table(&functions, plan.probes)?;
            if table + 1 < plan.tables {
                continue;
            }
            self.complete()?;
            loop {
                let reached = match &held_out {
                    Some((recall, held_out)) => {
                        let reached = held_out.recall(&self)?;
                        run.reached(reached);
                        held_out.reaches(*recall, &self)? && !reached.falls_short(*recall)
                    }
                    None => rounds == plan.rounds,
                };
                if reached {
                    run.begin("finish");
                    return self.nearest.finish();
                }
                // Past the plan, each further table is followed by a round.
                if rounds >= plan.rounds.saturating_add(table + 1 - plan.tables) {
                    break;
                }
                run.begin("rounds");
                self.expand(&left_order)?;
                rounds += 1;
            }
        }
        self.all_pairs()
    }

    /// Brings the rows that have not met as many others as they want together with all: those of cells
    /// and buckets that hold too few, as outliers' may.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn complete(&self) -> Result<()> {
        let own = usize::from(self.left.is_none());
        let short = |others: usize| {
            let lists = &self.nearest.lists;
            lists.shorter_than(others.saturating_sub(own))
        };
        if short(self.right.len()).is_empty() {
            return Ok(());
        }
        let right = self.right.numbers()?;
        let short = short(right.len());
        let met = vec![(0..short.len(), 0..right.len())];
        self.meet(&short, &right, met, &self.nearest.first())
    }

    /// Lets places of two orders meet, and counts their pairs.
    fn meet(
        &self,
        left_order: &[u32],
        right_order: &[u32],
        met: Vec<(Range<usize>, Range<usize>)>,
        judge: &Nearer<'_, T>,
    ) -> Result<()> {
        let pairs = met.iter().map(|(left, right)| left.len() * right.len());
        self.run.meets(pairs.sum::<usize>() as u64);
        self.hold(left_order, right_order, met, judge)
    }

    fn hold(
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
            leading: None,
            run: self.run,
        };
        let met = met.into_iter().map(|(left, right)| Meeting { left, right });
        meetings.hold(met, judge)
    }

    /// Meets the rows of short stretches: that fills the lists, so that in whole buckets most pairs
    /// already fail the test.
    fn fill(&self, stretches: &Stretches) -> Result<()> {
        let items = &stretches.items;
        let length = to_begin_with(self.nearest.lists.k(), self.right.len());
        let (queries, met) = match &stretches.queries {
            None => {
                let met = items.stretches(length);
                let met = met.map(|rows| (rows.clone(), rows));
                (items, memory::collect(met, ROW_NUMBERS)?)
            }
            Some(queries) => (queries, queries.stretches_of(items, length)?),
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
            probing.matches(&items)?,
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
                let near = block.iter().flat_map(|&row| lists.of(row));
                let mut near: Vec<u32> = memory::collect(near, ROW_NUMBERS)?;
                near.sort_unstable();
                near.dedup();
                if self.left.is_none() {
                    let next = near.iter().flat_map(|&row| lists.of(row));
                    let next: Vec<u32> = memory::collect(next, ROW_NUMBERS)?;
                    memory::extend(&mut near, next, ROW_NUMBERS)?;
                    near.sort_unstable();
                    near.dedup();
                }
                Ok(near)
            })
            .collect::<Result<_>>()?;
        let mut met = memory::empty(candidates.len(), ROW_NUMBERS)?;
        let mut right_order = Vec::new();
        for (block, candidates) in candidates.iter().enumerate() {
            let start = right_order.len();
            memory::extend(&mut right_order, candidates.iter().copied(), ROW_NUMBERS)?;
            let left = block * EXPANDED..left_order.len().min((block + 1) * EXPANDED);
            met.push((left, start..right_order.len()));
        }
        self.meet(left_order, &right_order, met, &self.nearest.for_left())
    }
}
