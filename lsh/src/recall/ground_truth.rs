//! Rows whose exact neighbours are known, to choose by and to watch the recall of a join by.

use std::collections::BTreeSet;

use lshjoin_kernels::{Rows, Scalar, memory};

use crate::{
    base::{
        context::Run,
        error::{Error, Result},
        report::{Estimate, vouch_for},
        sampling::sample_of,
    },
    pairs::top_k_join::{TopKJoin, exactly},
    vectors::Side,
};

/// How many rows are held out: the recall of a join is then known within a percent or two. Twice as
/// many if they have few neighbours, which tell less of a row, and half as many if many, which take
/// longer to find.
const HELD_OUT: usize = 768;
const FEW: usize = 3;
const MANY: usize = 32;

/// Of a small side no more than about one row in so many, but at least so many rows.
const SPARED: usize = 32;
const LEAST: usize = 256;

/// Every how manieth row is there to check by.
const CHECKING: usize = 3;

/// Neighbours of a row that tell how far it has to look.
const NEIGHBORS: usize = 12;

/// A left row, by index, and some of its nearest.
pub(crate) type Known = (u32, Vec<u32>);

/// Some left rows, and how far their k-th neighbours are: most to choose by, the rest to check the
/// choice by.
pub(crate) struct HeldOut<T> {
    to_choose_by: Vec<HeldOutRow<T>>,
    to_check_by: Vec<HeldOutRow<T>>,
    k: usize,
}

/// Rows are given by index, not by number: they may be numbered anew later on.
pub(crate) struct HeldOutRow<T> {
    /// Of the left side.
    pub(crate) row: u32,
    /// Distance of its k-th neighbour.
    pub(crate) furthest: T,
    /// Its k nearest.
    pub(crate) nearest: Vec<u32>,
}

/// Which of the held-out rows are meant.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    ToChooseBy,
    ToCheckBy,
    All,
}

/// How many of so many rows are held out, at most.
pub(crate) fn count(rows: usize, k: usize) -> usize {
    let of_ten = HELD_OUT.min(rows / SPARED);
    let of_k = match k {
        ..=FEW => 2 * of_ten,
        MANY.. => of_ten / 2,
        _ => of_ten,
    };
    of_k.max(LEAST)
}

impl<T: Scalar> HeldOut<T> {
    /// Joins a sample of the left rows exactly; of the right ones when `left` is `None`.
    pub(crate) fn of(
        left: Option<&Side<'_, T>>,
        right: &Side<'_, T>,
        k: usize,
        run: &Run,
    ) -> Result<Self> {
        let sampled = left.unwrap_or(right);
        let rows = sampled.sample(count(sampled.len(), k));
        Self::of_rows(left, right, rows, k, run)
    }

    /// Joins these rows of the left side exactly; of the right one when `left` is `None`.
    pub(crate) fn of_rows(
        left: Option<&Side<'_, T>>,
        right: &Side<'_, T>,
        rows: Vec<u32>,
        k: usize,
        run: &Run,
    ) -> Result<Self> {
        let sampled = left.unwrap_or(right);
        sampled.check(rows.iter().copied())?;
        let values = sampled.rows.gather(&rows)?;
        let sample = Rows::new(&values, sampled.rows.dim())?;
        let sample = right.to_meet("the sample", sample, run)?;
        // One neighbour more where a row finds itself, at distance 0.
        let k = k.min(right.len());
        let places = (k + usize::from(left.is_none())).min(right.len());
        let found = exactly(Some(&sample), right, places, run)?;
        let rows = (0..).zip(&rows).map(|(place, &row)| {
            // Without itself or, among many equal rows, without one of these.
            let others = found.of(place);
            let others = others.filter(|&other| left.is_some() || other != row);
            Ok::<_, Error>(HeldOutRow {
                row,
                furthest: found.distances[(place as usize + 1) * places - 1],
                nearest: memory::collect(others.take(k), "neighbours of held-out rows")?,
            })
        });
        let (mut to_choose_by, mut to_check_by) = (Vec::new(), Vec::new());
        for (place, row) in rows.enumerate() {
            let row = row?;
            match place % CHECKING {
                0 => to_check_by.push(row),
                _ => to_choose_by.push(row),
            }
        }
        Ok(Self {
            to_choose_by,
            to_check_by,
            k,
        })
    }

