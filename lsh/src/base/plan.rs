use serde::{Deserialize, Serialize};

use crate::base::{
    check::check_recall,
    error::{Error, Result},
};

/// What a nearest-neighbour join does: a value that can be printed, compared, saved and passed
/// back for the same result on any machine; [`KnnJoin::study`](crate::KnnJoin::study) makes one.
///
/// ```
/// use lshjoin::{JoinPlan, LshPlan};
///
/// let plan = JoinPlan::Lsh(LshPlan {
///     seed: 0,
///     axes: 48,
///     functions: 12,
///     tables: 4,
///     probes: 8,
///     rounds: 2,
///     until_recall: Some(0.9),
/// });
/// let text = serde_json::to_string(&plan).unwrap();
/// assert_eq!(serde_json::from_str::<JoinPlan>(&text).unwrap(), plan);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JoinPlan {
    /// All pairs, as tiles.
    Exact,
    /// Tables of sign bits and rounds of neighbour expansion.
    Lsh(LshPlan),
    /// Lists around centroids and rounds of neighbour expansion.
    Cells(CellPlan),
    /// Lists of an [`Index`](crate::Index), as a join out of core follows them.
    Partitions(PartitionPlan),
}

/// The numbers of [`JoinPlan::Partitions`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionPlan {
    /// Which rows the centroids start from.
    pub seed: u64,
    /// AxesFilter principal axes that centroids are learnt and compared in, at least 1.
    pub axes: usize,
    /// Lists, 1 to 16384; about 1.5 times the square root of the number of items do well.
    pub cells: usize,
    /// Lists that the rows of each list probe, their own the first, on average; at least 1.
    pub probes: usize,
    /// Looks into more lists, as many as held-out rows need to reach this recall, which are
    /// joined exactly first. Above 0, at most 1.
    pub until_recall: Option<f64>,
}

/// The numbers of [`JoinPlan::Cells`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellPlan {
    /// Which rows the centroids start from.
    pub seed: u64,
    /// Lists, 1 to 16384; about the square root of the number of items do well.
    pub cells: usize,
    /// Lists that each row probes, its own the first, on average; at least 1. Those whose rows fill
    /// its list to begin with count among them.
    pub probes: usize,
    /// Rounds of neighbour expansion after that; up to 64.
    pub rounds: usize,
    /// Looks into more lists, as many as held-out rows need to reach this recall, which are
    /// joined exactly first; and into more again, if it turns out that others held out fall short.
    /// Above 0, at most 1.
    pub until_recall: Option<f64>,
}

/// The numbers of [`JoinPlan::Lsh`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LshPlan {
    /// Where the random directions start.
    pub seed: u64,
    /// AxesFilter principal axes that directions are drawn in, at least 1.
    pub axes: usize,
    /// k: sign bits of a table, 1 to 64.
    pub functions: usize,
    /// L: tables, 1 to 1024, made and dropped one after the other.
    pub tables: usize,
    /// Buckets of each table that a query probes, its own the first; 1 to 1024.
    pub probes: usize,
    /// Rounds of neighbour expansion after the tables; up to 64.
    pub rounds: usize,
    /// Goes on with another table and another round until held-out rows, whose exact neighbours
    /// are computed first, reach this recall; above 0, at most 1.
    pub until_recall: Option<f64>,
}

// Plans come from anywhere: none may keep a join busy without end.
pub(crate) const MOST_CELLS: usize = 1 << 14;
pub(crate) const MOST_TABLES: usize = 1024;
const MOST_ROUNDS: usize = 64;

impl JoinPlan {
    /// Whether all numbers are in range, as [`KnnJoin`](crate::KnnJoin) asks first.
    ///
    /// # Errors
    /// When one is not.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Exact => Ok(()),
            Self::Lsh(plan) => plan.check(),
            Self::Cells(plan) if plan.rounds > MOST_ROUNDS => {
                parameter("rounds", "at most 64", plan.rounds)
            }
            Self::Cells(plan) => check_cells(plan.cells, plan.probes, plan.until_recall),
            Self::Partitions(PartitionPlan { axes: 0, .. }) => parameter("axes", "at least 1", 0),
            Self::Partitions(plan) => check_cells(plan.cells, plan.probes, plan.until_recall),
        }
    }
}

impl JoinPlan {
    /// The same for a part of the items that it was made for: as many rows a list, about.
    pub(crate) fn for_fewer(self, share: f64) -> Self {
        match self {
            Self::Cells(plan) if share < 1.0 => Self::Cells(CellPlan {
                cells: ((plan.cells as f64 * share.sqrt()) as usize).max(1),
                ..plan
            }),
            plan => plan,
        }
    }

    /// The same until another recall, that which becomes of its own.
    pub(crate) fn until(self, recall: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Exact => self,
            Self::Lsh(plan) => Self::Lsh(LshPlan {
                until_recall: plan.until_recall.map(recall),
                ..plan
            }),
            Self::Cells(plan) => Self::Cells(CellPlan {
                until_recall: plan.until_recall.map(recall),
                ..plan
            }),
            Self::Partitions(plan) => Self::Partitions(PartitionPlan {
                until_recall: plan.until_recall.map(recall),
                ..plan
            }),
        }
    }
}

fn parameter(name: &'static str, must_be: &'static str, value: usize) -> Result<()> {
    Err(Error::Parameter {
        name,
        must_be,
        value: value.to_string(),
    })
}

fn check_cells(cells: usize, probes: usize, until: Option<f64>) -> Result<()> {
    // All are compared with all.
    if !(1..=MOST_CELLS).contains(&cells) {
        return parameter("cells", "1 to 16384", cells);
    }
    if probes == 0 {
        return parameter("probes", "at least 1", 0);
    }
    until.map_or(Ok(()), |recall| check_recall("until_recall", recall))
}

impl LshPlan {
    fn check(&self) -> Result<()> {
        match *self {
            Self { axes: 0, .. } => parameter("axes", "at least 1", 0),
            Self { tables, .. } if !(1..=MOST_TABLES).contains(&tables) => {
                parameter("tables", "1 to 1024", tables)
            }
            Self { rounds, .. } if rounds > MOST_ROUNDS => {
                parameter("rounds", "at most 64", rounds)
            }
            Self { functions, .. } if !(1..=64).contains(&functions) => {
                parameter("functions", "1 to 64", functions)
            }
            // A table holds an entry for each probe of each query.
            Self { probes, .. } if !(1..=1024).contains(&probes) => {
                parameter("probes", "1 to 1024", probes)
            }
            Self { until_recall, .. } => {
                until_recall.map_or(Ok(()), |recall| check_recall("until_recall", recall))
            }
        }
    }
}
