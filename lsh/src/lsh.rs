//! Locality-sensitive hashing: families of functions, models of tables, multi-probe, [`minhash`] for
//! sets, and the engine's own tables of sign bits. Uses [`pairs`](crate::pairs) and what is below it;
//! begin with [`family`], then [`model`].

pub(crate) mod family;
pub(crate) mod minhash;
pub(crate) mod model;
pub(crate) mod nearest;
pub(crate) mod probe;
pub(crate) mod sign_bits;
pub(crate) mod similarity;
pub(crate) mod spark;
pub(crate) mod table;
pub(crate) mod table_functions;
