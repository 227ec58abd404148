//! Recall as it depends on how far rows probe, by rows whose neighbours are known.

use crate::base::report::{Estimate, reaches_confidently};

/// For each of some rows and each of its neighbours, how far the row has to probe to find it: a
/// squared distance between centroids, or by how much it exceeds the least one.
pub(crate) struct RecallCurve(pub(crate) Vec<Vec<f32>>);

impl RecallCurve {
    /// The least threshold with which these rows confirm `recall`. Where they are too few to confirm
    /// it whatever they find, that with which they find all.
    pub(crate) fn threshold_for(&self, recall: f64) -> f32 {
        self.threshold(|threshold| reaches_confidently(recall, self.found(threshold)))
    }

    /// The least threshold with which these rows reach `recall`; so do all rows as likely as not.
    pub(crate) fn likely_threshold_for(&self, recall: f64) -> f32 {
        self.threshold(|threshold| Estimate::of(self.found(threshold)).value >= recall)
    }

    /// The least threshold that will do; the largest where none will.
    fn threshold(&self, will_do: impl Fn(f32) -> bool) -> f32 {
        let mut thresholds: Vec<f32> = self.0.iter().flatten().copied().collect();
        thresholds.sort_unstable_by(f32::total_cmp);
        let first = thresholds.partition_point(|&threshold| !will_do(threshold));
        let threshold = thresholds.get(first).or(thresholds.last());
        threshold.copied().unwrap_or(f32::INFINITY)
    }

    /// The share of its neighbours that each row finds with this threshold; what is infinitely far
    /// it never does.
    pub(crate) fn found(&self, threshold: f32) -> impl Iterator<Item = f64> {
        self.0.iter().map(move |distances| {
            let found = distances
                .iter()
                .filter(|&&other| other <= threshold && other < f32::INFINITY)
                .count();
            found as f64 / distances.len().max(1) as f64
        })
    }
}
