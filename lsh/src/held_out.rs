//! Rows whose exact neighbours are known, to watch the recall of a join by.

use lshjoin_kernels::{Rows, Scalar};

use crate::{error::Result, knn_join::KnnJoin, nearest::NearestLists, run::Run, side::Side};

/// How many rows are held out: the recall of a join is then known within about a percent.
const HELD_OUT: usize = 512;

/// Which of so many rows are held out.
pub(crate) fn held_out(rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).step_by(rows.div_ceil(HELD_OUT).max(1))
}

/// Some left rows, and how far their k-th neighbours are.
pub(crate) struct HeldOut<'a, T> {
    numbers: Vec<u32>,
    /// For each row, the distance of its k-th neighbour.
    furthest: Vec<T>,
    /// For each row the numbers of its k nearest.
    nearest: Vec<Vec<u32>>,
    k: usize,
    run: &'a Run,
}

impl<'a, T: Scalar> HeldOut<'a, T> {
    /// Joins a sample of the left rows exactly.
    pub(crate) fn of(join: &KnnJoin<'a, T>) -> Result<Self> {
        let rows = join.left.unwrap_or(join.right).rows.len();
        let rows: Vec<u32> = held_out(rows).map(|row| row as u32).collect();
        Self::of_rows(
            join.left,
            join.right,
            rows,
            join.nearest.lists.k(),
            join.run,
        )
    }

    /// Joins these rows of the left side exactly; of the right side, with itself, when there is no
    /// left one.
    pub(crate) fn of_rows(
        left: Option<&Side<'_, T>>,
        right: &Side<'_, T>,
        rows: Vec<u32>,
        k: usize,
        run: &'a Run,
    ) -> Result<Self> {
        let with_itself = left.is_none();
        let left = left.unwrap_or(right);
        left.check(rows.iter().copied())?;
        let values: Vec<T> = rows
            .iter()
            .flat_map(|&row| left.rows.row(row as usize))
            .copied()
            .collect();
        let sample = Rows::new(&values, left.rows.dim())?;
        let sample = Side::new("the sample", sample, left.metric, run)?;
        // One neighbour more where a row finds itself, at distance 0.
        let places = k + usize::from(with_itself);
        let exact = KnnJoin::new(Some(&sample), right, places, run)?;
        let found = exact.exactly()?;
        let furthest = found
            .distances
            .chunks(places)
            .map(|of_row| of_row[places - 1])
            .collect();
        let nearest = (0..).zip(&rows).map(|(place, &row)| {
            let others = found.of(place);
            // Without itself or, among many equal rows, without one of these.
            let others = others.filter(|&other| !with_itself || other != row);
            others.take(k).map(|other| right.number(other)).collect()
        });
        Ok(Self {
            numbers: rows.iter().map(|&row| left.number(row)).collect(),
            furthest,
            nearest: nearest.collect(),
            k,
            run,
        })
    }

    /// Whether `recall` of the neighbours are found, by two standard errors at least. Neighbours as
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
        Ok(Self::at_least(shares.into_iter()) >= recall)
    }

    /// The numbers of the rows, and of their neighbours.
    pub(crate) fn neighbors(&self) -> impl Iterator<Item = (u32, &[u32])> {
        let nearest = self.nearest.iter().map(Vec::as_slice);
        self.numbers.iter().copied().zip(nearest)
    }

    /// The mean of what rows found, less two standard errors.
    pub(crate) fn at_least(shares: impl Iterator<Item = f64>) -> f64 {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for share in shares {
            count += 1.0;
            sum += share;
            squares += share * share;
        }
        let mean = sum / count;
        let variance = (squares / count - mean * mean).max(0.0);
        mean - 2.0 * (variance / count).sqrt()
    }
}
