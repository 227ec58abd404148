//! The coarse quantiser: centroids, each of which has the list of the rows that it is nearest to.
//!
//! Two levels where there are many: lists are in groups, and a row is compared with the centroids of
//! the groups, and of the lists that are near one of its own group (D. Nistér and H. Stewénius,
//! "Scalable recognition with a vocabulary tree", 2006). All rows of a group are compared with the same
//! lists, which makes a product of matrices of it. The nearest of these lists is a row's own, and it may
//! probe the others. Where too many neighbours are in lists that a row is not compared with, as with
//! embeddings that are spread in all directions, lists are one group, and rows are compared with all.

use lshjoin_kernels::{LeftPanel, Quantised, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        context::Context,
        error::Result,
        plan::{LISTS_OF_ROW, MOST_OF_GROUP, groups_of, lists_of_row},
        sampling::{sample, seeded_sample},
    },
    ivf::{
        centroids::{BLOCK, CENTROIDS, CentroidPanel, Centroids},
        list_distances::{Candidates, CentroidDistances},
        list_offsets::ListOffsets,
        near_rows::near_rows,
    },
    vectors::Vectors,
};

/// Sampled rows for each list that is learnt.
pub(crate) const LEARNT_FROM: usize = 48;

/// Sampled rows, at most, where rows come from files.
const MOST_LEARNT_FROM: usize = 1 << 20;

/// Sampled rows for each group.
const GROUP_LEARNT_FROM: usize = 256;

/// Rounds of k-means over all lists, after those within groups: rows near the edge of a group may
/// be nearer to a list of another. (Of 5,000,000 descriptors, rows probed 1.67 lists for a recall of 0.9
/// after 2 rounds, 1.32 after 6, and no fewer after 10.)
pub(crate) const ROUNDS_OVER_ALL: usize = 6;

/// Lists stay in groups where rows are not compared with the lists of this share of the rows near them,
/// at most, and of this part of those that they may miss: by so many rows and the nearest of the sample,
/// which are further than those of all.
const HIDDEN: f64 = 0.02;
const HIDDEN_OF_MISSED: f64 = 0.5;
const TRIED: usize = 512;
const NEAR_ROWS: usize = 10;

/// Rows that one task compares with the lists of a group.
const TASK: usize = 32 * BLOCK;

/// The step between the rows that so many lists are learnt from, where rows come from files.
pub(crate) fn sample_step(rows: usize, lists: usize) -> usize {
    let sampled = lists.saturating_mul(LEARNT_FROM).min(MOST_LEARNT_FROM);
    (rows / sampled).max(1)
}

/// Lists near a list, at most, whose rows its own may be compared with first.
const NEAR: usize = 64;

/// Centroids of lists, in groups; near ones have near numbers, mostly.
pub(crate) struct CoarseQuantiser {
    groups: Centroids,
    of_all: CentroidPanel,
    lists: Centroids,
    codes: Quantised<'static>,
    /// The lists of each group.
    of_groups: ListOffsets,
    /// For each group, the lists that its rows may probe: its own first, then by rising distance from
    /// the nearest of these.
    candidates: Vec<Vec<u32>>,
    /// For each list, `near_count` lists near it, by rising distance of their centroids.
    near: Vec<u32>,
    near_count: usize,
}

/// What a coarse quantiser is made of, row-major, to be saved.
#[derive(Clone, Default)]
pub(crate) struct QuantiserParts {
    /// Centroids of groups, (groups, width).
    pub(crate) groups: Vec<f32>,
    /// Centroids of lists, (lists, width), group by group.
    pub(crate) lists: Vec<f32>,
    /// The first list of each group, and the end of the last.
    pub(crate) starts: Vec<u64>,
}

