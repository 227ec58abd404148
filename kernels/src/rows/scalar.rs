//! The numbers that rows are made of.

use std::ops::{Add, Mul, Sub};

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};

use crate::simd::vectors::Vectors;

/// The numbers that vectors may be made of once they are inside: `f32` and `f64`.
///
/// Half precision is widened to `f32` on the way in (see [`widen_f16`](crate::widen_f16)).
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

macro_rules! scalar {
    ($float:ident, pick: ($single:pat, $double:pat) => $picked:ident, tiny_norm: $tiny_norm:expr, shift: $shift:expr, limit: $limit:expr) => {
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
    pick: (single, _) => single,
    tiny_norm: 1e-15,
    shift: 12_582_912.0,
    limit: 4_194_303.0
);
scalar!(
    f64,
    pick: (_, double) => double,
    tiny_norm: 1e-140,
    shift: 6_755_399_441_055_744.0,
    limit: 2_147_483_647.0
);
