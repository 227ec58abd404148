//! MinHash: sets, their hash functions, and joins of them by Jaccard distance. Begin with [`model`].

pub(crate) mod model;
pub(crate) mod nearest;
pub(crate) mod sets;
pub(crate) mod similarity;
