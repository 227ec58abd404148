//! How far rows whose neighbours are known have to look to find them.

use crate::base::report::reaches_confidently;

/// For each of some rows, how far, squared, the lists of its neighbours are from its own.
pub(crate) struct RecallCurve(pub(crate) Vec<Vec<f32>>);

impl RecallCurve {
    /// The least reach with which these rows confirm `recall`; what they all need where they are too
    /// few to confirm it whatever they find.
    pub(crate) fn threshold_for(&self, recall: f64) -> f32 {
        let mut reaches: Vec<f32> = self.0.iter().flatten().copied().collect();
        reaches.sort_unstable_by(f32::total_cmp);
        let first =
            reaches.partition_point(|&reach| !reaches_confidently(recall, self.found(reach)));
        let reach = reaches.get(first).or(reaches.last());
        reach.copied().unwrap_or(f32::INFINITY)
    }

    /// The share of its neighbours that each row finds.
    pub(crate) fn found(&self, reach: f32) -> impl Iterator<Item = f64> {
        self.0.iter().map(move |needed| {
            let found = needed.iter().filter(|&&other| other <= reach).count();
            found as f64 / needed.len().max(1) as f64
        })
    }
}
