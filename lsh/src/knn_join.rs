//! The batch join: the k nearest items of every query, all queries known beforehand.

use std::ops::Range;

use lshjoin_kernels::{Rows, Scalar};
use rayon::prelude::*;

use crate::{
    directions::{PrincipalAxes, TableFunctions},
    duplicates::Distinct,
    error::Result,
    held_out::HeldOut,
    knn::Nearest,
    meet::{Grain, Meeting, Meetings},
    metric::Metric,
    nearest::Neighbors,
    plan::{JoinPlan, LshPlan},
    run::Run,
    side::Side,
    signs::Signs,
    similarity::same_dimension,
};

/// For each query its k nearest items; among `items` themselves when `queries` is `None`, a row
/// then not being its own neighbour (its exact duplicates are).
///
/// [`JoinPlan::Exact`] meets all pairs, as tiles, after tables have brought rough neighbours
/// together so that nearly all pairs fail the first test. [`JoinPlan::Lsh`] meets the rows of
/// each bucket, and the neighbours of neighbours. Both compare 8-bit codes and compute the
/// distances of what these can't tell apart, so that each query gets the nearest of all the items
/// that it met.
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
    let right = Side::new("items", items, metric, run)?;
    let left = queries
        .map(|queries| Side::new("queries", queries, metric, run))
        .transpose()?;
    let nearest = Nearest::new(
        left.as_ref().unwrap_or(&right),
        left.as_ref().map(|_| &right),
        k,
        run,
    )?;
    let join = KnnJoin {
        left: left.as_ref(),
        right: &right,
        nearest,
        run,
    };
    match plan {
        JoinPlan::Exact => join.exact()?,
        JoinPlan::Lsh(plan) => join.lsh(plan)?,
    }
    join.nearest.finish()
}

/// Rows in some order, of the left and of the right side.
struct Orders {
    left: Vec<u32>,
    right: Vec<u32>,
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
const EXPANDED: usize = 64;

/// Rows of the stretches that meet before buckets do, and bits of the keys that order them.
const STRETCHES: [usize; 3] = [16, 64, 256];
const STRETCH_BITS: usize = 20;

/// Rows of a bucket of the tables that precede the exact pass and how many such tables there are:
/// enough for bounds that nearly all pairs fail.
const ROUGH_BUCKET: usize = 512;
const ROUGH_TABLES: u64 = 2;

/// Left rows from which on such tables pay.
const MANY: usize = 4096;

/// How many times its tables a plan may take to reach its recall; then all pairs are met.
const PATIENCE: usize = 16;

impl<'a, T: Scalar> KnnJoin<'a, T> {
    fn left(&self) -> &'a Side<'a, T> {
        self.left.unwrap_or(self.right)
    }

    /// Meets all pairs.
    pub(crate) fn exact(&self) -> Result<()> {
        let (left, right) = (self.left().rows.len(), self.right.rows.len());
        let mut orders = Orders {
            left: (0..left as u32).collect(),
            right: (0..right as u32).collect(),
        };
        if self.right.codes.is_some() && left.min(right) >= MANY {
            let functions = (right / ROUGH_BUCKET).ilog2() as usize;
            let axes = PrincipalAxes::of_sample(self.right.rows, 2 * functions, self.run)?;
            self.fill(&axes, 0)?;
            for table in 0..ROUGH_TABLES {
                let functions = axes.table(self.right.rows, functions, 0, table, self.run)?;
                orders = self.table(&functions, 1, grain(table))?;
            }
        }
        let meetings = Meetings {
            left: self.left(),
            left_order: if self.left.is_some() {
                &orders.left
            } else {
                &orders.right
            },
            right: self.left.map(|_| (self.right, orders.right.as_slice())),
            grain: Grain::COARSE,
            run: self.run,
        };
        let all = Meeting {
            left: 0..left,
            right: 0..right,
        };
        meetings.hold([all].into_iter(), &self.nearest).map(drop)
    }

