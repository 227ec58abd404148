//! Parameters of an LSH model: bucket length, functions per table, and tables.
//!
//! For several bucket lengths it is measured how often functions of the family put the two rows of
//! near and of random pairs of *this* data into one bucket, from how far apart the pairs are along
//! directions of the family. The number of tables follows from the recall, and of all settings that
//! reach it the quickest is taken (Slaney, Lifshits and He 2012; Dong et al. 2008). Then real
//! tables tell on sampled rows how many of them it takes, and on others what recall that comes to.

use std::collections::HashMap;

use lshjoin_kernels::{Rows, Scalar, memory};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    base::{
        check::positive,
        context::Context,
        error::{Error, Result},
        input::Input,
        median::median,
        metric::Distance,
        report::{Estimate, reaches_confidently},
        sampling,
    },
    join::radius::radius_join,
    lsh::{family::HashFamily, model::LshModel},
    pairs::results::PAIRS,
    planner::cost_model::Costs,
    recall::ground_truth::{GroundTruth, Split},
    vectors::{Vectors, principal_axes::project},
};

/// Which rows are near, for [`suggest`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NearRows {
    /// Those nearer than this.
    Within(f64),
    /// This many nearest rows of each row.
    Nearest(usize),
}

/// Parameters for [`LshModel::fit`], and what to expect of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
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

/// Near pairs that are sampled, and as many random ones, along so many directions.
const SAMPLED_PAIRS: usize = 2048;
const DIRECTIONS: usize = 128;

/// Rows that are sampled for neighbours nearer than a threshold: first few, then more until there
/// are so many pairs.
const ROWS: [usize; 3] = [64, 512, 4096];
const ENOUGH: usize = 4096;

/// Rows by which candidates are counted.
const COUNTED: usize = 4096;

/// Bucket lengths that are considered, in units of the median distance of near rows along a
/// direction.
const LENGTHS: [f64; 10] = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0];
const MOST_FUNCTIONS: i32 = 24;
const MOST_TABLES: usize = 512;

/// The bucket length, functions and tables with which a model of `family` joins `rows` with
/// themselves the quickest, among those that bring the share `recall` of the near rows together.
/// `family` makes one of a bucket length; `seed` is that of the model.
///
/// ```
/// use lshjoin::{BucketedRandomProjection, NearRows, Rows, Context, suggest};
///
/// let values: Vec<f32> = (0..2000).map(|i| (i % 40 + i / 40 * i) as f32).collect();
/// let rows = Rows::new(&values, 2)?;
/// let family = |bucket_length| BucketedRandomProjection { bucket_length };
/// let found = suggest(family, rows, NearRows::Nearest(3), 0.9, 12345, &Context::new()?)?;
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
    ctx: &Context,
) -> Result<Suggestion> {
    if !(recall > 0.0 && recall < 1.0) {
        return Err(Error::parameter(
            "recall",
            "above 0 and below 1: buckets never promise all",
            recall,
        ));
    }
    if rows.len() < 2 {
        return Err(Error::parameter(
            "the number of rows",
            "at least 2",
            rows.len() as f64,
        ));
    }
    let distance = family(1.0).distance();
    let sample = Sample::of(rows, near, distance, ctx)?;
    let (bucket_length, functions, tables) = quickest(&family, rows, &sample, recall, seed, ctx)?;

    // Real tables say how many of them it takes.
    let model = |tables: usize| {
        let functions_of_all = family(bucket_length).draw(functions * tables, rows.dim(), seed)?;
        LshModel::from_functions(distance, functions_of_all, functions)
    };
    let most = (2 * tables + 8).min(MOST_TABLES);
    let first = sample.first_tables(&model(most)?, rows, 0, ctx)?;
    let found_in = |tables: usize| sample.shares(&first, move |first| first < tables);
    let tables = (1..most)
        .find(|&tables| reaches_confidently(recall, found_in(tables)))
        .unwrap_or(most);
    let model = model(tables)?;
    let first = sample.first_tables(&model, rows, 1, ctx)?;
    let recall = Estimate::of(sample.shares(&first, |first| first < tables));
    Ok(Suggestion {
        bucket_length,
        functions,
        tables,
        recall,
        candidates: candidates(&model, rows, ctx)?,
    })
}

/// Sampled rows, each with the rows near it. Every other one is there to choose by, the rest for
/// the check.
struct Sample {
    near: Vec<(u32, Vec<u32>)>,
    /// Whether recall is a mean over rows, or over pairs.
    by_row: bool,
}

