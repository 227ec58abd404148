//! The coarse quantiser: centroids, each of which has the list of the rows that it is nearest to.
//!
//! Two levels: lists are in groups, so that a row is compared with the centroids of the groups and
//! of the lists of the groups nearest to it, some square roots of the number of lists (D. Nistér and
//! H. Stewénius, "Scalable recognition with a vocabulary tree", 2006). The nearest of these lists is
//! its own, and it may probe the others.

use lshjoin_kernels::{LeftPanel, Quantised, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        context::Context,
        error::Result,
        plan::{MOST_OF_GROUP, groups_of},
    },
    ivf::{
        centroids::{CENTROIDS, CentroidPanel, Centroids, Sample},
        list_distances::{BLOCK, Buffers, CentroidDistances, ListPanels, ListsOfRow},
        list_offsets::ListOffsets,
    },
    vectors::Vectors,
};

/// Sampled rows for each list that is learnt.
pub(crate) const LEARNT_FROM: usize = 16;

/// Sampled rows, at most, where rows come from files.
const MOST_LEARNT_FROM: usize = 1 << 20;

/// The step between the rows that so many lists are learnt from, where rows come from files.
pub(crate) fn sample_step(rows: usize, lists: usize) -> usize {
    let sampled = lists.saturating_mul(LEARNT_FROM).min(MOST_LEARNT_FROM);
    (rows / sampled).max(1)
}

/// Lists near a list, at most, whose rows its own may be compared with first.
const NEAR: usize = 64;

/// The lists near a list are looked for among so many times as many.
const AMONG: usize = 4;

