//! Cells: rows that are nearest to one centroid, met with the rows of the nearest cells.
//!
//! K-means as a hash function (L. Paulevé, H. Jégou and L. Amsaleg, "Locality sensitive hashing: a
//! comparison of hash function types and querying mechanisms", 2010), in the leading principal
//! axes, with one table and many probes. All rows of a cell look into the same other cells, so
//! that both sides of each meeting lie together in memory and right panels are made once.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use lshjoin_kernels::{LeftPanel, Near, Quantised, RightPanel, Rows, Scalar};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;

use crate::{
    directions::{PrincipalAxes, project},
    error::Result,
    held_out::HeldOut,
    knn::{Groups, Nearest},
    knn_join::KnnJoin,
    meet::{Judge, LEFT, bounds},
    metric::Metric,
    run::Run,
    side::Side,
};

/// Rows of a cell that its centroid is learnt from, and how often centroids are moved.
const LEARNT_FROM: usize = 32;
const ROUNDS: usize = 5;

/// Every how manieth of so many rows centroids are learnt from.
pub(crate) fn sample_step(rows: usize, cells: usize) -> usize {
    (rows / cells.saturating_mul(LEARNT_FROM)).max(1)
}

/// Cells near a cell: their squared distances and numbers, by rising distance.
pub(crate) type Neighborhood = Vec<(f32, u32)>;

/// Centroids in the space of the leading principal axes.
pub(crate) struct Cells<'a> {
    axes: &'a PrincipalAxes,
    /// (cells, axes), row-major.
    pub(crate) centroids: Vec<f32>,
}

/// The rows of one side by cell.
pub(crate) struct CellTable {
    /// Where each cell's rows start, and the end of the last.
    starts: Vec<usize>,
}