    /// Lets what to check by be chosen by, and other rows be there to check by: what was learnt from rows
    /// can't be checked by them. False where there are no others.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn check_by_others(
        &mut self,
        left: Option<&Side<'_, T>>,
        right: &Side<'_, T>,
        run: &Run,
    ) -> Result<bool> {
        let most = CHECKING * self.to_check_by.len();
        self.to_choose_by.append(&mut self.to_check_by);
        let known: BTreeSet<u32> = self.to_choose_by.iter().map(|row| row.row).collect();
        let sampled = left.unwrap_or(right);
        let others = sample_of(sampled.len(), most, self.to_choose_by.len() as u64);
        let others = others.into_iter().step_by(CHECKING);
        let others = others.map(|number| sampled.row(number));
        let others = others.filter(|row| !known.contains(row)).collect();
        let others = Self::of_rows(left, right, others, self.k, run)?;
        self.to_check_by = others.to_check_by;
        self.to_check_by.extend(others.to_choose_by);
        Ok(!self.to_check_by.is_empty())
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.some(Which::All).count()
    }

    /// The numbers of some of the rows and of their nearest, on these sides.
    pub(crate) fn numbered<'s>(
        &'s self,
        left: Option<&'s Side<'_, T>>,
        right: &'s Side<'_, T>,
        which: Which,
    ) -> impl Iterator<Item = (u32, Vec<u32>)> + 's {
        let left = left.unwrap_or(right);
        self.some(which).map(move |row| {
            let nearest = row.nearest.iter().map(|&other| right.number(other));
            (left.number(row.row), nearest.collect())
        })
    }

    /// Some of the rows with a few of their nearest, as evenly spread as may be.
    pub(crate) fn known(&self, which: Which) -> Vec<Known> {
        let known = |row: &HeldOutRow<T>| {
            let step = row.nearest.len().div_ceil(NEIGHBORS).max(1);
            let nearest = row.nearest.iter().step_by(step);
            (row.row, nearest.copied().collect())
        };
        self.some(which).map(known).collect()
    }

    pub(crate) fn some(&self, which: Which) -> impl Iterator<Item = &HeldOutRow<T>> + Clone {
        let (to_choose_by, to_check_by) = match which {
            Which::ToChooseBy => (self.to_choose_by.as_slice(), [].as_slice()),
            Which::ToCheckBy => ([].as_slice(), self.to_check_by.as_slice()),
            Which::All => (self.to_choose_by.as_slice(), self.to_check_by.as_slice()),
        };
        to_choose_by.iter().chain(to_check_by)
    }

    /// Whether the rows to choose by vouch for `recall` of a join.
    pub(crate) fn reaches(&self, recall: f64, join: &TopKJoin<'_, T>) -> Result<bool> {
        let shares = self.shares(Which::ToChooseBy, join)?;
        Ok(vouch_for(recall, shares.into_iter()))
    }

    /// The recall of a join, by the rows to check by.
    pub(crate) fn recall(&self, join: &TopKJoin<'_, T>) -> Result<Estimate> {
        let shares = self.shares(Which::ToCheckBy, join)?;
        Ok(Estimate::of(shares.into_iter()))
    }

    /// The share of its neighbours that each row found. Neighbours as near as the k-th count,
    /// whichever they are.
    fn shares(&self, which: Which, join: &TopKJoin<'_, T>) -> Result<Vec<f64>> {
        let left = join.left.unwrap_or(join.right);
        self.some(which)
            .map(|row| {
                let number = left.number(row.row);
                let distances = join.nearest.lists.distances_of(number, join.run)?;
                let near = distances
                    .iter()
                    .filter(|&&distance| distance <= row.furthest);
                Ok(near.count() as f64 / self.k as f64)
            })
            .collect()
    }
}

/// The rows to reach a recall by, where one is asked for.
pub(crate) fn held_out<T: Scalar>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::metric::Metric;
    use crate::base::sampling::sample;

    #[test]
    fn rows_that_a_choice_was_made_by_check_nothing() {
        let values: Vec<f32> = (0..9000).map(|at| (at * 7919 % 8999) as f32).collect();
        let run = Run::new().unwrap();
        let side = Side::new(
            "rows",
            Rows::new(&values, 1).unwrap(),
            Metric::Euclidean,
            &run,
        );
        let side = side.unwrap();
        let mut held_out = HeldOut::of(None, &side, 4, &run).unwrap();
        let rows = |held_out: &HeldOut<f32>, which| -> BTreeSet<u32> {
            held_out.some(which).map(|row| row.row).collect()
        };
        let mut before = rows(&held_out, Which::All);
        let count = held_out.to_check_by.len();
        for _ in 0..3 {
            assert!(held_out.check_by_others(None, &side, &run).unwrap());
            assert_eq!(rows(&held_out, Which::ToChooseBy), before);
            let others = rows(&held_out, Which::ToCheckBy);
            assert!(others.is_disjoint(&before) && others.len() > count / 2);
            assert!(
                held_out
                    .some(Which::ToCheckBy)
                    .all(|row| row.nearest.len() == 4)
            );
            before = rows(&held_out, Which::All);
        }
    }

    #[test]
    fn a_sample_is_spread_over_all_rows_and_knows_no_period() {
        assert_eq!(sample(0, 5), Vec::<u32>::new());
        assert_eq!(sample(3, 5), [0, 1, 2]);
        let rows = sample(12_000, 1024);
        assert!(rows.len() == 1000 && rows.is_sorted() && rows[999] < 12_000);
        // Of rows that fall into 100 kinds in turn, rows at equal distances are of 25.
        let mut kinds: Vec<u32> = rows.iter().map(|row| row % 100).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert!(kinds.len() > 90);
    }
}
