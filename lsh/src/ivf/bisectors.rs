//! Which lists may have rows within a radius of a row: those whose centroids are hardly further from it
//! than that of its own.
//!
//! A row of list i is in front of the plane that bisects the centroids cᵢ and cⱼ, by
//!
//! h(x) = (‖x − cⱼ‖² − ‖x − cᵢ‖²) / 2‖cᵢ − cⱼ‖,
//!
//! and one of list j is behind it: the two are at least as far apart as both are from the plane
//! together (J. Uhlmann, "Satisfying general proximity/similarity queries with metric trees", 1991;
//! E. Chávez et al., "Searching in metric spaces", 2001). So a row within a radius of some of list j is
//! within the radius of the plane; and where rows of both lists probe the other, one of each two is
//! within half of it. Distances are those that codes stand for, and a radius has room for what codes
//! leave out.

use std::ops::Range;

use lshjoin_kernels::{Quantised, memory};

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, sampling::sample},
    ivf::{
        coarse_quantiser::CoarseQuantiser, list_distances::CentroidDistances,
        list_offsets::ListOffsets, probes::RightLists,
    },
};

/// Rows that tell how many lists rows probe.
const SAMPLE: usize = 512;

/// A pair of a few rows takes some so many times as long as one of many.
pub(crate) const OF_FEW: f64 = 6.0;

/// Lists, at most: it is kept how far each is from each.
pub(crate) const MOST_BISECTED: usize = 4096;

/// Probes of the rows that are asked for them at a time, at most.
const MOST_PROBES: usize = 1 << 24;

/// The error of a squared distance of codes, relative to the sum of both squares, with room to spare:
/// nine roundings of single precision. And what may be lost where squares are too small for it.
const ROUNDING: f64 = 1.0 / (1 << 20) as f64;
const UNDERFLOW: f64 = 1e-30;

/// How an out-of-memory error names them.
const APART: &str = "distances between centroids";
const PROBES: &str = "probes of lists";

/// The lists of right rows, ready to tell which of them rows probe.
pub(crate) struct Bisectors<'a> {
    quantiser: &'a CoarseQuantiser,
    right: &'a RightLists,
    lists: Vec<OfList>,
    /// The lists that all rows probe: of a row of theirs, or of their centroid, codes tell nothing.
    unbounded: Vec<u32>,
    /// The Euclidean distance, in the measure of codes, that pairs within the radius never exceed.
    bound: f64,
    /// The largest of all other lists.
    error: f64,
    square: f64,
}

/// What is known of a list.
struct OfList {
    /// How far a row is from what its codes stand for, at most.
    error: f64,
    /// The largest square of what codes stand for, of a row or the centroid.
    square: f64,
    /// How far the centroid is from that of each list, at most; infinite where it is too far to tell.
    apart: Vec<f32>,
    /// The largest of these, of lists that not all rows probe.
    furthest: f64,
}

/// A list and a row that probes it, by internal id.
pub(crate) type Probe = (u32, u32);

/// Which rows look for which.
#[derive(Clone, Debug)]
pub(crate) enum Looking {
    /// Left rows for all that are near.
    Alone,
    /// Left rows are right rows of this range, by list: of two lists in it the rows of either look for
    /// those of the other, so that of two rows it is one at least, or both.
    InChunk(Range<usize>),
    /// Left rows are the right ones, and those of a list look for those of later lists: of two rows it
    /// is one alone.
    Ahead,
}

/// What some rows probe, and the lists of the row at hand.
#[derive(Default)]
struct OfTask {
    probes: Vec<Probe>,
    near: Vec<u32>,
}

/// Rows by the list that they probe: ranges of `rows` and of the right rows by list.
pub(crate) struct ProbedLists {
    pub(crate) rows: Vec<u32>,
    pub(crate) blocks: Vec<(Range<usize>, Range<usize>)>,
}

