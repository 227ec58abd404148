//! Plans, which are JSON on the Python side.

use lshjoin::{CellPlan, JoinPlan, LshPlan, Metric};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::run::to_py;

pub(crate) fn parse(text: &str) -> PyResult<JoinPlan> {
    serde_json::from_str(text)
        .map_err(|error| PyValueError::new_err(format!("not a join plan: {error}")))
}

/// The one text of all equal plans.
pub(crate) fn to_text(plan: JoinPlan) -> PyResult<String> {
    plan.check().map_err(to_py)?;
    serde_json::to_string(&plan).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The plan, in the words of this module.
#[pyfunction]
pub(crate) fn check_plan(text: &str) -> PyResult<String> {
    to_text(parse(text)?)
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
    to_text(JoinPlan::Lsh(LshPlan {
        seed,
        axes,
        functions,
        tables,
        probes,
        rounds,
        until_recall,
    }))
}

#[pyfunction]
#[pyo3(signature = (*, seed, axes, cells, probes, rounds, until_recall))]
pub(crate) fn cell_plan(
    seed: u64,
    axes: usize,
    cells: usize,
    probes: usize,
    rounds: usize,
    until_recall: Option<f64>,
) -> PyResult<String> {
    to_text(JoinPlan::Cells(CellPlan {
        seed,
        axes,
        cells,
        probes,
        rounds,
        until_recall,
    }))
}

/// A plan for so many queries and items.
#[pyfunction]
#[pyo3(signature = (queries, items, *, metric, recall, seed))]
pub(crate) fn plan_knn_join(
    queries: usize,
    items: usize,
    metric: &str,
    recall: f64,
    seed: u64,
) -> PyResult<String> {
    // All metrics have the same plans, but what is refused by the join is refused here.
    metric.parse::<Metric>().map_err(to_py)?;
    let mut plan = JoinPlan::for_recall(recall, queries, items).map_err(to_py)?;
    if let JoinPlan::Cells(numbers) = &mut plan {
        numbers.seed = seed;
    }
    to_text(plan)
}
