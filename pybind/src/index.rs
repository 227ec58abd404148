//! Indexes.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use lshjoin::{BinaryMetric, JoinPlan, Metric, PartitionPlan};
use numpy::{IntoPyArray, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::PyDict,
};

use crate::{
    arrays::{Distances, Indices, KeyArrays, keys, neighbors, rows},
    plans::{parse, to_json, to_text},
    run::{NumThreads, Options, to_py},
};

type Vectors<'py> = PyReadonlyArray2<'py, f32>;
type Bits<'py> = PyReadonlyArray2<'py, u8>;
type Ids<'py> = PyReadonlyArray1<'py, i64>;
/// Distances and ids, and the report.
type Nearest<'py> = (Distances<'py>, Bound<'py, PyArray2<i64>>, String);
type Within<'py> = (Indices<'py>, Bound<'py, PyAny>, Indices<'py>);

/// What to do where there is not the memory for it.
const LOAD: &str = "open the index mapped (mmap=True)";
const BUILD: &str = "save what was added, or build the index of files (lshjoin index build)";
const QUERIES: &str = "ask for fewer neighbours, or pass fewer queries at a time";
const RADIUS: &str = "pass fewer queries at a time, or a smaller radius";

/// Items made ready for joins to come.
#[pyclass(frozen, module = "lshjoin._lshjoin")]
pub(crate) struct Index(Kept);

/// An index, by what it is of. It is locked for as long as it takes to look or to change, never while a
/// join runs.
enum Kept {
    Vectors(Mutex<lshjoin::Index>),
    Bits(Mutex<lshjoin::BinaryIndex>),
}

/// Items or queries, as they come from Python.
#[derive(FromPyObject)]
enum Items<'py> {
    Vectors(Vectors<'py>),
    Bits(Bits<'py>),
}

/// Runs a body for an index, whatever it is of.
macro_rules! with_index {
    ($kept:expr, |$index:ident| $body:expr) => {
        match $kept {
            Kept::Vectors($index) => $body,
            Kept::Bits($index) => $body,
        }
    };
}

/// The same for an index and rows of what it is of.
macro_rules! with_index_and_rows {
    ($kept:expr, $items:expr, |$index:ident, $rows:ident| $body:expr) => {
        match ($kept, $items) {
            (Kept::Vectors($index), Items::Vectors(array)) => {
                let $rows = rows(array)?;
                $body
            }
            (Kept::Bits($index), Items::Bits(array)) => {
                let $rows = rows(array)?;
                $body
            }
            (Kept::Vectors(_), Items::Bits(_)) => Err(of_another("float32")),
            (Kept::Bits(_), Items::Vectors(_)) => Err(of_another("packed bits, uint8")),
        }
    };
}

fn of_another(kind: &str) -> PyErr {
    PyTypeError::new_err(format!("the index is of {kind}, and so have rows to be"))
}

impl Index {
    fn of(index: lshjoin::Index) -> Self {
        Self(Kept::Vectors(index.into()))
    }

    fn of_bits(index: lshjoin::BinaryIndex) -> Self {
        Self(Kept::Bits(index.into()))
    }

    /// The index of vectors as it is now.
    fn of_vectors(&self, py: Python<'_>) -> PyResult<lshjoin::Index> {
        match &self.0 {
            Kept::Vectors(index) => Ok(now(py, index)),
            Kept::Bits(_) => Err(PyTypeError::new_err(
                "an index of packed bits has no chunks: join its rows by knn_join or radius_join",
            )),
        }
    }
}

/// An index as it is now.
fn now<I: Clone + Send>(py: Python<'_>, index: &Mutex<I>) -> I {
    py.detach(|| {
        let index = index.lock().unwrap_or_else(PoisonError::into_inner);
        index.clone()
    })
}

fn change<I: Send>(
    py: Python<'_>,
    index: &Mutex<I>,
    change: impl FnOnce(&mut I, &lshjoin::Context) -> lshjoin::Result<()> + Send,
) -> PyResult<()> {
    options(None, None, BUILD).run(py, |ctx| {
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut index, ctx)
    })
}

fn partitions_of(plan: Option<&str>) -> PyResult<Option<PartitionPlan>> {
    match plan.map(parse).transpose()?.map(|planned| planned.plan) {
        None => Ok(None),
        Some(JoinPlan::Partitions(plan)) => Ok(Some(plan)),
        Some(_) => Err(PyValueError::new_err(
            "an index is built by a plan of partitions, JoinPlan.partitions",
        )),
    }
}

