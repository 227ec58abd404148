//! The coarse quantiser: centroids, each of which has the list of the rows that it is nearest to.
//!
//! Two levels: lists are in groups, so that a row is compared with the centroids of the groups and
//! of the lists of the groups nearest to it, some square roots of the number of lists (D. Nistér and
//! H. Stewénius, "Scalable recognition with a vocabulary tree", 2006). The nearest of these lists is
//! its own, and it may probe the others.

use lshjoin_kernels::{
    CodePair, Isa, LeftPanel, Quantised, Scalar, each_near_least, least, memory,
};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result},
    ivf::{
        centroids::{BLOCK as OF_PANEL, CENTROIDS, CentroidPanel, Centroids, Sample},
        list_offsets::ListOffsets,
    },
    vectors::Vectors,
};

/// Up to so many lists are one group: a row is compared with all of them.
pub(crate) const ONE_GROUP: usize = 1024;

/// Sampled rows for each list that is learnt.
pub(crate) const LEARNT_FROM: usize = 16;

/// Groups whose lists a row is compared with, those nearest to it.
const GROUPS: usize = 16;

/// Lists near a list, at most, whose rows its own may be compared with first.
const NEAR: usize = 64;

/// The lists near a list are looked for among so many times as many.
const AMONG: usize = 4;

/// How an out-of-memory error names them.
const NEAR_LISTS: &str = "lists near rows";

/// Rows whose lists are found at a time: enough for each group to have some.
pub(crate) const BLOCK: usize = 512;

