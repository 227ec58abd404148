//! Floor and hash: projections to bucket ids or packed keys, with a proof for each that rounding did
//! not matter.
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

use crate::{
    isa::Isa,
    key::{Limb, Packer, ROWS},
    rows::Scalar,
    simd::dispatch,
};

/// The two precisions of this kernel.
pub trait Floor: Sized {
    /// 1.5 · 2^(mantissa bits): added to a number below [`Floor::LIMIT`], it rounds to the nearest
    /// integer and leaves that in the low bits; taken away again, it leaves it as a number.
    const SHIFT: Self;
    /// The low 32 bits of that.
    const SHIFT_BITS: u32;
    /// Places from here on have no id, or not by adding [`Floor::SHIFT`].
    const LIMIT: f64;
    /// The lowest bits.
    #[doc(hidden)]
    fn low_byte(self) -> i8;
}

impl Floor for f32 {
    const SHIFT: f32 = 12_582_912.0;
    const SHIFT_BITS: u32 = Self::SHIFT.to_bits();
    const LIMIT: f64 = 4_194_303.0;

    #[inline(always)]
    fn low_byte(self) -> i8 {
        self.to_bits() as i8
    }
}

impl Floor for f64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    const SHIFT_BITS: u32 = Self::SHIFT.to_bits() as u32;
    const LIMIT: f64 = 2_147_483_647.0;

    #[inline(always)]
    fn low_byte(self) -> i8 {
        self.to_bits() as i8
    }
}

/// One hash function's constants, in the precision of the projection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<T> {
    /// What projections are multiplied by: 1 / w, or 1 for signs.
    pub(crate) scale: T,
    /// What is added then: b / w − ½, so that the nearest integer is the bucket; b for signs.
    pub(crate) offset: T,
    /// Whether the ids are 0 below zero and 1 from there on, with no other boundary.
    pub(crate) sign: bool,
}

/// Bucket ids of projections, as words that are more by [`Floor::SHIFT_BITS`], and how far each is
/// from the middle of its bucket; for signs: minus how far from zero. An id is right if that is less
/// than its row's room.
#[inline(always)]
fn buckets<S: Simd, T: Scalar>(
    simd: S,
    step: Step<T>,
    projections: &[T::Vector<S>],
) -> (S::u32s, [T::Vector<S>; 2]) {
    let splat = |value| T::splat(simd, value);
    let shift = splat(T::SHIFT);
    let (mut shifted, mut off) = ([shift; 2], [shift; 2]);
    for (at, &projection) in projections.iter().enumerate().take(2) {
        let place = T::times_plus(simd, projection, splat(step.scale), splat(step.offset));
        if step.sign {
            let (zero, one) = (splat(T::ZERO), splat(T::from_f64(1.0)));
            shifted[at] = T::plus(simd, T::zero_if_less(simd, place, zero, one), shift);
            off[at] = T::minus(simd, zero, T::absolute(simd, place));
        } else {
            shifted[at] = T::plus(simd, place, shift);
            let size = T::minus(simd, place, T::minus(simd, shifted[at], shift));
            off[at] = T::absolute(simd, size);
        }
    }
    (T::low_words(simd, shifted), off)
}

/// [`buckets`] of one projection: the reference; `None` where its room does not suffice.
pub(crate) fn bucket<T: Scalar>(step: Step<T>, projection: T, room: T) -> Option<i32> {
    let scalar = pulp::Scalar::new();
    let (word, [off, _]) = buckets(scalar, step, &[T::splat(scalar, projection)]);
    let certain = T::all_less(scalar, off, T::splat(scalar, room));
    certain.then_some(word.wrapping_sub(T::SHIFT_BITS) as i32)
}

/// Writes the bucket id of each projection of one hash function, and appends to `uncertain` the
/// position of each that may be wrong: it is not below the `rooms` of its row.
pub(crate) fn floor_and_hash<T: Scalar>(
    step: Step<T>,
    projections: &[T],
    rooms: &[T],
    ids: &mut [i32],
    uncertain: &mut Vec<u32>,
    isa: Isa,
) {
    debug_assert!(projections.len() == rooms.len() && rooms.len() == ids.len());
    dispatch(
        isa,
        FloorAndHash {
            step,
            projections,
            rooms,
            ids,
            uncertain,
        },
    );
}

struct FloorAndHash<'a, T> {
    step: Step<T>,
    projections: &'a [T],
    rooms: &'a [T],
    ids: &'a mut [i32],
    uncertain: &'a mut Vec<u32>,
}