#[pymethods]
impl Index {
    #[staticmethod]
    #[pyo3(signature = (path, *, mmap, num_threads=None))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        mmap: bool,
        num_threads: Option<NumThreads>,
    ) -> PyResult<Self> {
        options(num_threads, None, LOAD).run(py, |ctx| {
            Ok(match lshjoin::BinaryIndex::is_saved_in(&path)? {
                true => Self::of_bits(lshjoin::BinaryIndex::open(&path, mmap, ctx)?),
                false => Self::of(lshjoin::Index::open(&path, mmap, ctx)?),
            })
        })
    }

    /// Of packed bits, in memory.
    #[staticmethod]
    #[pyo3(signature = (items, ids, *, metric, num_threads=None))]
    fn build_bits(
        py: Python<'_>,
        items: Bits<'_>,
        ids: Ids<'_>,
        metric: &str,
        num_threads: Option<NumThreads>,
    ) -> PyResult<Self> {
        let metric: BinaryMetric = metric.parse().map_err(to_py)?;
        let (items, ids) = (rows(&items)?, ids.as_slice()?);
        options(num_threads, None, BUILD).run(py, |ctx| {
            let index = lshjoin::BinaryIndex::build(items, ids, metric, ctx)?;
            Ok(Self::of_bits(index))
        })
    }

    #[pyo3(signature = (path, *, num_threads=None, on_progress=None))]
    fn save(
        &self,
        py: Python<'_>,
        path: PathBuf,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let options = options(num_threads, on_progress, BUILD);
        with_index!(&self.0, |index| {
            let index = now(py, index);
            options.run(py, |ctx| index.save(&path, ctx))
        })
    }

    #[pyo3(signature = (*, num_threads=None, on_progress=None))]
    fn verify(
        &self,
        py: Python<'_>,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let options = options(num_threads, on_progress, LOAD);
        with_index!(&self.0, |index| {
            let index = now(py, index);
            options.run(py, |ctx| index.verify(ctx))
        })
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        with_index!(&self.0, |index| now(py, index).len())
    }

    /// What is known of it, by name.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let told = PyDict::new(py);
        let plan = match &self.0 {
            Kept::Vectors(index) => JoinPlan::Partitions(now(py, index).info().plan),
            Kept::Bits(_) => JoinPlan::Exact,
        };
        told.set_item("plan", to_text(plan)?)?;
        with_index!(&self.0, |index| {
            let info = now(py, index).info();
            told.set_item("items", info.items)?;
            told.set_item("removed", info.removed)?;
            told.set_item("added", info.added)?;
            told.set_item("dim", info.dim)?;
            told.set_item("metric", info.metric.name())?;
        });
        Ok(told)
    }

    fn add(&self, py: Python<'_>, items: Items<'_>, ids: Ids<'_>) -> PyResult<()> {
        let ids = ids.as_slice()?;
        with_index_and_rows!(&self.0, &items, |index, items| {
            change(py, index, |index, ctx| index.add(items, ids, ctx))
        })
    }

    fn remove(&self, py: Python<'_>, ids: Ids<'_>) -> PyResult<()> {
        let ids = ids.as_slice()?;
        with_index!(&self.0, |index| {
            change(py, index, |index, ctx| index.remove(ids, ctx))
        })
    }

    /// The same items for a search in which rows of equal keys are not each other's neighbours.
    fn kept_apart(&self, py: Python<'_>, apart: KeyArrays<'_>) -> PyResult<Self> {
        let (index, apart) = (self.of_vectors(py)?, keys(&apart)?);
        let kept = options(None, None, QUERIES).run(py, |ctx| index.kept_apart(apart, ctx))?;
        Ok(Self::of(kept))
    }

    /// The plan for a recall, with what is not fixed left open.
    fn plan(&self, py: Python<'_>, recall: f64, queries: usize) -> PyResult<String> {
        let plan = with_index!(&self.0, |index| now(py, index).plan(recall, queries));
        to_text(plan.map_err(to_py)?)
    }

    #[pyo3(signature = (queries, count, k, plan, *, num_threads=None, on_progress=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the signature is Python's, by keyword"
    )]
    fn fixed_plan(
        &self,
        py: Python<'_>,
        queries: Option<Vectors<'_>>,
        count: usize,
        k: usize,
        plan: &str,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        let (index, plan) = (self.of_vectors(py)?, parse(plan)?.plan);
        let queries = queries.as_ref().map(rows).transpose()?;
        let queries = queries.map(|queries| (queries, count));
        let plan = options(num_threads, on_progress, QUERIES)
            .run(py, |ctx| index.fixed_plan(queries, k, &plan, ctx))?;
        to_text(plan)
    }

    #[pyo3(signature = (queries, k, plan, *, num_threads=None, on_progress=None))]
    fn knn<'py>(
        &self,
        py: Python<'py>,
        queries: Items<'py>,
        k: usize,
        plan: &str,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Nearest<'py>> {
        let plan = parse(plan)?.plan;
        let options = options(num_threads, on_progress, QUERIES);
        let (found, report) = with_index_and_rows!(&self.0, &queries, |index, queries| {
            let index = now(py, index);
            options.run(py, |ctx| {
                let found = index.knn(queries, k, &plan, ctx)?;
                Ok((found, ctx.report()))
            })
        })?;
        nearest(py, found, &report)
    }

    #[pyo3(signature = (queries, radius, *, num_threads=None, on_progress=None))]
    fn radius<'py>(
        &self,
        py: Python<'py>,
        queries: Items<'py>,
        radius: f64,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Within<'py>> {
        let options = options(num_threads, on_progress, RADIUS);
        let found = with_index_and_rows!(&self.0, &queries, |index, queries| {
            let index = now(py, index);
            options.run(py, |ctx| index.radius(queries, radius, ctx))
        })?;
        Ok(within(py, found))
    }

    #[pyo3(signature = (start, stop, k, plan, *, num_threads=None, on_progress=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "the signature is Python's, by keyword"
    )]
    fn knn_of_chunk<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        stop: usize,
        k: usize,
        plan: &str,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<(Indices<'py>, Nearest<'py>)> {
        let (index, plan) = (self.of_vectors(py)?, parse(plan)?.plan);
        let (ids, found, report) = options(num_threads, on_progress, QUERIES).run(py, |ctx| {
            let (ids, found) = index.knn_of_chunk(start..stop, k, &plan, ctx)?;
            Ok((ids, found, ctx.report()))
        })?;
        Ok((ids.into_pyarray(py), nearest(py, found, &report)?))
    }

    #[pyo3(signature = (start, stop, radius, *, num_threads=None, on_progress=None))]
    fn radius_of_chunk<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        stop: usize,
        radius: f64,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<(Indices<'py>, Within<'py>)> {
        let index = self.of_vectors(py)?;
        let (ids, found) = options(num_threads, on_progress, RADIUS)
            .run(py, |ctx| index.radius_of_chunk(start..stop, radius, ctx))?;
        Ok((ids.into_pyarray(py), within(py, found)))
    }
}

