//! The Python module `lshjoin._lshjoin`: convert, release the GIL, call, convert back.

mod arrays;
mod batches;
mod file_join;
mod index;
mod joins;
mod minhash;
mod model;
mod plans;
mod router;
mod run;

use lshjoin::{Context, Isa};
use pyo3::prelude::*;

#[pymodule]
fn _lshjoin(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_function(wrap_pyfunction!(cpu_features, m)?)?;
    m.add_function(wrap_pyfunction!(isa, m)?)?;
    m.add_function(wrap_pyfunction!(joins::knn_join, m)?)?;
    m.add_function(wrap_pyfunction!(joins::plan_knn_join, m)?)?;
    m.add_function(wrap_pyfunction!(joins::radius_join, m)?)?;
    m.add_function(wrap_pyfunction!(minhash::token_indices, m)?)?;
    m.add_function(wrap_pyfunction!(plans::check_plan, m)?)?;
    m.add_function(wrap_pyfunction!(plans::ivf_plan, m)?)?;
    m.add_function(wrap_pyfunction!(plans::partition_plan, m)?)?;
    m.add_function(wrap_pyfunction!(plans::lsh_plan, m)?)?;
    m.add_function(wrap_pyfunction!(plans::suggest, m)?)?;
    m.add_class::<batches::RadiusJoinBatches>()?;
    m.add_class::<file_join::FileJoin>()?;
    m.add_class::<index::Index>()?;
    m.add_class::<index::IndexBuilder>()?;
    m.add_class::<minhash::MinHash>()?;
    m.add_class::<minhash::Sets>()?;
    m.add_class::<router::ListRouter>()?;
    m.add_class::<model::Model>()
}

/// Instruction sets that this machine has, weakest first.
///
/// The last of them is used, unless the environment variable ``LSHJOIN_ISA`` names another.
/// On x86-64 there are ``avx2``, ``avxvnni``, ``avx512``, ``avx512vnni`` and ``amx``, on arm64 ``neon``,
/// ``neondot`` and ``neoni8mm``; ``scalar`` is everywhere. Results are the same on all of them.
///
/// >>> import lshjoin
/// >>> lshjoin.cpu_features()[0]
/// 'scalar'
#[pyfunction]
fn cpu_features() -> Vec<String> {
    Isa::available().iter().map(Isa::to_string).collect()
}

/// The instruction set in use.
#[pyfunction]
fn isa() -> PyResult<String> {
    Ok(Context::new().map_err(run::to_py)?.isa().to_string())
}
