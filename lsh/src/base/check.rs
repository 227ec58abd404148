//! Checks of the numbers and shapes that a caller passes.

use lshjoin_kernels::Rows;

use crate::base::error::{Error, Result};

pub(crate) fn positive(name: &'static str, value: usize) -> Result<()> {
    if value > 0 {
        return Ok(());
    }
    Err(Error::parameter(name, "at least 1", value))
}

pub(crate) fn not_negative(name: &'static str, value: f64) -> Result<()> {
    if value >= 0.0 {
        return Ok(());
    }
    Err(Error::parameter(name, "a number not below 0", value))
}

pub(crate) fn check_dimension<T>(
    what: &'static str,
    rows: Rows<'_, T>,
    expected: usize,
) -> Result<()> {
    if rows.dim() == expected {
        return Ok(());
    }
    Err(Error::Dimension {
        what,
        got: rows.dim(),
        expected,
    })
}

pub(crate) fn check_recall(name: &'static str, recall: f64) -> Result<()> {
    if recall > 0.0 && recall <= 1.0 {
        return Ok(());
    }
    Err(Error::parameter(name, "above 0 and at most 1", recall))
}