impl CoarseQuantiser {
    /// At most `count` lists, learnt from a sample of a side's codes, for joins by these that are to
    /// reach a `recall`, if it is known.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_side<T: Scalar>(
        side: &Vectors<'_, T>,
        count: usize,
        recall: Option<f64>,
        seed: u64,
        ctx: &Context,
    ) -> Result<Self> {
        let none = Quantised::empty(side.rows.dim())?;
        let codes = side.codes.as_ref().unwrap_or(&none);
        let sample = seeded_sample(codes.len(), count.saturating_mul(LEARNT_FROM), seed);
        let count = count.clamp(1, sample.len());
        let groups = groups_of(count);
        let of_groups = seeded_sample(sample.len(), groups.saturating_mul(GROUP_LEARNT_FROM), seed);
        let of_groups: Vec<u32> = of_groups.iter().map(|&at| sample[at as usize]).collect();
        let groups = Centroids::learn(codes, &of_groups, groups, (seed, 0), ctx)?;
        let (lists, starts) = learn_lists(codes, &sample, &groups, (count, seed), ctx)?;
        let mut found = Self::new(groups, lists, starts, ctx)?;
        if !found.compares_all() {
            for _ in 0..ROUNDS_OVER_ALL {
                let nearest = found.assign(codes, &sample, ctx)?;
                found.lists.move_to(codes, &sample, &nearest, ctx.isa())?;
                found.codes = found.lists.codes(ctx.isa())?;
            }
            found = Self::new(found.groups, found.lists, found.of_groups, ctx)?;
            let missed = 1.0 - recall.unwrap_or(0.0);
            if found.hidden(codes, &sample, ctx)? > HIDDEN.min(HIDDEN_OF_MISSED * missed) {
                found = found.in_one_group(ctx)?;
            }
        }
        found.find_near(ctx)?;
        Ok(found)
    }

    /// From what was saved, of rows of `width` values.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_parts(parts: QuantiserParts, width: usize, ctx: &Context) -> Result<Self> {
        let starts = parts.starts.iter().map(|&start| start as usize);
        let starts = ListOffsets::of_starts(memory::collect(starts, CENTROIDS)?);
        let groups = Centroids::of_parts(parts.groups, width);
        let lists = Centroids::of_parts(parts.lists, width);
        let mut found = Self::new(groups, lists, starts, ctx)?;
        found.find_near(ctx)?;
        Ok(found)
    }

    /// What it is made of.
    pub(crate) fn into_parts(self) -> QuantiserParts {
        QuantiserParts {
            groups: self.groups.into_values(),
            lists: self.lists.into_values(),
            starts: self.of_groups.starts().collect(),
        }
    }

    /// From the centroids of groups and of lists, and the lists of each group; it is not known yet
    /// which lists are near each other.
    fn new(
        groups: Centroids,
        lists: Centroids,
        of_groups: ListOffsets,
        ctx: &Context,
    ) -> Result<Self> {
        let isa = ctx.isa();
        let codes = lists.codes(isa)?;
        let numbers: Vec<u32> = memory::collect(0..lists.len() as u32, CENTROIDS)?;
        let candidates = match groups.len() {
            0 | 1 => vec![numbers],
            _ => {
                let all = Candidates::new(&codes, &numbers, isa)?;
                let of_group = |group: u32| {
                    let own: Vec<u32> = of_groups.ids(group).collect();
                    all.nearest_to_any(&codes, &own, LISTS_OF_ROW, ctx)
                };
                let of_groups = (0..groups.len() as u32).into_par_iter().map(of_group);
                of_groups.collect::<Result<_>>()?
            }
        };
        Ok(Self {
            candidates,
            of_all: CentroidPanel::new(&groups.codes(isa)?, None, isa)?,
            near_count: NEAR.min(lists.len()),
            near: Vec::new(),
            codes,
            groups,
            lists,
            of_groups,
        })
    }

    /// The share of the rows near a row whose lists it is not compared with, by some of these rows.
    fn hidden(&self, codes: &Quantised, rows: &[u32], ctx: &Context) -> Result<f64> {
        let tried = sample(rows.len(), TRIED).into_iter();
        let tried: Vec<u32> = tried.map(|at| rows[at as usize]).collect();
        let near = near_rows(codes, (&tried, rows), NEAR_ROWS, ctx)?;
        let all: Vec<u32> = near.iter().flatten().copied().collect();
        let mut lists = self.assign(codes, &all, ctx)?.into_iter();
        let of_row = |near: &Vec<u32>| lists.by_ref().take(near.len()).collect();
        let lists: Vec<Vec<u32>> = near.iter().map(of_row).collect();
        let hidden = |row: usize, distances: &CentroidDistances| {
            let lists = lists[row].iter();
            let hidden = lists.filter(|&&list| distances.margin(list) == f32::INFINITY);
            Ok(hidden.count())
        };
        let hidden = self.each_row(codes, &tried, hidden, ctx)?;
        Ok(hidden.into_iter().sum::<usize>() as f64 / all.len().max(1) as f64)
    }

    /// The same lists, all of which rows are compared with; which are near each other is not known.
    fn in_one_group(self, ctx: &Context) -> Result<Self> {
        let starts = ListOffsets::of_starts(vec![0, self.lists.len()]);
        let (mut group, dim) = (self.groups.into_values(), self.codes.dim());
        group.truncate(dim);
        Self::new(Centroids::of_parts(group, dim), self.lists, starts, ctx)
    }

    /// Finds for each list those near it.
    fn find_near(&mut self, ctx: &Context) -> Result<()> {
        let groups = (0..self.groups.len() as u32).into_par_iter().map(|group| {
            let lists: Vec<u32> = self.of_groups.ids(group).collect();
            let candidates = self.candidates_of(group, ctx)?;
            let near = candidates.nearest(&self.codes, &lists, self.near_count, ctx)?;
            let near = lists.into_iter().zip(near);
            Ok(near.map(|(list, near)| itself_first(list, near)).collect())
        });
        let groups: Vec<Vec<Vec<u32>>> = groups.collect::<Result<_>>()?;
        self.near = memory::collect(groups.into_iter().flatten().flatten(), CENTROIDS)?;
        Ok(())
    }

    fn candidates_of(&self, group: u32, ctx: &Context) -> Result<Candidates> {
        let lists = &self.candidates[group as usize];
        Candidates::new(&self.codes, lists, ctx.isa())
    }

    /// How many lists there are.
    pub(crate) fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether rows are compared with all lists, so that the nearest of all is a row's own.
    pub(crate) fn compares_all(&self) -> bool {
        self.groups.len() <= 1
    }

    /// About how many lists a row is compared with.
    pub(crate) fn lists_of_row(&self) -> usize {
        match self.compares_all() {
            true => self.len(),
            false => lists_of_row(self.len()),
        }
    }

    /// The codes of the centroids of lists.
    pub(crate) const fn codes(&self) -> &Quantised<'static> {
        &self.codes
    }

    /// The lists near a list: itself first, then by rising distance.
    pub(crate) fn near(&self, list: u32) -> &[u32] {
        &self.near[list as usize * self.near_count..][..self.near_count]
    }

    /// What `of_row` makes of each of these rows, by internal id: it is given the position in
    /// `rows` and the distances to the lists that the row may probe.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn each_row<V: Send>(
        &self,
        codes: &Quantised,
        rows: &[u32],
        of_row: impl Fn(usize, &CentroidDistances) -> Result<V> + Sync,
        ctx: &Context,
    ) -> Result<Vec<V>> {
        let add = |found: &mut Vec<(usize, V)>, position: usize, distances: &CentroidDistances| {
            found.push((position, of_row(position, distances)?));
            Ok(())
        };
        let tasks = self.each_task(codes, rows, add, ctx)?;
        let mut of_rows = memory::empty(rows.len(), ROW_NUMBERS)?;
        of_rows.extend(tasks.into_iter().flatten());
        of_rows.sort_unstable_by_key(|&(position, _)| position);
        Ok(of_rows.into_iter().map(|(_, of_row)| of_row).collect())
    }

    /// [`CoarseQuantiser::each_row`] for some of a side's rows, by index; nothing where the side
    /// has no codes.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn each_row_of<T: Scalar, V: Send>(
        &self,
        side: &Vectors<'_, T>,
        rows: &[u32],
        of_row: impl Fn(usize, &CentroidDistances) -> Result<V> + Sync,
        ctx: &Context,
    ) -> Result<Vec<V>> {
        let Some(codes) = &side.codes else {
            return Ok(Vec::new());
        };
        let numbers = memory::collect(rows.iter().map(|&row| side.internal_id(row)), ROW_NUMBERS)?;
        self.each_row(codes, &numbers, of_row, ctx)
    }

    /// What `add` makes of each of these rows, by internal id, in tasks of some rows of one group: it
    /// is given what the task has made of its rows before, the position in `rows`, and the distances
    /// to the lists that the row may probe.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn each_task<V: Default + Send>(
        &self,
        codes: &Quantised,
        rows: &[u32],
        add: impl Fn(&mut V, usize, &CentroidDistances) -> Result<()> + Sync,
        ctx: &Context,
    ) -> Result<Vec<V>> {
        let groups = nearest(codes, rows, &self.of_all, ctx)?;
        let offsets = ListOffsets::new(groups.iter().copied(), self.groups.len());
        let order = offsets.order(&groups)?;
        drop(groups);
        let tasks = (0..self.groups.len() as u32).flat_map(|group| {
            let of_group = order[offsets.of(group)].chunks(TASK);
            of_group.map(move |positions| (group, positions))
        });
        let tasks: Vec<(u32, &[u32])> = memory::collect(tasks, ROW_NUMBERS)?;
        let pairs = |&(group, positions): &(u32, &[u32])| {
            positions.len() * self.candidates[group as usize].len()
        };
        ctx.expect(tasks.iter().map(pairs).sum());
        let tasks = tasks.into_par_iter().map_init(
            || (LeftPanel::new(ctx.isa()), Vec::new(), None),
            |(left, squares, last), (group, positions)| {
                ctx.check()?;
                let candidates = match last.take() {
                    Some((of, candidates)) if of == group => candidates,
                    _ => self.candidates_of(group, ctx)?,
                };
                let mut found = V::default();
                for positions in positions.chunks(BLOCK) {
                    let of_block: Vec<u32> =
                        positions.iter().map(|&at| rows[at as usize]).collect();
                    let buffers = (&mut *left, &mut *squares);
                    let found = |row: usize, distances: &CentroidDistances| {
                        add(&mut found, positions[row] as usize, distances)
                    };
                    candidates.compare(codes, &of_block, buffers, ctx.isa(), found)?;
                }
                *last = Some((group, candidates));
                ctx.advance(pairs(&(group, positions)));
                Ok(found)
            },
        );
        tasks.collect()
    }

    /// The list of each of these rows, by internal id.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn assign(
        &self,
        codes: &Quantised,
        rows: &[u32],
        ctx: &Context,
    ) -> Result<Vec<u32>> {
        let add = |found: &mut Vec<(u32, u32)>, position: usize, distances: &CentroidDistances| {
            found.push((position as u32, distances.nearest()));
            Ok(())
        };
        let mut lists = memory::zeroed(rows.len(), ROW_NUMBERS)?;
        for (position, list) in self.each_task(codes, rows, add, ctx)?.into_iter().flatten() {
            lists[position as usize] = list;
        }
        Ok(lists)
    }
}

