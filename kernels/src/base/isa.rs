//! Which instruction set the kernels run on: detected once, forced by `LSHJOIN_ISA` or per call.
//!
//! An [`Isa`] can only be made for an instruction set that the machine has, so a kernel that is
//! handed one may use it without checking again.

use std::{fmt, str::FromStr, sync::OnceLock};

use super::error::{KernelError, Result};

/// An instruction set that this machine has.
///
/// ```
/// use lshjoin_kernels::Isa;
///
/// let isa = Isa::best();
/// assert!(Isa::available().contains(&isa));
/// assert_eq!("scalar".parse::<Isa>()?, Isa::SCALAR);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Isa(Level);

/// The instruction sets that kernels are written for, weakest first within an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// Portable Rust, the reference for all others.
    Scalar,
    /// x86-64 AVX2 and FMA.
    Avx2,
    /// The above and AVX-VNNI: 8-bit dot products without AVX-512, as laptops have them.
    AvxVnni,
    /// x86-64 AVX-512 F, BW, CD, DQ and VL.
    Avx512,
    /// The above and AVX-512 VNNI: 8-bit dot products.
    Avx512Vnni,
    /// The above and AMX-INT8: 8-bit matrix tiles.
    Amx,
    /// AArch64 NEON.
    Neon,
    /// The above and the dot-product extension: 8-bit dot products.
    NeonDot,
    /// The above and the extension for products of 8-bit matrices, as server cores have since 2021 and
    /// Apple's since the M2.
    NeonI8mm,
}

impl Level {
    /// All of them, in order.
    pub const ALL: [Level; 9] = [
        Level::Scalar,
        Level::Avx2,
        Level::AvxVnni,
        Level::Avx512,
        Level::Avx512Vnni,
        Level::Amx,
        Level::Neon,
        Level::NeonDot,
        Level::NeonI8mm,
    ];

    /// The name used in `LSHJOIN_ISA` and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::AvxVnni => "avxvnni",
            Level::Avx512 => "avx512",
            Level::Avx512Vnni => "avx512vnni",
            Level::Amx => "amx",
            Level::Neon => "neon",
            Level::NeonDot => "neondot",
            Level::NeonI8mm => "neoni8mm",
        }
    }

    fn is_detected(self) -> bool {
        match self {
            Level::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => pulp::x86::V3::is_available(),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => Level::Avx2.is_detected() && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => pulp::x86::V4::is_available(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => {
                Level::Avx512.is_detected() && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx => Level::Avx512Vnni.is_detected() && super::amx::permitted(),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => pulp::aarch64::Neon::is_available(),
            #[cfg(target_arch = "aarch64")]
            Level::NeonDot => {
                Level::Neon.is_detected() && std::arch::is_aarch64_feature_detected!("dotprod")
            }
            #[cfg(target_arch = "aarch64")]
            Level::NeonI8mm => {
                Level::NeonDot.is_detected() && std::arch::is_aarch64_feature_detected!("i8mm")
            }
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }
}

impl Isa {
    /// Portable Rust, on every machine.
    pub const SCALAR: Isa = Isa(Level::Scalar);

    /// Every instruction set of this machine, weakest first.
    pub fn available() -> &'static [Isa] {
        static AVAILABLE: OnceLock<Vec<Isa>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            Level::ALL
                .into_iter()
                .filter(|level| level.is_detected())
                .map(Isa)
                .collect()
        })
    }

    /// The strongest instruction set of this machine.
    pub fn best() -> Isa {
        Self::available().last().copied().unwrap_or(Isa::SCALAR)
    }

    /// The instruction set that `LSHJOIN_ISA` names or, where that is unset or empty, the best.
    ///
    /// # Errors
    /// When the variable names no instruction set, or one that the machine lacks.
    pub fn from_env() -> Result<Isa> {
        static CHOSEN: OnceLock<Result<Isa>> = OnceLock::new();
        CHOSEN
            .get_or_init(|| match std::env::var("LSHJOIN_ISA") {
                Ok(name) if !name.trim().is_empty() => name.parse(),
                _ => Ok(Isa::best()),
            })
            .clone()
    }

    /// Whether AVX-512 VPOPCNTDQ is among the instructions: not with every level from AVX-512 on, and no
    /// level of its own, since it makes a difference to packed bits only.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn counts_bits(self) -> bool {
        self.0 >= Level::Avx512 && is_x86_feature_detected!("avx512vpopcntdq")
    }

    /// The level, for `match`ing on.
    pub fn level(self) -> Level {
        self.0
    }
}

impl FromStr for Isa {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Isa> {
        let asked = name.trim().to_ascii_lowercase();
        let list = |names: Vec<&str>| names.join(", ");
        let Some(level) = Level::ALL.into_iter().find(|level| level.name() == asked) else {
            return Err(KernelError::IsaUnknown {
                asked: name.to_owned(),
                known: list(Level::ALL.iter().map(|level| level.name()).collect()),
            });
        };
        let isa = Isa(level);
        if Self::available().contains(&isa) {
            Ok(isa)
        } else {
            Err(KernelError::IsaUnavailable {
                asked,
                available: list(Self::available().iter().map(|isa| isa.0.name()).collect()),
            })
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Isa({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that a run that names an instruction set has tested it, and not skipped it as missing.
    #[test]
    fn what_the_environment_asks_for_is_here() {
        let asked = std::env::var("LSHJOIN_ISA").unwrap_or_default();
        let isa = Isa::from_env().unwrap();
        assert!(Isa::available().contains(&isa));
        if asked.trim().is_empty() {
            assert_eq!(isa, Isa::best());
        } else {
            assert_eq!(isa.to_string(), asked.trim().to_ascii_lowercase());
        }
    }
}
