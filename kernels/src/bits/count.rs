//! Left rows beside the rows of up to four groups: one file an instruction set.
//!
//! In `core::arch` rather than pulp, which does not count bits. May use `block` and what that uses. Start
//! with `scalar`, the reference.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod scalar;
