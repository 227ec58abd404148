//! The model behind the estimators.

use lshjoin::{
    BucketedRandomProjection, Bucketing, CauchyProjection, Distance, HashFamily, HashFunctions,
    LshModel, Metric, RandomHyperplanes,
};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods,
};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    arrays::{
        Distances, Indices, Matrix, Sides, c_contiguous, copied, joined, neighbors, rows,
        with_rows, with_sides,
    },
    run::{NumThreads, Options, to_py},
};

/// The arguments of [`Model::from_directions`].
type Parts<'py> = (
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray1<f64>>,
    &'static str,
    usize,
    usize,
    f64,
);

/// What to do where there is not the memory for it.
pub(crate) const FEWER_ROWS: &str = "transform the frame in parts";
const SIMILARITY: &str = "lower the threshold, join the frames in parts, or take all pairs of vectors \
                          in batches (lshjoin.radius_join_batches)";
pub(crate) const NEAREST: &str = "ask for fewer neighbours, or join the keys in parts";

/// L tables of k hash functions each. Immutable.
#[pyclass(frozen, module = "lshjoin._lshjoin")]
pub(crate) struct Model(LshModel);

#[pymethods]
impl Model {
    #[staticmethod]
    #[pyo3(signature = (
        rows, *, family, num_hash_functions, num_hash_tables, bucket_length, seed,
        num_threads=None, on_progress=None,
    ))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the signature is Python's, by keyword"
    )]
    fn fit(
        py: Python<'_>,
        rows: Matrix<'_>,
        family: &str,
        num_hash_functions: usize,
        num_hash_tables: usize,
        bucket_length: f64,
        seed: i64,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let family: Box<dyn HashFamily + Send + Sync> = match family.parse().map_err(to_py)? {
            Metric::Manhattan => Box::new(CauchyProjection { bucket_length }),
            Metric::Cosine => Box::new(RandomHyperplanes),
            Metric::Euclidean => Box::new(BucketedRandomProjection { bucket_length }),
            other => return Err(PyValueError::new_err(format!("no hash family for {other}"))),
        };
        let (k, tables) = (num_hash_functions, num_hash_tables);
        let options = Options {
            num_threads,
            on_progress,
            way_out: "fit a model of fewer hash tables or functions",
        };
        with_rows!(&rows, |rows| {
            options.run(py, |ctx| {
                LshModel::fit(&*family, rows, k, tables, seed, ctx)
            })
        })
        .map(Model)
    }

    #[staticmethod]
    #[pyo3(signature = (
        directions, offsets, family, num_hash_functions, num_hash_tables, bucket_length,
    ))]
    fn from_directions(
        directions: PyReadonlyArray2<'_, f64>,
        offsets: PyReadonlyArray1<'_, f64>,
        family: &str,
        num_hash_functions: usize,
        num_hash_tables: usize,
        bucket_length: f64,
    ) -> PyResult<Self> {
        let [functions, dim] = [directions.shape()[0], directions.shape()[1]];
        if num_hash_functions.checked_mul(num_hash_tables) != Some(functions) {
            return Err(PyValueError::new_err(format!(
                "{num_hash_tables} tables of {num_hash_functions} hash functions need as many \
                 directions, but there are {functions}"
            )));
        }
        let distance: Distance = family.parse().map_err(to_py)?;
        let bucketing = match distance {
            Distance::Cosine => Bucketing::Sign,
            _ => Bucketing::Width(bucket_length),
        };
        let directions = copied(c_contiguous(&directions)?)?;
        let functions =
            HashFunctions::new(dim, directions, copied(offsets.as_slice()?)?, bucketing)
                .map_err(|error| to_py(error.into()))?;
        LshModel::from_functions(distance, functions, num_hash_functions)
            .map(Model)
            .map_err(to_py)
    }

    /// For pickle and copy: how to make it, and of what.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Parts<'py>)> {
        let (model, py) = (&slf.get().0, slf.py());
        let width = match model.functions().bucketing() {
            Bucketing::Width(width) => width,
            _ => 1.0, // which signs do not depend on
        };
        let parts = (
            slf.get().directions(py)?,
            slf.get().offsets(py),
            model.distance().name(),
            model.functions_per_table(),
            model.tables(),
            width,
        );
        Ok((slf.get_type().getattr("from_directions")?, parts))
    }

    #[getter]
    fn dim(&self) -> usize {
        self.0.functions().dim()
    }

    #[getter]
    fn directions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let functions = self.0.functions();
        PyArray1::from_slice(py, functions.directions()).reshape([functions.len(), functions.dim()])
    }

    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, self.0.functions().offsets())
    }

    #[getter]
    fn key_modes(&self) -> Vec<&'static str> {
        self.0.key_modes().iter().map(|mode| mode.name()).collect()
    }

    #[pyo3(signature = (rows, *, num_threads=None, on_progress=None))]
    fn hash<'py>(
        &self,
        py: Python<'py>,
        rows: Matrix<'py>,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyArray3<i32>>> {
        let options = Options {
            num_threads,
            on_progress,
            way_out: FEWER_ROWS,
        };
        let (count, ids) = with_rows!(&rows, |rows| {
            (rows.len(), options.run(py, |ctx| self.0.hash(rows, ctx))?)
        });
        ids.into_pyarray(py)
            .reshape([count, self.0.tables(), self.0.functions_per_table()])
    }

    #[pyo3(signature = (a, b, threshold, *, num_threads=None, on_progress=None))]
    fn similarity_join<'py>(
        &self,
        py: Python<'py>,
        a: Matrix<'py>,
        b: Option<Matrix<'py>>,
        threshold: f64,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<(Indices<'py>, Indices<'py>, Bound<'py, PyAny>)> {
        let options = Options {
            num_threads,
            on_progress,
            way_out: SIMILARITY,
        };
        // The side that may be missing is the first of `Sides`, but the second here.
        with_sides!(&Sides::new(b, a)?, |b, a| {
            let pairs = options.run(py, |ctx| self.0.similarity_join(a, b, threshold, ctx))?;
            Ok(joined(py, pairs))
        })
    }

    #[pyo3(signature = (queries, items, k, *, num_threads=None, on_progress=None))]
    fn nearest_neighbors<'py>(
        &self,
        py: Python<'py>,
        queries: Matrix<'py>,
        items: Matrix<'py>,
        k: usize,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<(Distances<'py>, Bound<'py, PyArray2<i64>>)> {
        let options = Options {
            num_threads,
            on_progress,
            way_out: NEAREST,
        };
        with_sides!(&Sides::new(Some(queries), items)?, |queries, items| {
            let queries = queries.unwrap_or(items);
            let found = options.run(py, |ctx| self.0.nearest_neighbors(queries, items, k, ctx))?;
            neighbors(py, found)
        })
    }
}
