//! Probing by whole lists: the rows of a list are compared with the lists whose centroids are near
//! its own.
//!
//! That suits an index, whose lists lie one after the other on disk and are read a range at a time:
//! which lists a row probes depends on its own list alone, however queries are cut into batches. A
//! join in memory chooses for each row: see [`probe_lists`](crate::ivf::probe_lists).

use std::{borrow::Cow, ops::Range};

use lshjoin_kernels::{LeftPanel, Quantised, RightPanel, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, per_thread::PerThread},
    ivf::{axis_quantiser::NearLists, list_offsets::ListOffsets},
    pairs::{
        tile_join::{LEFT, PairSink, bounds},
        top_k::{Groups, TopK},
    },
    recall::recall_curve::RecallCurve,
    vectors::Vectors,
};

/// Left rows by list, and which lists of right rows they probe.
pub(crate) struct ListProbing<'a> {
    left: &'a ListOffsets,
    right: &'a ListOffsets,
    neighbors: Cow<'a, [NearLists]>,
    /// Lists up to this squared distance are probed.
    radius: f32,
    /// Further lists are probed until they hold so many rows.
    least: usize,
    /// Bytes that panels of right lists may take up at a time.
    panel_bytes: usize,
}

impl<'a> ListProbing<'a> {
    /// Lets each list probe those nearest to it, `probes` on average. One distance goes for all, so
    /// that lists that have many near them probe more.
    pub(crate) fn over(
        neighbors: Cow<'a, [NearLists]>,
        left: &'a ListOffsets,
        right: &'a ListOffsets,
        probes: usize,
    ) -> Self {
        let mut distances: Vec<f32> = neighbors.iter().flatten().map(|&(far, _)| far).collect();
        let last = distances.len().min(probes.saturating_mul(neighbors.len()));
        let radius = match last {
            0 => 0.0,
            _ => *distances.select_nth_unstable_by(last - 1, f32::total_cmp).1,
        };
        Self {
            left,
            right,
            neighbors,
            radius,
            least: 0,
            panel_bytes: usize::MAX,
        }
    }

    /// Lets each list probe lists of at least so many rows, however far they are.
    pub(crate) fn covering_at_least(mut self, rows: usize) -> Self {
        self.least = rows;
        self
    }

    /// Lets panels of right lists take up no more than this at a time, or else what one left list
    /// needs.
    pub(crate) fn within(mut self, panel_bytes: usize) -> Self {
        self.panel_bytes = panel_bytes;
        self
    }

    /// Lists that a list probes, on average.
    pub(crate) fn probes(&self) -> usize {
        let near = (0..self.neighbors.len()).map(|list| self.of(list).count());
        near.sum::<usize>().div_ceil(self.neighbors.len()).max(1)
    }

    /// Left lists in groups, each with the right lists that it probes, whose panels fit in memory.
    fn groups(&self, bytes_of_row: usize) -> Vec<(Range<u32>, Vec<bool>)> {
        let none = vec![false; self.neighbors.len()];
        let mut groups = Vec::new();
        let (mut start, mut wanted, mut bytes) = (0, none.clone(), 0_usize);
        for list in 0..self.neighbors.len() {
            if self.left.of(list as u32).is_empty() {
                continue;
            }
            let more = |wanted: &[bool]| {
                let others = self.of(list).filter(|&other| !wanted[other as usize]);
                let rows: usize = others.map(|other| self.right.of(other).len()).sum();
                rows * bytes_of_row
            };
            let mut new = more(&wanted);
            if bytes > 0 && bytes.saturating_add(new) > self.panel_bytes {
                let full = std::mem::replace(&mut wanted, none.clone());
                groups.push((start..list as u32, full));
                (start, bytes) = (list as u32, 0);
                new = more(&wanted);
            }
            self.of(list)
                .for_each(|other| wanted[other as usize] = true);
            bytes += new;
        }
        groups.push((start..self.neighbors.len() as u32, wanted));
        groups
    }

    /// Whether the lists that are probed hold what they have to: not where held-out rows need lists
    /// beyond those that are listed as near.
    pub(crate) fn is_known(&self) -> bool {
        self.radius < f32::INFINITY
    }

    /// Probes further, if held-out rows need that to confirm `recall`; they and their neighbours
    /// are given by internal id.
    pub(crate) fn extend(&mut self, recall: f64, rows: impl Iterator<Item = (u32, Vec<u32>)>) {
        let curve = self.recall_curve(rows.map(|(row, others)| {
            let others = others.iter().map(|&other| self.right.list_of(other));
            (self.left.list_of(row), others.collect())
        }));
        self.radius = self.radius.max(curve.threshold_for(recall));
    }