    fn lsh(&self, plan: &LshPlan) -> Result<()> {
        let held_out = plan
            .until_recall
            .map(|recall| HeldOut::of(self).map(|held_out| (recall, held_out)))
            .transpose()?;
        let axes = PrincipalAxes::of_sample(self.right.rows, plan.axes, self.run)?;
        self.fill(&axes, plan.seed)?;
        let mut rounds = 0;
        for table in 0.. {
            let functions = axes.table(
                self.right.rows,
                plan.functions,
                plan.seed,
                table as u64,
                self.run,
            )?;
            let orders = self.table(&functions, plan.probes, grain(table as u64))?;
            if table + 1 < plan.tables {
                continue;
            }
            loop {
                let reached = match &held_out {
                    Some((recall, held_out)) => held_out.reaches(*recall, &self.nearest.lists)?,
                    None => rounds == plan.rounds,
                };
                if reached {
                    return Ok(());
                }
                // Past the plan, each further table is followed by a round.
                if rounds >= plan.rounds + table + 1 - plan.tables {
                    break;
                }
                self.expand(&orders)?;
                rounds += 1;
            }
            if table + 1 >= plan.tables * PATIENCE {
                return self.exact();
            }
        }
        Ok(())
    }

    fn meet(
        &self,
        left_order: &[u32],
        right_order: &[u32],
        met: Vec<(Range<usize>, Range<usize>)>,
        grain: Grain,
    ) -> Result<()> {
        let right = Some((self.right, right_order));
        let meetings = Meetings {
            left: self.left(),
            left_order,
            right,
            grain,
            run: self.run,
        };
        let met = met.into_iter().map(|(left, right)| Meeting { left, right });
        meetings.hold(met, &self.nearest).map(drop)
    }

    /// Meets the rows of short stretches in the order of keys of many bits: that fills the lists,
    /// so that in whole buckets most pairs already fail the test.
    fn fill(&self, axes: &PrincipalAxes, seed: u64) -> Result<()> {
        let functions = axes.table(self.right.rows, STRETCH_BITS, seed, u64::MAX, self.run)?;
        let items = Signs::of(self.right, &functions, self.run)?.table()?;
        let queries = self
            .left
            .map(|left| Signs::of(left, &functions, self.run)?.table())
            .transpose()?;
        for length in STRETCHES {
            match &queries {
                None => {
                    let met = items
                        .stretches(length)
                        .map(|rows| (rows.clone(), rows))
                        .collect();
                    self.meet(&items.order, &items.order, met, Grain::FINE)?;
                }
                Some(queries) => {
                    let met = queries.stretches_of(&items, length);
                    self.meet(&queries.order, &items.order, met, Grain::FINE)?;
                }
            }
        }
        Ok(())
    }

    /// Makes a table, lets each query look into `probes` of its buckets, and returns the rows in
    /// the order of their buckets.
    fn table(&self, functions: &TableFunctions, probes: usize, grain: Grain) -> Result<Orders> {
        let of_items = Signs::of(self.right, functions, self.run)?;
        let of_queries = self
            .left
            .map(|left| Signs::of(left, functions, self.run))
            .transpose()?;
        let of_queries = of_queries.as_ref().unwrap_or(&of_items);
        let items = of_items.table()?;
        let queries = of_queries.table()?;
        let probing = of_queries.probed_table(probes)?;
        self.meet(&probing.order, &items.order, probing.matches(&items), grain)?;
        Ok(Orders {
            left: queries.order,
            right: items.order,
        })
    }

    /// Neighbours of neighbours: left rows that lie together meet the neighbours of them all
    /// and, where the items are joined with themselves, these neighbours' neighbours.
    fn expand(&self, orders: &Orders) -> Result<()> {
        let lists = self.nearest.lists.settle(self.run)?;
        let candidates: Vec<Vec<u32>> = orders
            .left
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
            let left = block * EXPANDED..orders.left.len().min((block + 1) * EXPANDED);
            met.push((left, start..right_order.len()));
        }
        self.meet(&orders.left, &right_order, met, Grain::COARSE)
    }
}

/// Bounds fall quickly in the first table.
fn grain(table: u64) -> Grain {
    if table == 0 {
        Grain::FINE
    } else {
        Grain::COARSE
    }
}
