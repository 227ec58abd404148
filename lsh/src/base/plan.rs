//! Plans of nearest-neighbour joins, as plain values.

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
/// let plan = LshPlan::new(48, 12, 4).probes(8).rounds(2).until_recall(0.9);
/// let plan = JoinPlan::Lsh(plan);
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
    Ivf(IvfPlan),
    /// Lists of an [`Index`](crate::Index), as joins out of core use them.
    Partitions(PartitionPlan),
}

/// Parameters of [`JoinPlan::Partitions`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PartitionPlan {
    /// Seed of the random rows that centroids start from.
    pub seed: u64,
    /// Lists, 1 to 1048576; one for each 100 to 400 items do well. There may be a few more or fewer.
    pub lists: usize,
    /// Lists that an item probes on average, its own first; at least 1. A query probes those that are
    /// no further from it, beyond the nearest, than these are from an item.
    pub probes: f64,
    /// Probes further lists, as many as held-out rows need to reach this recall. Their exact
    /// neighbours are computed first. Above 0, at most 1.
    pub until_recall: Option<f64>,
}

/// Parameters of [`JoinPlan::Ivf`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IvfPlan {
    /// Seed of the random rows that centroids start from.
    pub seed: u64,
    /// Lists, 1 to 1048576; one for each 100 to 400 items do well. There may be a few more or fewer.
    pub lists: usize,
    /// Lists that a row probes on average, its own first; at least 1. Those of the warm start,
    /// which fills its top-k, count among them.
    pub probes: f64,
    /// Rounds of neighbour expansion after that; up to 64.
    pub rounds: usize,
    /// Probes further lists, as many as held-out rows need to reach this recall, and more again if
    /// other held-out rows then fall short; fewer, if a round of neighbour expansion before the last
    /// of them is enough. Their exact neighbours are computed first. Above 0, at most 1.
    pub until_recall: Option<f64>,
}

/// Parameters of [`JoinPlan::Lsh`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LshPlan {
    /// Seed of the random directions.
    pub seed: u64,
    /// Leading principal axes, in which directions are drawn; at least 1.
    pub axes: usize,
    /// k: sign bits of a table, 1 to 64.
    pub functions: usize,
    /// L: tables, 1 to 1024, made and dropped one after the other.
    pub tables: usize,
    /// Buckets of each table that a query probes, its own the first; 1 to 1024.
    pub probes: usize,
    /// Rounds of neighbour expansion after the tables; up to 64.
    pub rounds: usize,
    /// Goes on with another table and another round until held-out rows reach this recall. Their
    /// exact neighbours are computed first. Above 0, at most 1.
    pub until_recall: Option<f64>,
}

impl PartitionPlan {
    /// From seed 0, without a recall to reach.
    pub const fn new(lists: usize, probes: f64) -> Self {
        Self {
            seed: 0,
            lists,
            probes,
            until_recall: None,
        }
    }

    /// The same with this seed.
    #[must_use]
    pub const fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same with this recall to reach; `None` for the probes as they are.
    #[must_use]
    pub fn until_recall(self, recall: impl Into<Option<f64>>) -> Self {
        let until_recall = recall.into();
        Self {
            until_recall,
            ..self
        }
    }
}

impl IvfPlan {
    /// From seed 0, without rounds and without a recall to reach.
    ///
    /// ```
    /// use lshjoin::IvfPlan;
    ///
    /// let plan = IvfPlan::new(1000, 12.5).seed(3).rounds(1);
    /// assert_eq!((plan.seed, plan.rounds, plan.until_recall), (3, 1, None));
    /// ```
    pub const fn new(lists: usize, probes: f64) -> Self {
        Self {
            seed: 0,
            lists,
            probes,
            rounds: 0,
            until_recall: None,
        }
    }

    /// The same with this seed.
    #[must_use]
    pub const fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same with so many rounds.
    #[must_use]
    pub const fn rounds(self, rounds: usize) -> Self {
        Self { rounds, ..self }
    }

    /// The same with this recall to reach; `None` for the probes as they are.
    #[must_use]
    pub fn until_recall(self, recall: impl Into<Option<f64>>) -> Self {
        let until_recall = recall.into();
        Self {
            until_recall,
            ..self
        }
    }
}

impl LshPlan {
    /// From seed 0, with one probe, without rounds and without a recall to reach.
    pub const fn new(axes: usize, functions: usize, tables: usize) -> Self {
        Self {
            seed: 0,
            axes,
            functions,
            tables,
            probes: 1,
            rounds: 0,
            until_recall: None,
        }
    }

    /// The same with this seed.
    #[must_use]
    pub const fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same with so many probes.
    #[must_use]
    pub const fn probes(self, probes: usize) -> Self {
        Self { probes, ..self }
    }

    /// The same with so many rounds.
    #[must_use]
    pub const fn rounds(self, rounds: usize) -> Self {
        Self { rounds, ..self }
    }

    /// The same with this recall to reach; `None` for tables and rounds as they are.
    #[must_use]
    pub fn until_recall(self, recall: impl Into<Option<f64>>) -> Self {
        let until_recall = recall.into();
        Self {
            until_recall,
            ..self
        }
    }
}

