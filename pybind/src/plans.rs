//! Plans, which are JSON on the Python side.

use lshjoin::{
    BucketedRandomProjection, CauchyProjection, IvfPlan, JoinPlan, LshPlan, Metric, NearRows,
    PartitionPlan, PredictedPlan,
};
use pyo3::{exceptions::PyValueError, prelude::*};
use serde::Serialize;

use crate::{
    arrays::{Matrix, rows, with_rows},
    run::{NumThreads, Options, to_py},
};

pub(crate) fn parse(text: &str) -> PyResult<PredictedPlan> {
    // Serde repeats a name that it does not know, however long it is.
    serde_json::from_str(text).map_err(|error| {
        PyValueError::new_err(format!("not a join plan: {:.200}", error.to_string()))
    })
}

/// The one text of all equal plans.
pub(crate) fn to_text(plan: JoinPlan) -> PyResult<String> {
    plan.check().map_err(to_py)?;
    to_json(&plan)
}

pub(crate) fn to_json(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The plan, in the words of this module, and what is predicted of it.
#[pyfunction]
pub(crate) fn check_plan(text: &str) -> PyResult<(String, Option<String>)> {
    let PredictedPlan {
        plan, predicted, ..
    } = parse(text)?;
    Ok((to_text(plan)?, predicted.as_ref().map(to_json).transpose()?))
}

#[pyfunction]
#[pyo3(signature = (*, seed, axes, functions, tables, probes, rounds, until_recall))]
pub(crate) fn lsh_plan(
    seed: u64,
    axes: usize,
    functions: usize,
    tables: usize,
    probes: usize,
    rounds: usize,
    until_recall: Option<f64>,
) -> PyResult<String> {
    let plan = LshPlan::new(axes, functions, tables).seed(seed);
    let plan = plan.probes(probes).rounds(rounds);
    to_text(JoinPlan::Lsh(plan.until_recall(until_recall)))
}

#[pyfunction]
#[pyo3(signature = (*, seed, lists, probes, rounds, until_recall))]
pub(crate) fn ivf_plan(
    seed: u64,
    lists: usize,
    probes: f64,
    rounds: usize,
    until_recall: Option<f64>,
) -> PyResult<String> {
    let plan = IvfPlan::new(lists, probes).seed(seed).rounds(rounds);
    to_text(JoinPlan::Ivf(plan.until_recall(until_recall)))
}

#[pyfunction]
#[pyo3(signature = (*, seed, lists, probes, until_recall))]
pub(crate) fn partition_plan(
    seed: u64,
    lists: usize,
    probes: f64,
    until_recall: Option<f64>,
) -> PyResult<String> {
    let plan = PartitionPlan::new(lists, probes).seed(seed);
    to_text(JoinPlan::Partitions(plan.until_recall(until_recall)))
}

/// Numbers for a model of buckets that brings near rows together: the `num_neighbors` nearest of
/// each or, without that, those nearer than `threshold`.
#[pyfunction]
#[pyo3(signature = (
    rows, *, family, num_neighbors, threshold, recall, seed, num_threads=None, on_progress=None,
))]
#[expect(
    clippy::too_many_arguments,
    reason = "the signature is Python's, by keyword"
)]
pub(crate) fn suggest(
    py: Python<'_>,
    rows: Matrix<'_>,
    family: &str,
    num_neighbors: Option<usize>,
    threshold: f64,
    recall: f64,
    seed: i64,
    num_threads: Option<NumThreads>,
    on_progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let metric: Metric = family.parse().map_err(to_py)?;
    let near = num_neighbors.map_or(NearRows::Within(threshold), NearRows::Nearest);
    let options = Options {
        num_threads,
        on_progress,
        way_out: "pass a sample of the rows",
    };
    let suggestion = with_rows!(&rows, |rows| {
        options.run(py, |ctx| match metric {
            Metric::Manhattan => {
                let family = |bucket_length| CauchyProjection { bucket_length };
                lshjoin::suggest(family, rows, near, recall, seed, ctx)
            }
            _ => {
                let family = |bucket_length| BucketedRandomProjection { bucket_length };
                lshjoin::suggest(family, rows, near, recall, seed, ctx)
            }
        })?
    });
    to_json(&suggestion)
}
