//! Cells whose rows look into near cells: a join of cells that memory need not hold all of.
//!
//! All rows of a cell look into the same other cells, so that both sides of each meeting lie
//! together in memory, or in a file.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use lshjoin_kernels::{LeftPanel, Near, Quantised, RightPanel, Scalar};
use rayon::prelude::*;

use crate::{
    cells::Cells,
    error::Result,
    held_out::HeldOut,
    knn::{Groups, Nearest},
    meet::{Judge, LEFT, bounds},
    run::Run,
    side::Side,
};

/// Cells near a cell: their squared distances and numbers, by rising distance.
pub(crate) type Neighborhood = Vec<(f32, u32)>;

/// The rows of one side by cell.
pub(crate) struct CellTable {
    /// Where each cell's rows start, and the end of the last.
    starts: Vec<usize>,
}

/// For each cell the cells that hold items, nearest first, with squared distances.
pub(crate) fn neighbors(cells: &Cells<'_>, items: &CellTable) -> Vec<Neighborhood> {
    let centroids: Vec<&[f32]> = cells.centroids().collect();
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

fn distance2(x: &[f32], y: &[f32]) -> f32 {
    let differences = x.iter().zip(y).map(|(x, y)| f64::from(x - y));
    differences
        .map(|difference| difference * difference)
        .sum::<f64>() as f32
}

impl CellTable {
    /// Numbers the side's rows by cell, then as they come.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn new<T: Scalar>(
        cells: &Cells<'_>,
        side: &mut Side<'_, T>,
        run: &Run,
    ) -> Result<Self> {
        let of_rows = cells.of_rows(side, run)?;
        let mut starts = vec![0; cells.len() + 1];
        for &cell in &of_rows {
            starts[cell as usize + 1] += 1;
        }
        for cell in 0..cells.len() {
            starts[cell + 1] += starts[cell];
        }
        let mut order: Vec<u32> = (0..of_rows.len() as u32).collect();
        order.par_sort_by_key(|&row| of_rows[row as usize]);
        side.reorder(order)?;
        Ok(Self { starts })
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
