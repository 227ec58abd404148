//! Joins of packed bits.

use lshjoin::{BinaryKnnJoin, BinaryMetric, BinaryRadiusJoin};
use numpy::{IntoPyArray, PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;

use crate::{
    arrays::{Distances, Indices, KeyArrays, keys, neighbors, rows},
    plans,
    run::{KNN, NumThreads, Options, RADIUS, to_py},
};

/// Rows of packed bits.
pub(crate) type Bits<'py> = PyReadonlyArray2<'py, u8>;

/// As `knn_join`.
#[pyfunction]
#[pyo3(signature = (
    queries, items, k, *, metric, within=None, apart=None, plan=None, recall=0.95, seed=0,
    num_threads=None, on_progress=None,
))]
#[expect(
    clippy::too_many_arguments,
    reason = "the signature is Python's, by keyword"
)]
pub(crate) fn binary_knn_join<'py>(
    py: Python<'py>,
    queries: Option<Bits<'py>>,
    items: Bits<'py>,
    k: usize,
    metric: &str,
    within: Option<KeyArrays<'py>>,
    apart: Option<KeyArrays<'py>>,
    plan: Option<&str>,
    recall: f64,
    seed: u64,
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<(Distances<'py>, Bound<'py, PyArray2<i64>>, String, String)> {
    let metric: BinaryMetric = metric.parse().map_err(to_py)?;
    let plan = plan.map(plans::parse).transpose()?.map(|plan| plan.plan);
    let options = Options {
        num_threads,
        on_progress,
        way_out: KNN,
    };
    let within = within.as_ref().map(keys).transpose()?;
    let apart = apart.as_ref().map(keys).transpose()?;
    let (queries, items) = (queries.as_ref().map(rows).transpose()?, rows(&items)?);
    let (found, report) = options.run(py, |ctx| {
        let join = BinaryKnnJoin::new(items).queries(queries);
        let join = join.k(k).metric(metric).within(within).apart(apart);
        let found = join.plan(plan).recall(recall).seed(seed).run(ctx)?;
        Ok((found, ctx.report()))
    })?;
    let (distances, indices) = neighbors(py, found.neighbors)?;
    let [plan, report] = [plans::to_json(&found.plan)?, plans::to_json(&report)?];
    Ok((distances, indices, plan, report))
}

/// As `plan_knn_join`.
#[pyfunction]
#[pyo3(signature = (
    queries, items, k, *, metric, within=None, apart=None, recall, seed, num_threads=None,
    on_progress=None,
))]
#[expect(
    clippy::too_many_arguments,
    reason = "the signature is Python's, by keyword"
)]
pub(crate) fn plan_binary_knn_join(
    py: Python<'_>,
    queries: Option<Bits<'_>>,
    items: Bits<'_>,
    k: usize,
    metric: &str,
    within: Option<KeyArrays<'_>>,
    apart: Option<KeyArrays<'_>>,
    recall: f64,
    seed: u64,
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let metric: BinaryMetric = metric.parse().map_err(to_py)?;
    let options = Options {
        num_threads,
        on_progress,
        way_out: KNN,
    };
    let within = within.as_ref().map(keys).transpose()?;
    let apart = apart.as_ref().map(keys).transpose()?;
    let (queries, items) = (queries.as_ref().map(rows).transpose()?, rows(&items)?);
    let study = options.run(py, |ctx| {
        let join = BinaryKnnJoin::new(items).queries(queries);
        let join = join.k(k).metric(metric).within(within).apart(apart);
        join.recall(recall).seed(seed).study(ctx)
    })?;
    plans::to_json(&study)
}

/// As `radius_join`.
#[pyfunction]
#[pyo3(signature = (
    queries, items, radius, *, metric, within=None, apart=None, num_threads=None, on_progress=None,
))]
#[expect(
    clippy::too_many_arguments,
    reason = "the signature is Python's, by keyword"
)]
pub(crate) fn binary_radius_join<'py>(
    py: Python<'py>,
    queries: Option<Bits<'py>>,
    items: Bits<'py>,
    radius: f64,
    metric: &str,
    within: Option<KeyArrays<'py>>,
    apart: Option<KeyArrays<'py>>,
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<(Indices<'py>, Distances<'py>, Indices<'py>)> {
    let metric: BinaryMetric = metric.parse().map_err(to_py)?;
    let options = Options {
        num_threads,
        on_progress,
        way_out: RADIUS,
    };
    let within = within.as_ref().map(keys).transpose()?;
    let apart = apart.as_ref().map(keys).transpose()?;
    let (queries, items) = (queries.as_ref().map(rows).transpose()?, rows(&items)?);
    let found = options.run(py, |ctx| {
        let join = BinaryRadiusJoin::new(items, radius).queries(queries);
        join.metric(metric).within(within).apart(apart).run(ctx)
    })?;
    Ok((
        found.lims.into_pyarray(py),
        found.distances.into_pyarray(py).into_any(),
        found.indices.into_pyarray(py),
    ))
}
