//! Which stretches of rows meet: those whose rows are near each other's cells.
//!
//! Both sides are in the order of their cells and cut into stretches of equal length, blocks of
//! which are multiplied without waste. Each row votes for all cells, for those about as near as
//! its own most: a stretch meets another if its rows give enough votes for the cells there, or the
//! other way round. That asks for half as many pairs as going by the distances of centroids, and
//! how many votes are enough is learnt from rows whose neighbours are known. (To look into the
//! buckets that probably hold neighbours: Q. Lv et al., "Multi-probe LSH", 2007; to let many
//! points say which those are: Y. Dong et al., "Learning space partitions for nearest neighbor
//! search", 2020.)

use std::{cmp::Reverse, ops::Range};

use lshjoin_kernels::{LeftPanel, Near, RightPanel, Scalar, near_pairs_of};
use rayon::prelude::*;

use crate::{
    cells::{self, CellTable, Cells, least},
    desks::Desks,
    error::{Error, Result},
    knn::{Groups, Nearest},
    meet::{Judge, LEFT, bounds},
    nearest::to_begin_with,
    report::vouch_for,
    run::Run,
    side::Side,
};

/// Rows of a stretch, a whole number of the tiles' blocks, and stretches of a side up to which one
/// block is enough.
const BLOCK: usize = 32;
const MANY: usize = 1 << 13;

/// Right rows that meet a group of left stretches between two looks at the bounds, and left rows of a
/// group before there are any.
const RIGHT: usize = 1024;
const FIRST: usize = 128;

/// Where the parts of a stretch's meetings end: all rows meet the more promising ones first, so that
/// most pairs of the last part fail the first test.
const PARTS: [f64; 4] = [0.0, 1.0 / 64.0, 1.0 / 8.0, 1.0];

/// The share of the median squared distance to a row's own centroid by which another may be further
/// for a vote of 1/e.
const SOFTNESS: f32 = 0.1;

/// One side by cell, cut into stretches.
struct Stretches {
    /// Rows of the side and of a stretch, the last one's perhaps fewer.
    rows: usize,
    length: usize,
    /// What the rows of each stretch vote for each cell of the other side, (stretches, cells)
    /// row-major, by row of that cell.
    votes: Vec<f32>,
    /// The cells that each stretch's rows are in, with their share of it.
    cells: Vec<Vec<(u32, f32)>>,
}

impl Stretches {
    /// # Errors
    /// When the run is cancelled.
    fn new(cells: &Cells, table: &CellTable, other: &CellTable, run: &Run) -> Result<Self> {
        let rows = table.len();
        let blocks = rows.div_ceil(BLOCK * MANY).max(1).next_power_of_two();
        let length = (BLOCK * blocks).min(cells::BLOCK);
        let of_stretch = |start: usize| {
            let rows = start..rows.min(start + length);
            let count = rows.len() as f32;
            let share = move |(cell, rows)| (cell, rows as f32 / count);
            table.within(rows).map(share).collect()
        };
        let softness = (SOFTNESS * table.spread).max(f32::MIN_POSITIVE).recip();
        // Stretches divide blocks of rows, both being powers of two.
        let votes = cells.each_block(
            &table.codes,
            |distances2, columns| {
                let mut votes = Vec::new();
                for of_stretch in distances2.chunks(length * columns.len()) {
                    let mut by_column = vec![0.0; columns.len()];
                    for of_row in of_stretch.chunks(columns.len()) {
                        vote(of_row, softness, &mut by_column);
                    }
                    let start = votes.len();
                    votes.resize(start + cells.len(), 0.0);
                    for (votes_of, column) in by_column.iter().zip(columns) {
                        if let Some(cell) = column {
                            votes[start + *cell as usize] = *votes_of;
                        }
                    }
                }
                votes
            },
            run,
        )?;
        let mut votes = votes.concat();
        let sizes = other.sizes(cells.len());
        votes.par_chunks_mut(cells.len()).for_each(|votes| {
            for (votes, &size) in votes.iter_mut().zip(&sizes) {
                *votes /= size.max(1) as f32;
            }
        });
        Ok(Self {
            rows,
            length,
            votes,
            cells: (0..rows).step_by(length).map(of_stretch).collect(),
        })
    }

    fn len(&self) -> usize {
        self.cells.len()
    }

    fn rows(&self, stretches: Range<usize>) -> Range<usize> {
        stretches.start * self.length..self.rows.min(stretches.end * self.length)
    }

    fn votes(&self, stretch: usize) -> &[f32] {
        let cells = self.votes.len() / self.len();
        &self.votes[stretch * cells..][..cells]
    }

