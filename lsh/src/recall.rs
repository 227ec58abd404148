//! What share of the neighbours a join finds: rows whose exact neighbours are known, and curves over
//! them. Uses [`pairs`](crate::pairs); begin with [`ground_truth`].

pub(crate) mod ground_truth;
pub(crate) mod others;
pub(crate) mod recall_curve;
