//! Half precision, on its way in.

use half::{f16, slice::HalfFloatSliceExt};

use crate::base::{error::Result, memory};

/// Widens half precision to single, exactly, with the machine's own conversion where it has one.
///
/// ```
/// use half::f16;
/// use lshjoin_kernels::widen_f16;
///
/// assert_eq!(widen_f16(&[f16::from_f32(1.5), f16::NEG_ZERO])?, [1.5, -0.0]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`Memory`](crate::KernelError::Memory).
pub fn widen_f16(values: &[f16]) -> Result<Vec<f32>> {
    let mut wide = memory::zeroed(values.len(), "widened vectors")?;
    values.convert_to_f32_slice(&mut wide);
    Ok(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for (half, wide) in halves.iter().zip(widen_f16(&halves).unwrap()) {
            let expected = half.to_f32();
            assert!(
                expected.is_nan() && wide.is_nan() || expected.to_bits() == wide.to_bits(),
                "{half:?} became {wide}"
            );
        }
    }
}
