//! How far rows are from the lists that they may probe.

use lshjoin_kernels::{Isa, LeftPanel, Quantised, each_near_least, least, memory};
use rayon::prelude::*;

use crate::{
    base::{context::Context, error::Result},
    ivf::centroids::{BLOCK, CENTROIDS, CentroidPanel},
};

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

    /// The `most` nearest to each of these rows of `codes`, by rising distance.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn nearest(
        &self,
        codes: &Quantised,
        rows: &[u32],
        most: usize,
        ctx: &Context,
    ) -> Result<Vec<Vec<u32>>> {
        let blocks = rows.par_chunks(BLOCK).map(|rows| {
            ctx.check()?;
            let (mut left, mut squares) = (LeftPanel::new(ctx.isa()), Vec::new());
            let mut near = Vec::with_capacity(rows.len());
            let found = |_: usize, distances: &CentroidDistances| {
                near.push(distances.nearest_first(most));
                Ok(())
            };
            self.compare(codes, rows, (&mut left, &mut squares), ctx.isa(), found)?;
            Ok(near)
        });
        let blocks: Vec<Vec<Vec<u32>>> = blocks.collect::<Result<_>>()?;
        Ok(blocks.into_iter().flatten().collect())
    }

    /// About the `most` nearest to any of a few of them, which `own` names and are the first: by rising
    /// distance from the nearest of these.
    ///
    /// # Errors
    /// As [`Candidates::nearest`].
    pub(crate) fn nearest_to_any(
        &self,
        codes: &Quantised,
        own: &[u32],
        most: usize,
        ctx: &Context,
    ) -> Result<Vec<u32>> {
        let all = self.columns.iter().map(|&(list, _)| (f32::INFINITY, list));
        let mut near: Vec<(f32, u32)> = memory::collect(all, CENTROIDS)?;
        let (mut left, mut squares) = (LeftPanel::new(ctx.isa()), Vec::new());
        for lists in own.chunks(BLOCK) {
            ctx.check()?;
            let nearer = |_: usize, distances: &CentroidDistances| {
                let columns = self.columns.iter().map(|&(_, column)| column as usize);
                for ((least, _), column) in near.iter_mut().zip(columns) {
                    *least = least.min(distances.squares[column]);
                }
                Ok(())
            };
            self.compare(codes, lists, (&mut left, &mut squares), ctx.isa(), nearer)?;
        }
        for list in own {
            if let Ok(at) = self.columns.binary_search_by_key(list, |&(list, _)| list) {
                near[at].0 = f32::NEG_INFINITY;
            }
        }
        keep_nearest(&mut near, most.max(own.len()));
        Ok(near.into_iter().map(|(_, list)| list).collect())
    }
}

/// Sorts numbers by how far they are, and keeps the `most` nearest; of equally near ones those of least
/// number.
pub(crate) fn keep_nearest(numbers: &mut Vec<(f32, u32)>, most: usize) {
    let nearer = |x: &(f32, u32), y: &(f32, u32)| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1));
    if most < numbers.len() {
        numbers.select_nth_unstable_by(most, nearer);
        numbers.truncate(most);
    }
    numbers.sort_unstable_by(nearer);
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
        keep_nearest(&mut lists, most);
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
