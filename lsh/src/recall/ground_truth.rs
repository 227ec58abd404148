//! Ground truth: held-out rows whose exact neighbours are known. A plan is chosen by some of them,
//! and its recall is measured on the others.

use std::collections::BTreeSet;

use lshjoin_kernels::{Rows, Scalar, memory};

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
        report::{Estimate, reaches_confidently},
        sampling::seeded_sample,
    },
    pairs::top_k_join::exactly,
    vectors::{Sides, Vectors},
};

/// Rows that are held out: the recall of a join is then known within a percent or two. Twice as
/// many for up to `FEW_NEIGHBORS` neighbours, since each row says less then; half as many from
/// `MANY_NEIGHBORS` on, which take longer to find.
const HELD_OUT: usize = 768;
const FEW_NEIGHBORS: usize = 3;
const MANY_NEIGHBORS: usize = 32;

/// The recall from which on all of them are held out from the first. A lower one needs less certainty,
/// since the probes that make sure of it are few: fewer rows the more neighbours may be missed.
const ALL_FROM: f64 = 0.93;

/// How many times as many rows are held out at most, where that pays.
const MOST_TIMES: usize = 2;

/// Of a small side, about one row in `SPARED` at most, but not fewer than `LEAST` rows.
const SPARED: usize = 32;
const LEAST: usize = 256;

/// One held-out row in so many is for the check.
const CHECKING: usize = 3;

/// Neighbours of a row, at most, that tell how far it has to probe.
const NEIGHBORS: usize = 12;

/// A left row, by index, and some of its nearest.
pub(crate) type Known = (u32, Vec<u32>);

/// Some left rows and their exact neighbours. Most are for calibration: plans are chosen by them.
/// The rest are for the check: what they find says what recall the choice comes to.
pub(crate) struct GroundTruth<T> {
    calibration: Vec<KnownRow<T>>,
    check: Vec<KnownRow<T>>,
    k: usize,
}

/// A held-out row. Rows are given by index, since internal ids may change later on.
pub(crate) struct KnownRow<T> {
    /// Of the left side.
    pub(crate) row: u32,
    /// Distance of its k-th neighbour.
    pub(crate) furthest: T,
    /// Its k nearest.
    pub(crate) nearest: Vec<u32>,
}

/// Which of the held-out rows are meant.
#[derive(Clone, Copy)]
pub(crate) enum Split {
    Calibration,
    Check,
    All,
}

/// How many of so many rows are held out for any recall.
pub(crate) fn count(rows: usize, k: usize) -> usize {
    let of_ten = HELD_OUT.min(rows / SPARED);
    let of_k = match k {
        ..=FEW_NEIGHBORS => 2 * of_ten,
        MANY_NEIGHBORS.. => of_ten / 2,
        _ => of_ten,
    };
    of_k.max(LEAST)
}

/// How many of so many rows are held out for this recall at first; more join them where that pays.
pub(crate) fn count_at_first(rows: usize, k: usize, recall: f64) -> usize {
    let missed_of_all = (1.0 - ALL_FROM) / (1.0 - recall).max(1.0 - ALL_FROM);
    let at_first = (HELD_OUT as f64 * missed_of_all) as usize;
    at_first.clamp(LEAST, count(rows, k))
}

impl<T: Scalar> GroundTruth<T> {
    /// Joins a sample of the left rows exactly; in a self-join (`left` is `None`), of the right
    /// ones.
    pub(crate) fn of(
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        k: usize,
        ctx: &Context,
    ) -> Result<Self> {
        Self::of_sample(left, right, count, k, ctx)
    }

    /// The same for a recall that is asked for: as many rows as it probably needs.
    pub(crate) fn for_recall(
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        k: usize,
        recall: f64,
        ctx: &Context,
    ) -> Result<Self> {
        let count = |rows, k| count_at_first(rows, k, recall);
        Self::of_sample(left, right, count, k, ctx)
    }

    fn of_sample(
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        count: impl Fn(usize, usize) -> usize,
        k: usize,
        ctx: &Context,
    ) -> Result<Self> {
        let sampled = left.unwrap_or(right);
        let rows = sampled.sample(count(sampled.len(), k));
        Self::of_rows(left, right, rows, k, ctx)
    }