/// Learns about `count` lists from a sample of rows, group by group, in proportion to their rows; and
/// which lists each group has.
fn learn_lists(
    codes: &Quantised,
    sample: &[u32],
    groups: &Centroids,
    (count, seed): (usize, u64),
    ctx: &Context,
) -> Result<(Centroids, ListOffsets)> {
    let panel = CentroidPanel::new(&groups.codes(ctx.isa())?, None, ctx.isa())?;
    let of_rows = nearest(codes, sample, &panel, ctx)?;
    let of_groups = ListOffsets::new(of_rows.iter().copied(), groups.len());
    let mut order = of_groups.order(&of_rows)?;
    order.iter_mut().for_each(|at| *at = sample[*at as usize]);
    let lists = (0..groups.len() as u32).into_par_iter().map(|group| {
        let rows = &order[of_groups.of(group)];
        if rows.is_empty() {
            return Ok(Centroids::of_parts(Vec::new(), codes.dim()));
        }
        let share = rows.len() as f64 / sample.len() as f64;
        let lists = (share * count as f64).round() as usize;
        let lists = lists.clamp(1, MOST_OF_GROUP);
        Centroids::learn(codes, rows, lists, (seed, u64::from(group) + 1), ctx)
    });
    let of_groups: Vec<Centroids> = lists.collect::<Result<_>>()?;
    let (mut lists, mut starts) = (Centroids::of_parts(Vec::new(), codes.dim()), vec![0]);
    for group in &of_groups {
        lists.append(group)?;
        starts.push(lists.len());
    }
    Ok((lists, ListOffsets::of_starts(starts)))
}