impl<'a> Bisectors<'a> {
    /// Of right rows with these codes, for a radius of `bound` in the measure of codes; `None` where
    /// there are more than [`MOST_BISECTED`] lists, or a row need not be in that of its nearest centroid.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn new(
        quantiser: &'a CoarseQuantiser,
        (codes, right): (&Quantised, &'a RightLists),
        bound: f32,
        ctx: &Context,
    ) -> Result<Option<Self>> {
        if quantiser.len() > MOST_BISECTED || !quantiser.compares_all() {
            return Ok(None);
        }
        let centroids = quantiser.codes();
        let of_list = |list: usize, distances: &CentroidDistances| {
            let (mut error, mut square) = known(centroids, list);
            for &row in right.of(list as u32) {
                let of_row = known(codes, row as usize);
                (error, square) = (error.max(of_row.0), square.max(of_row.1));
            }
            let own = known(centroids, list).1;
            let mut apart = memory::filled(f32::INFINITY, quantiser.len(), APART)?;
            // A centroid is at distance 0 from itself, which is the least.
            distances.within(f32::INFINITY, |other, square| {
                let room = ROUNDING * (own + known(centroids, other as usize).1) + UNDERFLOW;
                apart[other as usize] = up((f64::from(square) + room).sqrt());
            });
            Ok(OfList {
                error,
                square,
                apart,
                furthest: 0.0,
            })
        };
        let numbers: Vec<u32> = (0..quantiser.len() as u32).collect();
        let mut lists = quantiser.each_row(centroids, &numbers, of_list, ctx)?;
        let (unbounded, bounded): (Vec<u32>, Vec<u32>) = numbers
            .into_iter()
            .partition(|&list| lists[list as usize].error == f64::INFINITY);
        let most = |of: fn(&OfList) -> f64| {
            let of_lists = bounded.iter().map(|&list| of(&lists[list as usize]));
            of_lists.fold(0.0, f64::max)
        };
        let (error, square) = (most(|list| list.error), most(|list| list.square));
        for list in &mut lists {
            let apart = bounded.iter().map(|&other| list.apart[other as usize]);
            list.furthest = apart.fold(0.0, f32::max).into();
        }
        Ok(Some(Self {
            quantiser,
            right,
            lists,
            unbounded,
            bound: bound.into(),
            error,
            square,
        }))
    }

    /// The lists that these rows, by internal id, probe: their own always.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn probes(
        &self,
        codes: &Quantised,
        rows: &[u32],
        looking: &Looking,
        ctx: &Context,
    ) -> Result<Vec<Probe>> {
        let probe = |task: &mut OfTask, position: usize, distances: &CentroidDistances| {
            let OfTask { probes, near } = task;
            near.clear();
            self.find_near(
                known(codes, rows[position] as usize),
                distances,
                looking,
                near,
            );
            if let Looking::Ahead = looking {
                let own = distances.nearest();
                near.retain(|&list| list >= own);
            }
            let probed = near.iter().map(|&list| (list, rows[position]));
            Ok(memory::extend(probes, probed, PROBES)?)
        };
        let tasks = self.quantiser.each_task(codes, rows, probe, ctx)?;
        let probes = tasks.into_iter().flat_map(|task| task.probes);
        Ok(memory::collect(probes, PROBES)?)
    }

    /// Appends the lists near a row, of this error and square.
    fn find_near(
        &self,
        (error, square): (f64, f64),
        distances: &CentroidDistances,
        looking: &Looking,
        near: &mut Vec<u32>,
    ) {
        let own = &self.lists[distances.nearest() as usize];
        let reach = self.bound + error;
        // How much further a centroid may be than the nearest.
        let further = |sides: f64, error: f64, apart: f64, of_list: f64| {
            let room = 4.0 * ROUNDING * (square + own.square + of_list) + UNDERFLOW;
            sides * (reach + error) * apart + room
        };
        let furthest = up(further(2.0, self.error, own.furthest, self.square));
        // What is not a number is no bound either.
        let is_bounded = furthest < f32::INFINITY;
        if !is_bounded {
            near.extend(0..self.lists.len() as u32);
            return;
        }
        distances.within(furthest, |list, by| {
            let of_list = &self.lists[list as usize];
            let rows = self.right.positions.of(list);
            // Both sides of the plane look for the other, or this one alone.
            let sides = match looking {
                Looking::InChunk(chunk) if chunk.start <= rows.start && rows.end <= chunk.end => {
                    1.0
                }
                _ => 2.0,
            };
            let apart = own.apart[list as usize].into();
            if of_list.error < f64::INFINITY
                && f64::from(by) <= further(sides, of_list.error, apart, of_list.square)
            {
                near.push(list);
            }
        });
        near.extend_from_slice(&self.unbounded);
    }

    /// The share of all pairs that are of a row and a list that it probes, by a sample of `rows`.
    ///
    /// # Errors
    /// As [`Bisectors::probes`].
    pub(crate) fn share(
        &self,
        codes: &Quantised,
        rows: &[u32],
        looking: &Looking,
        ctx: &Context,
    ) -> Result<f64> {
        let some: Vec<u32> = sample(rows.len(), SAMPLE)
            .into_iter()
            .map(|at| rows[at as usize])
            .collect();
        let probes = self.probes(codes, &some, looking, ctx)?;
        let pairs = probes.iter().map(|&(list, _)| self.right.of(list).len());
        let all = some.len() * self.right.order.len();
        Ok(pairs.sum::<usize>() as f64 / all.max(1) as f64)
    }

    /// How many rows are asked for their probes at a time: where these are nearly all lists, they take
    /// up a hundred megabytes.
    pub(crate) fn rows_at_once(&self) -> usize {
        MOST_PROBES / self.lists.len().max(1)
    }

    /// Whether there are so many probes that no more are to be kept before their rows are compared.
    pub(crate) fn are_many(probes: &[Probe]) -> bool {
        probes.len() >= MOST_PROBES / 4
    }

    /// The rows that probe each list.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn by_list(&self, probes: &[Probe]) -> Result<ProbedLists> {
        let lists = probes.iter().map(|&(list, _)| list);
        let offsets = ListOffsets::new(lists, self.lists.len());
        let numbers = 0..self.lists.len() as u32;
        let blocks = numbers.map(|list| (offsets.of(list), self.right.positions.of(list)));
        let blocks = blocks.filter(|(rows, of_list)| !rows.is_empty() && !of_list.is_empty());
        Ok(ProbedLists {
            rows: offsets.by_list(probes.iter().copied(), ROW_NUMBERS)?,
            blocks: memory::collect(blocks, PROBES)?,
        })
    }
}

