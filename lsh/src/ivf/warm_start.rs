//! Which rows fill lists before any list is probed: those of a row's own list and of the nearest.

use lshjoin_kernels::{Quantised, Scalar};

use crate::{
    base::{context::Context, error::Result},
    ivf::{
        coarse_quantiser::{CentroidDistances, CoarseQuantiser},
        list_offsets::ListOffsets,
    },
    vectors::Vectors,
};

/// Sampled rows a list that tell how many rows the lists have.
const ROWS_OF_CELL: usize = 8;

/// Lists near each whose rows may fill the lists of its own.
const NEAR: usize = 64;

/// For each list, of which ones the right rows fill the lists of its left rows. Chosen before it is
/// known which rows the lists have, so that it is known by then into which lists rows need not
/// look.
pub(crate) struct WarmStart {
    /// The share of the right rows that each list has, by a sample.
    shares: Vec<f64>,
    of_cells: Vec<OfCell>,
    /// What the left rows of each need not probe, by number.
    met: Vec<Vec<u32>>,
}

struct OfCell {
    /// Itself, then the nearest.
    from: Vec<u32>,
    /// Of a large list's rows only some fill the lists of some: the parts that they are cut into.
    parts: usize,
}

impl OfCell {
    fn is_from(&self, other: u32) -> bool {
        self.parts == 1 && self.from.contains(&other)
    }
}

impl WarmStart {
    /// From about so many right rows for each left one, the left side being the same or another.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn new<T: Scalar>(
        cells: &CoarseQuantiser,
        right: &Vectors<'_, T>,
        with_itself: bool,
        rows: usize,
        ctx: &Context,
    ) -> Result<Self> {
        let sample = right.sample(ROWS_OF_CELL * cells.len());
        let nearest = |_: usize, distances: &CentroidDistances| Ok(distances.nearest());
        let sample = cells.each_row_of(right, &sample, nearest, ctx)?;
        let starts = ListOffsets::of_sample(sample.into_iter(), cells.len());
        let all: Vec<u32> = (0..cells.len() as u32).collect();
        let share = |&cell: &u32| starts.of(cell).len() as f64 / starts.rows() as f64;
        let shares: Vec<f64> = all.iter().map(share).collect();

        let wanted = rows as f64 / right.len() as f64;
        let fill = |cell: usize, distances: &CentroidDistances| {
            let mut share = shares[cell];
            let mut from = vec![cell as u32];
            for other in distances.first(NEAR) {
                let more = shares[other as usize];
                if share + more / 2.0 > wanted {
                    break;
                }
                if other != cell as u32 {
                    share += more;
                    from.push(other);
                }
            }
            Ok(OfCell {
                from,
                parts: (share / (2.0 * wanted)).ceil() as usize,
            })
        };
        let centroids = Quantised::new(cells.centroids()?, ctx.isa())?;
        let of_cells = cells.each_row(&centroids, &all, fill, ctx)?;
        let met = |(cell, of_cell): (u32, &OfCell)| {
            let from = of_cell.from.iter().copied();
            // Where a side is joined with itself, what a row finds is found by both.
            let met = from.filter(|&other| {
                of_cell.is_from(other) && (!with_itself || of_cells[other as usize].is_from(cell))
            });
            let mut met: Vec<u32> = met.collect();
            met.sort_unstable();
            met
        };
        Ok(Self {
            shares,
            met: (0..).zip(&of_cells).map(met).collect(),
            of_cells,
        })
    }

    /// The share of the right rows that a list has.
    pub(crate) fn share(&self, cell: u32) -> f64 {
        self.shares[cell as usize]
    }

    /// The share of the right rows that fill the list of a row of `cell`.
    pub(crate) fn of(&self, cell: u32) -> f64 {
        let shares = self.from(cell).iter().map(|&cell| self.share(cell));
        shares.sum::<f64>() / self.parts(cell) as f64
    }

    /// The lists whose right rows fill the lists of a list's left ones, itself first.
    pub(crate) fn from(&self, cell: u32) -> &[u32] {
        &self.of_cells[cell as usize].from
    }

    /// Into how many parts these rows are cut, each for as many of the left ones.
    pub(crate) fn parts(&self, cell: u32) -> usize {
        self.of_cells[cell as usize].parts
    }

    /// Whether all right rows of `other` fill the lists of all left ones of `cell`.
    pub(crate) fn is_from(&self, cell: u32, other: u32) -> bool {
        self.of_cells[cell as usize].is_from(other)
    }

    /// Whether left rows of `cell` need not probe `other`.
    pub(crate) fn covers(&self, cell: u32, other: u32) -> bool {
        self.met[cell as usize].binary_search(&other).is_ok()
    }
}
