//! The left rows of a comparison of packed bits.

use super::{MOST_BYTES, WORD, population, words};
use crate::{
    base::{
        error::{KernelError, Result},
        memory,
    },
    rows::{matrix::Rows, shape::check_indices},
};

/// Packed bits as the left side of [`near_bits`](crate::near_bits): row after row, in whole words.
#[derive(Clone, Debug, Default)]
pub struct LeftBits {
    words: Vec<u32>,
    /// Words of a row.
    width: usize,
    populations: Vec<u32>,
}

impl LeftBits {
    /// Takes these rows, in this order, in place of what it had.
    ///
    /// # Errors
    /// [`KernelError::RowOutOfRange`] for an index to no row, [`KernelError::TooWide`] for rows of two
    /// megabytes and more, [`KernelError::Memory`].
    pub fn gather(&mut self, rows: Rows<'_, u8>, order: &[u32]) -> Result<()> {
        check_width(rows)?;
        check_indices(WORDS, order.iter().copied(), rows.len())?;
        self.width = rows.dim().div_ceil(WORD / 8);
        self.words.clear();
        self.populations.clear();
        let all = self.width.saturating_mul(order.len());
        memory::reserve(&mut self.words, all, WORDS)?;
        memory::reserve(&mut self.populations, order.len(), WORDS)?;
        for &row in order {
            let row = rows.bits(row as usize);
            self.words.extend(words(row));
            self.populations.push(population(row));
        }
        Ok(())
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.populations.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.populations.is_empty()
    }

    /// How many bits of each row are set.
    pub fn populations(&self) -> &[u32] {
        &self.populations
    }

    /// The words of all rows.
    pub(super) fn words(&self) -> &[u32] {
        &self.words
    }

    /// Words of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }
}

/// What memory is asked for.
pub(super) const WORDS: &str = "packed bits";

pub(super) fn check_width(rows: Rows<'_, u8>) -> Result<()> {
    if rows.dim() <= MOST_BYTES {
        return Ok(());
    }
    Err(KernelError::TooWide {
        bytes: rows.dim(),
        limit: MOST_BYTES,
    })
}
