//! The numbers that rows are made of.

use std::ops::{Add, Mul, Sub};

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use half::slice::HalfFloatSliceExt;

use super::narrow::Narrow;
use crate::simd::vectors::Vectors;

/// The numbers that vectors are computed with: `f32` and `f64`.
///
/// They may be kept as [narrower](Narrow) ones.
pub trait Scalar:
    Vectors
    + bytemuck::Pod
    + Send
    + Sync
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + std::fmt::Debug
    + 'static
{
    /// Positive zero.
    const ZERO: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// The largest number.
    const LARGEST: f64;
    /// Half the distance between 1 and the next number: the relative rounding error.
    const UNIT_ROUNDOFF: f64;
    /// A norm that can be squared without underflow; smaller ones are taken for it in bounds.
    const TINY_NORM: f64;
    /// 1.5 · 2^(mantissa bits). Added to a number below [`Scalar::SHIFT_LIMIT`], it rounds that to the
    /// nearest integer and leaves it in the low bits; taken away again, it leaves it as a number.
    #[doc(hidden)]
    const SHIFT: Self;
    /// The low 32 bits of [`Scalar::SHIFT`].
    #[doc(hidden)]
    const SHIFT_BITS: u32;
    /// Numbers from here on are not rounded to a 32-bit integer by adding [`Scalar::SHIFT`].
    #[doc(hidden)]
    const SHIFT_LIMIT: f64;

    /// Widens to double precision, exactly.
    fn to_f64(self) -> f64;
    /// Rounds from double precision.
    fn from_f64(value: f64) -> Self;
    /// The value without its sign.
    fn abs(self) -> Self;
    /// The square root, correctly rounded.
    fn sqrt(self) -> Self;
    /// Whether the value is neither NaN nor infinite.
    fn is_finite(self) -> bool;
    /// Sets `to` to as many narrow values, exactly.
    #[doc(hidden)]
    fn widen(values: Narrow<'_>, to: &mut [Self]);
    /// The lowest bits.
    #[doc(hidden)]
    fn low_byte(self) -> i8;
    /// Whichever slice is of this type.
    #[doc(hidden)]
    fn pick<'a>(single: &'a [f32], double: &'a [f64]) -> &'a [Self];
    /// Sets `out` to a matrix product, on this thread.
    #[doc(hidden)]
    fn gemm(out: MatMut<'_, Self>, left: MatRef<'_, Self>, right: MatRef<'_, Self>);
}

/// A loop that the compiler vectorises for the instruction set that it is inlined into.
#[inline(always)]
fn convert<N: Copy, T>(values: &[N], to: &mut [T], widened: impl Fn(N) -> T) {
    for (to, &value) in to.iter_mut().zip(values) {
        *to = widened(value);
    }
}

macro_rules! scalar {
    ($float:ident, halves: $widen_halves:ident, pick: ($single:pat, $double:pat) => $picked:ident, tiny_norm: $tiny_norm:expr, shift: $shift:expr, limit: $limit:expr) => {
        impl Scalar for $float {
            const ZERO: Self = 0.0;
            const INFINITY: Self = $float::INFINITY;
            const LARGEST: f64 = $float::MAX as f64;
            const UNIT_ROUNDOFF: f64 = $float::EPSILON as f64 / 2.0;
            const TINY_NORM: f64 = $tiny_norm;
            const SHIFT: Self = $shift;
            const SHIFT_BITS: u32 = Self::SHIFT.to_bits() as u32;
            const SHIFT_LIMIT: f64 = $limit;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $float::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $float::sqrt(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $float::is_finite(self)
            }
            #[inline(always)]
            fn widen(values: Narrow<'_>, to: &mut [Self]) {
                match values {
                    Narrow::U8(values) => convert(values, to, $float::from),
                    Narrow::I8(values) => convert(values, to, $float::from),
                    // By the machine's own conversion, where it has one.
                    Narrow::F16(values) => values.$widen_halves(to),
                    Narrow::Bf16(values) => convert(values, to, |value| {
                        f32::from_bits(u32::from(value.to_bits()) << 16).into()
                    }),
                }
            }
            #[inline(always)]
            fn low_byte(self) -> i8 {
                self.to_bits() as i8
            }
            #[inline(always)]
            fn pick<'a>($single: &'a [f32], $double: &'a [f64]) -> &'a [Self] {
                $picked
            }
            fn gemm(out: MatMut<'_, Self>, left: MatRef<'_, Self>, right: MatRef<'_, Self>) {
                matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
            }
        }
    };
}

scalar!(
    f32,
    halves: convert_to_f32_slice,
    pick: (single, _) => single,
    tiny_norm: 1e-15,
    shift: 12_582_912.0,
    limit: 4_194_303.0
);
scalar!(
    f64,
    halves: convert_to_f64_slice,
    pick: (_, double) => double,
    tiny_norm: 1e-140,
    shift: 6_755_399_441_055_744.0,
    limit: 2_147_483_647.0
);

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    /// All values of 8 and 16 bits.
    fn is_exact<T: Scalar>() {
        fn agree<T: Scalar>(values: Narrow<'_>, expected: impl Iterator<Item = f64>) {
            let expected: Vec<f64> = expected.collect();
            let mut wide = vec![T::ZERO; expected.len()];
            T::widen(values, &mut wide);
            for (wide, expected) in wide.into_iter().zip(expected) {
                let wide = wide.to_f64();
                let same = wide.to_bits() == expected.to_bits();
                assert!(
                    same || wide.is_nan() && expected.is_nan(),
                    "{wide} is not {expected}"
                );
            }
        }
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        agree::<T>(Narrow::U8(&bytes), bytes.iter().map(|&x| f64::from(x)));
        let signed: Vec<i8> = (i8::MIN..=i8::MAX).collect();
        agree::<T>(Narrow::I8(&signed), signed.iter().map(|&x| f64::from(x)));
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        agree::<T>(Narrow::F16(&halves), halves.iter().map(|x| x.to_f64()));
        let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        agree::<T>(Narrow::Bf16(&brains), brains.iter().map(|x| x.to_f64()));
    }

    #[test]
    fn narrow_values_are_widened_exactly() {
        is_exact::<f32>();
        is_exact::<f64>();
    }
}
