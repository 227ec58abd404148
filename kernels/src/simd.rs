//! The same loop, compiled for every instruction set.
//!
//! May use `base`. Start with `dispatch`, the one place where an instruction set is chosen; `vectors`
//! has the arithmetic that the loops are written in, and `lanes` the order in which sums are added up,
//! which is what makes answers equal on all machines.

pub(crate) mod bits;
pub(crate) mod dispatch;
pub(crate) mod lanes;
pub(crate) mod prefetch;
pub(crate) mod vectors;