impl Sample {
    fn of<T: Scalar>(
        rows: Rows<'_, T>,
        near: NearRows,
        distance: Distance,
        ctx: &Context,
    ) -> Result<Self> {
        match near {
            NearRows::Nearest(k) => {
                positive("k", k)?;
                let side = Vectors::new("rows", rows, distance.into(), ctx)?;
                let ground_truth = GroundTruth::of(None, &side, k.min(rows.len() - 1), ctx)?;
                let near = ground_truth.some(Split::All);
                let near = near.map(|row| (row.row, row.nearest.clone()));
                Ok(Self {
                    near: near.collect(),
                    by_row: true,
                })
            }
            NearRows::Within(threshold) => {
                let mut near = Vec::new();
                for count in ROWS {
                    near = within(rows, threshold, distance, count, ctx)?;
                    if near.iter().map(|(_, others)| others.len()).sum::<usize>() >= ENOUGH {
                        break;
                    }
                }
                near.retain(|(_, others): &(u32, Vec<u32>)| !others.is_empty());
                if near.len() < 2 {
                    return Err(Error::parameter(
                        "threshold",
                        "so large that some sampled rows have neighbours nearer than that",
                        threshold,
                    ));
                }
                Ok(Self {
                    near,
                    by_row: false,
                })
            }
        }
    }