/// The nearest centroid of each of these rows.
fn nearest(
    codes: &Quantised,
    rows: &[u32],
    centroids: &CentroidPanel,
    ctx: &Context,
) -> Result<Vec<u32>> {
    let mut found = memory::zeroed(rows.len(), ROW_NUMBERS)?;
    let has_choice = centroids.columns.iter().flatten().nth(1).is_some();
    if !has_choice {
        return Ok(found);
    }
    let blocks = rows.par_chunks(BLOCK).zip(found.par_chunks_mut(BLOCK));
    blocks.try_for_each_init(
        || (LeftPanel::new(ctx.isa()), Vec::new()),
        |(left, squares), (rows, found)| {
            ctx.check()?;
            left.gather(codes, rows, &vec![-1.0; rows.len()])?;
            centroids.find_nearest(left, squares, found, ctx.isa())
        },
    )?;
    Ok(found)
}

/// The lists near a list, which is the first of them, whatever codes say.
fn itself_first(list: u32, mut near: Vec<u32>) -> Vec<u32> {
    let own = near.iter().position(|&other| other == list);
    // Of lists that are the same, another may be there in its place.
    let end = own.map_or(near.len(), |own| own + 1);
    near[..end].rotate_right(1);
    if let Some(first) = near.first_mut() {
        *first = list;
    }
    near
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::Rows;

    use super::*;
    use crate::base::{metric::Metric, random::gaussians};

    #[test]
    fn rows_of_many_lists_find_their_own_in_groups_near_them() -> Result<()> {
        const DIM: usize = 8;
        let ctx = Context::new()?;
        let values = gaussians(16_000 * DIM, 1);
        let side = Vectors::new("rows", Rows::new(&values, DIM)?, Metric::Euclidean, &ctx)?;
        let lists = 8000;
        let quantiser = CoarseQuantiser::of_side(&side, lists, None, 5, &ctx)?;
        assert!(quantiser.groups.len() > 16 && quantiser.len().abs_diff(lists) < 100);
        for list in 0..quantiser.len() as u32 {
            assert_eq!(quantiser.near(list)[0], list);
        }

        let rows: Vec<u32> = (0..side.len() as u32).collect();
        let of_row = |_: usize, of: &CentroidDistances| {
            let margins = of.margins()?;
            let own = of.nearest();
            assert_eq!(of.margin(own), 0.0);
            for &(list, margin) in &margins {
                assert_eq!(of.margin(list), margin);
            }
            Ok((own, margins.len()))
        };
        let found = quantiser.each_row_of(&side, &rows, of_row, &ctx)?;
        let codes = side.codes.as_ref().unwrap();
        let all = CentroidPanel::new(quantiser.codes(), None, ctx.isa())?;
        let nearest = super::nearest(codes, &rows, &all, &ctx)?;
        let same = found.iter().zip(&nearest);
        let same = same.filter(|&(found, nearest)| found.0 == *nearest).count();
        assert!(same > rows.len() * 95 / 100, "{same} of {}", rows.len());
        let compared: usize = found.iter().map(|found| found.1).sum();
        assert!(compared < rows.len() * quantiser.len() * 3 / 4);
        let lists = quantiser.candidates.clone();
        let saved = CoarseQuantiser::of_parts(quantiser.into_parts(), DIM, &ctx)?;
        assert!(saved.candidates == lists);

        let mut sizes = vec![0; saved.len()];
        found.iter().for_each(|found| sizes[found.0 as usize] += 1);
        let largest = sizes.iter().max().copied().unwrap_or(0);
        assert!(largest < 40, "a list of {largest} of {} rows", rows.len());
        Ok(())
    }

    #[test]
    fn groups_may_hide_a_part_of_what_may_be_missed() -> Result<()> {
        const DIM: usize = 64;
        let ctx = Context::new()?;
        let values = gaussians(12_000 * DIM, 3);
        let side = Vectors::new("rows", Rows::new(&values, DIM)?, Metric::Euclidean, &ctx)?;
        for (recall, in_groups) in [(0.5, true), (0.999, false)] {
            let quantiser = CoarseQuantiser::of_side(&side, 6000, Some(recall), 5, &ctx)?;
            assert!(quantiser.len().abs_diff(6000) < 100);
            let saved = CoarseQuantiser::of_parts(quantiser.into_parts(), DIM, &ctx)?;
            let of_row = saved.candidates.iter().map(Vec::len);
            let fewest = of_row.min().unwrap_or(0);
            assert_eq!(fewest < saved.len(), in_groups, "{recall}: {fewest} lists");
            assert_eq!(saved.compares_all(), !in_groups);
        }
        Ok(())
    }

    #[test]
    fn lists_out_of_reach_are_infinitely_far() -> Result<()> {
        let ctx = Context::new()?;
        let values = gaussians(16_000 * 4, 2);
        let side = Vectors::new("rows", Rows::new(&values, 4)?, Metric::Euclidean, &ctx)?;
        let quantiser = CoarseQuantiser::of_side(&side, 8000, None, 5, &ctx)?;
        let far = |_: usize, of: &CentroidDistances| {
            let lists = of.margins()?;
            let out = (0..quantiser.len() as u32)
                .filter(|list| lists.binary_search_by_key(list, |&(list, _)| list).is_err());
            Ok(out.map(|list| of.margin(list)).collect::<Vec<_>>())
        };
        let found = quantiser.each_row_of(&side, &[0, 77, 5999], far, &ctx)?;
        assert!(found.iter().all(|far| !far.is_empty()));
        assert!(found.iter().flatten().all(|&far| far == f32::INFINITY));
        Ok(())
    }
}