/// How far a row is from what its codes stand for, at most, and the square of that.
fn known(codes: &Quantised, row: usize) -> (f64, f64) {
    let error = codes.error(row).map_or(0.0, f64::from);
    (error, codes.square(row).unwrap_or(0.0))
}

/// Rounded up to single precision.
fn up(number: f64) -> f32 {
    (number as f32).next_up()
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::{Isa, Rows};
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;
    use crate::{
        base::{metric::Metric, random::gaussian},
        ivf::probes::assign,
        vectors::Vectors,
    };

    const ROWS: usize = 130;

    /// Rows around some centres, each of which adds `noise` of its own.
    fn clustered(dim: usize, noise: f64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(dim as u64);
        let centres: Vec<f64> = (0..30 * dim).map(|_| gaussian(&mut rng)).collect();
        let mut values = Vec::new();
        for _ in 0..ROWS {
            let centre = (rng.next_u64() % 30) as usize * dim;
            let of_row = (centre..centre + dim).map(|at| centres[at] + noise * gaussian(&mut rng));
            values.extend(of_row);
        }
        values
    }

    fn changed(values: &[f64], dim: usize, change: impl Fn(usize, f64) -> f64) -> Vec<f32> {
        let values = values.iter().enumerate();
        values
            .map(|(at, &value)| change(at / dim, value) as f32)
            .collect()
    }

    /// The share of all pairs of a row and a list that is probed, by both, by one alone and by the one
    /// before, after it was checked that rows within the bound meet.
    fn probed(
        values: &[f32],
        dim: usize,
        metric: Metric,
        quantile: f64,
        ctx: &Context,
    ) -> Result<[f64; 3]> {
        let mut side = Vectors::new("rows", Rows::new(values, dim)?, metric, ctx)?;
        let quantiser = CoarseQuantiser::of_side(&side, 30, None, 3, ctx)?;
        let starts = assign(&quantiser, &mut side, ctx)?;
        let codes = side.codes.as_ref().unwrap();
        let value = |row: usize, at: usize| f64::from(values[row * dim + at]);
        let norm = |row| match metric {
            Metric::Cosine => (0..dim)
                .map(|at| value(row, at).powi(2))
                .sum::<f64>()
                .sqrt(),
            _ => 1.0,
        };
        let coded: Vec<Vec<f64>> = (0..ROWS)
            .map(|id| side.row(id as u32) as usize)
            .map(|row| (0..dim).map(|at| value(row, at) / norm(row)).collect())
            .collect();
        let far = |x: &[f64], y: &[f64]| {
            let differences = x.iter().zip(y).map(|(x, y)| (x - y).powi(2));
            differences.sum::<f64>().sqrt()
        };
        let fars: Vec<f64> = coded
            .iter()
            .flat_map(|row| coded.iter().map(|other| far(row, other)))
            .collect();
        let far = |row: usize, other: usize| fars[row * ROWS + other];
        let all = (1..ROWS).map(|row| far(row - 1, row));
        let mut all: Vec<f64> = all.filter(|far| far.is_finite()).collect();
        all.sort_unstable_by(f64::total_cmp);
        let bound = up(all[(quantile * all.len() as f64) as usize]);

        let right = RightLists::of_items(&side, &starts, |_| true)?;
        let bisectors = Bisectors::new(&quantiser, (codes, &right), bound, ctx)?.unwrap();
        let rows: Vec<u32> = (0..ROWS as u32).collect();
        let mut shares = [0.0; 3];
        let ways = [Looking::InChunk(0..ROWS), Looking::Alone, Looking::Ahead];
        for (share, looking) in shares.iter_mut().zip(&ways) {
            let mut probes = bisectors.probes(codes, &rows, looking, ctx)?;
            *share = probes.len() as f64 / (ROWS * quantiser.len()) as f64;
            probes.sort_unstable();
            let length = probes.len();
            probes.dedup();
            assert_eq!(probes.len(), length, "a list is probed twice");
            let probes = |row: usize, other: usize| {
                let probe = (starts.list_of(other as u32), row as u32);
                probes.binary_search(&probe).is_ok()
            };
            for row in 0..ROWS {
                for other in 0..ROWS {
                    // What is not a number is no distance: rows without direction are near all.
                    let is_far = far(row, other) > f64::from(bound);
                    let (one, both) =
                        (probes(row, other), [probes(row, other), probes(other, row)]);
                    let meet = match looking {
                        Looking::Alone => one,
                        Looking::InChunk(_) | Looking::Ahead => both.contains(&true),
                    };
                    assert!(is_far || meet, "{row} and {other} do not meet");
                    let of_one = starts.list_of(row as u32) == starts.list_of(other as u32);
                    if let Looking::Ahead = looking
                        && !of_one
                    {
                        assert!(both.contains(&false), "{row} and {other} meet twice");
                    }
                }
            }
        }
        Ok(shares)
    }

    #[test]
    fn rows_within_the_bound_meet() -> Result<()> {
        let by_isa = |isa: Isa| {
            let ctx = Context::on(isa);
            let mut shares = Vec::new();
            for dim in [2, 48] {
                let values = clustered(dim, 0.2);
                let kinds: [Vec<f32>; 7] = [
                    changed(&values, dim, |_, value| value),
                    changed(&clustered(dim, 0.0), dim, |_, value| value),
                    // Ties without number.
                    changed(&values, dim, |_, value| value.round()),
                    changed(&values, dim, |_, value| 1e-30 * value),
                    changed(&values, dim, |_, value| 1e18 * value),
                    changed(&values, dim, |row, value| {
                        value * 10_f64.powi(row as i32 % 9)
                    }),
                    changed(
                        &values,
                        dim,
                        |row, value| if row % 90 == 0 { 0.0 } else { value },
                    ),
                ];
                for (kind, quantile) in (0..)
                    .zip(&kinds)
                    .flat_map(|kind| [(kind, 0.0), (kind, 0.02)])
                {
                    for metric in [Metric::Euclidean, Metric::Cosine] {
                        let found = probed(kind.1, dim, metric, quantile, &ctx)?;
                        shares.push(((dim, kind.0, metric), found));
                    }
                }
            }
            Ok::<_, crate::Error>(shares)
        };
        let expected = by_isa(Isa::SCALAR)?;
        for &isa in Isa::available() {
            assert_eq!(by_isa(isa)?, expected, "{isa}");
        }
        for ((dim, kind, metric), [within, alone, ahead]) in expected {
            assert!(within <= alone && ahead <= alone);
            if kind == 0 {
                assert!(
                    within < 0.4,
                    "{dim}, {metric}: {within} of all lists are probed"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn lists_in_groups_are_left_alone() -> Result<()> {
        let ctx = Context::new()?;
        let values: Vec<f32> = (0..10_000).map(|at| at as f32).collect();
        let side = Vectors::new("rows", Rows::new(&values, 1)?, Metric::Euclidean, &ctx)?;
        let quantiser = CoarseQuantiser::of_side(&side, 5000, None, 3, &ctx)?;
        let starts = ListOffsets::of_starts(vec![0; quantiser.len() + 1]);
        let right = RightLists::of_items(&side, &starts, |_| true)?;
        let codes = side.codes.as_ref().unwrap();
        assert!(Bisectors::new(&quantiser, (codes, &right), 1.0, &ctx)?.is_none());
        Ok(())
    }
}
