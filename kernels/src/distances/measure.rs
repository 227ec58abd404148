//! What can be computed between two rows.

use pulp::Simd;

use crate::rows::scalar::Scalar;

/// What is computed between two rows x and y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// Σ (xᵢ − yᵢ)². Infinite where it, or a term of it, exceeds the largest number of the type:
    /// for `f32`, from a distance of about 1.8 · 10¹⁹ on. Never NaN for finite rows.
    SquaredEuclidean,
    /// Σ |xᵢ − yᵢ|. Infinite where it exceeds the largest number of the type, never NaN for
    /// finite rows.
    Manhattan,
    /// Σ xᵢ·yᵢ: a similarity, the cosine for rows of length 1. When products overflow it is
    /// infinite, or NaN where they overflow to both sides.
    Dot,
}

impl Measure {
    /// What a pair of values adds to the measure, for a vector of them.
    #[inline(always)]
    pub(super) fn term<S: Simd, T: Scalar>(
        self,
        simd: S,
        x: T::Vector<S>,
        y: T::Vector<S>,
    ) -> T::Vector<S> {
        match self {
            Measure::SquaredEuclidean => {
                let difference = T::minus(simd, x, y);
                T::times(simd, difference, difference)
            }
            Measure::Manhattan => T::absolute(simd, T::minus(simd, x, y)),
            Measure::Dot => T::times(simd, x, y),
        }
    }
}
