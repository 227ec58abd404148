//! Numbers for a model of buckets: their length, how many functions a table and how many tables.
//!
//! For each length, how often functions of the family put the two rows of near and of random pairs
//! of *this* data into one bucket is measured by how far apart the pairs are along directions of
//! the family; the number of tables follows from the recall, and of all that reach it the quickest
//! is taken (Slaney, Lifshits and He 2012; Dong et al. 2008). The tables themselves then tell on
//! sampled rows how many of them it takes, and on others what recall that comes to.

use std::collections::HashMap;

use lshjoin_kernels::{Rows, Scalar};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    costs::Costs,
    directions::project,
    error::{Error, Result},
    family::HashFamily,
    held_out::HeldOut,
    metric::Metric,
    model::{LshModel, positive},
    report::{Estimate, vouch_for},
    run::Run,
    side::Side,
    similarity::radius_join,
};

/// Which rows are near, for [`suggest`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NearRows {
    /// Those nearer than this.
    Within(f64),
    /// The so many nearest of each row.
    Nearest(usize),
}

/// Numbers for [`LshModel::fit`], and what to expect of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Suggestion {
    /// Width of a bucket.
    pub bucket_length: f64,
    /// k: functions a table.
    pub functions: usize,
    /// L: tables.
    pub tables: usize,
    /// The share of the near pairs that have a bucket in common, on sampled rows that were not used
    /// to choose.
    pub recall: Estimate,
    /// Rows that each row is compared with, on average: those with which it shares a bucket, once
    /// for each table.
    pub candidates: f64,
}

/// Near pairs that are looked at, and as many random ones, along so many directions.
const PAIRS: usize = 2048;
const DIRECTIONS: usize = 128;

/// Rows whose neighbours nearer than a threshold are looked for: more if these have too few.
const ROWS: [usize; 3] = [64, 512, 4096];
const ENOUGH: usize = 4096;

/// Rows by which candidates are counted.
const COUNTED: usize = 4096;

/// Bucket lengths considered, in medians of how far near rows are apart along a direction.
const LENGTHS: [f64; 10] = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0];
const MOST_FUNCTIONS: i32 = 24;
const MOST_TABLES: usize = 512;

/// The bucket length, functions and tables with which a model of `family`, given its bucket length,
/// joins `rows` with themselves the quickest, of those that bring `recall` of the near rows
/// together. `seed` is that of the model.
///
/// ```
/// use lshjoin::{BucketedRandomProjection, NearRows, Rows, Run, suggest};
///
/// let values: Vec<f32> = (0..2000).map(|i| (i % 40 + i / 40 * i) as f32).collect();
/// let rows = Rows::new(&values, 2)?;
/// let family = |bucket_length| BucketedRandomProjection { bucket_length };
/// let found = suggest(family, rows, NearRows::Nearest(3), 0.9, 12345, &Run::new()?)?;
/// assert!(found.recall.value > 0.8 && found.bucket_length > 0.0);
/// # Ok::<(), lshjoin::Error>(())
/// ```
///
/// # Errors
/// When `recall` is not above 0 and below 1, there are fewer than two rows, a row holds NaN or
/// infinity, none of the sampled rows has a neighbour within the threshold, all neighbours are at
/// distance 0, or the run is cancelled.
pub fn suggest<T: Scalar, F: HashFamily>(
    family: impl Fn(f64) -> F,
    rows: Rows<'_, T>,
    near: NearRows,
    recall: f64,
    seed: i64,
    run: &Run,
) -> Result<Suggestion> {
    if !(recall > 0.0 && recall < 1.0) {
        return refuse("recall", "above 0 and below 1: buckets never promise all", recall);
    }
    if rows.len() < 2 {
        return refuse("the number of rows", "at least 2", rows.len() as f64);
    }
    let metric = family(1.0).metric();
    let sample = Sample::of(rows, near, metric, run)?;
    let (bucket_length, functions, tables) =
        quickest(&family, rows, &sample, recall, seed, run)?;

    // The tables say how many of them it takes.
    let model = |tables: usize| {
        let functions_of_all = family(bucket_length).draw(functions * tables, rows.dim(), seed)?;
        LshModel::from_functions(metric, functions_of_all, functions)
    };
    let most = (2 * tables + 8).min(MOST_TABLES);
    let first = sample.first_tables(&model(most)?, rows, 0, run)?;
    let found_in = |tables: usize| sample.shares(&first, move |first| first < tables);
    let tables = (1..most)
        .find(|&tables| vouch_for(recall, found_in(tables)))
        .unwrap_or(most);
    let model = model(tables)?;
    let first = sample.first_tables(&model, rows, 1, run)?;
    let recall = Estimate::of(sample.shares(&first, |first| first < tables));
    Ok(Suggestion {
        bucket_length,
        functions,
        tables,
        recall,
        candidates: candidates(&model, rows, run)?,
    })
}

