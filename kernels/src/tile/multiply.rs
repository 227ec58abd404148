//! The dot products of a block of 32 × 32 rows of codes: one file an instruction set.
//!
//! In `core::arch` and `asm!` rather than pulp, which has no dot products of 8-bit integers, nor AMX
//! tiles. May use `block` and what that uses. Start with `scalar`, the reference.

#[cfg(target_arch = "x86_64")]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512vnni;
#[cfg(target_arch = "x86_64")]
pub(super) mod avxvnni;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
#[cfg(target_arch = "aarch64")]
pub(super) mod neondot;
#[cfg(target_arch = "aarch64")]
pub(super) mod neoni8mm;
pub(super) mod scalar;
