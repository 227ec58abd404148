//! What a Rust user calls. Uses every other layer; nothing uses it. Begin with [`knn`].

pub(crate) mod binary;
pub(crate) mod knn;
pub(crate) mod radius;
pub(crate) mod suggest;
