//! Nearest-neighbour and similarity joins of embeddings, on CPUs.
//!
//! Two engines. By LSH with Spark's semantics: a [`HashFamily`] draws hash functions; a table
//! combines k of them by AND, an [`LshModel`] L tables by OR. With k = 1 that is Spark's
//! `BucketedRandomProjectionLSH`; [`suggest`] finds the parameters. [`MinHashModel`] is the same for
//! [`Sets`] and their Jaccard distance. By recall: [`KnnJoin`] joins
//! two arrays, or one with itself, by inverted lists over a coarse quantiser, 8-bit codes, and
//! exact distances at the end. [`RadiusJoin`] compares all pairs, by codes first. [`BinaryKnnJoin`] and
//! [`BinaryRadiusJoin`] are the same for packed bits. [`Index`] keeps
//! items ready, in memory or on disk, and [`BinaryIndex`] those of packed bits.
//!
//! Work is spread over the rayon pool that a call is made in. A [`Context`] tells how far it is,
//! cancels it and has its report.
//!
//! Folders are layers, each of which uses only those below it: `api` (what you call), `index`,
//! `join`, `planner`, `ivf`, `lsh`, `binary`, `recall`, `pairs`, `storage`, `vectors`, `base`. To read how a
//! join works, begin with `join::knn`.
//!
//! ```
//! use lshjoin::{BucketedRandomProjection, LshModel, Rows, Context};
//!
//! let a = Rows::new(&[1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0, 1.0], 2)?;
//! let b = Rows::new(&[1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0], 2)?;
//! let ctx = Context::new()?;
//! let family = BucketedRandomProjection { bucket_length: 2.0 };
//! let model = LshModel::fit(&family, a, 1, 3, 12345, &ctx)?;
//! let pairs = model.similarity_join(a, Some(b), 1.5, &ctx)?;
//! assert!(pairs.distances.iter().all(|&distance| distance == 1.0));
//! # Ok::<(), lshjoin::Error>(())
//! ```

mod api;
mod base;
mod binary;
mod index;
mod ivf;
mod join;
mod lsh;
mod pairs;
mod planner;
mod recall;
mod storage;
mod vectors;

pub use api::binary::{BinaryKnnJoin, BinaryRadiusJoin};
pub use api::knn::{KnnJoin, KnnJoined};
pub use api::radius::RadiusJoin;
pub use api::suggest::{NearRows, Suggestion, suggest};
pub use base::context::Context;
pub use base::error::{Error, Result, SystemError};
pub use base::keys::{Keys, NO_KEY};
pub use base::metric::{Distance, Metric};
pub use base::plan::{IvfPlan, JoinPlan, LshPlan, PartitionPlan};
pub use base::report::{Estimate, Report};
pub use binary::metric::BinaryMetric;
pub use index::binary::{BinaryIndex, BinaryIndexInfo};
pub use index::builder::IndexBuilder;
pub use index::file_join::{FileJoin, InMemory, OutOfCore};
pub use index::{Index, IndexInfo};
pub use ivf::{list_router::ListRouter, routing_space::JoinSide};
pub use lsh::family::{BucketedRandomProjection, CauchyProjection, HashFamily, RandomHyperplanes};
pub use lsh::minhash::model::MinHashModel;
pub use lsh::minhash::sets::{Sets, token_index};
pub use lsh::model::LshModel;
pub use lsh::probe::Prober;
pub use lshjoin_kernels::{
    Bucketing, HashFunctions, Isa, KernelError, KeyLayout, KeyMode, Narrow, Rows, Scalar, memory,
};
pub use pairs::results::{JoinedPairs, Neighbors, RadiusNeighbors};
pub use planner::prediction::{PlanStudy, PredictedPlan, Prediction, Setting};
