//! What is Spark's to the bit: the random numbers and the logarithm of the JVM.

pub(crate) mod java_random;
pub(crate) mod strict_math;
