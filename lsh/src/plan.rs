use serde::{Deserialize, Serialize};

/// What a nearest-neighbour join does: a value that can be printed, compared, saved and passed
/// back for the same result on any machine.
///
/// ```
/// use lshjoin::JoinPlan;
///
/// let plan = JoinPlan::Exact;
/// let text = serde_json::to_string(&plan).unwrap();
/// assert_eq!(serde_json::from_str::<JoinPlan>(&text).unwrap(), plan);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "plan", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum JoinPlan {
    /// All pairs, as tiles.
    Exact,
    /// Tables of sign bits, then rounds of neighbour expansion.
    Lsh {
        /// Where the random directions start.
        seed: u64,
        /// Leading principal axes that directions are drawn in.
        axes: usize,
        /// k: sign bits of a table, at most 32.
        functions: usize,
        /// L: tables, made and dropped one after the other.
        tables: usize,
        /// Buckets of each table that a query looks into, its own the first.
        probes: usize,
        /// Rounds of neighbour expansion after the tables.
        rounds: usize,
    },
}