    /// What the rows of a stretch vote for a stretch of `other`.
    fn votes_for(&self, stretch: usize, other: &Self, theirs: usize) -> f32 {
        let votes = self.votes(stretch);
        let cells = other.cells[theirs].iter();
        cells
            .map(|&(cell, share)| votes[cell as usize] * share)
            .sum()
    }
}

/// Adds e^(−x) for each cell, x being how much further it is than the nearest one, or nearly so:
/// in arithmetic that is the same on every machine.
fn vote(distances2: &[f32], softness: f32, votes: &mut [f32]) {
    let least = least(distances2);
    for (votes, &distance2) in votes.iter_mut().zip(distances2) {
        let root = 1.0 - (distance2 - least) * (softness / 16.0);
        let root = if root > 0.0 { root } else { 0.0 };
        let square = root * root;
        let fourth = square * square;
        let eighth = fourth * fourth;
        *votes += eighth * eighth;
    }
}

/// The stretches of one side that each stretch of the other is to meet, with their votes.
type Lists = Vec<Vec<(u32, f32)>>;

/// Left stretches, and which right stretches they meet.
pub(crate) struct Visits {
    /// `None` when the right side meets itself.
    left: Option<Stretches>,
    right: Stretches,
}

/// The meetings of stretches with enough votes for each other.
pub(crate) struct Meetings {
    visits: Visits,
    /// For each left stretch those that its rows vote for.
    wanted: Lists,
    /// For each left stretch those that it meets, each pair of stretches once.
    met: Lists,
}

impl Visits {
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn new(
        cells: &Cells,
        left: Option<&CellTable>,
        right: &CellTable,
        run: &Run,
    ) -> Result<Self> {
        let of_left = left.map(|left| Stretches::new(cells, left, right, run));
        Ok(Self {
            left: of_left.transpose()?,
            right: Stretches::new(cells, right, left.unwrap_or(right), run)?,
        })
    }

    fn left(&self) -> &Stretches {
        self.left.as_ref().unwrap_or(&self.right)
    }

    /// The votes that decide whether two stretches meet: of both.
    fn votes(&self, left: usize, right: usize) -> f32 {
        let to = self.left().votes_for(left, &self.right, right);
        let from = self.right.votes_for(right, self.left(), left);
        if to > from { to } else { from }
    }

    /// How many votes leave each stretch, by its own alone, `share` of the others: as a sample has
    /// it.
    pub(crate) fn enough_for_share(&self, share: f64) -> f32 {
        let left = self.left();
        let step = left.len().div_ceil(256).max(1);
        let mut votes: Vec<f32> = (0..left.len())
            .step_by(step)
            .flat_map(|stretch| {
                (0..self.right.len()).map(move |other| left.votes_for(stretch, &self.right, other))
            })
            .collect();
        let place = (votes.len() as f64 * share) as usize;
        match votes.len().checked_sub(1) {
            None => 0.0,
            Some(last) => {
                let descending = |x: &f32, y: &f32| y.total_cmp(x);
                *votes.select_nth_unstable_by(place.min(last), descending).1
            }
        }
    }

    /// How many votes these held-out rows need to vouch for `recall`: given by their number and those
    /// of their neighbours.
    pub(crate) fn enough_for_recall(
        &self,
        recall: f64,
        rows: impl Iterator<Item = (u32, Vec<u32>)>,
    ) -> f32 {
        let stretch = |row: u32, of: &Stretches| row as usize / of.length;
        // For each held-out row, the votes between it and its neighbours.
        let rows: Vec<(u32, Vec<u32>)> = rows.collect();
        let votes = |(row, others): &(u32, Vec<u32>)| {
            let left = stretch(*row, self.left());
            let votes = |&other: &u32| self.votes(left, stretch(other, &self.right));
            others.iter().map(votes).collect()
        };
        let votes: Vec<Vec<f32>> = rows.par_iter().map(votes).collect();
        let mut known: Vec<f32> = votes.iter().flatten().copied().collect();
        known.sort_unstable_by(|x, y| y.total_cmp(x));
        let enough = |least: f32| {
            let share = |votes: &Vec<f32>| {
                let found = votes.iter().filter(|&&votes| votes >= least).count();
                found as f64 / votes.len().max(1) as f64
            };
            vouch_for(recall, votes.iter().map(share))
        };
        let first = known.partition_point(|&votes| !enough(votes));
        known.get(first).copied().unwrap_or(0.0)
    }