impl<T: Scalar> WithSimd for FloorAndHash<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A loop for each.
        match self.step.sign {
            true => self.with_sign(simd, true),
            false => self.with_sign(simd, false),
        }
    }
}

impl<T: Scalar> FloorAndHash<'_, T> {
    #[inline(always)]
    fn with_sign<S: Simd>(self, simd: S, sign: bool) {
        let step = Step { sign, ..self.step };
        let bits = simd.splat_u32s(T::SHIFT_BITS);
        let lanes = S::U32_LANES;
        let whole = self.ids.len() / lanes * lanes;
        for at in (0..whole).step_by(lanes) {
            let (words, off) = buckets(
                simd,
                step,
                T::vectors::<S>(&self.projections[at..][..lanes]),
            );
            let ids = simd.sub_u32s(words, bits);
            self.ids[at..][..lanes].copy_from_slice(bytemuck::cast_slice(&[ids]));
            let rooms = &self.rooms[at..][..lanes];
            in_doubt(simd, off, simd.splat_u32s(0), rooms, at, self.uncertain);
        }
        for at in whole..self.ids.len() {
            match bucket(step, self.projections[at], self.rooms[at]) {
                Some(id) => self.ids[at] = id,
                None => self.uncertain.push(at as u32),
            }
        }
    }
}

/// Writes the keys of the rows of a block in one table, by its functions' `steps`, `limbs` and
/// `projections`, (functions, rows). Appends to `unpacked` the positions of rows without a right key:
/// those with an id that may be wrong or is outside its field, and those after the last whole
/// [`ROWS`].
pub(crate) fn floor_and_pack<T: Scalar>(
    steps: &[Step<T>],
    limbs: &[Limb],
    projections: &[T],
    rooms: &[T],
    keys: &mut [u128],
    unpacked: &mut Vec<u32>,
    isa: Isa,
) {
    debug_assert!(projections.len() == rooms.len() * steps.len() && rooms.len() == keys.len());
    dispatch(
        isa,
        FloorAndPack {
            steps,
            limbs,
            projections,
            rooms,
            keys,
            unpacked,
        },
    );
}

struct FloorAndPack<'a, T> {
    steps: &'a [Step<T>],
    limbs: &'a [Limb],
    projections: &'a [T],
    rooms: &'a [T],
    keys: &'a mut [u128],
    unpacked: &'a mut Vec<u32>,
}

impl<T: Scalar> WithSimd for FloorAndPack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.steps.first().is_some_and(|step| step.sign) {
            true => self.with_sign(simd, true),
            false => self.with_sign(simd, false),
        }
    }
}

impl<T: Scalar> FloorAndPack<'_, T> {
    #[inline(always)]
    fn with_sign<S: Simd>(self, simd: S, sign: bool) {
        match ROWS / S::U32_LANES {
            2 => self.by::<S, 2>(simd, sign),
            4 => self.by::<S, 4>(simd, sign),
            8 => self.by::<S, 8>(simd, sign),
            _ => self.by::<S, ROWS>(simd, sign),
        }
    }

    /// With `V` vectors for [`ROWS`].
    #[inline(always)]
    fn by<S: Simd, const V: usize>(self, simd: S, sign: bool) {
        let rows = self.rooms.len();
        let lanes = S::U32_LANES;
        let whole = rows / ROWS * ROWS;
        let none = T::splat(simd, T::ZERO - T::INFINITY);
        for at in (0..whole).step_by(ROWS) {
            let (mut packer, mut outside) = (Packer::default(), [simd.splat_u32s(0); V]);
            // A NaN may be lost in there, but only a row without any room has one.
            let mut furthest = [[none; 2]; V];
            let mut columns = self.steps.iter().zip(self.projections.chunks_exact(rows));
            for limb in self.limbs {
                let mut bits = [simd.splat_u32s(0); V];
                for (field, (&step, column)) in limb.fields.iter().zip(&mut columns) {
                    let step = Step { sign, ..step };
                    let low = simd.splat_u32s((field.low as u32).wrapping_add(T::SHIFT_BITS));
                    let span = simd.splat_u32s(field.span);
                    let shift = simd.splat_u32s(field.shift);
                    let column = &column[at..][..ROWS];
                    for vector in 0..V {
                        let projections = T::vectors::<S>(&column[vector * lanes..][..lanes]);
                        let (words, off) = buckets(simd, step, projections);
                        for (furthest, off) in furthest[vector].iter_mut().zip(off) {
                            *furthest = T::larger(simd, *furthest, off);
                        }
                        let codes = simd.sub_u32s(words, low);
                        // Where it is the span that is the larger, they differ in nothing.
                        let beyond = simd.xor_u32s(simd.max_u32s(codes, span), span);
                        outside[vector] = simd.or_u32s(outside[vector], beyond);
                        let placed = simd.wrapping_dyn_shl_u32s(codes, shift);
                        bits[vector] = simd.or_u32s(bits[vector], placed);
                    }
                }
                packer.add(limb.start, bytemuck::cast_slice(&bits));
            }
            packer.write(&mut self.keys[at..][..ROWS]);
            for (vector, (off, outside)) in furthest.into_iter().zip(outside).enumerate() {
                let first = at + vector * lanes;
                let rooms = &self.rooms[first..][..lanes];
                in_doubt(simd, off, outside, rooms, first, self.unpacked);
            }
        }
        self.unpacked.extend(whole as u32..rows as u32);
    }
}

