//! Sums in one order, whatever the width of a register.
//!
//! Floating-point sums depend on their order. So terms are spread over [`LANES`] partial sums on every
//! instruction set, and these are added up by halves.

use pulp::{Simd, bytemuck::Zeroable};

use super::vectors::Vectors;

/// Partial sums of a row. 32 are two AVX-512, four AVX2 or eight NEON registers of `f32`: enough to
/// hide the latency of an addition, few enough to stay in registers for `f64` too.
pub(crate) const LANES: usize = 32;

/// Combines the upper half with the lower until one is left: of a power of two, at least one.
#[inline(always)]
pub(crate) fn halve<V: Copy>(values: &mut [V], combine: impl Fn(V, V) -> V) -> V {
    let mut width = values.len();
    while width > 1 {
        width /= 2;
        for at in 0..width {
            values[at] = combine(values[at], values[at + width]);
        }
    }
    values[0]
}

/// [`halve`] of the lanes of the first vectors, [`LANES`] together.
#[inline(always)]
pub(crate) fn halve_lanes<S: Simd, T: Vectors + Zeroable>(
    vectors: &mut [T::Vector<S>],
    combine: impl Fn(T::Vector<S>, T::Vector<S>) -> T::Vector<S>,
    combine_lanes: impl Fn(T, T) -> T,
) -> T {
    let lanes = T::lanes::<S>();
    let vector = halve(&mut vectors[..LANES / lanes], combine);
    let mut values = [T::zeroed(); LANES];
    values[..lanes].copy_from_slice(T::values::<S>(&[vector]));
    halve(&mut values[..lanes], combine_lanes)
}
