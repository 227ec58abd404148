//! Locality-sensitive hashing: rows to bucket ids, sets to least values, and the ids of a table to a
//! 128-bit key.
//!
//! May use `base`, `simd`, `rows` and `distances`. Start with `functions`, which takes a block of rows
//! through all steps while the cache holds it: `projection` on random directions, `floor` to bucket
//! ids by the rule in `bucketing`, and packing by the layout in `key`. `tolerance` says when rounding
//! can't have changed an id. `min_hash` is for sets.

pub(crate) mod bucketing;
mod floor;
pub(crate) mod functions;
pub(crate) mod key;
pub(crate) mod min_hash;
mod projection;
mod tolerance;