/// Lists the rows from `first` on whose room does not suffice, or that are outside.
#[inline(always)]
fn in_doubt<S: Simd, T: Scalar>(
    simd: S,
    off: [T::Vector<S>; 2],
    outside: S::u32s,
    rooms: &[T],
    first: usize,
    found: &mut Vec<u32>,
) {
    let outside = [outside];
    let outside: &[u32] = bytemuck::cast_slice(&outside);
    let certain = T::vectors::<S>(rooms)
        .iter()
        .zip(off)
        .all(|(&room, off)| T::all_less(simd, off, room));
    if !certain || outside.iter().any(|&outside| outside != 0) {
        list(T::values::<S>(&off), outside, rooms, first, found);
    }
}

/// Few are in doubt, and so this is kept out of the loop.
#[cold]
#[inline(never)]
fn list<T: Scalar>(off: &[T], outside: &[u32], rooms: &[T], first: usize, found: &mut Vec<u32>) {
    for (at, (off, room)) in off.iter().zip(rooms).enumerate() {
        // Comparisons with NaN are false, so it is certainty that has to be proven.
        let certain = off < room && outside[at] == 0;
        if !certain {
            found.push((first + at) as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::on_each_isa;

    fn step<T: Scalar>(sign: bool) -> Step<T> {
        Step {
            scale: T::from_f64(2.0),
            offset: T::from_f64(0.125),
            sign,
        }
    }

    /// Every instruction set against the reference, at sizes around the vector lengths, on
    /// projections that lie well inside buckets, on boundaries, and on none.
    fn agrees<T: Scalar>() {
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
            1e6,
            -1e6,
            -0.0625,
            0.1875,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ];
        on_each_isa(|isa| {
            for sign in [false, true] {
                for n in [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100] {
                    let value = |at: usize| T::from_f64(hostile[(at * 7 + n) % hostile.len()]);
                    let projections: Vec<T> = (0..n).map(value).collect();
                    let room = |at: usize| [0.5, 0.4, -0.01, f64::NEG_INFINITY, f64::NAN][at % 5];
                    let rooms: Vec<T> = (0..n).map(|at| T::from_f64(room(at))).collect();
                    let (mut ids, mut uncertain) = (vec![0; n], Vec::new());
                    let step = step(sign);
                    floor_and_hash(step, &projections, &rooms, &mut ids, &mut uncertain, isa);
                    for at in 0..n {
                        let expected = bucket(step, projections[at], rooms[at]);
                        let got = (!uncertain.contains(&(at as u32))).then_some(ids[at]);
                        assert_eq!(got, expected, "{isa} {n} {at} {:?}", projections[at]);
                    }
                }
            }
        });
    }

    #[test]
    fn every_isa_agrees_with_the_reference() {
        agrees::<f32>();
        agrees::<f64>();
    }

    #[test]
    fn what_is_decided_is_right() {
        let step = Step {
            scale: 1.0_f32,
            offset: -0.5,
            sign: false,
        };
        assert_eq!(bucket(step, 2.5, 0.49), Some(2));
        assert_eq!(bucket(step, -0.5, 0.49), Some(-1));
        assert_eq!(bucket(step, 2.995, 0.49), None, "within the guard");
        assert_eq!(bucket(step, 3.0, 0.49), None, "on the boundary");
        assert_eq!(bucket(step, f32::NAN, 0.49), None);
        let sign = Step {
            scale: 1.0_f64,
            offset: 0.0,
            sign: true,
        };
        assert_eq!(bucket(sign, -0.02, -0.01), Some(0));
        assert_eq!(bucket(sign, 3.0, -0.01), Some(1));
        assert_eq!(bucket(sign, 0.005, -0.01), None, "too near zero");
    }
}
