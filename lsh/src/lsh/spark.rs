//! What is Spark's to the bit.

pub(crate) mod java_random;
pub(crate) mod strict_math;
