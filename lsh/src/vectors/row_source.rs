//! Where rows come from that are not simply given: an index.

use crate::base::error::Result;

/// What an index knows of its rows beside their values; rows by their number.
pub(crate) trait RowSource: Sync {
    /// What orders rows at the same distance: the user's id.
    fn id(&self, number: u32) -> i64;

    /// Whether the row may be a neighbour.
    fn takes_part(&self, number: u32) -> bool;

    /// Asked before the row, of so many values, is read: those of a file may be damaged.
    ///
    /// # Errors
    /// When it is.
    fn check(&self, row: u32, width: usize) -> Result<()>;
}
