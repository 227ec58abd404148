//! The right rows of a comparison of packed bits.

use std::ops::Range;

use bytemuck::Zeroable;

use super::{
    WORD,
    left::{WORDS, check_width},
    population, words,
};
use crate::{
    base::{
        error::{KernelError, Result},
        memory,
    },
    rows::{matrix::Rows, shape::check_indices},
};

/// Rows of a group.
pub(super) const LANES: usize = 16;

/// What stands for the row of a slot that has none.
const NO_ROW: u32 = u32::MAX;

/// A word of each row of a group; a cache line, and a register of 512 bits.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line<T = u32>(pub(super) [T; LANES]);

/// Packed bits as the right side of [`near_bits`](crate::near_bits): lists of rows, which are compared
/// some at a time.
///
/// The rows of a list fill groups of 16 *slots*, of which the last ones of a list may be empty.
#[derive(Clone, Debug)]
pub struct RightBits {
    /// The words of the rows of a group, side by side; group after group.
    lines: Vec<Line>,
    /// Words of a row.
    width: usize,
    /// Of each group, how many bits of its rows are set.
    populations: Vec<Line<f32>>,
    /// The row of each slot.
    rows: Vec<u32>,
    /// Of each group, a bit for each slot that has a row.
    filled: Vec<u16>,
    /// Where the groups of each list start, and where the last ones end.
    lists: Vec<usize>,
}

impl RightBits {
    /// Takes these rows in lists: of `order` those at `offsets[0]..offsets[1]`, and so on.
    ///
    /// # Errors
    /// [`KernelError::RowOutOfRange`] for an index to no row, [`KernelError::Shape`] for offsets that
    /// fall or do not end where the order does, [`KernelError::TooWide`] for rows of two megabytes and
    /// more, [`KernelError::Memory`].
    pub fn new(rows: Rows<'_, u8>, order: &[u32], offsets: &[usize]) -> Result<Self> {
        check_width(rows)?;
        check_indices(WORDS, order.iter().copied(), rows.len())?;
        let last = offsets.last().copied().unwrap_or(0);
        if !offsets.is_sorted() || last > order.len() {
            return Err(KernelError::Shape {
                what: "offsets of lists",
                got: last,
                expected: order.len(),
            });
        }
        let width = rows.dim().div_ceil(WORD / 8);
        let mut lists = memory::empty(offsets.len().max(1), WORDS)?;
        lists.push(0);
        for bounds in offsets.windows(2) {
            let groups = (bounds[1] - bounds[0]).div_ceil(LANES);
            lists.push(lists[lists.len() - 1] + groups);
        }
        let groups = lists[lists.len() - 1];
        let mut packed = Self {
            lines: memory::zeroed(groups.saturating_mul(width), WORDS)?,
            width,
            populations: memory::zeroed(groups, WORDS)?,
            rows: memory::filled(NO_ROW, groups * LANES, WORDS)?,
            filled: memory::zeroed(groups, WORDS)?,
            lists,
        };
        for (list, bounds) in offsets.windows(2).enumerate() {
            let first = packed.lists[list];
            let of_list = order[bounds[0]..bounds[1]].chunks(LANES);
            for (group, of_group) in (first..).zip(of_list) {
                packed.fill(group, rows, of_group);
            }
        }
        Ok(packed)
    }

    fn fill(&mut self, group: usize, rows: Rows<'_, u8>, of_group: &[u32]) {
        let lines = &mut self.lines[group * self.width..][..self.width];
        self.rows[group * LANES..][..of_group.len()].copy_from_slice(of_group);
        for (lane, &row) in of_group.iter().enumerate() {
            let row = rows.bits(row as usize);
            for (line, word) in lines.iter_mut().zip(words(row)) {
                line.0[lane] = word;
            }
            self.populations[group].0[lane] = population(row) as f32;
            self.filled[group] |= 1 << lane;
        }
    }

    /// How many lists there are.
    pub fn lists(&self) -> usize {
        self.lists.len() - 1
    }

    /// The groups of a list. Panics when there is no such list, as slices do.
    pub fn groups(&self, list: usize) -> Range<usize> {
        self.lists[list]..self.lists[list + 1]
    }

    /// The row of a slot. Panics when there is no such slot.
    #[inline]
    pub fn row(&self, slot: u32) -> u32 {
        self.rows[slot as usize]
    }

    /// How many bits are set of the row of a slot. Panics when there is no such slot.
    #[inline]
    pub fn population(&self, slot: u32) -> u32 {
        self.populations[slot as usize / LANES].0[slot as usize % LANES] as u32
    }

    /// The rows of some groups, one after the other.
    pub fn rows(&self, groups: Range<usize>) -> impl Iterator<Item = u32> {
        let slots = &self.rows[groups.start * LANES..groups.end * LANES];
        slots.iter().copied().filter(|&row| row != NO_ROW)
    }

    /// Words of a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The lines, and the numbers of set bits, of some groups.
    pub(super) fn of_groups(&self, groups: Range<usize>) -> (&[Line], &[Line<f32>]) {
        (
            &self.lines[groups.start * self.width..groups.end * self.width],
            &self.populations[groups],
        )
    }

    /// A bit for each slot of up to four groups that has a row.
    pub(super) fn filled(&self, groups: Range<usize>) -> u64 {
        let masks = self.filled[groups].iter().enumerate();
        masks.fold(0, |bits, (group, &mask)| {
            bits | u64::from(mask) << (group * LANES)
        })
    }

    /// How many groups there are.
    pub(super) fn all_groups(&self) -> usize {
        self.populations.len()
    }
}
