//! Checks of the numbers and shapes that a caller passes.

use lshjoin_kernels::{Rows, Scalar};

use crate::base::error::{Error, Result};

pub(crate) fn positive(name: &'static str, value: usize) -> Result<()> {
    if value > 0 {
        return Ok(());
    }
    Err(Error::Parameter {
        name,
        must_be: "at least 1",
        value: value.to_string(),
    })
}

pub(crate) fn not_negative(name: &'static str, value: f64) -> Result<()> {
    if value >= 0.0 {
        return Ok(());
    }
    Err(Error::Parameter {
        name,
        must_be: "a number not below 0",
        value: value.to_string(),
    })
}

pub(crate) fn same_dimension<T: Scalar>(queries: Rows<'_, T>, items: Rows<'_, T>) -> Result<()> {
    if queries.dim() == items.dim() {
        return Ok(());
    }
    Err(Error::Dimension {
        what: "queries",
        got: queries.dim(),
        expected: items.dim(),
    })
}

pub(crate) fn check_recall(name: &'static str, recall: f64) -> Result<()> {
    if recall > 0.0 && recall <= 1.0 {
        return Ok(());
    }
    Err(Error::Parameter {
        name,
        must_be: "above 0 and at most 1",
        value: recall.to_string(),
    })
}
