//! Keys of the engine's own tables: a sign bit for each function, and how far each row is from
//! flipping it.

use lshjoin_kernels::{Rows, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result},
    lsh::{probe::Prober, table::Table, table_functions::TableFunctions},
    vectors::{Vectors, principal_axes::project},
};

/// Rows that a thread makes keys of at a time.
const BLOCK: usize = 1024;

/// How an out-of-memory error names them.
const KEYS: &str = "keys";

/// The margins of one side's rows in one table.
pub(crate) struct SignBits {
    bits: usize,
    /// Projection less threshold, (rows, functions) row-major. Bit j of a key is set where margin j
    /// is not negative.
    margins: Vec<f32>,
    /// The rows' internal ids.
    ids: Vec<u32>,
}

impl SignBits {
    /// Projects the rows on one table's directions.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of<T: Scalar>(
        side: &Vectors<'_, T>,
        functions: &TableFunctions,
        ctx: &Context,
    ) -> Result<Self> {
        let directions = Rows::new(&functions.directions, side.rows.dim())?;
        let mut margins = project(side.rows, directions, ctx)?;
        let bits = functions.thresholds.len();
        margins
            .par_chunks_mut(bits)
            .enumerate()
            .for_each(|(row, margins)| {
                let scale = side.direction_scale(row);
                for (margin, threshold) in margins.iter_mut().zip(&functions.thresholds) {
                    *margin = (f64::from(*margin) * scale) as f32 - threshold;
                }
            });
        // Without duplicates that are left out: they have the internal id of the row that stands
        // for them.
        let rows =
            (0..side.rows.len() as u32).filter(|&row| side.row(side.internal_id(row)) == row);
        let rows = memory::collect(rows, ROW_NUMBERS)?;
        if rows.len() < side.rows.len() {
            margins = Rows::new(&margins, bits)?.gather(&rows)?;
        }
        let ids = memory::collect(rows.iter().map(|&row| side.internal_id(row)), ROW_NUMBERS)?;
        Ok(Self { bits, margins, ids })
    }

    /// The rows in their buckets.
    pub(crate) fn table(&self) -> Result<Table> {
        let keys = memory::par_collect(self.margins.par_chunks(self.bits).map(key), KEYS)?;
        Table::build(&self.ids, &keys, self.bits as u32)
    }

    /// The rows in their own buckets and the `probes` − 1 nearest others.
    pub(crate) fn probed_table(&self, probes: usize) -> Result<Table> {
        let blocks = self.margins.par_chunks(BLOCK * self.bits).enumerate();
        let of_block = |(block, margins): (usize, &[f32])| {
            let mut prober = Prober::default();
            let mut entries = Vec::new();
            for (offset, margins) in margins.chunks(self.bits).enumerate() {
                let (row, key) = (self.ids[block * BLOCK + offset], key(margins));
                let flips = prober.flips(margins, probes - 1);
                let all = std::iter::once(&0)
                    .chain(flips)
                    .map(|flip| (row, key ^ flip));
                memory::extend(&mut entries, all, KEYS)?;
            }
            Ok(entries)
        };
        let blocks: Vec<Vec<(u32, u64)>> = blocks.map(of_block).collect::<Result<_>>()?;
        let rows = memory::collect(blocks.iter().flatten().map(|entry| entry.0), ROW_NUMBERS)?;
        let keys = memory::collect(blocks.iter().flatten().map(|entry| entry.1), KEYS)?;
        drop(blocks);
        Table::build(&rows, &keys, self.bits as u32)
    }
}

/// The sign bits of a row.
fn key(margins: &[f32]) -> u64 {
    (0..)
        .zip(margins)
        .map(|(bit, &margin)| u64::from(margin >= 0.0) << bit)
        .sum()
}