fn options(
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
    way_out: &'static str,
) -> Options {
    Options {
        num_threads,
        on_progress,
        way_out,
    }
}

fn nearest<'py>(
    py: Python<'py>,
    found: lshjoin::Neighbors<f32>,
    report: &lshjoin::Report,
) -> PyResult<Nearest<'py>> {
    let (distances, ids) = neighbors(py, found)?;
    Ok((distances, ids, to_json(report)?))
}

fn within<'py>(py: Python<'py>, found: lshjoin::RadiusNeighbors<f32>) -> Within<'py> {
    (
        found.lims.into_pyarray(py),
        found.distances.into_pyarray(py).into_any(),
        found.indices.into_pyarray(py),
    )
}

/// Items that come in batches made into an index.
#[pyclass(frozen, module = "lshjoin._lshjoin")]
pub(crate) struct IndexBuilder {
    /// `None` once it is finished or has failed.
    builder: Mutex<Option<lshjoin::IndexBuilder>>,
}

#[pymethods]
impl IndexBuilder {
    #[new]
    #[pyo3(signature = (items, dim, *, metric, plan, seed, path, resume=false))]
    fn new(
        items: usize,
        dim: usize,
        metric: &str,
        plan: Option<&str>,
        seed: u64,
        path: Option<PathBuf>,
        resume: bool,
    ) -> PyResult<Self> {
        let metric: Metric = metric.parse().map_err(to_py)?;
        let plan = partitions_of(plan)?;
        let builder = match path {
            Some(path) if resume => {
                lshjoin::IndexBuilder::resume(items, dim, metric, plan, seed, &path)
            }
            path => lshjoin::IndexBuilder::new(items, dim, metric, plan, seed, path.as_deref()),
        };
        Ok(Self {
            builder: Mutex::new(Some(builder.map_err(to_py)?)),
        })
    }

    /// How many times all items have to come.
    #[getter]
    fn passes(&self, py: Python<'_>) -> PyResult<usize> {
        let builder = self.take(py)?;
        let passes = builder.passes();
        self.put(py, builder);
        Ok(passes)
    }

    /// The pass and the item in it that are to come next.
    fn next(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        let builder = self.take(py)?;
        let next = builder.position();
        self.put(py, builder);
        Ok(next)
    }

    #[pyo3(signature = (items, ids, *, num_threads=None, on_progress=None))]
    fn push(
        &self,
        py: Python<'_>,
        items: Vectors<'_>,
        ids: Ids<'_>,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let mut builder = self.take(py)?;
        let (items, ids) = (rows(&items)?, ids.as_slice()?);
        options(num_threads, on_progress, BUILD).run(py, |ctx| builder.push(items, ids, ctx))?;
        self.put(py, builder);
        Ok(())
    }

    #[pyo3(signature = (*, num_threads=None, on_progress=None))]
    fn finish(
        &self,
        py: Python<'_>,
        num_threads: Option<NumThreads>,
        on_progress: Option<Py<PyAny>>,
    ) -> PyResult<Index> {
        let builder = self.take(py)?;
        let index = options(num_threads, on_progress, BUILD).run(py, |ctx| builder.finish(ctx))?;
        Ok(Index::of(index))
    }

    /// Lets others have its directory.
    fn close(&self, py: Python<'_>) {
        drop(self.take(py));
    }
}

impl IndexBuilder {
    /// The builder, which is not there again until it is put back.
    fn take(&self, py: Python<'_>) -> PyResult<lshjoin::IndexBuilder> {
        let builder = py.detach(|| {
            let mut place = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
            place.take()
        });
        builder.ok_or_else(|| PyRuntimeError::new_err("this builder has ended: begin a new one"))
    }

    fn put(&self, py: Python<'_>, builder: lshjoin::IndexBuilder) {
        py.detach(|| {
            let mut place = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(builder);
        });
    }
}
