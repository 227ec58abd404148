//! Cells: rows that are nearest to one centroid.
//!
//! K-means as a hash function (L. Paulevé, H. Jégou and L. Amsaleg, "Locality sensitive hashing: a
//! comparison of hash function types and querying mechanisms", 2010), in the leading principal
//! axes, where 8-bit codes tell well enough which centroid is near.

use std::ops::Range;

use lshjoin_kernels::{LeftPanel, Quantised, RightPanel, Rows, Scalar, code_distances2};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;

use crate::{
    directions::{PrincipalAxes, project},
    error::{Error, Result},
    median::median,
    run::Run,
    side::Side,
};

/// Rows of a cell that its centroid is learnt from, and how often centroids are moved.
pub(crate) const LEARNT_FROM: usize = 24;
pub(crate) const ROUNDS: usize = 4;

/// Rows of a side that are told apart by order: a stretch is of one of these, or of several.
const LEAF: usize = 32;

/// Every how manieth of so many rows centroids are learnt from.
pub(crate) fn sample_step(rows: usize, cells: usize) -> usize {
    (rows / cells.saturating_mul(LEARNT_FROM)).max(1)
}

/// Rows that are compared with all centroids at a time.
pub(crate) const BLOCK: usize = 256;

/// Centroids in the space of the leading principal axes; near ones have near numbers, mostly.
pub(crate) struct Cells {
    pub(crate) axes: PrincipalAxes,
    /// (cells, axes), row-major.
    pub(crate) centroids: Vec<f32>,
}

/// The rows of one side by cell.
pub(crate) struct CellTable {
    /// Rows of one scale and cell follow each other: where they end, and the cell.
    runs: Vec<(usize, u32)>,
    /// The rows' coordinates along the axes.
    pub(crate) codes: Quantised<'static>,
    /// The median of the squared distances to the nearest centroids, those of 0 aside: a few rows far
    /// from all others make no difference to it.
    pub(crate) spread: f32,
}

impl Cells {
    /// At most `count` cells, from a sample of the side's rows (Lloyd 1982).
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_sample<T: Scalar>(
        axes: &PrincipalAxes,
        side: &Side<'_, T>,
        count: usize,
        seed: u64,
        run: &Run,
    ) -> Result<Self> {
        let width = axes.count();
        let step = sample_step(side.rows.len(), count);
        let rows: Vec<u32> = (0..side.rows.len() as u32).step_by(step).collect();
        let sample = projected_some(axes, side, &rows, run)?;
        // Random rows to begin with, each once.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let count = count.clamp(1, order.len());
        for place in 0..count {
            let other = place + (rng.next_u64() % (order.len() - place) as u64) as usize;
            order.swap(place, other);
        }
        let first = order[..count]
            .iter()
            .flat_map(|&row| &sample[row * width..][..width]);
        let mut cells = Self {
            axes: axes.clone(),
            centroids: first.copied().collect(),
        };
        let codes = Quantised::new(Rows::new(&sample, width)?, run.isa())?;
        for _ in 0..ROUNDS {
            let nearest = cells.nearest(&codes, run)?;
            cells.move_to(&sample, &nearest);
        }
        cells.renumber();
        Ok(cells)
    }

    /// What was learnt before.
    pub(crate) fn of_parts(axes: PrincipalAxes, centroids: Vec<f32>) -> Self {
        Self { axes, centroids }
    }

    pub(crate) fn len(&self) -> usize {
        self.centroids.len() / self.axes.count()
    }