fn refuse<V>(name: &'static str, must_be: &'static str, value: f64) -> Result<V> {
    Err(Error::Parameter {
        name,
        must_be,
        value: value.to_string(),
    })
}

/// Sampled rows with the rows near them. Every other one is there to choose by, the rest to check.
struct Sample {
    near: Vec<(u32, Vec<u32>)>,
    /// Whether rows count alike, or pairs.
    by_row: bool,
}

impl Sample {
    fn of<T: Scalar>(
        rows: Rows<'_, T>,
        near: NearRows,
        metric: Metric,
        run: &Run,
    ) -> Result<Self> {
        match near {
            NearRows::Nearest(k) => {
                positive("k", k)?;
                let side = Side::new("rows", rows, metric, run)?;
                let held_out = HeldOut::of(None, &side, k.min(rows.len() - 1), run)?;
                let near = held_out.rows.into_iter().map(|row| (row.number, row.nearest));
                Ok(Self {
                    near: near.collect(),
                    by_row: true,
                })
            }
            NearRows::Within(threshold) => {
                let mut near = Vec::new();
                for count in ROWS {
                    near = within(rows, threshold, metric, count, run)?;
                    if near.iter().map(|(_, others)| others.len()).sum::<usize>() >= ENOUGH {
                        break;
                    }
                }
                near.retain(|(_, others): &(u32, Vec<u32>)| !others.is_empty());
                if near.len() < 2 {
                    return refuse(
                        "threshold",
                        "so large that some sampled rows have neighbours nearer than that",
                        threshold,
                    );
                }
                Ok(Self {
                    near,
                    by_row: false,
                })
            }
        }
    }

    /// For the rows at every other place from `start` on, the first table in which each of their
    /// near rows has their bucket; as many as there are tables for none.
    fn first_tables<T: Scalar>(
        &self,
        model: &LshModel,
        rows: Rows<'_, T>,
        start: usize,
        run: &Run,
    ) -> Result<Vec<Vec<usize>>> {
        let length = model.functions().len();
        let ids = |numbers: &[u32]| {
            let values: Vec<T> = gather(rows, numbers);
            model.hash(Rows::new(&values, rows.dim())?, run)
        };
        let some = self.near.iter().skip(start).step_by(2);
        some.map(|(row, others)| {
            let of_row = ids(&[*row])?;
            // A row among many near ones is known by some of them.
            let step = others.len().div_ceil(MOST_OF_ROW).max(1);
            let others: Vec<u32> = others.iter().copied().step_by(step).collect();
            let of_others = ids(&others)?;
            let first = |ids: &[i32]| {
                let tables = ids.chunks(model.functions_per_table());
                let both = tables.zip(of_row.chunks(model.functions_per_table()));
                let mut both = both.map(|(ids, of_row)| ids == of_row);
                both.position(|same| same).unwrap_or(model.tables())
            };
            Ok(of_others.chunks(length).map(first).collect())
        })
        .collect()
    }

    /// What is found where `found` is true of the first table.
    fn shares(
        &self,
        first: &[Vec<usize>],
        found: impl Fn(usize) -> bool + Copy,
    ) -> impl Iterator<Item = f64> {
        let share = move |tables: &[usize]| {
            let count = tables.iter().filter(|&&table| found(table)).count();
            count as f64 / tables.len().max(1) as f64
        };
        let size = if self.by_row { usize::MAX } else { 1 };
        first.iter().flat_map(move |tables| tables.chunks(size).map(share))
    }
}
