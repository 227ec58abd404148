//! Floor and hash: projections to bucket ids, with a proof for each that rounding did not matter.
//!
//! The GEMM before this sums in an order of its own, so a projection near a bucket boundary could
//! fall on either side. The kernel therefore compares each projection's distance from the nearest
//! boundary with a bound on the rounding error (any order of summation is off by at most
//! γₙ‖x‖‖r‖; Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1) and lists
//! those that are too near, to be done again in one fixed order. That makes ids equal on every
//! machine, and equal for f32 rows and the same rows widened to f64.
//!
//! pulp's vectors fit: all it takes is to add, multiply, compare and read a float's bits.

use pulp::{Simd, WithSimd, bytemuck};

use crate::{isa::Isa, simd::dispatch};

/// One hash function's constants, in the precision of the projection.
#[derive(Clone, Copy, Debug)]
pub struct Step<T> {
    /// Added to the projection.
    pub(crate) offset: T,
    /// 1 / w; 1 for signs.
    pub(crate) inverse_width: T,
    /// How near a boundary is too near, in buckets per unit of row norm.
    pub(crate) guard_per_norm: T,
    /// What is added to that for every row.
    pub(crate) guard: T,
    /// Whether the ids are 0 below zero and 1 from there on, with no other boundary.
    pub(crate) sign: bool,
}

/// Writes the bucket id of each projection of one hash function, and appends to `uncertain` the
/// position of each that lies too near a boundary, or too far out, to be decided.
pub(crate) fn floor_and_hash<T: Floor>(
    step: Step<T>,
    projections: &[T],
    norms: &[T],
    ids: &mut [i32],
    uncertain: &mut Vec<u32>,
    isa: Isa,
) {
    debug_assert!(projections.len() == norms.len() && norms.len() == ids.len());
    dispatch(
        isa,
        FloorAndHash {
            step,
            projections,
            norms,
            ids,
            uncertain,
        },
    );
}

pub struct FloorAndHash<'a, T> {
    step: Step<T>,
    projections: &'a [T],
    norms: &'a [T],
    ids: &'a mut [i32],
    uncertain: &'a mut Vec<u32>,
}

impl<T: Floor> FloorAndHash<'_, T> {
    /// The reference, on the positions of `range`: what every instruction set must do.
    #[inline(always)]
    fn one_by_one(&mut self, range: std::ops::Range<usize>) {
        for at in range {
            match T::bucket(self.step, self.projections[at], self.norms[at]) {
                Some(id) => self.ids[at] = id,
                None => self.uncertain.push(at as u32),
            }
        }
    }
}

impl<T: Floor> WithSimd for FloorAndHash<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let done = if self.step.sign {
            T::vectors::<S, true>(simd, &mut self)
        } else {
            T::vectors::<S, false>(simd, &mut self)
        };
        self.one_by_one(done..self.projections.len());
    }
}

/// The two precisions of this kernel.
pub trait Floor: Sized + Copy {
    /// The reference: the bucket id of one projection of a row of this norm, or `None` when it
    /// can't be decided at this precision.
    fn bucket(step: Step<Self>, projection: Self, norm: Self) -> Option<i32>;