    /// Joins these rows of the left side exactly; in a self-join (`left` is `None`), of the right
    /// one.
    pub(crate) fn of_rows(
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        rows: Vec<u32>,
        k: usize,
        ctx: &Context,
    ) -> Result<Self> {
        let sampled = left.unwrap_or(right);
        sampled.check(rows.iter().copied())?;
        let values = sampled.rows.gather(&rows)?;
        let sample = Rows::new(&values, sampled.rows.dim())?;
        let sample = right.prepare_other("the sample", sample, ctx)?;
        let keys = sampled.apart().map(|keys| {
            let keys = rows.iter().map(|&row| keys[row as usize]);
            memory::collect(keys, "keys of held-out rows")
        });
        let sample = sample.kept_apart(keys.transpose()?);
        // One neighbour more where a row finds itself, at distance 0.
        let k = k.min(right.len());
        let wanted = (k + usize::from(left.is_none())).min(right.len());
        let found = exactly(Some(&sample), right, wanted, ctx)?;
        let rows = (0..).zip(&rows).map(|(position, &row)| {
            // Without itself. Among many equal rows it may not have found itself: then the last one
            // goes.
            let distances = &found.distances[position as usize * wanted..];
            let others = found.of(position).zip(distances);
            let others = others.filter(|&(other, _)| left.is_some() || other != row);
            let furthest = others.clone().take(k).last().map(|(_, &furthest)| furthest);
            let others = others.take(k).map(|(other, _)| other);
            Ok::<_, Error>(KnownRow {
                row,
                furthest: furthest.unwrap_or(T::INFINITY),
                nearest: memory::collect(others, "neighbours of held-out rows")?,
            })
        });
        let (mut calibration, mut check) = (Vec::new(), Vec::new());
        for (position, row) in rows.enumerate() {
            let row = row?;
            if row.nearest.is_empty() {
                continue; // kept apart from all others
            }
            match position % CHECKING {
                0 => check.push(row),
                _ => calibration.push(row),
            }
        }
        Ok(Self {
            calibration,
            check,
            k,
        })
    }

    /// Moves the rows of the check to the calibration and draws others for the check, since a
    /// choice cannot be checked by rows that it was made by. False where there are no others.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn redraw_check(
        &mut self,
        (left, right): Sides<'_, '_, T>,
        ctx: &Context,
    ) -> Result<bool> {
        let most = CHECKING * self.check.len();
        self.calibration.append(&mut self.check);
        let others = self.others((left, right), most, CHECKING, ctx)?;
        self.check = others.check;
        self.check.extend(others.calibration);
        Ok(!self.check.is_empty())
    }

    /// Holds out as many rows again. False where there are no others, or these would be too many.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn double(
        &mut self,
        (left, right): Sides<'_, '_, T>,
        ctx: &Context,
    ) -> Result<bool> {
        let sampled = left.unwrap_or(right).len();
        if 2 * self.len() > MOST_TIMES * count(sampled, self.k) {
            return Ok(false);
        }
        let others = self.others((left, right), self.len(), 1, ctx)?;
        let has_others = others.len() > 0;
        self.calibration.extend(others.calibration);
        self.check.extend(others.check);
        Ok(has_others)
    }

    /// Rows that are not held out yet: each `step`th of a sample of `most`.
    fn others(
        &self,
        (left, right): Sides<'_, '_, T>,
        most: usize,
        step: usize,
        ctx: &Context,
    ) -> Result<Self> {
        let known: BTreeSet<u32> = self.some(Split::All).map(|row| row.row).collect();
        let sampled = left.unwrap_or(right);
        let others = seeded_sample(sampled.len(), most, known.len() as u64);
        let others = others.into_iter().step_by(step);
        let others = others.map(|id| sampled.row(id));
        let others = others.filter(|row| !known.contains(row)).collect();
        Self::of_rows(left, right, others, self.k, ctx)
    }

    /// How many neighbours of each row are known.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// How many rows are held out.
    pub(crate) fn len(&self) -> usize {
        self.some(Split::All).count()
    }

    /// Some of the rows, each with a few of its neighbours at equal steps.
    pub(crate) fn known(&self, which: Split) -> Vec<Known> {
        let known = |row: &KnownRow<T>| {
            let step = row.nearest.len().div_ceil(NEIGHBORS).max(1);
            let nearest = row.nearest.iter().step_by(step);
            (row.row, nearest.copied().collect())
        };
        self.some(which).map(known).collect()
    }

    /// The held-out rows of a split.
    pub(crate) fn some(&self, which: Split) -> impl Iterator<Item = &KnownRow<T>> + Clone {
        let (calibration, check) = match which {
            Split::Calibration => (self.calibration.as_slice(), [].as_slice()),
            Split::Check => ([].as_slice(), self.check.as_slice()),
            Split::All => (self.calibration.as_slice(), self.check.as_slice()),
        };
        calibration.iter().chain(check)
    }

    /// Whether the calibration rows confirm `recall` of a join, whose left side is given, and the
    /// distances of the nearest that a left row has found.
    pub(crate) fn reaches(
        &self,
        recall: f64,
        left: &Vectors<'_, T>,
        found: impl Fn(u32) -> Result<Vec<T>>,
    ) -> Result<bool> {
        let shares = self.shares(Split::Calibration, left, found)?;
        Ok(reaches_confidently(recall, shares.into_iter()))
    }

    /// The recall of such a join, measured on the rows of the check.
    pub(crate) fn recall(
        &self,
        left: &Vectors<'_, T>,
        found: impl Fn(u32) -> Result<Vec<T>>,
    ) -> Result<Estimate> {
        let shares = self.shares(Split::Check, left, found)?;
        Ok(Estimate::of(shares.into_iter()))
    }

    /// The share of its neighbours that each row found. Neighbours as near as the k-th count,
    /// whichever they are.
    fn shares(
        &self,
        which: Split,
        left: &Vectors<'_, T>,
        found: impl Fn(u32) -> Result<Vec<T>>,
    ) -> Result<Vec<f64>> {
        self.some(which)
            .map(|row| {
                let distances = found(left.internal_id(row.row))?;
                let known = row.nearest.len();
                let nearest = distances.iter().take(known);
                let near = nearest.filter(|&&distance| distance <= row.furthest);
                Ok(near.count() as f64 / known as f64)
            })
            .collect()
    }
}

