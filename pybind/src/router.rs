//! Where rows go when a join is spread over tasks.

use lshjoin::{JoinSide, Metric};
use numpy::IntoPyArray;
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::{
    arrays::{Indices, Matrix, Sides, collected, rows, with_rows, with_sides},
    run::{NumThreads, Options},
};

/// What to do where there is not the memory for it.
const FEWER_ROWS: &str = "pass fewer rows at a time";

/// Parts of neighbouring lists, and the margin with which rows probe them. Immutable.
#[pyclass(frozen, module = "lshjoin._lshjoin")]
pub(crate) struct ListRouter(lshjoin::ListRouter);

#[pymethods]
impl ListRouter {
    #[staticmethod]
    #[pyo3(signature = (
        queries, items, parts, *, metric, k, recall, probing, num_threads=None, on_progress=None,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the signature is Python's, by keyword"
    )]
    fn learn<'py>(
        py: Python<'py>,
        queries: Option<Matrix<'py>>,
        items: Matrix<'py>,
        parts: usize,
        metric: &str,
        k: usize,
        recall: f64,
        probing: &str,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let metric: Metric = metric.parse().map_err(crate::run::to_py)?;
        let (near, probing) = ((k, recall), side(probing)?);
        let options = options(num_threads, on_progress);
        with_sides!(&Sides::new(queries, items)?, |queries, items| {
            options.run(py, |ctx| {
                lshjoin::ListRouter::learn(queries, items, metric, parts, near, probing, ctx)
            })
        })
        .map(Self)
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        options(None, None)
            .run(py, |ctx| lshjoin::ListRouter::from_bytes(bytes, ctx))
            .map(Self)
    }

    /// For pickle and copy: how to make it, and of what.
    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>,))> {
        let bytes = slf.get().0.to_bytes().map_err(crate::run::to_py)?;
        let bytes = PyBytes::new(slf.py(), &bytes);
        Ok((slf.get_type().getattr("from_bytes")?, (bytes,)))
    }

    #[getter]
    fn parts(&self) -> usize {
        self.0.parts()
    }

    #[pyo3(signature = (rows, side, *, num_threads=None, on_progress=None))]
    fn homes<'py>(
        &self,
        py: Python<'py>,
        rows: Matrix<'py>,
        side: &str,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Indices<'py>> {
        let (options, side) = (options(num_threads, on_progress), self::side(side)?);
        let homes = with_rows!(&rows, |rows| {
            options.run(py, |ctx| self.0.homes(rows, side, ctx))?
        });
        numbers(py, homes)
    }

    #[pyo3(signature = (rows, side, *, num_threads=None, on_progress=None))]
    fn probes<'py>(
        &self,
        py: Python<'py>,
        rows: Matrix<'py>,
        side: &str,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<(Indices<'py>, Indices<'py>)> {
        let (options, side) = (options(num_threads, on_progress), self::side(side)?);
        let (rows, parts) = with_rows!(&rows, |rows| {
            options.run(py, |ctx| self.0.probes(rows, side, ctx))?
        });
        Ok((numbers(py, rows)?, numbers(py, parts)?))
    }
}

fn side(name: &str) -> PyResult<JoinSide> {
    match name {
        "queries" => Ok(JoinSide::Queries),
        "items" => Ok(JoinSide::Items),
        _ => Err(PyValueError::new_err(format!(
            "a side is queries or items, not {name}"
        ))),
    }
}

fn numbers(py: Python<'_>, found: Vec<u32>) -> PyResult<Indices<'_>> {
    Ok(collected(found.into_iter().map(i64::from))?.into_pyarray(py))
}

const fn options(num_threads: Option<NumThreads>, on_progress: Option<Py<PyAny>>) -> Options {
    Options {
        num_threads,
        on_progress,
        way_out: FEWER_ROWS,
    }
}