    /// Does the whole vectors of the work and returns how many projections that makes.
    fn vectors<S: Simd, const SIGN: bool>(simd: S, work: &mut FloorAndHash<'_, Self>) -> usize;
}

/// Lists the positions from `first` on that are in doubt: few, and so kept out of the loop.
#[cold]
#[inline(never)]
fn undecided<T: PartialOrd>(doubts: &[T], certain: T, first: usize, uncertain: &mut Vec<u32>) {
    for (at, doubt) in (first as u32..).zip(doubts) {
        if *doubt > certain {
            uncertain.push(at);
        }
    }
}

/// Adding 1.5 · 2^(mantissa bits) rounds to the nearest integer and leaves it in the low bits; taking
/// that away leaves it as a number.
macro_rules! floor {
    ($float:ident, $shift:expr, $limit:expr, $lanes:ident, $as_simd:ident, $splat:ident, $add:ident,
     $sub:ident, $mul:ident, $abs:ident, $less:ident, $and:ident, $select:ident, $first:ident) => {
        impl Floor for $float {
            #[inline(always)]
            fn bucket(step: Step<Self>, projection: Self, norm: Self) -> Option<i32> {
                let place = (projection + step.offset) * step.inverse_width;
                let size = place.abs();
                let guard =
                    (norm * step.guard_per_norm + step.guard) + size * (4.0 * $float::EPSILON);
                let (id, margin, limit) = if step.sign {
                    (i32::from(place >= 0.0), size, $float::INFINITY)
                } else {
                    let nearest = place.round_ties_even();
                    (place.floor() as i32, (place - nearest).abs(), $limit)
                };
                (guard < margin && size < limit).then_some(id)
            }

            #[inline(always)]
            fn vectors<S: Simd, const SIGN: bool>(
                simd: S,
                work: &mut FloorAndHash<'_, Self>,
            ) -> usize {
                let step = work.step;
                let (offset, inverse) = (simd.$splat(step.offset), simd.$splat(step.inverse_width));
                let (per_norm, fixed) = (simd.$splat(step.guard_per_norm), simd.$splat(step.guard));
                let relative = simd.$splat(4.0 * $float::EPSILON);
                let shift = simd.$splat($shift);
                let (zero, one) = (simd.$splat(0.0), simd.$splat(1.0));
                let limit = simd.$splat(if SIGN { $float::INFINITY } else { $limit });
                let (projections, norms) = (work.projections, work.norms);
                let (projections, _) = S::$as_simd(projections);
                let (norms, _) = S::$as_simd(norms);
                for (vector, (&projection, &norm)) in projections.iter().zip(norms).enumerate() {
                    let place = simd.$mul(simd.$add(projection, offset), inverse);
                    let size = simd.$abs(place);
                    let guard = simd.$add(
                        simd.$add(simd.$mul(norm, per_norm), fixed),
                        simd.$mul(size, relative),
                    );
                    let (id, margin) = if SIGN {
                        (simd.$select(simd.$less(place, zero), zero, one), size)
                    } else {
                        let nearest = simd.$sub(simd.$add(place, shift), shift);
                        let below = simd.$select(simd.$less(place, nearest), one, zero);
                        (
                            simd.$sub(nearest, below),
                            simd.$abs(simd.$sub(place, nearest)),
                        )
                    };
                    let range = vector * S::$lanes..(vector + 1) * S::$lanes;
                    let id = simd.$add(id, shift);
                    let lanes: &[$float] = bytemuck::cast_slice(std::slice::from_ref(&id));
                    for (id, &lane) in work.ids[range.clone()].iter_mut().zip(lanes) {
                        // Converting would look at each lane for what fits no integer.
                        *id = lane.to_bits().wrapping_sub(<$float>::to_bits($shift)) as i32;
                    }
                    // Comparisons with NaN are false, so "certain" is what has to be proven.
                    let certain = simd.$and(simd.$less(guard, margin), simd.$less(size, limit));
                    let doubts = simd.$select(certain, zero, one);
                    if simd.$first(simd.$less(zero, doubts)) < S::$lanes {
                        let doubts: &[$float] = bytemuck::cast_slice(std::slice::from_ref(&doubts));
                        undecided(doubts, 0.0, range.start, work.uncertain);
                    }
                }
                projections.len() * S::$lanes
            }
        }
    };
}

// Beyond these limits the shift no longer rounds to an integer (f32), or the id leaves 32 bits.
floor!(
    f32,
    12_582_912.0,
    4_194_304.0,
    F32_LANES,
    as_simd_f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    abs_f32s,
    less_than_f32s,
    and_m32s,
    select_f32s,
    first_true_m32s
);
floor!(
    f64,
    6_755_399_441_055_744.0,
    2_147_483_647.0,
    F64_LANES,
    as_simd_f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    abs_f64s,
    less_than_f64s,
    and_m64s,
    select_f64s,
    first_true_m64s
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every instruction set against the reference, at sizes around the vector lengths, on
    /// projections that lie well inside buckets, on boundaries, and out of range.
    fn agrees<T: Floor + crate::rows::Scalar + std::fmt::Debug>() {
        let hostile = [
            0.0,
            -0.0,
            0.5,
            -0.5,
            1.0,
            -1.0,
            0.999_999_9,
            1e-30,
            7.25,
            -1234.75,
            3e6,
            5e6,
            -5e6,
            3e9,
            -3e9,
            1e30,
            f64::INFINITY,
            f64::NAN,
        ];
        for &isa in Isa::available() {
            for sign in [false, true] {
                for n in [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100] {
                    let value = |at: usize| T::from_f64(hostile[(at * 7 + n) % hostile.len()]);
                    let projections: Vec<T> = (0..n).map(value).collect();
                    let norms: Vec<T> = (0..n).map(|at| T::from_f64(at as f64)).collect();
                    let step = Step {
                        offset: T::from_f64(0.125),
                        inverse_width: T::from_f64(2.0),
                        guard_per_norm: T::from_f64(1e-3),
                        guard: T::from_f64(1e-6),
                        sign,
                    };
                    let (mut ids, mut uncertain) = (vec![0; n], Vec::new());
                    floor_and_hash(step, &projections, &norms, &mut ids, &mut uncertain, isa);
                    for at in 0..n {
                        let expected = T::bucket(step, projections[at], norms[at]);
                        let got = (!uncertain.contains(&(at as u32))).then_some(ids[at]);
                        assert_eq!(got, expected, "{isa} {n} {at} {:?}", projections[at]);
                    }
                }
            }
        }
    }

    #[test]
    fn every_isa_agrees_with_the_reference() {
        agrees::<f32>();
        agrees::<f64>();
    }

    #[test]
    fn what_is_decided_is_right() {
        let step = Step {
            offset: 0.0,
            inverse_width: 1.0,
            guard_per_norm: 0.01,
            guard: 0.0,
            sign: false,
        };
        assert_eq!(f32::bucket(step, 2.5, 1.0), Some(2));
        assert_eq!(f32::bucket(step, -0.5, 1.0), Some(-1));
        assert_eq!(f32::bucket(step, 2.995, 1.0), None, "within the guard");
        assert_eq!(f32::bucket(step, 3.0, 1.0), None, "on the boundary");
        assert_eq!(
            f32::bucket(Step { sign: true, ..step }, -0.02, 1.0),
            Some(0)
        );
        assert_eq!(f32::bucket(Step { sign: true, ..step }, 3.0, 1.0), Some(1));
    }
}
