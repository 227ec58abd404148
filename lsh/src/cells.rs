//! Cells: rows that are nearest to one centroid, met with the rows of the nearest cells.
//!
//! K-means as a hash function (L. Paulevé, H. Jégou and L. Amsaleg, "Locality sensitive hashing: a
//! comparison of hash function types and querying mechanisms", 2010), in the leading principal
//! axes, with one table and many probes. All rows of a cell look into the same other cells, so
//! that both sides of each meeting lie together in memory and right panels are made once.

use std::sync::{Mutex, PoisonError};

use lshjoin_kernels::{LeftPanel, Near, RightPanel, Rows, Scalar};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;

use crate::{
    directions::{PrincipalAxes, project},
    error::{Error, Result},
    knn::{Groups, Nearest},
    knn_join::KnnJoin,
    meet::{Judge, LEFT, bounds},
    metric::Metric,
    report::vouch_for,
    run::Run,
    side::Side,
};

/// Rows of a cell that its centroid is learnt from, and how often centroids are moved.
const LEARNT_FROM: usize = 32;
const ROUNDS: usize = 5;

/// Centroids in the space of the leading principal axes.
pub(crate) struct Cells {
    axes: PrincipalAxes,
    /// (cells, axes), row-major.
    centroids: Vec<f32>,
}

/// The rows of one side by cell.
pub(crate) struct CellTable {
    /// Where each cell's rows start, and the end of the last.
    starts: Vec<usize>,
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
        let step = (side.rows.len() / count.saturating_mul(LEARNT_FROM)).max(1);
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
        for _ in 0..ROUNDS {
            let nearest = cells.nearest(&sample, run)?;
            cells.move_to(&sample, &nearest);
        }
        Ok(cells)
    }

    /// The cells of some rows, by index.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_rows<T: Scalar>(
        &self,
        side: &Side<'_, T>,
        rows: &[u32],
        run: &Run,
    ) -> Result<Vec<u32>> {
        self.nearest(&projected_some(&self.axes, side, rows, run)?, run)
    }

    pub(crate) fn len(&self) -> usize {
        self.centroids.len() / self.axes.count()
    }

    /// The cell of each projected row, exactly.
    fn nearest(&self, projected: &[f32], run: &Run) -> Result<Vec<u32>> {
        let width = self.axes.count();
        let rows = Side::new("rows", Rows::new(projected, width)?, Metric::Euclidean, run)?;
        let centroids = Rows::new(&self.centroids, width)?;
        let centroids = Side::new("centroids", centroids, Metric::Euclidean, run)?;
        let join = KnnJoin::new(Some(&rows), &centroids, 1, run)?;
        join.meet_all(&join.nearest.first())?;
        let found = join.nearest.finish()?.indices;
        Ok(found.into_iter().map(|cell| cell as u32).collect())
    }

    /// Moves each centroid to the mean of its rows, if it has any.
    fn move_to(&mut self, sample: &[f32], nearest: &[u32]) {
        let width = self.axes.count();
        let mut sums = vec![0.0; self.centroids.len()];
        let mut counts = vec![0_u32; self.len()];
        for (row, &cell) in sample.chunks(width).zip(nearest) {
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

    /// Numbers the side's rows by cell, then as they come.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn table<T: Scalar>(&self, side: &mut Side<'_, T>, run: &Run) -> Result<CellTable> {
        let projected = projected(&self.axes, side, side.rows, 0..side.rows.len(), run)?;
        let cells = self.nearest(&projected, run)?;
        let mut starts = vec![0; self.len() + 1];
        for &cell in &cells {
            starts[cell as usize + 1] += 1;
        }
        for cell in 0..self.len() {
            starts[cell + 1] += starts[cell];
        }
        let mut order = vec![0; cells.len()];
        let mut next = starts.clone();
        for (row, &cell) in (0..).zip(&cells) {
            order[next[cell as usize]] = row;
            next[cell as usize] += 1;
        }
        side.reorder(order)?;
        Ok(CellTable { starts })
    }

    /// For each cell the cells that hold items, nearest first, with squared distances.
    fn neighbors(&self, items: &CellTable) -> Vec<Vec<(f32, u32)>> {
        let width = self.axes.count();
        let centroids: Vec<&[f32]> = self.centroids.chunks(width).collect();
        let distance2 = |x: &[f32], y: &[f32]| {
            let differences = x.iter().zip(y).map(|(x, y)| f64::from(x - y));
            differences
                .map(|difference| difference * difference)
                .sum::<f64>() as f32
        };
        centroids
            .par_iter()
            .map(|centroid| {
                let mut neighbors: Vec<(f32, u32)> = (0..)
                    .zip(&centroids)
                    .filter(|&(cell, _)| !items.rows(cell).is_empty())
                    .map(|(cell, other)| (distance2(centroid, other), cell))
                    .collect();
                neighbors.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
                neighbors
            })
            .collect()
    }
}

