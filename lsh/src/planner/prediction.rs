//! What the planner says of a plan, and of those that it was chosen from.

use serde::{Deserialize, Serialize};

use crate::{
    base::{plan::JoinPlan, report::Estimate},
    planner::cost_model::Workload,
};

/// A plan, and what to expect of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PredictedPlan {
    /// What to do.
    #[serde(flatten)]
    pub plan: JoinPlan,
    /// What to expect of it; `None` if no planner has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Prediction>,
}

/// What the planner expects of a plan, on the machine that it ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Prediction {
    /// The recall, measured on sampled rows that were not used to choose the plan.
    pub recall: Estimate,
    /// Pairs compared, as a share of the pairs of a query and an item.
    pub share: f64,
    /// Seconds that the join takes.
    pub seconds: f64,
    /// Peak memory beside the rows themselves, in bytes.
    pub bytes: u64,
    /// How many times as far as its k-th neighbour a random item is, by the medians of sampled
    /// rows: near 1, no index can tell near from far. `None` where no sample was taken, or half of
    /// the neighbours are at distance 0.
    pub contrast: Option<f64>,
    /// Why this plan and no other.
    pub why: String,
}

/// What the planner considered, from [`KnnJoin::study`](crate::KnnJoin::study).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PlanStudy {
    /// The plan of the least predicted time.
    pub chosen: PredictedPlan,
    /// The recall and time of the settings considered, the chosen one among them.
    pub considered: Vec<Setting>,
    /// Distances of sampled queries to their k-th neighbours.
    pub near: Vec<f64>,
    /// Distances of the same queries to random items.
    pub random: Vec<f64>,
}

/// A setting that the planner considered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// The setting as a plan.
    pub plan: JoinPlan,
    /// Recall on sampled rows that were not used to choose.
    pub recall: f64,
    /// Share of the pairs that it compares.
    pub share: f64,
    /// Predicted seconds.
    pub seconds: f64,
}

impl Prediction {
    /// What comparing all pairs comes to.
    pub(crate) fn exact(workload: &Workload, seconds: f64) -> Self {
        Self {
            recall: Estimate::EXACT,
            share: workload.exact_pairs() / workload.pairs().max(1.0),
            seconds,
            bytes: workload.bytes(0, 0.0),
            contrast: None,
            why: String::new(),
        }
    }

    /// The same as one of the settings considered.
    pub(crate) fn setting(&self, plan: JoinPlan) -> Setting {
        Setting {
            plan,
            recall: self.recall.value,
            share: self.share,
            seconds: self.seconds,
        }
    }

    /// The plan with this prediction.
    pub(crate) fn of(self, plan: JoinPlan) -> PredictedPlan {
        PredictedPlan {
            plan,
            predicted: Some(self),
        }
    }
}
