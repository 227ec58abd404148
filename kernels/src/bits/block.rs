//! What is compared at once: some left rows, and the rows of up to four groups.

use super::right::Line;

/// Groups that a left row is compared with at once: as many rows as a mask has bits.
pub(super) const GROUPS: usize = 4;

/// In how many bits a left row may differ from a right one to be near it: `most`, and `slope` for each
/// bit that the right one has set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DifferenceLimit {
    /// Below 0 for none.
    pub most: f32,
    /// Not negative.
    pub slope: f32,
}

/// What there is to compare.
pub(super) struct Scan<'a> {
    /// Words of a row.
    pub(super) width: usize,
    /// Those of all left rows.
    pub(super) left: &'a [u32],
    /// The left rows that are meant.
    pub(super) chosen: &'a [u32],
    /// Of each of these.
    pub(super) limits: &'a [DifferenceLimit],
    /// Of one to four groups of right rows, whose lines are as many as a row has words.
    pub(super) lines: &'a [Line],
    /// Set bits of the rows of each group.
    pub(super) populations: &'a [Line<f32>],
    /// A bit for each right row that there is.
    pub(super) filled: u64,
}

impl Scan<'_> {
    /// The words of a left row.
    pub(super) fn row(&self, row: u32) -> &[u32] {
        &self.left[row as usize * self.width..][..self.width]
    }
}
