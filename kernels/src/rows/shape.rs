//! Checks that what belongs together fits together.

use crate::base::error::{KernelError, Result};

/// Refuses an argument whose length is not the one that others ask for; `what` names it.
pub(crate) fn check_len(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        Ok(())
    } else {
        Err(KernelError::Shape {
            what,
            got,
            expected,
        })
    }
}

/// Refuses indices to rows that do not exist; `what` names the argument that they are.
pub(crate) fn check_indices(
    what: &'static str,
    indices: impl Iterator<Item = u32>,
    rows: usize,
) -> Result<()> {
    match indices.max() {
        Some(index) if index as usize >= rows => Err(KernelError::RowOutOfRange {
            what,
            index: index as usize,
            rows,
        }),
        _ => Ok(()),
    }
}
