//! Two panels, and the walk over the blocks that their bands make.

use super::{
    band::{BLOCK, Bounds, Line},
    block::{Block, Multiply, Product, UNROLLED},
    multiply,
    packing::Packing,
    panel::{LeftPanel, Packed, RightPanel},
};
use crate::{
    base::{
        error::{KernelError, Result},
        isa::{Isa, Level},
    },
    codes::limits::rounding,
    rows::shape::check_len,
};

/// Bytes of right panel that are kept in the first-level cache while all left blocks pass by.
const CACHED: usize = 24 << 10;

/// Two panels for one instruction set and dimension.
pub(super) struct Panels<'a> {
    pub(super) left: &'a Packed,
    pub(super) right: &'a Packed,
    multiply: Multiply,
    /// Lines of a row, and units of it as blocks have them.
    lines: usize,
    units: usize,
    /// Relative error of a distance that is computed in single precision.
    pub(super) rounding: f64,
    #[cfg(target_arch = "x86_64")]
    _configured: Option<multiply::amx::Configured>,
}

impl<'a> Panels<'a> {
    /// `None` when there is nothing to multiply.
    pub(super) fn new(left: &'a LeftPanel, right: &'a RightPanel) -> Result<Option<Self>> {
        let (left, right) = (&left.0, &right.0);
        if left.isa != right.isa {
            return Err(KernelError::Packing {
                left: left.isa.level().name(),
                right: right.isa.level().name(),
            });
        }
        if left.bands.is_empty() || right.bands.is_empty() {
            return Ok(None);
        }
        check_len("a row of the right panel", right.dim, left.dim)?;
        let packing = Packing::of(left.isa);
        let units = left.dim.div_ceil(packing.codes_per_unit());
        Ok(Some(Self {
            left,
            right,
            multiply: kernel(left.isa),
            lines: packing.lines(left.dim),
            units: units.next_multiple_of(UNROLLED),
            rounding: rounding(left.dim),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this instruction set's `Isa` exists, so that the machine has it.
            _configured: (left.isa.level() == Level::Amx)
                .then(|| unsafe { multiply::amx::Configured::new() }),
        }))
    }

    /// How many right bands are to stay in the cache.
    pub(super) fn cached(&self) -> usize {
        (CACHED / (BLOCK * self.lines * size_of::<Line>())).max(1)
    }

    /// Multiplies two bands; whether some pair may be near.
    #[inline(always)]
    pub(super) fn multiply(
        &self,
        (left, left_bounds): (usize, &Bounds),
        (right, right_bounds): (usize, &Bounds),
        product: &mut Product,
    ) -> bool {
        let of_band = BLOCK * self.lines;
        let block = Block {
            left_band: &self.left.bands[left],
            right_band: &self.right.bands[right],
            left: self.left.lines[left * of_band..][..of_band].as_ptr(),
            right: self.right.lines[right * of_band..][..of_band].as_ptr(),
            lines: self.lines,
            units: self.units,
        };
        let left = (left, block.left_band, left_bounds);
        product
            .thresholds
            .set(left, (block.right_band, right_bounds));
        // SAFETY: the machine has the panels' instruction set, or there would be no `Isa` of it,
        // and both pointers are to a whole band.
        let near = unsafe { (self.multiply)(&block, product) };
        debug_assert_eq!(near, product.masks != [0; BLOCK]);
        near
    }
}

/// The kernel for an instruction set.
fn kernel(isa: Isa) -> Multiply {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => multiply::avx2::multiply,
        #[cfg(target_arch = "x86_64")]
        Level::AvxVnni => multiply::avxvnni::multiply,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => multiply::avx512::multiply,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni => multiply::avx512vnni::multiply,
        #[cfg(target_arch = "x86_64")]
        Level::Amx => multiply::amx::multiply,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => multiply::neon::multiply,
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot => multiply::neondot::multiply,
        #[cfg(target_arch = "aarch64")]
        Level::NeonI8mm => multiply::neoni8mm::multiply,
        _ => multiply::scalar::multiply,
    }
}
