//! What prepared rows ask of the index that they are stored in.

use crate::base::error::Result;

/// What an index knows of its rows beside their values.
pub(crate) trait RowSource: Sync {
    /// The user's id of the row of this internal id: what orders rows at the same distance.
    fn user_id(&self, id: u32) -> i64;

    /// Whether the row of this internal id may be a neighbour.
    fn takes_part(&self, id: u32) -> bool;

    /// To be called before a row, of so many values, is read: the file may be damaged.
    ///
    /// # Errors
    /// When it is.
    fn check(&self, row: u32, width: usize) -> Result<()>;
}
