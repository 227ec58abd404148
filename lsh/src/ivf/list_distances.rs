//! How far rows are from the lists that they may probe.

use lshjoin_kernels::{Isa, LeftPanel, Quantised, each_near_least, least, memory};

use crate::{base::error::Result, ivf::centroids::CentroidPanel};

/// The lists that the rows of one group may probe, ready to be compared with them.
pub(crate) struct Candidates {
    panel: CentroidPanel,
    /// The list of each column, if it is of one.
    of_columns: Vec<Option<u32>>,
    /// Lists, rising, each with its column.
    columns: Vec<(u32, u32)>,
}

impl Candidates {
    /// These lists, of which `codes` are the centroids.
    pub(crate) fn new(codes: &Quantised, lists: &[u32], isa: Isa) -> Result<Self> {
        let panel = CentroidPanel::new(codes, Some(lists), isa)?;
        let places = panel.columns.iter();
        let of_columns: Vec<Option<u32>> = places
            .map(|&place| place.map(|place| lists[place as usize]))
            .collect();
        let columns = (0..).zip(&of_columns);
        let columns = columns.filter_map(|(column, &list)| Some((list?, column)));
        let mut columns: Vec<(u32, u32)> = columns.collect();
        columns.sort_unstable();
        Ok(Self {
            panel,
            of_columns,
            columns,
        })
    }

    /// Calls `found` with the distances of each of these rows of `codes`, in their order, until
    /// there is an error.
    pub(crate) fn compare(
        &self,
        codes: &Quantised,
        rows: &[u32],
        (left, squares): (&mut LeftPanel, &mut Vec<f32>),
        isa: Isa,
        mut found: impl FnMut(usize, &CentroidDistances) -> Result<()>,
    ) -> Result<()> {
        left.gather(codes, rows, &vec![-1.0; rows.len()])?;
        self.panel.distances2(left, squares)?;
        let of_rows = squares.chunks(self.of_columns.len().max(1));
        of_rows.enumerate().try_for_each(|(row, squares)| {
            let distances = CentroidDistances {
                least: least(squares, isa),
                squares,
                candidates: self,
                isa,
            };
            found(row, &distances)
        })
    }
}

/// Lists, rising, and how much further than the nearest of them each is from a row.
pub(crate) type Margins = Vec<(u32, f32)>;

/// A row's squared distances to the lists that it may probe, as far as codes tell: the same on every
/// machine.
pub(crate) struct CentroidDistances<'a> {
    /// The least of them.
    least: f32,
    /// In the order of the candidates' columns. Some of these only fill the panel up: they have no
    /// centroid and are infinitely far.
    squares: &'a [f32],
    candidates: &'a Candidates,
    isa: Isa,
}

impl CentroidDistances<'_> {
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
            if let Some(list) = self.candidates.of_columns[column] {
                found(list, self.squares[column] - self.least);
            }
        };
        each_near_least(self.squares, self.least, margin, found, self.isa);
    }

    /// The lists that the row may probe, nearest first.
    pub(crate) fn nearest_first(&self, most: usize) -> Vec<u32> {
        let columns = self.candidates.columns.iter();
        let lists = columns.map(|&(list, column)| (self.squares[column as usize], list));
        let mut lists: Vec<(f32, u32)> = lists.collect();
        let nearer = |x: &(f32, u32), y: &(f32, u32)| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1));
        if most < lists.len() {
            lists.select_nth_unstable_by(most, nearer);
            lists.truncate(most);
        }
        lists.sort_unstable_by(nearer);
        lists.into_iter().map(|(_, list)| list).collect()
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
        let columns = &self.candidates.columns;
        match columns.binary_search_by_key(&list, |&(list, _)| list) {
            Ok(at) => self.squares[columns[at].1 as usize] - self.least,
            Err(_) => f32::INFINITY,
        }
    }
}
