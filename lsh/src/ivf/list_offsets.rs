//! Where the rows of each list start.

use std::ops::Range;

use lshjoin_kernels::memory;

use crate::base::{ROW_NUMBERS, error::Result};

/// Where the rows of each list start, and the end of the last: the row pointers of a sparse matrix.
/// Rows have internal ids by list.
#[derive(Clone, Default)]
pub(crate) struct ListOffsets(Vec<usize>);

impl ListOffsets {
    /// For rows of these lists, out of `count`.
    pub(crate) fn new(lists: impl Iterator<Item = u32>, count: usize) -> Self {
        Self::with(lists, vec![0; count])
    }

    /// For a sample of rows, given by their lists. Each list counts one row more, so that none
    /// seems to be empty for want of a row in the sample.
    pub(crate) fn of_sample(sample: impl Iterator<Item = u32>, count: usize) -> Self {
        Self::with(sample, vec![1; count])
    }

    fn with(lists: impl Iterator<Item = u32>, mut counts: Vec<usize>) -> Self {
        for list in lists {
            counts[list as usize] += 1;
        }
        let ends = counts.iter().scan(0, |end, count| {
            *end += count;
            Some(*end)
        });
        Self(std::iter::once(0).chain(ends).collect())
    }

    /// From the start of each list, and the end of the last.
    pub(crate) fn of_starts(starts: Vec<usize>) -> Self {
        Self(starts)
    }

    /// The rows, given by their lists, in order of lists; within a list as they come.
    pub(crate) fn order(&self, lists: &[u32]) -> Result<Vec<u32>> {
        self.by_list(lists.iter().copied().zip(0..), ROW_NUMBERS)
    }

    /// What these lists have, given with the lists that it belongs to: in order of lists, within a list
    /// as it comes.
    ///
    /// # Errors
    /// When there is no memory for it, which the error calls `what`.
    pub(crate) fn by_list(
        &self,
        of_lists: impl Iterator<Item = (u32, u32)>,
        what: &'static str,
    ) -> Result<Vec<u32>> {
        let (mut sorted, mut next) = (memory::zeroed(self.rows(), what)?, self.clone());
        for (list, value) in of_lists {
            sorted[next.take(list, 1)] = value;
        }
        Ok(sorted)
    }

    /// Takes `count` rows off the start of a list; returns the first.
    pub(crate) fn take(&mut self, list: u32, count: usize) -> usize {
        let start = &mut self.0[list as usize];
        *start += count;
        *start - count
    }

    /// Where each list's rows start, and the end of the last.
    pub(crate) fn starts(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|&start| start as u64)
    }

    /// The same for a range of the rows, counted from its first.
    pub(crate) fn slice(&self, rows: &Range<usize>) -> Self {
        let starts = self.0.iter();
        Self(
            starts
                .map(|start| start.clamp(&rows.start, &rows.end) - rows.start)
                .collect(),
        )
    }

    /// How many lists.
    pub(crate) fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// How many rows.
    pub(crate) fn rows(&self) -> usize {
        self.0[self.len()]
    }

    /// The rows of a list.
    pub(crate) fn of(&self, list: u32) -> Range<usize> {
        self.0[list as usize]..self.0[list as usize + 1]
    }

    /// The same as internal ids.
    pub(crate) fn ids(&self, list: u32) -> Range<u32> {
        let Range { start, end } = self.of(list);
        start as u32..end as u32
    }

    /// The list of the row of this internal id.
    pub(crate) fn list_of(&self, id: u32) -> u32 {
        let after = self.0.partition_point(|&start| start <= id as usize);
        after as u32 - 1
    }
}
