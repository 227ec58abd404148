//! What all layers share: errors, metrics, keys, plans as values, the context of a call, and checks of
//! what a caller passes. Uses nothing but `lshjoin_kernels`; begin with [`context`].

pub(crate) mod check;
pub(crate) mod context;
pub(crate) mod counting_sort;
pub(crate) mod error;
pub(crate) mod input;
pub(crate) mod keys;
pub(crate) mod magnitude;
pub(crate) mod median;
pub(crate) mod metric;
pub(crate) mod per_thread;
pub(crate) mod plan;
pub(crate) mod random;
pub(crate) mod report;
pub(crate) mod sampling;

/// How an out-of-memory error names arrays of row numbers.
pub(crate) const ROW_NUMBERS: &str = "row numbers";
