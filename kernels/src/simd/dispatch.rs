//! The one place where an [`Isa`] becomes code compiled for it.

use pulp::{Simd, WithSimd};

use crate::base::isa::{Isa, Level};

/// Runs `op` compiled for `isa`; its `with_simd` must be `#[inline(always)]`.
///
/// An operation need not use pulp's vectors: plain loops over arrays of a fixed length are
/// vectorised by the compiler for whatever instruction set they are inlined into.
pub(crate) fn dispatch<Op: WithSimd>(isa: Isa, op: Op) -> Op::Output {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni => {
            if let Some(simd) = pulp::x86::V3::try_new() {
                return Simd::vectorize(simd, op);
            }
        }
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vnni | Level::Amx => {
            if let Some(simd) = pulp::x86::V4::try_new() {
                return Simd::vectorize(simd, op);
            }
        }
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDot | Level::NeonI8mm => {
            if let Some(simd) = pulp::aarch64::Neon::try_new() {
                return Simd::vectorize(simd, op);
            }
        }
        _ => {}
    }
    Simd::vectorize(pulp::Scalar::new(), op)
}

/// Runs `test` on every instruction set of this machine and names those that it lacks.
#[cfg(test)]
pub(crate) fn on_each_isa(test: impl Fn(Isa)) {
    for level in Level::ALL {
        match level.name().parse() {
            Ok(isa) => test(isa),
            Err(_) => println!("skipping {}: not on this machine", level.name()),
        }
    }
}
