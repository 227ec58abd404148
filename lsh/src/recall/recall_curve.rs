//! Recall as it depends on how far rows probe, by rows whose neighbours are known.

use crate::base::report::reaches_confidently;

/// For each of some rows and each of its neighbours, how far the row has to probe to find it: a
/// squared distance between centroids, or by how much it exceeds the least one.
pub(crate) struct RecallCurve(pub(crate) Vec<Vec<f32>>);

impl RecallCurve {
    /// The least reach with which these rows confirm `recall`. Where they are too few to confirm it
    /// whatever they find, that with which they find all.
    pub(crate) fn threshold_for(&self, recall: f64) -> f32 {
        let mut reaches: Vec<f32> = self.0.iter().flatten().copied().collect();
        reaches.sort_unstable_by(f32::total_cmp);
        let first =
            reaches.partition_point(|&reach| !reaches_confidently(recall, self.found(reach)));
        let reach = reaches.get(first).or(reaches.last());
        reach.copied().unwrap_or(f32::INFINITY)
    }

    /// The share of its neighbours that each row finds with this reach; what is infinitely far it
    /// never does.
    pub(crate) fn found(&self, reach: f32) -> impl Iterator<Item = f64> {
        self.0.iter().map(move |needed| {
            let found = needed
                .iter()
                .filter(|&&other| other <= reach && other < f32::INFINITY);
            let found = found.count();
            found as f64 / needed.len().max(1) as f64
        })
    }
}