    /// How far rows have to probe to find their neighbours, given the list of each row and those of
    /// its neighbours.
    fn recall_curve(&self, rows: impl Iterator<Item = (u32, Vec<u32>)>) -> RecallCurve {
        let of_row = |(list, others): (u32, Vec<u32>)| {
            let mut distances = vec![f32::INFINITY; self.neighbors.len()];
            for &(distance, list) in &self.neighbors[list as usize] {
                distances[list as usize] = distance;
            }
            let distance = |&other: &u32| distances[other as usize];
            others.iter().map(distance).collect()
        };
        RecallCurve(rows.map(of_row).collect())
    }

    /// The lists that a list probes, nearest first.
    fn of(&self, list: usize) -> impl Iterator<Item = u32> {
        let near = self.neighbors[list].iter();
        near.scan(0, move |rows, &(far, other)| {
            let is_probed = far <= self.radius || *rows < self.least;
            *rows += self.right.of(other).len();
            is_probed.then_some(other)
        })
    }

    /// The share of all pairs that are compared.
    pub(crate) fn share(&self) -> f64 {
        self.pairs() / (self.left.rows() as f64 * self.right.rows() as f64)
    }

    fn pairs(&self) -> f64 {
        let pairs = |list: usize| {
            let items: usize = self.of(list).map(|other| self.right.of(other).len()).sum();
            items as f64 * self.left.of(list as u32).len() as f64
        };
        (0..self.neighbors.len()).map(pairs).sum()
    }

    /// Compares the rows of each left list with the lists that it probes.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn run<T: Scalar>(
        &self,
        left: &Vectors<'_, T>,
        right: &Vectors<'_, T>,
        nearest: &TopK<'_, T>,
        ctx: &Context,
    ) -> Result<()> {
        let (Some(left_codes), Some(right_codes)) = (&left.codes, &right.codes) else {
            return Ok(());
        };
        let tasks = (0..self.neighbors.len() as u32).flat_map(|list| {
            let rows = self.left.ids(list);
            let chunks = rows.clone().step_by(LEFT);
            chunks.map(move |first| (list, first..rows.end.min(first + LEFT as u32)))
        });
        let tasks = memory::collect(tasks, ROW_NUMBERS)?;
        ctx.expect(tasks.len());
        ctx.count_pairs(self.pairs() as u64);
        let mut tasks = tasks.as_slice();
        let of_row = RightPanel::bytes_a_row(ctx.isa(), left_codes.dim()) + size_of::<u32>();
        for (lists, wanted) in self.groups(of_row) {
            let panels = wanted.par_iter().zip(0..wanted.len() as u32);
            let panels = panels.map(|(&wanted, list)| {
                let mut panel = RightPanel::new(ctx.isa());
                let rows = self
                    .right
                    .ids(list)
                    .filter(|&row| wanted && right.takes_part(row));
                let rows = memory::collect(rows, ROW_NUMBERS)?;
                let nothing = memory::filled(-1.0, rows.len(), ROW_NUMBERS)?;
                panel.gather(right_codes, &rows, &nothing)?;
                Ok((rows, panel))
            });
            let panels: Vec<(Vec<u32>, RightPanel)> = panels.collect::<Result<_>>()?;
            let of_group = tasks.partition_point(|(list, _)| *list < lists.end);
            let (group, rest) = tasks.split_at(of_group);
            self.run_group(group, &panels, left_codes, nearest, ctx)?;
            tasks = rest;
        }
        Ok(())
    }

    /// The same for these tasks, each of which has some rows of a list; `panels` has those of all
    /// lists that they probe.
    fn run_group<T: Scalar>(
        &self,
        tasks: &[(u32, Range<u32>)],
        panels: &[(Vec<u32>, RightPanel)],
        left_codes: &Quantised<'_>,
        nearest: &TopK<'_, T>,
        ctx: &Context,
    ) -> Result<()> {
        let buffers = PerThread::new(|| (LeftPanel::new(ctx.isa()), Vec::new(), Groups::default()));
        tasks.par_iter().try_for_each(|(list, rows)| {
            let mut buffer = buffers.own();
            let (panel, near, groups) = &mut *buffer;
            let rows: Vec<u32> = rows.clone().collect();
            for (step, other) in self.of(*list as usize).enumerate() {
                ctx.check()?;
                let bounds = bounds(&rows, |row| nearest.lists.bound(row));
                // A panel groups rows of like bounds. These change less and less, so it is made
                // anew ever more rarely.
                if step == 0 || step.is_power_of_two() {
                    panel.gather(left_codes, &rows, &bounds)?;
                } else {
                    panel.set_bounds(&bounds)?;
                }
                let sink = if bounds.contains(&f32::INFINITY) {
                    nearest.unbounded()
                } else {
                    nearest.one_way()
                };
                let (others, right) = &panels[other as usize];
                near.clear();
                sink.pairs(panel, right, near)?;
                sink.consume(&rows, others, near, groups)?;
            }
            ctx.advance(1);
            Ok(())
        })
    }
}
