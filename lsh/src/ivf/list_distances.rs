//! How far rows are from the lists that they may probe.

use lshjoin_kernels::{CodePair, Isa, LeftPanel, Quantised, each_near_least, least, memory};
use rayon::prelude::*;

use crate::{
    base::{context::Context, counting_sort::sort_by_row, error::Result},
    ivf::{
        centroids::{BLOCK as OF_PANEL, CentroidPanel},
        list_offsets::ListOffsets,
    },
};

/// Groups whose lists a row is compared with, those nearest to it.
const GROUPS: usize = 16;

/// How an out-of-memory error names them.
const NEAR_LISTS: &str = "lists near rows";

/// Rows whose lists are found at a time: enough for each group to have some.
pub(crate) const BLOCK: usize = 512;

/// The centroids of all groups, and of the lists of each, ready to be compared with rows.
pub(crate) struct ListPanels {
    pub(crate) of_all: CentroidPanel,
    of_group: Vec<CentroidPanel>,
    /// The lists of each group.
    pub(crate) of_groups: ListOffsets,
}

impl ListPanels {
    /// Of the codes of groups and of lists.
    pub(crate) fn new(
        groups: &Quantised,
        lists: &Quantised,
        of_groups: ListOffsets,
        ctx: &Context,
    ) -> Result<Self> {
        let of_group = (0..groups.len() as u32).into_par_iter().map(|group| {
            ctx.check()?;
            let of_group: Vec<u32> = of_groups.ids(group).collect();
            CentroidPanel::new(lists, Some(&of_group), ctx.isa())
        });
        Ok(Self {
            of_group: of_group.collect::<Result<_>>()?,
            of_all: CentroidPanel::new(groups, None, ctx.isa())?,
            of_groups,
        })
    }

