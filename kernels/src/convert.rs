use half::{f16, slice::HalfFloatSliceExt};

/// Widens half precision to single, exactly, with the machine's own conversion where it has one.
///
/// ```
/// use half::f16;
/// use lshjoin_kernels::widen_f16;
///
/// assert_eq!(widen_f16(&[f16::from_f32(1.5), f16::NEG_ZERO]), [1.5, -0.0]);
/// ```
pub fn widen_f16(values: &[f16]) -> Vec<f32> {
    let mut wide = vec![0.0; values.len()];
    values.convert_to_f32_slice(&mut wide);
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly() {
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for (half, wide) in halves.iter().zip(widen_f16(&halves)) {
            let expected = half.to_f32();
            assert!(
                expected.is_nan() && wide.is_nan() || expected.to_bits() == wide.to_bits(),
                "{half:?} became {wide}"
            );
        }
    }
}