impl CellTable {
    /// Of a sample of a side's rows, given by their cells: as if each of `cells` had one row more, so
    /// that none is passed by for want of a row in the sample.
    pub(crate) fn of_sample(sample: &[u32], cells: usize) -> Self {
        let mut counts = vec![1; cells];
        for &cell in sample {
            counts[cell as usize] += 1;
        }
        let ends = counts.iter().scan(0, |end, count| {
            *end += count;
            Some(*end)
        });
        let starts = std::iter::once(0).chain(ends).collect();
        Self { starts }
    }

    fn rows(&self, cell: u32) -> std::ops::Range<u32> {
        self.starts[cell as usize] as u32..self.starts[cell as usize + 1] as u32
    }

    /// The cell of the row of this number.
    fn cell(&self, number: u32) -> u32 {
        let after = self
            .starts
            .partition_point(|&start| start <= number as usize);
        after as u32 - 1
    }
}

/// [`projected`] for some rows, by index.
fn projected_some<T: Scalar>(
    axes: &PrincipalAxes,
    side: &Side<'_, T>,
    rows: &[u32],
    run: &Run,
) -> Result<Vec<f32>> {
    let values: Vec<T> = rows
        .iter()
        .flat_map(|&row| side.rows.row(row as usize))
        .copied()
        .collect();
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
fn projected<T: Scalar>(
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

/// Left rows by cell, and which cells of right rows they look into.
pub(crate) struct Visits<'a> {
    left: &'a CellTable,
    right: &'a CellTable,
    neighbors: Vec<Vec<(f32, u32)>>,
    /// How far, squared, the cells may be that a cell looks into.
    reach: f32,
    /// How far, squared, cells have looked already.
    held: f32,
}

/// For each of some rows, how far, squared, the cells of its neighbours are from its own.
pub(crate) struct Needed(Vec<Vec<f32>>);

impl Needed {
    /// The least reach with which these rows vouch for `recall`.
    pub(crate) fn reach_for(&self, recall: f64) -> f32 {
        let mut reaches: Vec<f32> = self.0.iter().flatten().copied().collect();
        reaches.sort_unstable_by(f32::total_cmp);
        let first = reaches.partition_point(|&reach| !vouch_for(recall, self.found(reach)));
        reaches.get(first).copied().unwrap_or(f32::INFINITY)
    }

    /// The share of its neighbours that each row finds.
    pub(crate) fn found(&self, reach: f32) -> impl Iterator<Item = f64> {
        self.0.iter().map(move |needed| {
            let found = needed.iter().filter(|&&other| other <= reach).count();
            found as f64 / needed.len().max(1) as f64
        })
    }
}

impl<'a> Visits<'a> {
    /// Of the `probes` nearest cells to each cell, on average: near ones have more of them.
    pub(crate) fn new(
        cells: &Cells,
        left: &'a CellTable,
        right: &'a CellTable,
        probes: usize,
    ) -> Self {
        let neighbors = cells.neighbors(right);
        let mut distances: Vec<f32> = neighbors.iter().flatten().map(|&(far, _)| far).collect();
        let last = distances.len().min(probes.saturating_mul(neighbors.len()));
        let reach = match last {
            0 => 0.0,
            _ => *distances.select_nth_unstable_by(last - 1, f32::total_cmp).1,
        };
        Self {
            left,
            right,
            neighbors,
            reach,
            held: -1.0,
        }
    }

    /// Looks just so far, squared.
    pub(crate) fn look(&mut self, reach: f32) {
        self.reach = reach;
    }

    /// Looks further, if that is what held-out rows need to vouch for `recall`: given by their number
    /// and those of their neighbours.
    pub(crate) fn extend(&mut self, recall: f64, rows: impl Iterator<Item = (u32, Vec<u32>)>) {
        let needed = self.needed(rows.map(|(row, others)| {
            let others = others.iter().map(|&other| self.right.cell(other));
            (self.left.cell(row), others.collect())
        }));
        self.reach = self.reach.max(needed.reach_for(recall));
    }

    /// How far rows have to look to find their neighbours: from their own cells and those of their
    /// neighbours.
    pub(crate) fn needed(&self, rows: impl Iterator<Item = (u32, Vec<u32>)>) -> Needed {
        let of_row = |(cell, others): (u32, Vec<u32>)| {
            let mut reaches = vec![f32::INFINITY; self.neighbors.len()];
            for &(reach, cell) in &self.neighbors[cell as usize] {
                reaches[cell as usize] = reach;
            }
            let reach = |&other: &u32| reaches[other as usize];
            others.iter().map(reach).collect()
        };
        Needed(rows.map(of_row).collect())
    }

    /// The cells that a cell looks into and has not yet, nearest first.
    fn of(&self, cell: usize) -> impl Iterator<Item = u32> {
        let near = self.neighbors[cell].iter();
        near.skip_while(|&&(far, _)| far <= self.held)
            .take_while(|&&(far, _)| far <= self.reach)
            .map(|&(_, other)| other)
    }

    /// How many times two cells are to meet.
    pub(crate) fn meetings(&self) -> usize {
        (0..self.neighbors.len())
            .map(|cell| self.of(cell).count())
            .sum()
    }

    /// The share of all pairs that are to meet.
    pub(crate) fn share(&self) -> f64 {
        let pairs = |cell: usize| {
            let items: usize = self
                .of(cell)
                .map(|other| self.right.rows(other).len())
                .sum();
            items as f64 * self.left.rows(cell as u32).len() as f64
        };
        let rows = |table: &CellTable| table.starts.last().copied().unwrap_or(0) as f64;
        let pairs: f64 = (0..self.neighbors.len()).map(pairs).sum();
        pairs / (rows(self.left) * rows(self.right))
    }

    /// Lets each cell's rows look into near cells that they have not yet looked into.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn hold<T: Scalar>(
        &mut self,
        left: &Side<'_, T>,
        right: &Side<'_, T>,
        nearest: &Nearest<'_, T>,
        run: &Run,
    ) -> Result<()> {
        let (Some(left_codes), Some(right_codes)) = (&left.codes, &right.codes) else {
            return Ok(());
        };
        let panels = (0..self.neighbors.len() as u32)
            .into_par_iter()
            .map(|cell| {
                let mut panel = RightPanel::new(run.isa());
                let rows: Vec<u32> = self.right.rows(cell).collect();
                panel.gather(right_codes, &rows, &vec![-1.0; rows.len()])?;
                Ok((rows, panel))
            });
        let panels: Vec<(Vec<u32>, RightPanel)> = panels.collect::<Result<_>>()?;
        let tasks: Vec<(usize, Vec<u32>)> = (0..self.neighbors.len() as u32)
            .flat_map(|cell| {
                let rows: Vec<u32> = self.left.rows(cell).collect();
                let chunks = rows.chunks(LEFT).map(|rows| (cell as usize, rows.to_vec()));
                chunks.collect::<Vec<_>>()
            })
            .collect();
        run.expect(tasks.len());
        let desk = |_| (LeftPanel::new(run.isa()), Vec::new(), Groups::default());
        let desks: Vec<Mutex<(LeftPanel, Vec<Near>, Groups)>> = (0..rayon::current_num_threads())
            .map(desk)
            .map(Mutex::new)
            .collect();
        tasks.par_iter().try_for_each(|(cell, rows)| {
            let desk = &desks[rayon::current_thread_index().unwrap_or(0)];
            let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            let (panel, near, groups) = &mut *desk;
            for (visit, other) in self.of(*cell).enumerate() {
                run.check()?;
                let bounds = bounds(rows, |row| nearest.lists.bound(row));
                // Rows of like bounds go together, which changes less and less.
                if visit == 0 || visit.is_power_of_two() {
                    panel.gather(left_codes, rows, &bounds)?;
                } else {
                    panel.set_bounds(&bounds)?;
                }
                let judge = if bounds.contains(&f32::INFINITY) {
                    nearest.first()
                } else {
                    nearest.for_left()
                };
                let (others, right) = &panels[other as usize];
                near.clear();
                judge.pairs(panel, right, near)?;
                judge.judge(rows, others, near, groups)?;
            }
            run.advance(1);
            Ok::<_, Error>(())
        })?;
        self.held = self.reach;
        Ok(())
    }
}