    /// The first list of a group.
    fn first_of(&self, group: u32) -> u32 {
        self.of_groups.of(group).start as u32
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
pub(crate) struct Buffers {
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
    pub(crate) fn new(isa: Isa) -> Self {
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
        panels: &ListPanels,
    ) -> Result<usize> {
        let few = groups_of_row(panels.of_group.len());
        self.groups.clear();
        if few == panels.of_group.len() {
            self.groups.extend(rows.iter().flat_map(|_| 0..few as u32));
            return Ok(few);
        }
        let of_all = &panels.of_all;
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
    pub(crate) fn find(
        &mut self,
        codes: &Quantised,
        rows: &[u32],
        margin: f32,
        panels: &ListPanels,
    ) -> Result<()> {
        let few = self.find_groups(codes, rows, panels)?;
        self.found.clear();
        self.least.clear();
        self.least.resize(rows.len(), f32::INFINITY);
        let offsets = ListOffsets::new(self.groups.iter().copied(), panels.of_group.len());
        let order = offsets.order(&self.groups)?;
        // The nearest group of each row says how far the nearest list is at most. Few lists of its
        // other groups are as near, and only those are looked at.
        for is_nearest in [true, false] {
            for group in 0..panels.of_group.len() as u32 {
                let places = order[offsets.of(group)].iter().map(|&place| place as usize);
                let places = places.filter(|place| place.is_multiple_of(few) == is_nearest);
                let of_group: Vec<usize> = places.map(|place| place / few).collect();
                for some in of_group.chunks(OF_PANEL) {
                    let bound = |&row: &usize| (self.least[row].max(0.0) + margin).sqrt();
                    let bounds: Vec<f32> = some.iter().map(bound).collect();
                    let rows: Vec<u32> = some.iter().map(|&row| rows[row]).collect();
                    self.left.gather(codes, &rows, &bounds)?;
                    match is_nearest {
                        true => self.find_in_nearest(some, group, margin, panels)?,
                        false => self.find_in_other(some, group, panels)?,
                    }
                }
            }
        }
        self.ends.clear();
        self.ends.resize(rows.len(), 0);
        for &(row, _) in &self.found {
            self.ends[row as usize] += 1;
        }
        sort_by_row(
            &self.found,
            &mut self.ends,
            &mut self.by_row,
            (0, 0.0),
            NEAR_LISTS,
        )
    }

    /// Finds lists of the group that is nearest to the gathered rows, and sets the least distances.
    fn find_in_nearest(
        &mut self,
        rows: &[usize],
        group: u32,
        margin: f32,
        panels: &ListPanels,
    ) -> Result<()> {
        let (panel, first) = (&panels.of_group[group as usize], panels.first_of(group));
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
    fn find_in_other(&mut self, rows: &[usize], group: u32, panels: &ListPanels) -> Result<()> {
        let first = panels.first_of(group);
        self.pairs.clear();
        panels.of_group[group as usize].pairs(&self.left, &mut self.pairs)?;
        memory::reserve(&mut self.found, self.pairs.len(), NEAR_LISTS)?;
        let found = self.pairs.iter().map(|pair| {
            let row = rows[pair.left as usize] as u32;
            (row, (first + pair.right, pair.square))
        });
        self.found.extend(found);
        Ok(())
    }

    /// What was found of each row.
    pub(crate) fn lists_of_rows(&self, margin: f32) -> impl Iterator<Item = ListsOfRow<'_>> {
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
    pub(crate) fn compare(
        &mut self,
        codes: &Quantised,
        rows: &[u32],
        panels: &ListPanels,
    ) -> Result<()> {
        let few = self.find_groups(codes, rows, panels)?;
        self.starts.clear();
        self.starts.push(0);
        let mut end = 0;
        self.starts.extend(self.groups.iter().map(|&group| {
            end += panels.of_group[group as usize].columns.len();
            end
        }));
        memory::resize(&mut self.squares, end, 0.0, "distances")?;
        let offsets = ListOffsets::new(self.groups.iter().copied(), panels.of_group.len());
        let order = offsets.order(&self.groups)?;
        for (group, panel) in (0..).zip(&panels.of_group) {
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

    /// The distances of each row to the lists of its groups; the first is at this position.
    pub(crate) fn distances_of_rows<'a>(
        &'a self,
        first: usize,
        panels: &'a ListPanels,
    ) -> impl Iterator<Item = CentroidDistances<'a>> {
        let few = groups_of_row(panels.of_group.len());
        (0..self.groups.len() / few).map(move |row| {
            let squares = &self.squares[self.starts[row * few]..self.starts[(row + 1) * few]];
            CentroidDistances {
                position: first + row,
                least: least(squares, self.isa),
                squares,
                groups: &self.groups[row * few..][..few],
                panels,
                isa: self.isa,
            }
        })
    }
}

/// Lists, rising, and how much further than the nearest of them each is from a row.
pub(crate) type Margins = Vec<(u32, f32)>;

/// A row's squared distances to the lists that it may probe, as far as codes tell: the same on every
/// machine.
pub(crate) struct CentroidDistances<'a> {
    /// The position of the row among those that were asked for.
    pub(crate) position: usize,
    /// The least of them.
    least: f32,
    /// In the order of the columns of its groups' panels. Some of these only fill a panel up: they
    /// have no centroid and are infinitely far.
    squares: &'a [f32],
    groups: &'a [u32],
    panels: &'a ListPanels,
    isa: Isa,
}

impl CentroidDistances<'_> {
    /// The list of a column.
    fn list(&self, mut column: usize) -> Option<u32> {
        for &group in self.groups {
            let columns = &self.panels.of_group[group as usize].columns;
            if let Some(place) = columns.get(column) {
                let first = self.panels.first_of(group);
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
                &self.panels.of_group[group as usize].columns,
                self.panels.of_groups.ids(group),
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

/// Of so many groups, with how many groups' lists a row is compared.
pub(crate) fn groups_of_row(groups: usize) -> usize {
    GROUPS.min(groups)
}
