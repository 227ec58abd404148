//! Rows made ready to be compared: 8-bit codes, norms, duplicates, principal axes, and what reduces
//! inner products to distances. Uses [`base`](crate::base); begin with [`vectors`].

pub(crate) mod augment;
pub(crate) mod duplicates;
pub(crate) mod grid;
pub(crate) mod interval;
pub(crate) mod norms;
pub(crate) mod principal_axes;
pub(crate) mod row_source;
pub(crate) mod vectors;
