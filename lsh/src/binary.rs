//! Joins of packed bits by Hamming and Jaccard distance.
//!
//! All pairs are compared by counting the bits in which they differ, or those of a query and the
//! inverted lists near it, whose centroids are packed bits, too. Distances are exact as they are
//! compared, so that nothing is left to rerank. Uses `recall`, `pairs` and `base`; begin with [`knn`].

pub(crate) mod centroids;
pub(crate) mod knn;
pub(crate) mod lists;
pub(crate) mod metric;
pub(crate) mod radius;
pub(crate) mod sides;
pub(crate) mod top_k;
