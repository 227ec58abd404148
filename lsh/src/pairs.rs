//! Pairs of rows: tiles that compare codes, sinks that keep what is near, lists of the nearest, and
//! results in order. Every join is made of these. Uses [`vectors`](crate::vectors) and
//! [`base`](crate::base); begin with [`tile_join`].

pub(crate) mod apart;
pub(crate) mod batches;
pub(crate) mod by_sorting;
pub(crate) mod code_join;
pub(crate) mod code_lists;
pub(crate) mod groups;
pub(crate) mod ordered;
pub(crate) mod results;
pub(crate) mod threshold;
pub(crate) mod tile_join;
pub(crate) mod top_k;
pub(crate) mod top_k_join;
pub(crate) mod top_k_lists;
