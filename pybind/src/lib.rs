//! The Python module `lshjoin._lshjoin`: convert, release the GIL, call, convert back.
use pyo3::prelude::*;

#[pymodule]
fn _lshjoin(_m: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