    /// The meetings of stretches with so many votes for each other.
    pub(crate) fn with(mut self, enough: f32) -> Meetings {
        let wanted = lists(self.left(), &self.right, enough);
        let met = match &self.left {
            None => {
                let pairs = (0..).zip(&wanted).flat_map(|(stretch, others)| {
                    let pair = move |&(other, votes): &(u32, f32)| {
                        (stretch.min(other), stretch.max(other), votes)
                    };
                    others.iter().map(pair)
                });
                once_each(pairs, self.right.len())
            }
            Some(left) => {
                let turned = lists(&self.right, left, enough);
                let straight = (0..).zip(&wanted).flat_map(|(stretch, others)| {
                    others
                        .iter()
                        .map(move |&(other, votes)| (stretch, other, votes))
                });
                let turned = (0..).zip(&turned).flat_map(|(other, stretches)| {
                    stretches
                        .iter()
                        .map(move |&(stretch, votes)| (stretch, other, votes))
                });
                once_each(straight.chain(turned), left.len())
            }
        };
        // No longer needed, and large.
        for side in self.left.iter_mut().chain([&mut self.right]) {
            side.votes = Vec::new();
        }
        Meetings {
            visits: self,
            wanted,
            met,
        }
    }
}

/// For each stretch of one side those of the other that it has enough votes for, the one with the
/// most in any case.
fn lists(from: &Stretches, to: &Stretches, enough: f32) -> Lists {
    let list = |stretch| {
        let mut most = (0, f32::NEG_INFINITY);
        let mut list = Vec::new();
        for other in 0..to.len() {
            let votes = from.votes_for(stretch, to, other);
            if votes >= enough {
                list.push((other as u32, votes));
            }
            if votes > most.1 {
                most = (other as u32, votes);
            }
        }
        if list.is_empty() {
            list.push(most);
        }
        list
    };
    (0..from.len()).into_par_iter().map(list).collect()
}

/// The pairs as lists, each pair once and with the most votes that it has.
fn once_each(pairs: impl Iterator<Item = (u32, u32, f32)>, count: usize) -> Lists {
    let mut lists = vec![Vec::new(); count];
    for (stretch, other, votes) in pairs {
        lists[stretch as usize].push((other, votes));
    }
    lists.par_iter_mut().for_each(|list| {
        list.sort_unstable_by(|x, y| x.0.cmp(&y.0).then(y.1.total_cmp(&x.1)));
        list.dedup_by_key(|other| other.0);
    });
    lists
}

/// A thread's buffers.
struct Desk {
    left: LeftPanel,
    near: Vec<Near>,
    groups: Groups,
}

impl Meetings {
    /// The share of all pairs that meet, of those of a side with itself once.
    pub(crate) fn share(&self) -> f64 {
        let (left, right) = (self.visits.left(), &self.visits.right);
        let rows = |of: &Stretches, stretch: usize| of.rows(stretch..stretch + 1).len() as f64;
        let of_stretch = |(stretch, others): (usize, &Vec<(u32, f32)>)| {
            let pairs = |&(other, _): &(u32, f32)| {
                // Half of the pairs of a stretch with itself.
                let half = self.visits.left.is_none() && other as usize == stretch;
                let pairs = rows(left, stretch) * rows(right, other as usize);
                if half { pairs / 2.0 } else { pairs }
            };
            others.iter().map(pairs).sum::<f64>()
        };
        let met: f64 = self.met.iter().enumerate().map(of_stretch).sum();
        let all = left.rows as f64 * right.rows as f64;
        met / if self.visits.left.is_none() {
            all / 2.0
        } else {
            all
        }
    }

