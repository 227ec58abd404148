//! Rows whose exact neighbours are known, to watch the recall of a join by.

use lshjoin_kernels::{Rows, Scalar};

use crate::{error::Result, knn_join::KnnJoin, nearest::NearestLists, run::Run, side::Side};

/// How many rows are held out: the recall of a join is then known within about a percent.
const HELD_OUT: usize = 512;

/// Some left rows, and how far their k-th neighbours are.
pub(crate) struct HeldOut<'a, T> {
    numbers: Vec<u32>,
    /// For each row, the distance of its k-th neighbour.
    furthest: Vec<T>,
    k: usize,
    run: &'a Run,
}

impl<'a, T: Scalar> HeldOut<'a, T> {
    /// Joins a sample of the left rows exactly.
    pub(crate) fn of(join: &KnnJoin<'a, T>) -> Result<Self> {
        let left = join.left.unwrap_or(join.right);
        let step = left.rows.len().div_ceil(HELD_OUT).max(1);
        let rows: Vec<u32> = (0..left.rows.len() as u32).step_by(step).collect();
        let values: Vec<T> = rows
            .iter()
            .flat_map(|&row| left.rows.row(row as usize))
            .copied()
            .collect();
        let sample = Rows::new(&values, left.rows.dim())?;
        let sample = Side::new("the sample", sample, left.metric, join.run)?;
        // One neighbour more where a row finds itself, at distance 0.
        let k = join.nearest.lists.k();
        let places = k + usize::from(join.left.is_none());
        let exact = KnnJoin::new(Some(&sample), join.right, places, join.run)?;
        let found = exact.exactly()?;
        let furthest = found
            .distances
            .chunks(places)
            .map(|of_row| of_row[places - 1])
            .collect();
        Ok(Self {
            numbers: rows.iter().map(|&row| left.number(row)).collect(),
            furthest,
            k,
            run: join.run,
        })
    }

    /// Whether `recall` of the neighbours are found, by a standard error at least. Neighbours as
    /// near as the k-th count, whichever they are.
    pub(crate) fn reaches(&self, recall: f64, lists: &NearestLists<'_, T>) -> Result<bool> {
        let mut shares = Vec::with_capacity(self.numbers.len());
        for (&row, &furthest) in self.numbers.iter().zip(&self.furthest) {
            let distances = lists.distances_of(row, self.run)?;
            let found = distances
                .iter()
                .filter(|&&distance| distance <= furthest)
                .count();
            shares.push(found as f64 / self.k as f64);
        }
        let count = shares.len() as f64;
        let mean = shares.iter().sum::<f64>() / count;
        let variance = shares
            .iter()
            .map(|share| (share - mean) * (share - mean))
            .sum::<f64>()
            / count;
        Ok(mean - (variance / count).sqrt() >= recall)
    }
}