/// The recall that is asked for and held-out rows to reach it by; `None` where none is asked for.
pub(crate) fn ground_truth<T: Scalar>(
    recall: Option<f64>,
    left: Option<&Vectors<'_, T>>,
    right: &Vectors<'_, T>,
    k: usize,
    ctx: &Context,
) -> Result<Option<(f64, GroundTruth<T>)>> {
    let Some(recall) = recall else {
        return Ok(None);
    };
    ctx.begin_stage("ground truth");
    let ground_truth = GroundTruth::for_recall(left, right, k, recall, ctx)?;
    Ok(Some((recall, ground_truth)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metric::Metric;
    use crate::base::sampling::sample;

    #[test]
    fn rows_that_a_choice_was_made_by_check_nothing() {
        let values: Vec<f32> = (0..9000).map(|at| (at * 7919 % 8999) as f32).collect();
        let ctx = Context::new().unwrap();
        let side = Vectors::new(
            "rows",
            Rows::new(&values, 1).unwrap(),
            Metric::Euclidean,
            &ctx,
        );
        let side = side.unwrap();
        let mut ground_truth = GroundTruth::of(None, &side, 4, &ctx).unwrap();
        let rows = |ground_truth: &GroundTruth<f32>, which| -> BTreeSet<u32> {
            ground_truth.some(which).map(|row| row.row).collect()
        };
        let mut before = rows(&ground_truth, Split::All);
        let count = ground_truth.check.len();
        for _ in 0..3 {
            assert!(ground_truth.redraw_check((None, &side), &ctx).unwrap());
            assert_eq!(rows(&ground_truth, Split::Calibration), before);
            let others = rows(&ground_truth, Split::Check);
            assert!(others.is_disjoint(&before) && others.len() > count / 2);
            assert!(
                ground_truth
                    .some(Split::Check)
                    .all(|row| row.nearest.len() == 4)
            );
            before = rows(&ground_truth, Split::All);
        }
    }

    #[test]
    fn fewer_rows_are_held_out_for_a_low_recall_and_more_where_that_pays() {
        let held_out = |recall| count_at_first(1_000_000, 10, recall);
        assert_eq!([0.5, 0.8, 0.95, 1.0].map(held_out), [256, 268, 768, 768]);
        assert!(held_out(0.8) < held_out(0.9) && held_out(0.9) < held_out(0.95));

        let values: Vec<f32> = (0..30_000).map(|at| (at * 7919 % 29_989) as f32).collect();
        let ctx = Context::new().unwrap();
        let rows = Rows::new(&values, 1).unwrap();
        let side = Vectors::new("rows", rows, Metric::Euclidean, &ctx).unwrap();
        let mut ground_truth = GroundTruth::for_recall(None, &side, 10, 0.8, &ctx).unwrap();
        let (first, checks) = (ground_truth.len(), ground_truth.check.len());
        let mut doubled = Vec::new();
        while ground_truth.double((None, &side), &ctx).unwrap() {
            doubled.push(ground_truth.len());
            let rows = ground_truth.some(Split::All).map(|row| row.row);
            assert_eq!(rows.collect::<BTreeSet<_>>().len(), ground_truth.len());
        }
        // A few are drawn that were held out before.
        assert_eq!(doubled.len(), 2, "{first} {doubled:?}");
        assert!(doubled[0] > first * 19 / 10 && doubled[1] <= 2 * count(30_000, 10));
        assert!(ground_truth.check.len().abs_diff(4 * checks) < checks);
    }

    #[test]
    fn a_sample_is_spread_over_all_rows_and_knows_no_period() {
        assert_eq!(sample(0, 5), Vec::<u32>::new());
        assert_eq!(sample(3, 5), [0, 1, 2]);
        let rows = sample(12_000, 1024);
        assert!(rows.len() == 1000 && rows.is_sorted() && rows[999] < 12_000);
        // Of rows of 100 kinds in turn, every twelfth row would be of 25 kinds only.
        let mut kinds: Vec<u32> = rows.iter().map(|row| row % 100).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert!(kinds.len() > 90);
    }
}