    /// Lets left rows meet what they give the most votes to, which fills their lists.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn hold_first<T: Scalar>(
        &mut self,
        left: &Side<'_, T>,
        right: &Side<'_, T>,
        nearest: &Nearest<'_, T>,
        run: &Run,
    ) -> Result<()> {
        let (Some(left_codes), Some(right_codes)) = (&left.codes, &right.codes) else {
            return Ok(());
        };
        let wanted = std::mem::take(&mut self.wanted);
        let of_right = &self.visits.right;
        let (judge, first) = (nearest.first(), to_begin_with(nearest.lists.k()));
        self.each_group(FIRST, run, |group, desk| {
            let mut votes: Vec<(u32, f32)> = wanted[group.clone()].concat();
            votes.sort_unstable_by(|x, y| x.0.cmp(&y.0).then(y.1.total_cmp(&x.1)));
            let mut sums: Vec<(u32, f32)> = votes
                .chunk_by(|one, other| one.0 == other.0)
                .map(|votes| (votes[0].0, votes.iter().map(|votes| votes.1).sum()))
                .collect();
            sums.sort_unstable_by(|x, y| y.1.total_cmp(&x.1).then(x.0.cmp(&y.0)));
            sums.truncate((first / of_right.length).max(1));
            let rows: Vec<u32> = rows(self.visits.left().rows(group));
            let others: Vec<u32> = sums
                .iter()
                .flat_map(|&(other, _)| of_right.rows(other as usize..other as usize + 1))
                .map(|row| row as u32)
                .collect();
            desk.left.gather(
                left_codes,
                &rows,
                &bounds(&rows, |row| nearest.lists.bound(row)),
            )?;
            let mut panel = RightPanel::new(run.isa());
            panel.gather(right_codes, &others, &vec![-1.0; others.len()])?;
            desk.near.clear();
            judge.pairs(&desk.left, &panel, &mut desk.near)?;
            judge.judge(&rows, &others, &mut desk.near, &mut desk.groups)
        })
    }

    /// Lets all rows meet that are to.
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
        let (of_left, of_right) = (self.visits.left(), &self.visits.right);
        let others: Vec<u32> = rows(0..of_right.rows);
        let mut panel = RightPanel::new(run.isa());
        let none = vec![-1.0; others.len()];
        panel.gather_stretches(right_codes, &others, of_right.length, &none)?;
        drop(none);
        let judge = nearest.for_all();
        let with_itself = self.visits.left.is_none();
        let visit = |group: Range<usize>, desk: &mut Desk, part: &[f64]| {
            let rows = rows(of_left.rows(group.clone()));
            let met = self.of_group(&group);
            let end = |part: f64| (met.len() as f64 * part) as usize;
            let part = &met[end(part[0])..end(part[1])];
            for (visit, visited) in part.chunks((RIGHT / of_right.length).max(1)).enumerate() {
                run.check()?;
                let bounds = bounds(&rows, |row| judge.left_bound(row));
                if visit == 0 {
                    let length = of_left.length;
                    desk.left
                        .gather_stretches(left_codes, &rows, length, &bounds)?;
                } else {
                    desk.left.set_bounds(&bounds)?;
                }
                desk.near.clear();
                let bound = |place: u32| judge.right_bound(place);
                near_pairs_of(&desk.left, &panel, &visited.concat(), bound, &mut desk.near)?;
                if with_itself {
                    // Each pair of a stretch with itself once.
                    desk.near.retain(|pair| {
                        let (row, other) = (rows[pair.left as usize] as usize, pair.right as usize);
                        row < other || row / of_right.length != other / of_right.length
                    });
                }
                judge.judge(&rows, &others, &mut desk.near, &mut desk.groups)?;
            }
            Ok(())
        };
        PARTS
            .windows(2)
            .try_for_each(|part| self.each_group(LEFT, run, |group, desk| visit(group, desk, part)))
    }

    /// The meetings of some left stretches, counted from the first of these, with the right
    /// stretches that get the most votes first.
    fn of_group(&self, group: &Range<usize>) -> Vec<Vec<(u32, u32)>> {
        let met = (0..)
            .zip(&self.met[group.clone()])
            .flat_map(|(stretch, others)| {
                let met = move |&(other, votes): &(u32, f32)| (other, stretch, votes);
                others.iter().map(met)
            });
        let mut met: Vec<(u32, u32, f32)> = met.collect();
        met.sort_unstable_by_key(|&(other, stretch, _)| (other, stretch));
        let of_other = |met: &[(u32, u32, f32)]| {
            let most = met.iter().map(|met| met.2).fold(0.0, f32::max);
            let pairs = met.iter().map(|met| (met.1, met.0));
            (most, pairs.collect())
        };
        let by_other = met.chunk_by(|one, other| one.0 == other.0);
        let mut by_other: Vec<(f32, Vec<(u32, u32)>)> = by_other.map(of_other).collect();
        by_other.sort_by(|x, y| y.0.total_cmp(&x.0));
        by_other.into_iter().map(|(_, met)| met).collect()
    }

    /// Calls `hold` for groups of left stretches, on the current rayon pool.
    fn each_group(
        &self,
        rows: usize,
        run: &Run,
        hold: impl Fn(Range<usize>, &mut Desk) -> Result<()> + Sync,
    ) -> Result<()> {
        let left = self.visits.left();
        let size = (rows / left.length).max(1);
        let mut groups: Vec<Range<usize>> = (0..left.len())
            .step_by(size)
            .map(|start| start..left.len().min(start + size))
            .collect();
        // The longest tasks first.
        let meetings = |group: &Range<usize>| self.met[group.clone()].iter().map(Vec::len).sum();
        groups.sort_by_cached_key(|group| Reverse::<usize>(meetings(group)));
        run.expect(groups.len());
        let desks = Desks::new(|| Desk {
            left: LeftPanel::new(run.isa()),
            near: Vec::new(),
            groups: Groups::default(),
        });
        groups
            .into_par_iter()
            .with_max_len(1)
            .try_for_each(|group| {
                run.check()?;
                hold(group, &mut desks.own())?;
                run.advance(1);
                Ok::<_, Error>(())
            })
    }
}

fn rows(range: Range<usize>) -> Vec<u32> {
    (range.start as u32..range.end as u32).collect()
}
