//! Joins of arrays: of vectors and, by a metric of theirs, of packed bits.

use lshjoin::{
    BinaryKnnJoin, BinaryRadiusJoin, Distance, KnnJoin, KnnJoined, Metric, RadiusJoin,
    RadiusNeighbors, Report,
};
use numpy::{Element, IntoPyArray, PyArray2};
use pyo3::prelude::*;

use crate::{
    arrays::{
        AnyMetric, Distances, Indices, KeyArrays, bit_rows, bits, keys, neighbors, rows, sides,
        with_sides,
    },
    plans,
    run::{KNN, NumThreads, Options, RADIUS, to_py},
};

/// Distances and rows of items, the plan and the report.
type Nearest<'py> = (Distances<'py>, Bound<'py, PyArray2<i64>>, String, String);

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
    queries: Option<Bound<'py, PyAny>>,
    items: Bound<'py, PyAny>,
    k: usize,
    metric: &str,
    within: Option<KeyArrays<'py>>,
    apart: Option<KeyArrays<'py>>,
    plan: Option<&str>,
    recall: f64,
    seed: u64,
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<Nearest<'py>> {
    let plan = plan.map(plans::parse).transpose()?.map(|plan| plan.plan);
    let options = Options {
        num_threads,
        on_progress,
        way_out: KNN,
    };
    let within = within.as_ref().map(keys).transpose()?;
    let apart = apart.as_ref().map(keys).transpose()?;
    match metric.parse().map_err(to_py)? {
        AnyMetric::OfBits(metric) => {
            let sides = bits(queries.as_ref(), &items)?;
            let (queries, items) = bit_rows(&sides)?;
            let joined = options.run(py, |ctx| {
                let join = BinaryKnnJoin::new(items).queries(queries);
                let join = join.k(k).metric(metric).within(within).apart(apart);
                let found = join.plan(plan).recall(recall).seed(seed).run(ctx)?;
                Ok((found, ctx.report()))
            })?;
            nearest(py, joined)
        }
        AnyMetric::OfVectors::<Metric>(metric) => {
            with_sides!(&sides(queries.as_ref(), &items)?, |queries, items| {
                let joined = options.run(py, |ctx| {
                    let join = KnnJoin::new(items).queries(queries);
                    let join = join.k(k).metric(metric).within(within).apart(apart);
                    let found = join.plan(plan).recall(recall).seed(seed).run(ctx)?;
                    Ok((found, ctx.report()))
                })?;
                nearest(py, joined)
            })
        }
    }
}

fn nearest<T: Element>(
    py: Python<'_>,
    (found, report): (KnnJoined<T>, Report),
) -> PyResult<Nearest<'_>> {
    let (distances, indices) = neighbors(py, found.neighbors)?;
    let [plan, report] = [plans::to_json(&found.plan)?, plans::to_json(&report)?];
    Ok((distances, indices, plan, report))
}

/// What the planner chose, and what from.
#[pyfunction]
#[pyo3(signature = (
    queries, items, k, *, metric, within=None, apart=None, recall, seed, num_threads=None,
    on_progress=None,
))]
#[expect(
    clippy::too_many_arguments,
    reason = "the signature is Python's, by keyword"
)]
pub(crate) fn plan_knn_join(
    py: Python<'_>,
    queries: Option<Bound<'_, PyAny>>,
    items: Bound<'_, PyAny>,
    k: usize,
    metric: &str,
    within: Option<KeyArrays<'_>>,
    apart: Option<KeyArrays<'_>>,
    recall: f64,
    seed: u64,
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let options = Options {
        num_threads,
        on_progress,
        way_out: KNN,
    };
    let within = within.as_ref().map(keys).transpose()?;
    let apart = apart.as_ref().map(keys).transpose()?;
    let study = match metric.parse().map_err(to_py)? {
        AnyMetric::OfBits(metric) => {
            let sides = bits(queries.as_ref(), &items)?;
            let (queries, items) = bit_rows(&sides)?;
            options.run(py, |ctx| {
                let join = BinaryKnnJoin::new(items).queries(queries);
                let join = join.k(k).metric(metric).within(within).apart(apart);
                join.recall(recall).seed(seed).study(ctx)
            })?
        }
        AnyMetric::OfVectors::<Metric>(metric) => {
            with_sides!(&sides(queries.as_ref(), &items)?, |queries, items| {
                options.run(py, |ctx| {
                    let join = KnnJoin::new(items).queries(queries);
                    let join = join.k(k).metric(metric).within(within).apart(apart);
                    join.recall(recall).seed(seed).study(ctx)
                })?
            })
        }
    };
    plans::to_json(&study)
}

/// Row limits, distances and rows of items.
type Within<'py> = (Indices<'py>, Distances<'py>, Indices<'py>);

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
    queries: Option<Bound<'py, PyAny>>,
    items: Bound<'py, PyAny>,
    radius: f64,
    metric: &str,
    within: Option<KeyArrays<'py>>,
    apart: Option<KeyArrays<'py>>,
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<Within<'py>> {
    let options = Options {
        num_threads,
        on_progress,
        way_out: RADIUS,
    };
    let within = within.as_ref().map(keys).transpose()?;
    let apart = apart.as_ref().map(keys).transpose()?;
    match metric.parse().map_err(to_py)? {
        AnyMetric::OfBits(metric) => {
            let sides = bits(queries.as_ref(), &items)?;
            let (queries, items) = bit_rows(&sides)?;
            let found = options.run(py, |ctx| {
                let join = BinaryRadiusJoin::new(items, radius).queries(queries);
                join.metric(metric).within(within).apart(apart).run(ctx)
            })?;
            Ok(near(py, found))
        }
        AnyMetric::OfVectors::<Distance>(distance) => {
            with_sides!(&sides(queries.as_ref(), &items)?, |queries, items| {
                let found = options.run(py, |ctx| {
                    let join = RadiusJoin::new(items, radius).queries(queries);
                    join.distance(distance).within(within).apart(apart).run(ctx)
                })?;
                Ok(near(py, found))
            })
        }
    }
}

fn near<T: Element>(py: Python<'_>, found: RadiusNeighbors<T>) -> Within<'_> {
    (
        found.lims.into_pyarray(py),
        found.distances.into_pyarray(py).into_any(),
        found.indices.into_pyarray(py),
    )
}