/// Centroids of lists, in groups; near ones have near numbers, mostly.
pub(crate) struct CoarseQuantiser {
    groups: Centroids,
    lists: Centroids,
    codes: Quantised<'static>,
    panels: ListPanels,
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
    /// At most `count` lists, learnt from a sample of the values that the side's codes stand for.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_side<T: Scalar>(
        side: &Vectors<'_, T>,
        count: usize,
        seed: u64,
        ctx: &Context,
    ) -> Result<Self> {
        let sample = Sample::of_side(side, count.saturating_mul(LEARNT_FROM), ctx)?;
        let rows = sample.all()?;
        let count = count.clamp(1, rows.len());
        let groups = Centroids::of_sample(&sample, &rows, groups_of(count), (seed, 0), ctx)?;
        let nearest = groups.nearest(&sample.codes, &rows, ctx)?;
        let of_groups = ListOffsets::new(nearest.iter().copied(), groups.len());
        let order = of_groups.order(&nearest)?;
        // Each group has as many lists as it has rows, in proportion.
        let lists = (0..groups.len() as u32).into_par_iter().map(|group| {
            let rows = &order[of_groups.of(group)];
            if rows.is_empty() {
                return Ok(Centroids::of_parts(Vec::new(), side.rows.dim()));
            }
            let share = rows.len() as f64 / sample.len() as f64;
            let lists = (share * count as f64).round() as usize;
            let lists = lists.clamp(1, MOST_OF_GROUP);
            let choice = u64::from(group) + 1;
            Centroids::of_sample(&sample, rows, lists, (seed, choice), ctx)
        });
        let of_groups: Vec<Centroids> = lists.collect::<Result<_>>()?;
        let mut lists = Centroids::of_parts(Vec::new(), side.rows.dim());
        of_groups.iter().try_for_each(|group| lists.append(group))?;
        let starts = of_groups.iter().scan(0, |start, group| {
            *start += group.len();
            Some(*start)
        });
        let starts = ListOffsets::of_starts(std::iter::once(0).chain(starts).collect());
        Self::new(groups, lists, starts, ctx)
    }

    /// From what was saved, of rows of `width` values.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_parts(parts: QuantiserParts, width: usize, ctx: &Context) -> Result<Self> {
        let starts = parts.starts.iter().map(|&start| start as usize);
        let starts = ListOffsets::of_starts(memory::collect(starts, CENTROIDS)?);
        let groups = Centroids::of_parts(parts.groups, width);
        Self::new(groups, Centroids::of_parts(parts.lists, width), starts, ctx)
    }

    /// What it is made of.
    pub(crate) fn into_parts(self) -> QuantiserParts {
        QuantiserParts {
            groups: self.groups.into_values(),
            lists: self.lists.into_values(),
            starts: self.panels.of_groups.starts().collect(),
        }
    }

    /// From the centroids of groups and of lists, and the lists of each group.
    fn new(
        groups: Centroids,
        lists: Centroids,
        of_groups: ListOffsets,
        ctx: &Context,
    ) -> Result<Self> {
        let codes = Quantised::new(lists.rows()?, ctx.isa())?;
        let of_all = Quantised::new(groups.rows()?, ctx.isa())?;
        let mut found = Self {
            panels: ListPanels::new(&of_all, &codes, of_groups, ctx)?,
            codes,
            near_count: NEAR.min(lists.len()),
            near: Vec::new(),
            groups,
            lists,
        };
        found.near = found.find_near(&of_all, ctx)?;
        Ok(found)
    }

    /// For each list those near it, among the lists of groups near its own.
    fn find_near(&self, of_all: &Quantised, ctx: &Context) -> Result<Vec<u32>> {
        let (all, of_groups) = (&self.panels.of_all, &self.panels.of_groups);
        let groups = (0..self.groups.len() as u32).into_par_iter().map(|group| {
            ctx.check()?;
            let (mut left, mut squares) = (LeftPanel::new(ctx.isa()), Vec::new());
            left.gather(of_all, &[group], &[-1.0])?;
            all.distances2(&left, &mut squares)?;
            let order = squares.iter().zip(&all.columns);
            let order = order.filter_map(|(&square, &other)| Some((square, other?)));
            let order = nearest_first(order.collect(), usize::MAX);
            let mut among: Vec<u32> = Vec::new();
            for (_, other) in order {
                if among.len() >= AMONG * self.near_count {
                    break;
                }
                among.extend(of_groups.ids(other));
            }
            let panel = CentroidPanel::new(&self.codes, Some(&among), ctx.isa())?;
            let lists: Vec<u32> = of_groups.ids(group).collect();
            left.gather(&self.codes, &lists, &vec![-1.0; lists.len()])?;
            panel.distances2(&left, &mut squares)?;
            let mut near = Vec::with_capacity(lists.len() * self.near_count);
            for (&list, squares) in lists.iter().zip(squares.chunks(panel.columns.len())) {
                let others = squares.iter().zip(&panel.columns);
                let others = others.filter_map(|(&square, &place)| {
                    let other = among[place? as usize];
                    // Itself first, whatever the codes say.
                    Some((if other == list { -1.0 } else { square }, other))
                });
                let nearest = nearest_first(others.collect(), self.near_count);
                near.extend(nearest.into_iter().map(|(_, other)| other));
            }
            Ok(near)
        });
        let near: Vec<Vec<u32>> = groups.collect::<Result<_>>()?;
        Ok(memory::collect(near.into_iter().flatten(), CENTROIDS)?)
    }

    /// How many lists there are.
    pub(crate) fn len(&self) -> usize {
        self.lists.len()
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
        let of_block = |distances: &mut dyn Iterator<Item = CentroidDistances>| {
            let of_rows = distances.map(|distances| of_row(distances.position, &distances));
            of_rows.collect()
        };
        let blocks: Vec<Vec<V>> = self.each_block(codes, rows, of_block, ctx)?;
        let mut of_rows = memory::empty(rows.len(), ROW_NUMBERS)?;
        of_rows.extend(blocks.into_iter().flatten());
        Ok(of_rows)
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

    /// What `of_block` makes of each block of [`BLOCK`] rows, given their distances to the lists
    /// that they may probe: those of the groups nearest to each.
    fn each_block<V: Send>(
        &self,
        codes: &Quantised,
        rows: &[u32],
        of_block: impl Fn(&mut dyn Iterator<Item = CentroidDistances>) -> Result<V> + Sync,
        ctx: &Context,
    ) -> Result<Vec<V>> {
        let blocks = rows.par_chunks(BLOCK).enumerate();
        let blocks = blocks.map_init(
            || Buffers::new(ctx.isa()),
            |buffers, (block, rows)| {
                ctx.check()?;
                buffers.compare(codes, rows, &self.panels)?;
                of_block(&mut buffers.distances_of_rows(block * BLOCK, &self.panels))
            },
        );
        blocks.collect()
    }

    /// What `of_block` makes of each block of [`BLOCK`] rows, given for each its list, and the lists
    /// that are further by no more than `margin` with by how much: the same as
    /// [`CoarseQuantiser::each_row`] finds, in less time.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn each_block_within<V: Send>(
        &self,
        codes: &Quantised,
        rows: &[u32],
        margin: f32,
        of_block: impl Fn(&mut dyn Iterator<Item = ListsOfRow>) -> Result<V> + Sync,
        ctx: &Context,
    ) -> Result<Vec<V>> {
        let blocks = rows.par_chunks(BLOCK);
        let blocks = blocks.map_init(
            || Buffers::new(ctx.isa()),
            |buffers, rows| {
                ctx.check()?;
                buffers.find(codes, rows, margin, &self.panels)?;
                of_block(&mut buffers.lists_of_rows(margin))
            },
        );
        blocks.collect()
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
        let lists = |of_rows: &mut dyn Iterator<Item = ListsOfRow>| {
            Ok(of_rows.map(|row| row.nearest()).collect::<Vec<u32>>())
        };
        let blocks = self.each_block_within(codes, rows, 0.0, lists, ctx)?;
        Ok(memory::collect(blocks.into_iter().flatten(), ROW_NUMBERS)?)
    }
}

