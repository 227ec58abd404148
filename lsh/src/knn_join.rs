//! The batch join: the k nearest items of every query, all queries known beforehand.

use std::ops::Range;

use lshjoin_kernels::{Rows, Scalar};
use rayon::prelude::*;

use crate::{
    directions::{PrincipalAxes, TableFunctions},
    error::Result,
    knn::Nearest,
    meet::{Meeting, Meetings},
    metric::Metric,
    nearest::Neighbors,
    plan::JoinPlan,
    run::Run,
    side::Side,
    signs::Signs,
    similarity::same_dimension,
};

/// For each query its k nearest items; among `items` themselves when `queries` is `None`, a row
/// then not being its own neighbour (its exact duplicates are).
///
/// [`JoinPlan::Exact`] meets all pairs, as tiles, after a table has brought rough neighbours
/// together so that nearly all pairs fail the first test. [`JoinPlan::Lsh`] meets buckets.
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
/// When dimensions differ, a row holds NaN or infinity, `k` or a number in the plan is out of
/// range, or the run is cancelled.
pub fn knn_join<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    plan: &JoinPlan,
    run: &Run,
) -> Result<Neighbors<T>> {
    let right = Side::new("items", items, metric, run)?;
    let left = match queries {
        None => None,
        Some(queries) => {
            same_dimension(queries, items)?;
            Some(Side::new("queries", queries, metric, run)?)
        }
    };
    let nearest = match &left {
        Some(left) => Nearest::new(left, Some(&right), k, run)?,
        None => Nearest::new(&right, None, k, run)?,
    };
    let join = KnnJoin {
        left: left.as_ref(),
        right: &right,
        nearest,
        run,
    };
    match *plan {
        JoinPlan::Exact => join.exact()?,
        JoinPlan::Lsh {
            seed,
            axes,
            functions,
            tables,
            probes,
            rounds,
        } => {
            join.lsh(seed, axes, functions, tables, probes, rounds)?;
        }
    }
    join.nearest.finish()
}

/// Rows in some order, of the left and of the right side.
struct Orders {
    left: Vec<u32>,
    right: Vec<u32>,
}

struct KnnJoin<'a, T> {
    /// `None` when the right side is joined with itself.
    left: Option<&'a Side<'a, T>>,
    right: &'a Side<'a, T>,
    nearest: Nearest<'a, T>,
    run: &'a Run,
}

/// Left rows that are expanded together: near each other, they have neighbours in common.
const EXPANDED: usize = 64;

impl<'a, T: Scalar> KnnJoin<'a, T> {
    fn left(&self) -> &'a Side<'a, T> {
        self.left.unwrap_or(self.right)
    }

    fn exact(&self) -> Result<()> {
        let mut orders = Orders {
            left: (0..self.left().rows.len() as u32).collect(),
            right: (0..self.right.rows.len() as u32).collect(),
        };
        if self.right.codes.is_some() && self.right.rows.len() > 4 * ROUGH_BUCKET {
            let functions = (self.right.rows.len() / ROUGH_BUCKET).ilog2() as usize;
            let axes = PrincipalAxes::of_sample(self.right.rows, 32, self.run)?;
            for table in 0..ROUGH_TABLES {
                let functions = axes.table(self.right.rows, functions, 0, table, self.run)?;
                orders = self.table(&functions, 1, table == 0)?;
            }
        }
        let (left, right) = (0..orders.left.len(), 0..orders.right.len());
        match &self.left {
            Some(_) => self.meet(&orders.left, &orders.right, vec![(left, right)]),
            None => {
                let meetings = Meetings {
                    left: self.right,
                    left_order: &orders.right,
                    right: None,
                    run: self.run,
                };
                let all = Meeting { left, right };
                meetings.hold([all].into_iter(), &self.nearest).map(drop)
            }
        }
    }

    fn lsh(
        &self,
        seed: u64,
        axes: usize,
        functions: usize,
        tables: usize,
        probes: usize,
        rounds: usize,
    ) -> Result<()> {
        let axes = PrincipalAxes::of_sample(self.right.rows, axes, self.run)?;
        let mut orders = None;
        for table in 0..tables as u64 {
            let functions = axes.table(self.right.rows, functions, seed, table, self.run)?;
            orders = Some(self.table(&functions, probes, table == 0)?);
        }
        for _ in 0..rounds {
            if let Some(orders) = &orders {
                self.expand(orders)?;
            }
        }
        Ok(())
    }

    fn meet(
        &self,
        left_order: &[u32],
        right_order: &[u32],
        met: Vec<(Range<usize>, Range<usize>)>,
    ) -> Result<()> {
        let right = Some((self.right, right_order));
        let meetings = Meetings {
            left: self.left(),
            left_order,
            right,
            run: self.run,
        };
        let met = met.into_iter().map(|(left, right)| Meeting { left, right });
        meetings.hold(met, &self.nearest).map(drop)
    }

    /// Makes a table, lets each query look into `probes` of its buckets, and returns the rows in
    /// the order of their buckets.
    fn table(&self, functions: &TableFunctions, probes: usize, first: bool) -> Result<Orders> {
        let of_items = Signs::of(self.right, functions, self.run)?;
        let of_queries = self
            .left
            .map(|left| Signs::of(left, functions, self.run))
            .transpose()?;
        let of_queries = of_queries.as_ref().unwrap_or(&of_items);
        let items = of_items.table()?;
        let queries = of_queries.table()?;
        if first {
            // Short stretches first: they fill the lists, so that in whole buckets most pairs
            // already fail the test.
            for length in STRETCHES {
                self.meet(
                    &queries.order,
                    &items.order,
                    queries.stretches_of(&items, length),
                )?;
            }
        }
        let probing = of_queries.probed_table(probes)?;
        self.meet(&probing.order, &items.order, probing.matches(&items))?;
        Ok(Orders {
            left: queries.order,
            right: items.order,
        })
    }

    /// Neighbours of neighbours: left rows that lie together meet the neighbours of them all.
    fn expand(&self, orders: &Orders) -> Result<()> {
        let lists = self.nearest.lists.settle(self.run)?;
        let blocks: Vec<Vec<u32>> = orders
            .left
            .par_chunks(EXPANDED)
            .map(|block| {
                let mut candidates: Vec<u32> =
                    block.iter().flat_map(|&row| lists.of(row)).collect();
                if self.left.is_none() {
                    let direct = candidates.clone();
                    candidates.extend(direct.iter().flat_map(|&row| lists.of(row)));
                }
                candidates.sort_unstable();
                candidates.dedup();
                candidates
            })
            .collect();
        let mut meetings = Vec::with_capacity(blocks.len());
        let mut right_order = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            let start = right_order.len();
            right_order.extend(block);
            let left = index * EXPANDED..orders.left.len().min((index + 1) * EXPANDED);
            meetings.push((left, start..right_order.len()));
        }
        self.meet(&orders.left, &right_order, meetings)
    }
}

/// Rows of the stretches of the first table that meet before its buckets do.
const STRETCHES: [usize; 2] = [32, 128];

/// Rows of a bucket of the rough tables, and how many such tables precede the exact pass: enough
/// for bounds that nearly all pairs fail.
const ROUGH_BUCKET: usize = 128;
const ROUGH_TABLES: u64 = 2;
