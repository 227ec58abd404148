//! Nearest-neighbour and similarity joins of embeddings by locality-sensitive hashing.
//!
//! A [`HashFamily`] draws hash functions `h`; a table combines k of them by AND (`g`), a model L
//! tables by OR. [`LshModel`] is Spark's `BucketedRandomProjectionLSH` (k = 1) and more;
//! [`knn_join`] and [`radius_join`] join two arrays; [`plan_knn_join`] finds the quickest way to a
//! recall; [`radius_join_batches`] is for results that need not fit in memory. Work is spread over the
//! rayon pool that a call is made in; [`Run`] watches and cancels it.
//!
//! ```
//! use lshjoin::{BucketedRandomProjection, LshModel, Rows, Run};
//!
//! let a = Rows::new(&[1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, 1.0], 2)?;
//! let b = Rows::new(&[1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0], 2)?;
//! let run = Run::new()?;
//! let family = BucketedRandomProjection { bucket_length: 2.0 };
//! let model = LshModel::fit(&family, a, 1, 3, 12345, &run)?;
//! let pairs = model.similarity_join(a, Some(b), 1.5, &run)?;
//! assert!(pairs.distances.iter().all(|&distance| distance == 1.0));
//! # Ok::<(), lshjoin::Error>(())
//! ```

mod batches;
mod cells;
mod costs;
mod desks;
mod directions;
mod duplicates;
mod error;
mod family;
mod filling;
mod held_out;
mod in_order;
mod index;
mod inner_product;
mod java_random;
mod knn;
mod knn_join;
mod leading;
mod magnitude;
mod margins;
mod median;
mod meet;
mod metric;
mod model;
mod nearest;
mod needed;
mod plan;
mod planner;
mod probe;
mod reach;
mod report;
mod run;
mod side;
mod signs;
mod similarity;
mod sorted;
mod strict_math;
mod suggest;
mod table;
mod visits;

pub use error::{Error, Result};
pub use family::{BucketedRandomProjection, CauchyProjection, HashFamily, RandomHyperplanes};
pub use index::{Index, IndexBuilder, IndexInfo};
pub use knn_join::{knn_join, knn_join_for_recall};
pub use lshjoin_kernels::{
    Bucketing, HashFunctions, Isa, KernelError, KeyLayout, KeyMode, Rows, Scalar, memory,
    widen_f16,
};
pub use metric::Metric;
pub use model::LshModel;
pub use nearest::Neighbors;
pub use plan::{CellPlan, JoinPlan, LshPlan, PartitionPlan};
pub use planner::{PlanStudy, PredictedPlan, Prediction, Setting, plan_knn_join};
pub use probe::{Crossing, Prober};
pub use report::{Estimate, Report};
pub use run::Run;
pub use similarity::{JoinedPairs, RadiusNeighbors, radius_join, radius_join_batches};
pub use suggest::{NearRows, Suggestion, suggest};
