use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a nearest-neighbour join does: a value that can be printed, compared, saved and passed
/// back for the same result on any machine.
///
/// ```
/// use lshjoin::JoinPlan;
///
/// let plan = JoinPlan::for_recall(0.95, 1_000_000, 1_000_000)?;
/// let text = serde_json::to_string(&plan).unwrap();
/// assert_eq!(serde_json::from_str::<JoinPlan>(&text).unwrap(), plan);
/// assert_eq!(JoinPlan::for_recall(1.0, 1_000_000, 1_000_000)?, JoinPlan::Exact);
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JoinPlan {
    /// All pairs, as tiles.
    Exact,
    /// Tables of sign bits and rounds of neighbour expansion.
    Lsh(LshPlan),
}

/// The numbers of [`JoinPlan::Lsh`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LshPlan {
    /// Where the random directions start.
    pub seed: u64,
    /// Leading principal axes that directions are drawn in, at least 1.
    pub axes: usize,
    /// k: sign bits of a table, 1 to 64.
    pub functions: usize,
    /// L: tables, at least 1, made and dropped one after the other.
    pub tables: usize,
    /// Buckets of each table that a query looks into, its own the first; 1 to 1024.
    pub probes: usize,
    /// Rounds of neighbour expansion after the tables.
    pub rounds: usize,
    /// Goes on with another table and another round until held-out rows, whose exact neighbours
    /// are computed first, reach this recall; above 0, at most 1.
    pub until_recall: Option<f64>,
}

/// Pairs up to which meeting them all takes no longer than a join by tables, where tiles are quick:
/// measured at 384 dimensions with AMX and, roughly, with VNNI.
const FEW_PAIRS: f64 = 1.5e10;
/// Rows of a bucket that a plan for a recall aims at.
const BUCKET: usize = 256;

impl JoinPlan {
    /// A plan for joining so many queries with so many items that reaches `recall`, the share of
    /// the true nearest neighbours that are found: exact for 1 and for small joins.
    ///
    /// # Errors
    /// When `recall` is not above 0 and at most 1.
    pub fn for_recall(recall: f64, queries: usize, items: usize) -> Result<Self> {
        check_recall("recall", recall)?;
        if recall == 1.0 || queries as f64 * items as f64 <= FEW_PAIRS {
            return Ok(Self::Exact);
        }
        Ok(Self::Lsh(LshPlan {
            seed: 0,
            axes: 48,
            functions: (items / BUCKET).max(2).ilog2() as usize,
            tables: 2,
            probes: 6,
            rounds: 1,
            until_recall: Some(recall),
        }))
    }

    /// Whether all numbers are in range, as [`knn_join`](crate::knn_join) asks first.
    ///
    /// # Errors
    /// When one is not.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Exact => Ok(()),
            Self::Lsh(plan) => plan.check(),
        }
    }
}

impl LshPlan {
    fn check(&self) -> Result<()> {
        let parameter = |name, must_be, value: usize| {
            Err(Error::Parameter {
                name,
                must_be,
                value: value.to_string(),
            })
        };
        match *self {
            Self { axes: 0, .. } => parameter("axes", "at least 1", 0),
            Self { tables: 0, .. } => parameter("tables", "at least 1", 0),
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

fn check_recall(name: &'static str, recall: f64) -> Result<()> {
    if recall > 0.0 && recall <= 1.0 {
        return Ok(());
    }
    Err(Error::Parameter {
        name,
        must_be: "above 0 and at most 1",
        value: recall.to_string(),
    })
}