    /// Calls `of_block` for blocks of rows, with their squared distances to all centroids: (rows,
    /// columns) row-major, and the cell of each column, if any.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn each_block<V: Send>(
        &self,
        codes: &Quantised,
        of_block: impl Fn(&[f32], &[Option<u32>]) -> V + Sync,
        run: &Run,
    ) -> Result<Vec<V>> {
        let centroids = Rows::new(&self.centroids, self.axes.count())?;
        let centroids = Quantised::new(centroids, run.isa())?;
        let all: Vec<u32> = (0..self.len() as u32).collect();
        let mut right = RightPanel::new(run.isa());
        right.gather(&centroids, &all, &vec![-1.0; all.len()])?;
        let columns: Vec<Option<u32>> = right.columns().collect();
        let starts = (0..codes.len()).into_par_iter().step_by(BLOCK);
        let desk = || (LeftPanel::new(run.isa()), Vec::new());
        let blocks = starts.map_init(desk, |(left, distances2), start| {
            run.check()?;
            let rows = start as u32..codes.len().min(start + BLOCK) as u32;
            let rows: Vec<u32> = rows.collect();
            left.gather(codes, &rows, &vec![-1.0; rows.len()])?;
            code_distances2(left, &right, distances2)?;
            Ok::<_, Error>(of_block(distances2, &columns))
        });
        blocks.collect()
    }

    /// The cell of each row, and how far, squared, its centroid is.
    fn nearest(&self, codes: &Quantised, run: &Run) -> Result<Vec<(u32, f32)>> {
        let nearest = |distances2: &[f32], columns: &[Option<u32>]| {
            let of_row = |distances2: &[f32]| {
                let least = least(distances2);
                let column = distances2.iter().position(|&other| other == least);
                (
                    column.and_then(|column| columns[column]).unwrap_or(0),
                    least,
                )
            };
            distances2.chunks(columns.len()).map(of_row).collect()
        };
        let blocks: Vec<Vec<_>> = self.each_block(codes, nearest, run)?;
        Ok(blocks.concat())
    }

    /// Moves each centroid to the mean of its rows, if it has any.
    fn move_to(&mut self, sample: &[f32], nearest: &[(u32, f32)]) {
        let width = self.axes.count();
        let mut sums = vec![0.0; self.centroids.len()];
        let mut counts = vec![0_u32; self.len()];
        for (row, &(cell, _)) in sample.chunks(width).zip(nearest) {
            counts[cell as usize] += 1;
            let sum: &mut [f64] = &mut sums[cell as usize * width..][..width];
            for (sum, &value) in sum.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        let centroids = self.centroids.chunks_mut(width).zip(sums.chunks(width));
        for ((centroid, sum), &count) in centroids.zip(&counts) {
            for (value, sum) in centroid.iter_mut().zip(sum) {
                if count > 0 {
                    *value = (sum / f64::from(count)) as f32;
                }
            }
        }
    }

    /// Numbers the centroids so that near ones have near numbers.
    fn renumber(&mut self) {
        let width = self.axes.count();
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        in_order(&mut numbers, 0, 1, &self.centroids, width);
        self.centroids = numbers
            .iter()
            .flat_map(|&number| &self.centroids[number as usize * width..][..width])
            .copied()
            .collect();
    }

    /// Numbers the side's rows by the scale of their codes and by cell, and in a cell so that near ones
    /// have near numbers: most have one scale, and panels are of one.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn table<T: Scalar>(&self, side: &mut Side<'_, T>, run: &Run) -> Result<CellTable> {
        let projected = projected(&self.axes, side, side.rows, 0..side.rows.len(), run)?;
        let codes = Quantised::new(Rows::new(&projected, self.axes.count())?, run.isa())?;
        let nearest = self.nearest(&codes, run)?;
        let scale = |row: u32| {
            side.codes
                .as_ref()
                .and_then(|codes| codes.scale(row as usize))
        };
        let scales = (0..nearest.len() as u32).map(|row| scale(row).unwrap_or(0.0).to_bits());
        let keyed = scales.zip(&nearest).zip(0..);
        let mut keyed: Vec<(u32, u32, u32)> = keyed
            .map(|((scale, nearest), row)| (scale, nearest.0, row))
            .collect();
        keyed.par_sort_unstable();
        let of_cell = keyed.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1));
        let runs = of_cell.scan(0, |end, rows| {
            *end += rows.len();
            Some((*end, rows[0].1))
        });
        let runs: Vec<(usize, u32)> = runs.collect();
        let mut order: Vec<u32> = keyed.iter().map(|&(_, _, row)| row).collect();
        drop(keyed);
        let (mut rest, mut of_runs, mut start) = (order.as_mut_slice(), Vec::new(), 0);
        for &(end, _) in &runs {
            let (rows, others) = rest.split_at_mut(end - start);
            of_runs.push((start, rows));
            (rest, start) = (others, end);
        }
        let width = self.axes.count();
        of_runs
            .into_par_iter()
            .for_each(|(start, rows)| in_order(rows, start, LEAF, &projected, width));
        drop(projected);
        let codes = codes.reordered(&order)?;
        side.reorder(order)?;
        let distances2 = nearest.iter().map(|&(_, distance2)| distance2);
        let distances2: Vec<f32> = distances2.filter(|&distance2| distance2 > 0.0).collect();
        Ok(CellTable {
            runs,
            codes,
            spread: median(&distances2).unwrap_or(0.0),
        })
    }
}

