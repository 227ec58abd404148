//! Left rows beside the rows of up to four groups: one file an instruction set.
//!
//! In `core::arch` rather than pulp, which does not count bits. Start with `scalar`, the reference.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

#[cfg(target_arch = "x86_64")]
use super::right::LANES;
use super::{
    near::{DifferenceLimit, GROUPS},
    right::Line,
};
use crate::base::isa::{Isa, Level};

/// What there is to compare.
pub(super) struct Scan<'a> {
    /// Words of a row.
    pub(super) width: usize,
    /// Those of all left rows.
    pub(super) left: &'a [u32],
    /// The left rows that are meant.
    pub(super) chosen: &'a [u32],
    /// Of each of these.
    pub(super) limits: &'a [DifferenceLimit],
    /// Of one to four groups of right rows, whose lines are as many as a row has words.
    pub(super) lines: &'a [Line],
    /// Set bits of the rows of each group.
    pub(super) populations: &'a [Line<f32>],
    /// A bit for each right row that there is.
    pub(super) filled: u64,
}

/// Hands over each of the chosen rows that is near some right row: where it is among them, a bit for
/// each row that is near, and in how many bits it differs from each. `rising` unless all slopes are 0.
pub(super) fn scan(
    block: &Scan<'_>,
    rising: bool,
    isa: Isa,
    found: impl FnMut(usize, u64, &[Line; GROUPS]),
) {
    /// Calls the function for as many groups as there are, compiled for their number.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    macro_rules! by_groups {
        ($isa:ident) => {
            match (block.populations.len(), rising) {
                (1, false) => $isa::scan::<1, false, _>(block, found),
                (2, false) => $isa::scan::<2, false, _>(block, found),
                (3, false) => $isa::scan::<3, false, _>(block, found),
                (_, false) => $isa::scan::<4, false, _>(block, found),
                (1, true) => $isa::scan::<1, true, _>(block, found),
                (2, true) => $isa::scan::<2, true, _>(block, found),
                (3, true) => $isa::scan::<3, true, _>(block, found),
                (_, true) => $isa::scan::<4, true, _>(block, found),
            }
        };
    }
    match isa.level() {
        // SAFETY: the machine has these instructions, and `near_bits` has checked rows and groups.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vnni | Level::Amx if isa.counts_bits() => unsafe {
            by_groups!(avx512)
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 | Level::Avx512Vnni | Level::Amx => unsafe { by_groups!(avx2) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDot => unsafe { by_groups!(neon) },
        _ => scalar::scan(block, found),
    }
}

impl Scan<'_> {
    /// The words of a left row.
    fn row(&self, row: u32) -> &[u32] {
        &self.left[row as usize * self.width..][..self.width]
    }
}