    /// For every other sampled row from `start` on, the first table in which each of its near rows
    /// shares its bucket; where none does, the number of tables.
    fn first_tables<T: Scalar>(
        &self,
        model: &LshModel,
        rows: Rows<'_, T>,
        start: usize,
        ctx: &Context,
    ) -> Result<Vec<Vec<usize>>> {
        let length = model.functions().len();
        let ids = |sampled: &[u32]| {
            let values: Vec<T> = rows.gather(sampled)?;
            model.hash(Rows::new(&values, rows.dim())?, ctx)
        };
        let some = self.near.iter().skip(start).step_by(2);
        some.map(|(row, others)| {
            let of_row = ids(&[*row])?;
            // Of very many near rows some are enough.
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

    /// The share of the near rows for whose first table `found` is true.
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
        first
            .iter()
            .flat_map(move |tables| tables.chunks(size).map(share))
    }
}

/// Near rows that are sampled of one row, at most.
const MOST_OF_ROW: usize = 64;

/// A sample of `count` rows, or all, each with the rows nearer than `threshold`.
fn within<T: Scalar>(
    rows: Rows<'_, T>,
    threshold: f64,
    distance: Distance,
    count: usize,
    ctx: &Context,
) -> Result<Vec<(u32, Vec<u32>)>> {
    let sampled = sampling::sample(rows.len(), count);
    let values = rows.gather(&sampled)?;
    let values = Rows::new(&values, rows.dim())?;
    let found = radius_join(
        Input::new(Some(values), rows),
        None,
        threshold,
        distance,
        ctx,
    )?;
    let slots = found
        .lims
        .windows(2)
        .map(|ends| ends[0] as usize..ends[1] as usize);
    let others = slots.zip(&sampled).map(|(slots, &row)| {
        let others = found.indices[slots].iter().map(|&other| other as u32);
        let others = others.filter(|&other| other != row);
        Ok((row, memory::collect(others, PAIRS)?))
    });
    others.collect()
}

/// The bucket length, functions and tables of the least predicted time.
fn quickest<T: Scalar, F: HashFamily>(
    family: &impl Fn(f64) -> F,
    rows: Rows<'_, T>,
    sample: &Sample,
    recall: f64,
    seed: i64,
    ctx: &Context,
) -> Result<(f64, usize, usize)> {
    let drawn = family(1.0).draw(DIRECTIONS, rows.dim(), seed)?;
    let directions: Vec<f32> = drawn
        .directions()
        .iter()
        .map(|&value| value as f32)
        .collect();
    let directions = Rows::new(&directions, rows.dim())?;
    let apart = |pairs: &[(u32, u32)]| apart(rows, pairs, directions, ctx);

    let calibration = sample.near.iter().step_by(2);
    let near = calibration.flat_map(|(row, others)| others.iter().map(|&other| (*row, other)));
    let near = memory::collect(near, PAIRS)?;
    let step = near.len().div_ceil(SAMPLED_PAIRS);
    let near: Vec<(u32, u32)> = near.into_iter().step_by(step.max(1)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut row = || (rng.next_u64() % rows.len() as u64) as u32;
    let random: Vec<(u32, u32)> = (0..SAMPLED_PAIRS).map(|_| (row(), row())).collect();
    let (near, random) = (apart(&near)?, apart(&random)?);

    let scale = median(&near).map_or(0.0, f64::from);
    if scale == 0.0 {
        return Err(Error::parameter(
            "the distance of near rows",
            "above 0: all that were sampled are duplicates",
            0.0,
        ));
    }
    let costs = Costs::of(ctx.isa());
    let considered = LENGTHS.par_iter().flat_map_iter(|&length| {
        let length = length * scale;
        let near = collisions(&near, length as f32);
        let random = collisions(&random, length as f32);
        let costs = &costs;
        (1..=MOST_FUNCTIONS).filter_map(move |functions| {
            let tables = tables_for(recall, &near, functions)?;
            let share = random.iter().map(|p| p.powi(functions)).sum::<f64>();
            let share = share / random.len() as f64;
            let (functions, shape) = (functions as usize, (rows.len(), rows.dim()));
            let work = tables as f64 * costs.table(shape, functions, share);
            Some((work, length, functions, tables))
        })
    });
    let best = considered.min_by(|x, y| x.0.total_cmp(&y.0));
    // Long buckets without a second function nearly always bring rows together.
    let fallback = (0.0, LENGTHS[LENGTHS.len() - 1] * scale, 1, MOST_TABLES);
    let (_, length, functions, tables) = best.unwrap_or(fallback);
    Ok((length, functions, tables))
}

/// How far apart the rows of each pair are along each direction: (pairs, directions), row-major.
fn apart<T: Scalar>(
    rows: Rows<'_, T>,
    pairs: &[(u32, u32)],
    directions: Rows<'_, f32>,
    ctx: &Context,
) -> Result<Vec<f32>> {
    let mut differences = Vec::new();
    for &(row, other) in pairs {
        let (row, other) = (rows.row(row as usize), rows.row(other as usize));
        let both = row.iter().zip(&*other);
        differences.extend(both.map(|(x, y)| (x.to_f64() - y.to_f64()) as f32));
    }
    let mut apart = project(Rows::new(&differences, rows.dim())?, directions, ctx)?;
    apart.iter_mut().for_each(|value| *value = value.abs());
    Ok(apart)
}

/// For each pair, how often the two rows share a bucket of this length: two points that are δ apart
/// do so with probability 1 − δ / length, wherever buckets start.
fn collisions(apart: &[f32], length: f32) -> Vec<f64> {
    let of_pair = |apart: &[f32]| {
        let share: f32 = apart.iter().map(|&far| (1.0 - far / length).max(0.0)).sum();
        f64::from(share) / apart.len() as f64
    };
    apart.chunks(DIRECTIONS).map(of_pair).collect()
}

/// The least number of tables that bring the share `recall` of near pairs together, given how often
/// these agree on a function; `None` if that takes too many.
fn tables_for(recall: f64, near: &[f64], functions: i32) -> Option<usize> {
    let agree: Vec<f64> = near.iter().map(|p| p.powi(functions)).collect();
    let found = |tables: usize| {
        let missed = agree.iter().map(|p| (1.0 - p).powi(tables as i32));
        1.0 - missed.sum::<f64>() / agree.len() as f64
    };
    if found(MOST_TABLES) < recall {
        return None;
    }
    let (mut too_few, mut enough) = (0, MOST_TABLES);
    while enough - too_few > 1 {
        let middle = usize::midpoint(too_few, enough);
        if found(middle) < recall {
            too_few = middle;
        } else {
            enough = middle;
        }
    }
    Some(enough)
}

/// How many rows a row shares buckets with, counted once for each table, by the rows of a sample.
fn candidates<T: Scalar>(model: &LshModel, rows: Rows<'_, T>, ctx: &Context) -> Result<f64> {
    let sampled = sampling::sample(rows.len(), COUNTED);
    let sample = rows.gather(&sampled)?;
    let ids = model.hash(Rows::new(&sample, rows.dim())?, ctx)?;
    let (of_table, of_row) = (model.functions_per_table(), model.functions().len());
    let pairs = |table: usize| {
        let mut buckets: HashMap<&[i32], usize> = HashMap::new();
        for ids in ids.chunks(of_row) {
            *buckets
                .entry(&ids[table * of_table..][..of_table])
                .or_default() += 1;
        }
        buckets
            .values()
            .map(|&rows| rows * (rows - 1))
            .sum::<usize>()
    };
    let pairs: usize = (0..model.tables()).into_par_iter().map(pairs).sum();
    let all = sampled.len() * (sampled.len() - 1);
    Ok(pairs as f64 / all as f64 * (rows.len() - 1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::random::gaussian,
        lsh::family::{BucketedRandomProjection, CauchyProjection},
    };

    fn clusters(rows: usize, dim: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let centres: Vec<f64> = (0..50 * dim).map(|_| 5.0 * gaussian(&mut rng)).collect();
        let of_row = |row: usize| {
            let centre = centres[row % 50 * dim..][..dim].to_vec();
            centre.into_iter()
        };
        (0..rows)
            .flat_map(of_row)
            .map(|centre| (centre + gaussian(&mut rng)) as f32)
            .collect()
    }

    #[test]
    fn collisions_are_those_of_the_literature() {
        // Datar et al. 2004, for two points at distance 1 and a bucket of length w.
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let apart: Vec<f32> = (0..200 * DIRECTIONS)
            .map(|_| gaussian(&mut rng).abs() as f32)
            .collect();
        for (length, expected) in [(1.0, 0.368_75), (4.0, 0.800_53)] {
            let of_pairs = collisions(&apart, length);
            let mean = of_pairs.iter().sum::<f64>() / 200.0;
            assert!((mean - expected).abs() < 0.01, "{length}: {mean}");
        }
    }

    #[test]
    fn tables_are_no_more_than_needed() {
        let near = [0.5, 0.7, 0.9];
        for functions in [1, 3] {
            let tables = tables_for(0.9, &near, functions).unwrap();
            let found = |tables: i32| {
                let one = |p: &f64| 1.0 - (1.0 - p.powi(functions)).powi(tables);
                near.iter().map(one).sum::<f64>() / 3.0
            };
            assert!(found(tables as i32) >= 0.9 && found(tables as i32 - 1) < 0.9);
        }
        assert_eq!(tables_for(0.9, &[0.01], 4), None);
    }

    #[test]
    fn the_recall_is_that_of_the_model() {
        let (rows, dim) = (3000, 16);
        let values = clusters(rows, dim);
        let rows = Rows::new(&values, dim).unwrap();
        let ctx = Context::new().unwrap();
        for near in [NearRows::Nearest(5), NearRows::Within(4.5)] {
            let family = |bucket_length| BucketedRandomProjection { bucket_length };
            let found = suggest(family, rows, near, 0.9, 7, &ctx).unwrap();
            let family = family(found.bucket_length);
            let (functions, tables) = (found.functions, found.tables);
            let model = LshModel::fit(&family, rows, functions, tables, 7, &ctx).unwrap();
            let recall = match near {
                NearRows::Nearest(k) => {
                    let plan = crate::JoinPlan::Exact;
                    let truth = crate::KnnJoin::new(rows).k(k).plan(plan).run(&ctx);
                    let truth = truth.unwrap().neighbors;
                    let got = model.nearest_neighbors(rows, rows, k + 1, &ctx).unwrap();
                    let hits = (0..3000).map(|row: u32| {
                        let got: Vec<u32> = got.of(row).collect();
                        truth.of(row).filter(|other| got.contains(other)).count()
                    });
                    hits.sum::<usize>() as f64 / truth.indices.len() as f64
                }
                NearRows::Within(threshold) => {
                    let truth = radius_join(
                        Input::new(None, rows),
                        None,
                        threshold,
                        Distance::Euclidean,
                        &ctx,
                    );
                    let got = model.similarity_join(rows, None, threshold, &ctx).unwrap();
                    (got.left.len() - 3000) as f64 / truth.unwrap().indices.len() as f64
                }
            };
            assert!(recall >= 0.87, "{near:?}: {recall}, {found:?}");
            assert!(
                (recall - found.recall.value).abs() < 0.05,
                "{near:?}: {recall}, {found:?}"
            );
            let most = (found.tables * 2999) as f64;
            assert!(
                found.candidates > 0.0 && found.candidates < most,
                "{found:?}"
            );
        }
    }

    #[test]
    fn other_families_have_suggestions_too() {
        let values = clusters(1000, 8);
        let rows = Rows::new(&values, 8).unwrap();
        let family = |bucket_length| CauchyProjection { bucket_length };
        let ctx = Context::new().unwrap();
        let found = suggest(family, rows, NearRows::Nearest(3), 0.8, 1, &ctx).unwrap();
        assert!(found.recall.value > 0.7 && found.bucket_length > 0.0);
    }

    #[test]
    fn what_cannot_be_promised_is_refused() {
        let rows = clusters(60, 4);
        let rows = Rows::new(&rows, 4).unwrap();
        let same = Rows::new(&[1.0_f32; 40], 4).unwrap();
        let ctx = Context::new().unwrap();
        let suggest = |rows, near, recall| {
            let family = |bucket_length| BucketedRandomProjection { bucket_length };
            suggest(family, rows, near, recall, 1, &ctx)
                .unwrap_err()
                .to_string()
        };
        let nearest = NearRows::Nearest(2);
        assert!(suggest(rows, nearest, 1.0).contains("recall must be above 0 and below 1"));
        assert!(suggest(rows, nearest, f64::NAN).contains("recall"));
        assert!(suggest(rows, NearRows::Nearest(0), 0.9).contains("k must be at least 1"));
        assert!(suggest(rows, NearRows::Within(1e-9), 0.9).contains("threshold must be so large"));
        assert!(suggest(same, nearest, 0.9).contains("duplicates"));
        assert!(suggest(rows.slice(0..1), nearest, 0.9).contains("at least 2"));
    }
}