// Plans come from anywhere: none may keep a join busy without end.
pub(crate) const MOST_LISTS: usize = 1 << 20;
pub(crate) const MOST_TABLES: usize = 1024;
const MOST_ROUNDS: usize = 64;

impl JoinPlan {
    /// Checks that all numbers are in range. [`KnnJoin`](crate::KnnJoin) does so first.
    ///
    /// # Errors
    /// When one is not.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Exact => Ok(()),
            Self::Lsh(plan) => plan.check(),
            Self::Ivf(plan) if plan.rounds > MOST_ROUNDS => {
                Err(Error::parameter("rounds", "at most 64", plan.rounds))
            }
            Self::Ivf(plan) => check_lists(plan.lists, plan.probes, plan.until_recall),
            Self::Partitions(plan) => check_lists(plan.lists, plan.probes, plan.until_recall),
        }
    }
}

impl JoinPlan {
    /// The plan for a share of the items that it was made for: the number of lists goes with that
    /// of items.
    pub(crate) fn for_fewer(self, share: f64) -> Self {
        match self {
            Self::Ivf(plan) if share < 1.0 => Self::Ivf(IvfPlan {
                lists: ((plan.lists as f64 * share) as usize).max(1),
                ..plan
            }),
            plan => plan,
        }
    }

    /// The plan with another recall to reach: what `recall` makes of its own.
    pub(crate) fn until(self, recall: impl Fn(f64) -> f64) -> Self {
        match self {
            Self::Exact => self,
            Self::Lsh(plan) => Self::Lsh(LshPlan {
                until_recall: plan.until_recall.map(recall),
                ..plan
            }),
            Self::Ivf(plan) => Self::Ivf(IvfPlan {
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

/// A row is compared with about so many lists where these are in groups: no more are one group.
pub(crate) const LISTS_OF_ROW: usize = 4096;

/// With about how many of so many lists a row is compared.
pub(crate) fn lists_of_row(lists: usize) -> usize {
    lists.min(LISTS_OF_ROW)
}

/// Lists of a group, at least, where there are several groups.
const LISTS_OF_GROUP: f64 = 64.0;

/// Lists of a group, at most: where all rows are in one, as equal rows are, more lists would only be
/// more to compare them with.
pub(crate) const MOST_OF_GROUP: usize = 4096;

/// The usual number of lists for so many rows: each is compared with all lists, and with the rows of
/// a few. Of sentence embeddings 117,659 did best with some 600, a million with some 2200.
pub(crate) fn lists_for(rows: usize) -> usize {
    // The power 5/8: roots are rounded alike on every machine.
    let root = (rows as f64).sqrt();
    ((0.4 * root * root.sqrt().sqrt()) as usize).clamp(1, MOST_LISTS)
}

/// How many groups so many lists are learnt in.
pub(crate) fn groups_of(lists: usize) -> usize {
    match lists {
        ..=LISTS_OF_ROW => 1,
        _ => {
            let lists = lists as f64;
            (lists / LISTS_OF_GROUP.max(lists.sqrt() / 2.0)) as usize
        }
    }
}

/// So many lists on average, in hundredths: no fewer, and few digits to save and to show.
pub(crate) fn as_probes(average: f64) -> f64 {
    ((100.0 * average).ceil() / 100.0).max(1.0)
}

/// The least margin with which `rows` probe so many lists on average, of the margins of all lists that
/// they may probe; 0 of none.
pub(crate) fn margin_of_probes(margins: &mut [f32], rows: usize, probes: f64) -> f32 {
    let lists = (rows as f64 * probes).round() as usize;
    let last = lists.min(margins.len()).saturating_sub(1);
    match margins.is_empty() {
        true => 0.0,
        false => *margins.select_nth_unstable_by(last, f32::total_cmp).1,
    }
}

fn check_lists(lists: usize, probes: f64, until: Option<f64>) -> Result<()> {
    if !(1..=MOST_LISTS).contains(&lists) {
        return Err(Error::parameter("lists", "1 to 1048576", lists));
    }
    if !(1.0..f64::INFINITY).contains(&probes) {
        return Err(Error::parameter("probes", "at least 1", probes));
    }
    until.map_or(Ok(()), |recall| check_recall("until_recall", recall))
}

impl LshPlan {
    fn check(&self) -> Result<()> {
        match *self {
            Self { axes: 0, .. } => Err(Error::parameter("axes", "at least 1", 0)),
            Self { tables, .. } if !(1..=MOST_TABLES).contains(&tables) => {
                Err(Error::parameter("tables", "1 to 1024", tables))
            }
            Self { rounds, .. } if rounds > MOST_ROUNDS => {
                Err(Error::parameter("rounds", "at most 64", rounds))
            }
            Self { functions, .. } if !(1..=64).contains(&functions) => {
                Err(Error::parameter("functions", "1 to 64", functions))
            }
            // A table holds an entry for each probe of each query.
            Self { probes, .. } if !(1..=1024).contains(&probes) => {
                Err(Error::parameter("probes", "1 to 1024", probes))
            }
            Self { until_recall, .. } => {
                until_recall.map_or(Ok(()), |recall| check_recall("until_recall", recall))
            }
        }
    }
}
