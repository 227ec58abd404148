//! Which rows were removed.

/// Rows of a segment that were removed since it was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeletionBitmap {
    /// A bit a row, up to the last that was removed.
    bits: Vec<u64>,
    count: usize,
}

impl DeletionBitmap {
    pub(crate) fn contains(&self, row: usize) -> bool {
        let word = self.bits.get(row / 64);
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, row: usize) {
        if !self.contains(row) {
            let words = self.bits.len().max(row / 64 + 1);
            self.bits.resize(words, 0);
            self.bits[row / 64] |= 1 << (row % 64);
            self.count += 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}
