//! Sets, and the model behind the estimator of MinHash.

use lshjoin::{MinHashModel, token_index};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    arrays::{Distances, Indices, collected, joined, neighbors},
    model::{FEWER_ROWS, NEAREST},
    run::{NumThreads, Options, to_py},
};

/// What to do where there is not the memory for it.
const SIMILARITY: &str = "lower the threshold, or join the frames in parts";

/// The arguments of [`MinHash::from_coefficients`].
type Parts<'py> = (Bound<'py, PyArray2<i32>>, usize);

/// Sets of elements, as the rows of a sparse matrix.
#[pyclass(frozen, subclass, module = "lshjoin._lshjoin")]
pub(crate) struct Sets(lshjoin::Sets);

#[pymethods]
impl Sets {
    #[new]
    fn new(
        py: Python<'_>,
        offsets: PyReadonlyArray1<'_, i64>,
        elements: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<Self> {
        let options = Options {
            num_threads: None,
            on_progress: None,
            way_out: FEWER_ROWS,
        };
        let (offsets, elements) = (offsets.as_slice()?, elements.as_slice()?);
        let offsets = collected(offsets.iter().map(|&offset| position(offset)))?;
        options
            .run(py, |ctx| lshjoin::Sets::new(&offsets, elements, ctx))
            .map(Self)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }
}

/// A position in an array; a negative one is beyond any.
fn position(offset: i64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// The elements that stand for tokens: their UTF-8, one after the other, and where each starts.
#[pyfunction]
pub(crate) fn token_indices<'py>(
    py: Python<'py>,
    text: PyReadonlyArray1<'py, u8>,
    offsets: PyReadonlyArray1<'py, i64>,
) -> PyResult<Indices<'py>> {
    let (text, offsets) = (text.as_slice()?, offsets.as_slice()?);
    let tokens = offsets.windows(2).map(|bounds| {
        let token = text.get(position(bounds[0])..position(bounds[1]));
        token.map(|token| i64::from(token_index(token)))
    });
    let indices = py.detach(|| collected(tokens))?;
    let indices: Option<Vec<_>> = indices.into_iter().collect();
    let indices = indices.ok_or_else(|| PyValueError::new_err("offsets are not of the text"))?;
    Ok(indices.into_pyarray(py))
}

/// L tables of k min-wise hash functions each. Immutable.
#[pyclass(frozen, module = "lshjoin._lshjoin", name = "MinHashModel")]
pub(crate) struct MinHash(MinHashModel);

#[pymethods]
impl MinHash {
    #[staticmethod]
    #[pyo3(signature = (*, num_hash_functions, num_hash_tables, seed))]
    fn draw(num_hash_functions: usize, num_hash_tables: usize, seed: i64) -> PyResult<Self> {
        MinHashModel::draw(num_hash_functions, num_hash_tables, seed)
            .map(Self)
            .map_err(to_py)
    }

    #[staticmethod]
    fn from_coefficients(
        coefficients: PyReadonlyArray2<'_, i32>,
        num_hash_functions: usize,
    ) -> PyResult<Self> {
        let (pairs, rest) = coefficients.as_slice()?.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(PyValueError::new_err("coefficients are not in pairs"));
        }
        let pairs = collected(pairs.iter().map(|&[a, b]| (a, b)))?;
        MinHashModel::from_coefficients(pairs, num_hash_functions)
            .map(Self)
            .map_err(to_py)
    }

    /// For pickle and copy: how to make it, and of what.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Parts<'py>)> {
        let model = slf.get();
        let parts = (model.coefficients(slf.py())?, model.0.functions_per_table());
        Ok((slf.get_type().getattr("from_coefficients")?, parts))
    }

    #[getter]
    fn coefficients<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<i32>>> {
        let pairs = self.0.coefficients();
        let values = collected(pairs.iter().flat_map(|&(a, b)| [a, b]))?;
        PyArray1::from_vec(py, values).reshape([pairs.len(), 2])
    }

    #[getter]
    fn key_modes(&self) -> Vec<&'static str> {
        vec![self.0.key_mode().name(); self.0.tables()]
    }

    #[pyo3(signature = (sets, *, num_threads=None, on_progress=None))]
    fn hash<'py>(
        &self,
        py: Python<'py>,
        sets: &Sets,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArray3<i32>>> {
        let options = Options {
            num_threads,
            on_progress,
            way_out: FEWER_ROWS,
        };
        let values = options.run(py, |ctx| self.0.hash(&sets.0, ctx))?;
        values.into_pyarray(py).reshape([
            sets.0.len(),
            self.0.tables(),
            self.0.functions_per_table(),
        ])
    }

    #[pyo3(signature = (a, b, threshold, *, num_threads=None, on_progress=None))]
    fn similarity_join<'py>(
        &self,
        py: Python<'py>,
        a: &Sets,
        b: Option<&Sets>,
        threshold: f64,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<(Indices<'py>, Indices<'py>, Distances<'py>)> {
        let options = Options {
            num_threads,
            on_progress,
            way_out: SIMILARITY,
        };
        let b = b.map(|sets| &sets.0);
        let pairs = options.run(py, |ctx| self.0.similarity_join(&a.0, b, threshold, ctx))?;
        Ok(joined(py, pairs))
    }

    #[pyo3(signature = (queries, items, k, *, num_threads=None, on_progress=None))]
    fn nearest_neighbors<'py>(
        &self,
        py: Python<'py>,
        queries: &Sets,
        items: &Sets,
        k: usize,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<(Distances<'py>, Bound<'py, PyArray2<i64>>)> {
        let options = Options {
            num_threads,
            on_progress,
            way_out: NEAREST,
        };
        let found = options.run(py, |ctx| {
            self.0.nearest_neighbors(&queries.0, &items.0, k, ctx)
        })?;
        neighbors(py, found)
    }
}