/// The `most` nearest of some lists, given with their distances, nearest first.
pub(crate) fn nearest_first(mut lists: Vec<(f32, u32)>, most: usize) -> Vec<(f32, u32)> {
    let nearer = |x: &(f32, u32), y: &(f32, u32)| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1));
    if most < lists.len() {
        lists.select_nth_unstable_by(most, nearer);
        lists.truncate(most);
        lists.shrink_to_fit();
    }
    lists.sort_unstable_by(nearer);
    lists
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::Rows;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::base::{metric::Metric, random::gaussian};

    #[test]
    fn rows_of_many_lists_find_their_own_in_groups_near_them() -> Result<()> {
        const DIM: usize = 8;
        let ctx = Context::new()?;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let values: Vec<f32> = (0..6000 * DIM).map(|_| gaussian(&mut rng) as f32).collect();
        let side = Vectors::new("rows", Rows::new(&values, DIM)?, Metric::Euclidean, &ctx)?;
        let lists = 1500;
        let quantiser = CoarseQuantiser::of_side(&side, lists, 5, &ctx)?;
        assert!(quantiser.groups.len() > 16 && quantiser.len().abs_diff(lists) < 50);
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
        let nearest = quantiser.lists.nearest(codes, &rows, &ctx)?;
        let same = found.iter().zip(&nearest);
        let same = same.filter(|&(found, nearest)| found.0 == *nearest).count();
        assert!(same > rows.len() * 95 / 100, "{same} of {}", rows.len());
        // About the square root of the number of lists, times the groups.
        let compared: usize = found.iter().map(|found| found.1).sum();
        assert!(compared < rows.len() * quantiser.len() * 3 / 4);

        let mut sizes = vec![0; quantiser.len()];
        found.iter().for_each(|found| sizes[found.0 as usize] += 1);
        let largest = sizes.iter().max().copied().unwrap_or(0);
        assert!(largest < 40, "a list of {largest} of {} rows", rows.len());
        Ok(())
    }

    #[test]
    fn lists_out_of_reach_are_infinitely_far() -> Result<()> {
        let ctx = Context::new()?;
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let values: Vec<f32> = (0..6000 * 4).map(|_| gaussian(&mut rng) as f32).collect();
        let side = Vectors::new("rows", Rows::new(&values, 4)?, Metric::Euclidean, &ctx)?;
        let quantiser = CoarseQuantiser::of_side(&side, 1500, 5, &ctx)?;
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
