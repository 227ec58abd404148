//! What share of the neighbours a join finds: rows whose exact neighbours are known, and what they
//! say of all rows. Uses [`pairs`](crate::pairs) and what is below it; begin with [`ground_truth`].

pub(crate) mod ground_truth;
pub(crate) mod others;
pub(crate) mod recall_curve;