impl<'a> Cells<'a> {
    /// At most `count` cells, from a sample of the side's rows (Lloyd 1982).
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_sample<T: Scalar>(
        axes: &'a PrincipalAxes,
        side: &Side<'_, T>,
        count: usize,
        seed: u64,
        run: &Run,
    ) -> Result<Self> {
        let width = axes.count();
        let step = sample_step(side.rows.len(), count);
        let rows: Vec<usize> = (0..side.rows.len()).step_by(step).collect();
        let values: Vec<T> = rows
            .iter()
            .flat_map(|&row| side.rows.row(row))
            .copied()
            .collect();
        let values = Rows::new(&values, side.rows.dim())?;
        let sample = projected(axes, side, values, rows.iter().copied(), run)?;
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
            axes,
            centroids: first.copied().collect(),
        };
        for _ in 0..ROUNDS {
            let nearest = cells.nearest(&sample, run)?;
            cells.move_to(&sample, &nearest);
        }
        Ok(cells)
    }

    /// What was learnt before.
    pub(crate) fn of_parts(axes: &'a PrincipalAxes, centroids: Vec<f32>) -> Self {
        Self { axes, centroids }
    }

    /// Numbers the cells so that near ones have near numbers, mostly: each is followed by the
    /// nearest of those that are left.
    pub(crate) fn chain(&mut self) {
        let width = self.axes.count();
        let mut rest: Vec<&[f32]> = self.centroids.chunks(width).collect();
        let mut chained = Vec::with_capacity(self.centroids.len());
        let mut next = 0;
        while !rest.is_empty() {
            let last = rest.swap_remove(next);
            chained.extend_from_slice(last);
            let far = (0..)
                .zip(&rest)
                .map(|(at, other)| (distance2(last, other), at));
            let nearest = far.min_by(|x, y| x.0.total_cmp(&y.0));
            next = nearest.map_or(0, |(_, at)| at);
        }
        self.centroids = chained;
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

    /// The cell of each of the side's rows.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_rows<T: Scalar>(&self, side: &Side<'_, T>, run: &Run) -> Result<Vec<u32>> {
        let projected = projected(self.axes, side, side.rows, 0..side.rows.len(), run)?;
        self.nearest(&projected, run)
    }

    /// Numbers the side's rows by cell, then as they come.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn table<T: Scalar>(&self, side: &mut Side<'_, T>, run: &Run) -> Result<CellTable> {
        let cells = self.of_rows(side, run)?;
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
    pub(crate) fn neighbors(&self, items: &CellTable) -> Vec<Neighborhood> {
        let width = self.axes.count();
        let centroids: Vec<&[f32]> = self.centroids.chunks(width).collect();
        centroids
            .par_iter()
            .map(|centroid| {
                let mut neighbors: Neighborhood = (0..)
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

fn distance2(x: &[f32], y: &[f32]) -> f32 {
    let differences = x.iter().zip(y).map(|(x, y)| f64::from(x - y));
    differences
        .map(|difference| difference * difference)
        .sum::<f64>() as f32
}

impl CellTable {
    /// Rows numbered by cell that were so before: where each cell's start, and the end of the last.
    pub(crate) fn of_starts(starts: Vec<usize>) -> Self {
        Self { starts }
    }

    /// The same of some of the rows, numbered from 0 on.
    pub(crate) fn slice(&self, rows: &Range<usize>) -> Self {
        let starts = self.starts.iter();
        Self {
            starts: starts
                .map(|start| start.clamp(&rows.start, &rows.end) - rows.start)
                .collect(),
        }
    }

    fn rows(&self, cell: u32) -> Range<u32> {
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
    neighbors: Cow<'a, [Neighborhood]>,
    /// How far, squared, the cells may be that a cell looks into.
    reach: f32,
    /// What panels of right cells may take up at a time.
    panel_bytes: usize,
}

impl<'a> Visits<'a> {
    /// Of the `probes` nearest cells to each cell, on average: near ones have more of them.
    pub(crate) fn new(
        cells: &Cells<'_>,
        left: &'a CellTable,
        right: &'a CellTable,
        probes: usize,
    ) -> Self {
        Self::over(cells.neighbors(right).into(), left, right, probes)
    }

    /// The same over neighbours that are known.
    pub(crate) fn over(
        neighbors: Cow<'a, [Neighborhood]>,
        left: &'a CellTable,
        right: &'a CellTable,
        probes: usize,
    ) -> Self {
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
            panel_bytes: usize::MAX,
        }
    }

    /// Lets panels of right cells take up no more than this at a time, or what one left cell needs.
    pub(crate) fn within(mut self, panel_bytes: usize) -> Self {
        self.panel_bytes = panel_bytes;
        self
    }

    /// The probes that reach as far.
    pub(crate) fn probes(&self) -> usize {
        let near = (0..self.neighbors.len()).map(|cell| self.of(cell).count());
        near.sum::<usize>().div_ceil(self.neighbors.len()).max(1)
    }

    /// Left cells in groups whose right cells' panels fit, with what each group looks into.
    fn groups(&self, bytes_of_row: usize) -> Vec<(Range<u32>, Vec<bool>)> {
        let none = vec![false; self.neighbors.len()];
        let mut groups = Vec::new();
        let (mut start, mut wanted, mut bytes) = (0, none.clone(), 0_usize);
        for cell in 0..self.neighbors.len() {
            if self.left.rows(cell as u32).is_empty() {
                continue;
            }
            let more = |wanted: &[bool]| {
                let others = self.of(cell).filter(|&other| !wanted[other as usize]);
                let rows: usize = others.map(|other| self.right.rows(other).len()).sum();
                rows * bytes_of_row
            };
            let mut new = more(&wanted);
            if bytes > 0 && bytes.saturating_add(new) > self.panel_bytes {
                let full = std::mem::replace(&mut wanted, none.clone());
                groups.push((start..cell as u32, full));
                (start, bytes) = (cell as u32, 0);
                new = more(&wanted);
            }
            self.of(cell)
                .for_each(|other| wanted[other as usize] = true);
            bytes += new;
        }
        groups.push((start..self.neighbors.len() as u32, wanted));
        groups
    }

    /// Looks further, if that is what held-out rows need to find `recall` of their neighbours, by two
    /// standard errors at least.
    pub(crate) fn extend<T: Scalar>(&mut self, recall: f64, held_out: &HeldOut<'_, T>) {
        // For each held-out row, how far the cells of its neighbours are.
        let needed: Vec<Vec<f32>> = held_out
            .neighbors()
            .map(|(row, others)| {
                let mut reaches = vec![f32::INFINITY; self.neighbors.len()];
                for &(reach, cell) in &self.neighbors[self.left.cell(row) as usize] {
                    reaches[cell as usize] = reach;
                }
                let reach = |&other: &u32| reaches[self.right.cell(other) as usize];
                others.iter().map(reach).collect()
            })
            .collect();
        let mut reaches: Vec<f32> = needed.iter().flatten().copied().collect();
        reaches.sort_unstable_by(f32::total_cmp);
        let enough = |reach: f32| {
            let share = |needed: &Vec<f32>| {
                let found = needed.iter().filter(|&&other| other <= reach).count();
                found as f64 / needed.len().max(1) as f64
            };
            HeldOut::<T>::at_least(needed.iter().map(share)) >= recall
        };
        let first = reaches.partition_point(|&reach| !enough(reach));
        let reach = reaches.get(first).copied().unwrap_or(f32::INFINITY);
        self.reach = self.reach.max(reach);
    }

    /// Looks no further than each cell itself.
    pub(crate) fn stay(&mut self) {
        self.reach = 0.0;
    }

    /// The cells that a cell looks into, nearest first.
    fn of(&self, cell: usize) -> impl Iterator<Item = u32> {
        let near = self.neighbors[cell].iter();
        near.take_while(|&&(far, _)| far <= self.reach)
            .map(|&(_, other)| other)
    }

    /// The share of all pairs that meet.
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

    /// Lets each cell's rows look into near cells.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn hold<T: Scalar>(
        &self,
        left: &Side<'_, T>,
        right: &Side<'_, T>,
        nearest: &Nearest<'_, T>,
        run: &Run,
    ) -> Result<()> {
        let (Some(left_codes), Some(right_codes)) = (&left.codes, &right.codes) else {
            return Ok(());
        };
        let tasks: Vec<(usize, Vec<u32>)> = (0..self.neighbors.len() as u32)
            .flat_map(|cell| {
                let rows: Vec<u32> = self.left.rows(cell).collect();
                let chunks = rows.chunks(LEFT).map(|rows| (cell as usize, rows.to_vec()));
                chunks.collect::<Vec<_>>()
            })
            .collect();
        run.expect(tasks.len());
        let mut tasks = tasks.as_slice();
        for (cells, wanted) in self.groups(Quantised::stride(left_codes.dim())) {
            let panels = wanted.par_iter().zip(0..wanted.len() as u32);
            let panels = panels.map(|(&wanted, cell)| {
                let mut panel = RightPanel::new(run.isa());
                let rows = self
                    .right
                    .rows(cell)
                    .filter(|&row| wanted && right.takes_part(row));
                let rows: Vec<u32> = rows.collect();
                panel.gather(right_codes, &rows, &vec![-1.0; rows.len()])?;
                Ok((rows, panel))
            });
            let panels: Vec<(Vec<u32>, RightPanel)> = panels.collect::<Result<_>>()?;
            let of_group = tasks.partition_point(|(cell, _)| *cell < cells.end as usize);
            let (group, rest) = tasks.split_at(of_group);
            self.hold_group(group, &panels, left_codes, nearest, run)?;
            tasks = rest;
        }
        Ok(())
    }

    /// Lets the left rows of these tasks, each of a cell, look into near cells.
    fn hold_group<T: Scalar>(
        &self,
        tasks: &[(usize, Vec<u32>)],
        panels: &[(Vec<u32>, RightPanel)],
        left_codes: &Quantised<'_>,
        nearest: &Nearest<'_, T>,
        run: &Run,
    ) -> Result<()> {
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
            Ok(())
        })
    }
}
