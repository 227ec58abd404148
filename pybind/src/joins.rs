//! Joins of arrays.

use lshjoin::{Distance, KnnJoin, Metric, RadiusJoin};
use numpy::{IntoPyArray, PyArray2};
use pyo3::prelude::*;

use crate::{
    arrays::{Distances, Indices, KeyArrays, Matrix, Sides, keys, neighbors, rows, with_sides},
    plans,
    run::{KNN, NumThreads, Options, RADIUS, to_py},
};

/// Distances and rows of items, (n, k), nearest first (ties by row), padded with inf and -1; the plan,
/// which is the planner's where none is given; and the report.
#[pyfunction]
#[pyo3(signature = (
    queries, items, k, *, metric, within=None, apart=None, plan=None, recall=0.95, seed=0,
    num_threads=None, on_progress=None,
))]
#[expect(
    clippy::too_many_arguments,
    reason = "the signature is Python's, by keyword"
)]
pub(crate) fn knn_join<'py>(
    py: Python<'py>,
    queries: Option<Matrix<'py>>,
    items: Matrix<'py>,
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
    let metric: Metric = metric.parse().map_err(to_py)?;
    let plan = plan.map(plans::parse).transpose()?.map(|plan| plan.plan);
    let options = Options {
        num_threads,
        on_progress,
        way_out: KNN,
    };
    let within = within.as_ref().map(keys).transpose()?;
    let apart = apart.as_ref().map(keys).transpose()?;
    with_sides!(&Sides::new(queries, items)?, |queries, items| {
        let (found, report) = options.run(py, |ctx| {
            let join = KnnJoin::new(items).queries(queries).k(k).metric(metric);
            let join = join.within(within).apart(apart);
            let found = join.plan(plan).recall(recall).seed(seed).run(ctx)?;
            Ok((found, ctx.report()))
        })?;
        let (distances, indices) = neighbors(py, found.neighbors)?;
        let [plan, report] = [plans::to_json(&found.plan)?, plans::to_json(&report)?];
        Ok((distances, indices, plan, report))
    })
}

/// Row limits (n + 1), distances, rows of items: neighbours of query i are at
/// lims[i]:lims[i + 1].
#[pyfunction]
#[pyo3(signature = (
    queries, items, radius, *, metric, within=None, apart=None, num_threads=None, on_progress=None,
))]
#[expect(
    clippy::too_many_arguments,
    reason = "the signature is Python's, by keyword"
)]
pub(crate) fn radius_join<'py>(
    py: Python<'py>,
    queries: Option<Matrix<'py>>,
    items: Matrix<'py>,
    radius: f64,
    metric: &str,
    within: Option<KeyArrays<'py>>,
    apart: Option<KeyArrays<'py>>,
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<(Indices<'py>, Bound<'py, PyAny>, Indices<'py>)> {
    let distance: Distance = metric.parse().map_err(to_py)?;
    let options = Options {
        num_threads,
        on_progress,
        way_out: RADIUS,
    };
    let within = within.as_ref().map(keys).transpose()?;
    let apart = apart.as_ref().map(keys).transpose()?;
    with_sides!(&Sides::new(queries, items)?, |queries, items| {
        let found = options.run(py, |ctx| {
            let join = RadiusJoin::new(items, radius).queries(queries);
            let join = join.distance(distance).within(within).apart(apart);
            join.run(ctx)
        })?;
        Ok((
            found.lims.into_pyarray(py),
            found.distances.into_pyarray(py).into_any(),
            found.indices.into_pyarray(py),
        ))
    })
}