impl CellTable {
    pub(crate) fn len(&self) -> usize {
        self.runs.last().map_or(0, |&(end, _)| end)
    }

    /// How many rows each of `cells` cells has.
    pub(crate) fn sizes(&self, cells: usize) -> Vec<usize> {
        let mut sizes = vec![0; cells];
        for (cell, rows) in self.within(0..self.len()) {
            sizes[cell as usize] += rows;
        }
        sizes
    }

    /// The cells that rows of this range are in, one after the other, each with how many.
    pub(crate) fn within(&self, rows: Range<usize>) -> impl Iterator<Item = (u32, usize)> {
        let first = self.runs.partition_point(|&(end, _)| end <= rows.start);
        let runs = self.runs[first..].iter();
        runs.scan(rows.start, move |start, &(end, cell)| {
            let rows = end
                .min(rows.end)
                .checked_sub(*start)
                .filter(|&rows| rows > 0)?;
            *start += rows;
            Some((cell, rows))
        })
    }
}

/// Orders rows as the leaves of a k-d tree (J. Bentley, "Multidimensional binary search trees used
/// for associative searching", 1975), leaves of `leaf` rows as far as possible, counted from `start`.
fn in_order(rows: &mut [u32], start: usize, leaf: usize, values: &[f32], width: usize) {
    // Where the halves of these rows meet, between two leaves.
    let middle = (start + rows.len() / 2 + leaf / 2) / leaf * leaf;
    let Some(half) = middle
        .checked_sub(start)
        .filter(|half| (1..rows.len()).contains(half))
    else {
        return;
    };
    let value = |row: u32, axis: usize| values[row as usize * width + axis];
    let count = rows.len() as f64;
    let variance = |axis| {
        let mean = rows
            .iter()
            .map(|&row| f64::from(value(row, axis)))
            .sum::<f64>()
            / count;
        let off = rows.iter().map(|&row| f64::from(value(row, axis)) - mean);
        off.map(|off| off * off).sum::<f64>()
    };
    let variances = (0..width).map(|axis| (variance(axis), axis));
    let axis = variances
        .max_by(|x, y| x.0.total_cmp(&y.0))
        .map_or(0, |(_, axis)| axis);
    let by_value = |&x: &u32, &y: &u32| value(x, axis).total_cmp(&value(y, axis)).then(x.cmp(&y));
    rows.sort_unstable_by(by_value);
    let (low, high) = rows.split_at_mut(half);
    in_order(low, start, leaf, values, width);
    in_order(high, start + half, leaf, values, width);
}

/// The least of some numbers: in lanes, since one after the other takes eight times as long.
pub(crate) fn least(values: &[f32]) -> f32 {
    let smaller = |x: f32, y: f32| if x < y { x } else { y };
    let (lanes, rest) = values.as_chunks::<16>();
    let mut least = [f32::INFINITY; 16];
    for values in lanes {
        for (least, &value) in least.iter_mut().zip(values) {
            *least = smaller(value, *least);
        }
    }
    least
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::INFINITY, smaller)
}

/// [`projected`] for some rows, by index.
pub(crate) fn projected_some<T: Scalar>(
    axes: &PrincipalAxes,
    side: &Side<'_, T>,
    rows: &[u32],
    run: &Run,
) -> Result<Vec<f32>> {
    let values = side.rows.gather(rows);
    let values = Rows::new(&values, side.rows.dim())?;
    projected(
        axes,
        side,
        values,
        rows.iter().map(|&row| row as usize),
        run,
    )
}

/// The coordinates along the axes of some of the side's rows, of their directions where these are
/// what the metric compares; `indices` are those of `rows`.
pub(crate) fn projected<T: Scalar>(
    axes: &PrincipalAxes,
    side: &Side<'_, T>,
    rows: Rows<'_, T>,
    indices: impl Iterator<Item = usize>,
    run: &Run,
) -> Result<Vec<f32>> {
    let mut projected = project(rows, axes.rows()?, run)?;
    for (row, index) in projected.chunks_mut(axes.count()).zip(indices) {
        let scale = side.direction_scale(index);
        row.iter_mut().for_each(|value| *value *= scale);
    }
    Ok(projected)
}
