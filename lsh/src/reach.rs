//! Cells of an index: kept one after the other, and met with those whose centroids are near.
//!
//! What is kept on disk has to be found again by cell, and a stretch of it to be read at a time.
//! So rows look into whole cells here, by the distance of their own cell's centroid; a join in
//! memory goes by [`visits`](crate::visits).

use std::{borrow::Cow, ops::Range};

use lshjoin_kernels::{LeftPanel, Quantised, RightPanel, Rows, Scalar};
use rayon::prelude::*;

use crate::{
    cells::{Cells, projected, projected_some},
    desks::Desks,
    error::Result,
    knn::{Groups, Nearest},
    knn_join::KnnJoin,
    meet::{Judge, LEFT, bounds},
    metric::Metric,
    report::vouch_for,
    run::Run,
    side::Side,
};

/// Cells near a cell: their squared distances and numbers, by rising distance.
pub(crate) type Neighborhood = Vec<(f32, u32)>;

/// Rows numbered by cell: where each cell's start, and the end of the last.
pub(crate) struct CellStarts {
    starts: Vec<usize>,
}

impl Cells {
    /// The cell of each projected row, exactly.
    fn nearest_exactly(&self, projected: &[f32], run: &Run) -> Result<Vec<u32>> {
        let width = self.axes.count();
        let rows = Side::new("rows", Rows::new(projected, width)?, Metric::Euclidean, run)?;
        let centroids = Rows::new(&self.centroids, width)?;
        let centroids = Side::new("centroids", centroids, Metric::Euclidean, run)?;
        let join = KnnJoin::new(Some(&rows), &centroids, 1, run)?;
        join.meet_all(&join.nearest.first())?;
        let found = join.nearest.finish()?.indices;
        Ok(found.into_iter().map(|cell| cell as u32).collect())
    }

    /// The cell of each of the side's rows.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_rows<T: Scalar>(&self, side: &Side<'_, T>, run: &Run) -> Result<Vec<u32>> {
        let projected = projected(&self.axes, side, side.rows, 0..side.rows.len(), run)?;
        self.nearest_exactly(&projected, run)
    }

    /// Numbers the side's rows by cell, then as they come.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn starts<T: Scalar>(
        &self,
        side: &mut Side<'_, T>,
        run: &Run,
    ) -> Result<CellStarts> {
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
        Ok(CellStarts { starts })
    }

    /// The cells of some of the side's rows, by index.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_some<T: Scalar>(
        &self,
        side: &Side<'_, T>,
        rows: &[u32],
        run: &Run,
    ) -> Result<Vec<u32>> {
        self.nearest_exactly(&projected_some(&self.axes, side, rows, run)?, run)
    }

    /// For each cell the `most` nearest cells that hold items, nearest first, with squared distances.
    pub(crate) fn neighbors(&self, items: &CellStarts, most: usize) -> Vec<Neighborhood> {
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
                let nearer =
                    |x: &(f32, u32), y: &(f32, u32)| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1));
                if neighbors.len() > most {
                    neighbors.select_nth_unstable_by(most, nearer);
                    neighbors.truncate(most);
                    neighbors.shrink_to_fit();
                }
                neighbors.sort_unstable_by(nearer);
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

impl CellStarts {
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

/// Left rows by cell, and which cells of right rows they look into.
pub(crate) struct Reach<'a> {
    left: &'a CellStarts,
    right: &'a CellStarts,
    neighbors: Cow<'a, [Neighborhood]>,
    /// How far, squared, the cells may be that a cell looks into.
    reach: f32,
    /// Further cells are looked into until there are so many rows.
    least: usize,
    /// What panels of right cells may take up at a time.
    panel_bytes: usize,
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

impl<'a> Reach<'a> {
    /// Of the `probes` nearest cells to each cell, on average: near ones have more of them.
    pub(crate) fn over(
        neighbors: Cow<'a, [Neighborhood]>,
        left: &'a CellStarts,
        right: &'a CellStarts,
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
            least: 0,
            panel_bytes: usize::MAX,
        }
    }

    /// Lets each cell look into at least so many rows, however far they are.
    pub(crate) fn at_least(mut self, rows: usize) -> Self {
        self.least = rows;
        self
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

    /// Whether it is known how far to look: not where needed cells are beyond those that are listed.
    pub(crate) fn is_known(&self) -> bool {
        self.reach < f32::INFINITY
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

    /// The cells that a cell looks into, nearest first.
    fn of(&self, cell: usize) -> impl Iterator<Item = u32> {
        let near = self.neighbors[cell].iter();
        near.scan(0, move |rows, &(far, other)| {
            let looks = far <= self.reach || *rows < self.least;
            *rows += self.right.rows(other).len();
            looks.then_some(other)
        })
    }

    /// How many times two cells are to meet.
    pub(crate) fn meetings(&self) -> usize {
        (0..self.neighbors.len())
            .map(|cell| self.of(cell).count())
            .sum()
    }

    /// The share of all pairs that meet.
    pub(crate) fn share(&self) -> f64 {
        let rows = |table: &CellStarts| table.starts.last().copied().unwrap_or(0) as f64;
        self.pairs() / (rows(self.left) * rows(self.right))
    }

    fn pairs(&self) -> f64 {
        let pairs = |cell: usize| {
            let items: usize = self
                .of(cell)
                .map(|other| self.right.rows(other).len())
                .sum();
            items as f64 * self.left.rows(cell as u32).len() as f64
        };
        (0..self.neighbors.len()).map(pairs).sum()
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
        run.meets(self.pairs() as u64);
        let mut tasks = tasks.as_slice();
        let of_row = RightPanel::bytes_a_row(run.isa(), left_codes.dim()) + size_of::<u32>();
        for (cells, wanted) in self.groups(of_row) {
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
        let desks = Desks::new(|| (LeftPanel::new(run.isa()), Vec::new(), Groups::default()));
        tasks.par_iter().try_for_each(|(cell, rows)| {
            let mut desk = desks.own();
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