/// Centroids of lists, in groups; near ones have near numbers, mostly.
pub(crate) struct CoarseQuantiser {
    groups: Centroids,
    lists: Centroids,
    /// The lists of each group.
    of_groups: ListOffsets,
    codes: Quantised<'static>,
    /// All groups, and the lists of each.
    of_all: CentroidPanel,
    panels: Vec<CentroidPanel>,
    /// For each list, `near_count` lists near it, by rising distance of their centroids.
    near: Vec<u32>,
    near_count: usize,
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
            let lists = (share * count as f64).round().max(1.0) as usize;
            let choice = u64::from(group) + 1;
            Centroids::of_sample(&sample, rows, lists, (seed, choice), ctx)
        });
        let lists: Vec<Centroids> = lists.collect::<Result<_>>()?;
        Self::of_parts(groups, &lists, ctx)
    }

    /// From the centroids of groups, and those of each group's lists.
    fn of_parts(groups: Centroids, of_groups: &[Centroids], ctx: &Context) -> Result<Self> {
        let width = groups.rows()?.dim();
        let mut lists = Centroids::of_parts(Vec::new(), width);
        of_groups.iter().try_for_each(|group| lists.append(group))?;
        let starts = of_groups.iter().scan(0, |start, group| {
            *start += group.len();
            Some(*start)
        });
        let isa = ctx.isa();
        let of_groups = ListOffsets::of_starts(std::iter::once(0).chain(starts).collect());
        let codes = Quantised::new(lists.rows()?, isa)?;
        let panels = (0..groups.len() as u32).into_par_iter().map(|group| {
            let lists: Vec<u32> = of_groups.ids(group).collect();
            CentroidPanel::new(&codes, Some(&lists), isa)
        });
        let mut found = Self {
            panels: panels.collect::<Result<_>>()?,
            of_all: CentroidPanel::new(&Quantised::new(groups.rows()?, isa)?, None, isa)?,
            of_groups,
            codes,
            near_count: NEAR.min(lists.len()),
            near: Vec::new(),
            groups,
            lists,
        };
        found.near = found.find_near(ctx)?;
        Ok(found)
    }

    /// For each list those near it, among the lists of groups near its own.
    fn find_near(&self, ctx: &Context) -> Result<Vec<u32>> {
        let codes = Quantised::new(self.groups.rows()?, ctx.isa())?;
        let all = &self.of_all;
        let groups = (0..self.groups.len() as u32).into_par_iter().map(|group| {
            ctx.check()?;
            let (mut left, mut squares) = (LeftPanel::new(ctx.isa()), Vec::new());
            left.gather(&codes, &[group], &[-1.0])?;
            all.distances2(&left, &mut squares)?;
            let order = squares.iter().zip(&all.columns);
            let order = order.filter_map(|(&square, &other)| Some((square, other?)));
            let order = nearest_first(order.collect(), usize::MAX);
            let mut among: Vec<u32> = Vec::new();
            for (_, other) in order {
                if among.len() >= AMONG * self.near_count {
                    break;
                }
                among.extend(self.of_groups.ids(other));
            }
            let panel = CentroidPanel::new(&self.codes, Some(&among), ctx.isa())?;
            let lists: Vec<u32> = self.of_groups.ids(group).collect();
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

    /// The first list of a group.
    fn first_of(&self, group: u32) -> u32 {
        self.of_groups.of(group).start as u32
    }

    /// How many lists there are.
    pub(crate) fn len(&self) -> usize {
        self.lists.len()
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
        let isa = ctx.isa();
        let few = groups_of_row(self.groups.len());
        let blocks = rows.par_chunks(BLOCK).enumerate();
        let blocks = blocks.map_init(
            || Buffers::new(isa),
            |buffers, (block, rows)| {
                ctx.check()?;
                buffers.compare(codes, rows, self)?;
                let of_rows = (0..rows.len()).map(|row| CentroidDistances {
                    position: block * BLOCK + row,
                    least: least(buffers.of_row(row, few), isa),
                    squares: buffers.of_row(row, few),
                    groups: &buffers.groups[row * few..][..few],
                    quantiser: self,
                    isa,
                });
                of_block(&mut { of_rows })
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
                buffers.find(codes, rows, margin, self)?;
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

/// The lists that a row may probe, of those within a margin.
pub(crate) struct ListsOfRow<'a> {
    /// Lists and their squared distances: all that are within the margin, and a few others.
    lists: &'a [(u32, f32)],
    least: f32,
    margin: f32,
}

impl ListsOfRow<'_> {
    /// The list of the row; of equally near ones, that of the least number.
    pub(crate) fn nearest(&self) -> u32 {
        let nearest = self.lists.iter().filter(|list| list.1 <= self.least);
        nearest.map(|list| list.0).min().unwrap_or(0)
    }

    /// Calls `found` with the lists that are further than the nearest by no more than the margin, and
    /// with by how much.
    pub(crate) fn within(&self, mut found: impl FnMut(u32, f32)) {
        for &(list, square) in self.lists {
            let further = square - self.least;
            // Of infinities there is no difference.
            if square <= self.least || further <= self.margin {
                found(list, further);
            }
        }
    }
}

/// A thread's buffers for the distances of a block of rows.
struct Buffers {
    isa: Isa,
    left: LeftPanel,
    of_panel: Vec<f32>,
    /// The groups nearest to each row.
    groups: Vec<u32>,
    /// Where the distances of each row to each of its groups start, and the end.
    starts: Vec<usize>,
    squares: Vec<f32>,
    /// The least squared distance of each row so far.
    least: Vec<f32>,
    pairs: Vec<CodePair>,
    /// Near lists of the rows, with their squared distances: as they are found, and by row.
    found: Vec<(u32, (u32, f32))>,
    by_row: Vec<(u32, f32)>,
    ends: Vec<usize>,
}

impl Buffers {
    fn new(isa: Isa) -> Self {
        Self {
            isa,
            left: LeftPanel::new(isa),
            of_panel: Vec::new(),
            groups: Vec::new(),
            starts: Vec::new(),
            squares: Vec::new(),
            least: Vec::new(),
            pairs: Vec::new(),
            found: Vec::new(),
            by_row: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Finds the groups nearest to each row, nearest first.
    fn find_groups(
        &mut self,
        codes: &Quantised,
        rows: &[u32],
        quantiser: &CoarseQuantiser,
    ) -> Result<usize> {
        let few = groups_of_row(quantiser.panels.len());
        self.groups.clear();
        if few == quantiser.panels.len() {
            self.groups.extend(rows.iter().flat_map(|_| 0..few as u32));
            return Ok(few);
        }
        let of_all = &quantiser.of_all;
        for rows in rows.chunks(OF_PANEL) {
            self.left.gather(codes, rows, &vec![-1.0; rows.len()])?;
            of_all.distances2(&self.left, &mut self.of_panel)?;
            for squares in self.of_panel.chunks(of_all.columns.len()) {
                self.groups
                    .extend(of_all.first::<GROUPS>(squares, self.isa));
            }
        }
        Ok(few)
    }

    /// Finds the lists of rows, and those that are further by no more than `margin`.
    fn find(
        &mut self,
        codes: &Quantised,
        rows: &[u32],
        margin: f32,
        quantiser: &CoarseQuantiser,
    ) -> Result<()> {
        let few = self.find_groups(codes, rows, quantiser)?;
        self.found.clear();
        self.least.clear();
        self.least.resize(rows.len(), f32::INFINITY);
        let offsets = ListOffsets::new(self.groups.iter().copied(), quantiser.panels.len());
        let order = offsets.order(&self.groups)?;
        // The nearest group of each row says how far the nearest list is at most. Few lists of its
        // other groups are as near, and only those are looked at.
        for is_nearest in [true, false] {
            for group in 0..quantiser.panels.len() as u32 {
                let places = order[offsets.of(group)].iter().map(|&place| place as usize);
                let places = places.filter(|place| place.is_multiple_of(few) == is_nearest);
                let of_group: Vec<usize> = places.map(|place| place / few).collect();
                for some in of_group.chunks(OF_PANEL) {
                    let bound = |&row: &usize| (self.least[row].max(0.0) + margin).sqrt();
                    let bounds: Vec<f32> = some.iter().map(bound).collect();
                    let rows: Vec<u32> = some.iter().map(|&row| rows[row]).collect();
                    self.left.gather(codes, &rows, &bounds)?;
                    match is_nearest {
                        true => self.find_in_nearest(some, group, margin, quantiser)?,
                        false => self.find_in_other(some, group, quantiser)?,
                    }
                }
            }
        }
        self.sort_by_row(rows.len())
    }

    /// Finds lists of the group that is nearest to the gathered rows, and sets the least distances.
    fn find_in_nearest(
        &mut self,
        rows: &[usize],
        group: u32,
        margin: f32,
        quantiser: &CoarseQuantiser,
    ) -> Result<()> {
        let (panel, first) = (&quantiser.panels[group as usize], quantiser.first_of(group));
        panel.distances2(&self.left, &mut self.of_panel)?;
        let squares = self.of_panel.chunks(panel.columns.len().max(1));
        let mut listed = Ok(());
        for (&row, squares) in rows.iter().zip(squares) {
            self.least[row] = least(squares, self.isa);
            let found = |column: usize| {
                if let Some(place) = panel.columns[column]
                    && listed.is_ok()
                {
                    let list = (row as u32, (first + place, squares[column]));
                    listed = memory::push(&mut self.found, list, NEAR_LISTS);
                }
            };
            each_near_least(squares, self.least[row], margin, found, self.isa);
        }
        Ok(listed?)
    }

    /// Finds lists of another group that are within the bounds of the gathered rows.
    fn find_in_other(
        &mut self,
        rows: &[usize],
        group: u32,
        quantiser: &CoarseQuantiser,
    ) -> Result<()> {
        let first = quantiser.first_of(group);
        self.pairs.clear();
        quantiser.panels[group as usize].pairs(&self.left, &mut self.pairs)?;
        memory::reserve(&mut self.found, self.pairs.len(), NEAR_LISTS)?;
        let found = self.pairs.iter().map(|pair| {
            let row = rows[pair.left as usize] as u32;
            (row, (first + pair.right, pair.square))
        });
        self.found.extend(found);
        Ok(())
    }

    /// Puts what was found in the order of rows, by counting.
    fn sort_by_row(&mut self, rows: usize) -> Result<()> {
        self.ends.clear();
        self.ends.resize(rows, 0);
        for &(row, _) in &self.found {
            self.ends[row as usize] += 1;
        }
        let mut start = 0;
        for end in &mut self.ends {
            start += std::mem::replace(end, start);
        }
        memory::resize(&mut self.by_row, self.found.len(), (0, 0.0), NEAR_LISTS)?;
        for &(row, list) in &self.found {
            let end = &mut self.ends[row as usize];
            self.by_row[*end] = list;
            *end += 1;
        }
        Ok(())
    }

    /// What was found of each row.
    fn lists_of_rows(&self, margin: f32) -> impl Iterator<Item = ListsOfRow<'_>> {
        self.ends.iter().scan(0, move |start, &end| {
            let lists = &self.by_row[std::mem::replace(start, end)..end];
            let squares = lists.iter().map(|&(_, square)| square);
            let least = squares.fold(f32::INFINITY, f32::min);
            Some(ListsOfRow {
                lists,
                least,
                margin,
            })
        })
    }

    /// Computes the distances of rows to the lists of the groups nearest to each.
    fn compare(
        &mut self,
        codes: &Quantised,
        rows: &[u32],
        quantiser: &CoarseQuantiser,
    ) -> Result<()> {
        let few = self.find_groups(codes, rows, quantiser)?;
        let panels = &quantiser.panels;
        self.starts.clear();
        self.starts.push(0);
        let mut end = 0;
        self.starts.extend(self.groups.iter().map(|&group| {
            end += panels[group as usize].columns.len();
            end
        }));
        memory::resize(&mut self.squares, end, 0.0, "distances")?;
        let offsets = ListOffsets::new(self.groups.iter().copied(), panels.len());
        let order = offsets.order(&self.groups)?;
        for (group, panel) in (0..).zip(panels) {
            let columns = panel.columns.len();
            for places in order[offsets.of(group)].chunks(OF_PANEL) {
                let some: Vec<u32> = places.iter().map(|&at| rows[at as usize / few]).collect();
                self.left.gather(codes, &some, &vec![-1.0; some.len()])?;
                panel.distances2(&self.left, &mut self.of_panel)?;
                for (&at, squares) in places.iter().zip(self.of_panel.chunks(columns.max(1))) {
                    self.squares[self.starts[at as usize]..][..columns].copy_from_slice(squares);
                }
            }
        }
        Ok(())
    }

    /// The distances of a row to the lists of its groups.
    fn of_row(&self, row: usize, few: usize) -> &[f32] {
        &self.squares[self.starts[row * few]..self.starts[(row + 1) * few]]
    }
}

/// Lists, rising, and how much further than the nearest of them each is from a row.
pub(crate) type Margins = Vec<(u32, f32)>;

/// A row's squared distances to the lists that it may probe, as far as codes tell: the same on every
/// machine.
pub(crate) struct CentroidDistances<'a> {
    /// The position of the row among those that were asked for.
    position: usize,
    /// The least of them.
    least: f32,
    /// In the order of the columns of its groups' panels. Some of these only fill a panel up: they
    /// have no centroid and are infinitely far.
    squares: &'a [f32],
    groups: &'a [u32],
    quantiser: &'a CoarseQuantiser,
    isa: Isa,
}

impl CentroidDistances<'_> {
    /// The list of a column.
    fn list(&self, mut column: usize) -> Option<u32> {
        for &group in self.groups {
            let columns = &self.quantiser.panels[group as usize].columns;
            if let Some(place) = columns.get(column) {
                let first = self.quantiser.of_groups.of(group).start as u32;
                return place.map(|place| first + place);
            }
            column -= columns.len();
        }
        None
    }

    /// The list of the row; of equally near ones, that of the least number.
    pub(crate) fn nearest(&self) -> u32 {
        let mut nearest = None;
        self.within(0.0, |list, _| {
            nearest = Some(nearest.map_or(list, |other: u32| other.min(list)));
        });
        nearest.unwrap_or(0)
    }

    /// Calls `found` with the lists whose centroids are further than the nearest by no more than
    /// `margin`, and with by how much.
    pub(crate) fn within(&self, margin: f32, mut found: impl FnMut(u32, f32)) {
        let found = |column: usize| {
            if let Some(list) = self.list(column) {
                found(list, self.squares[column] - self.least);
            }
        };
        each_near_least(self.squares, self.least, margin, found, self.isa);
    }

    /// The lists that the row may probe, rising, and how much further than the nearest each is.
    pub(crate) fn margins(&self) -> Result<Margins> {
        let mut margins = memory::empty(self.squares.len(), "margins")?;
        self.within(f32::INFINITY, |list, margin| margins.push((list, margin)));
        margins.sort_unstable_by_key(|&(list, _)| list);
        Ok(margins)
    }

    /// How much further than the nearest a list is; infinite where the row may not probe it.
    pub(crate) fn margin(&self, list: u32) -> f32 {
        let mut start = 0;
        for &group in self.groups {
            let (columns, lists) = (
                &self.quantiser.panels[group as usize].columns,
                self.quantiser.of_groups.ids(group),
            );
            if lists.contains(&list) {
                let at = columns
                    .iter()
                    .position(|&place| place == Some(list - lists.start));
                return at.map_or(f32::INFINITY, |at| self.squares[start + at] - self.least);
            }
            start += columns.len();
        }
        f32::INFINITY
    }
}

/// How many groups so many lists are learnt in.
pub(crate) fn groups_of(lists: usize) -> usize {
    match lists {
        ..=ONE_GROUP => 1,
        _ => (lists as f64).sqrt() as usize,
    }
}

/// Of so many groups, with how many groups' lists a row is compared.
pub(crate) fn groups_of_row(groups: usize) -> usize {
    GROUPS.min(groups)
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
        assert!(quantiser.groups.len() > GROUPS && quantiser.len().abs_diff(lists) < 50);
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
