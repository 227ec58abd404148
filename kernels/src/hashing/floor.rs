//! Projections to bucket ids or packed keys, with a proof for each that rounding did not matter.
//!
//! The GEMM before this sums in an order of its own, so a projection near a bucket boundary could
//! fall on either side. Each projection's distance from the middle of its bucket is therefore compared
//! with the [tolerance](super::tolerance) of its row, and those that are too far from it, so too near
//! a boundary, are listed, to be computed again in one fixed order. That makes ids equal on every
//! machine, and equal for f32 rows and the same rows widened to f64.

use pulp::{Simd, WithSimd, bytemuck};

use super::{
    bucketing::BucketRule,
    key::{Limb, Packer, ROWS},
};
use crate::{base::isa::Isa, rows::scalar::Scalar, simd::dispatch::dispatch};

/// Bucket ids of projections, as words that are larger by [`Scalar::SHIFT_BITS`], and how far each
/// projection is from the middle of its bucket; for signs: minus how far from zero. An id is right if
/// that is less than the tolerance of its row.
#[inline(always)]
fn buckets<S: Simd, T: Scalar>(
    simd: S,
    rule: BucketRule<T>,
    projections: &[T::Vector<S>],
) -> (S::u32s, [T::Vector<S>; 2]) {
    let splat = |value| T::splat(simd, value);
    let shift = splat(T::SHIFT);
    let (mut shifted, mut off) = ([shift; 2], [shift; 2]);
    for (at, &projection) in projections.iter().enumerate().take(2) {
        let place = T::times_plus(simd, projection, splat(rule.scale), splat(rule.offset));
        if rule.sign {
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

/// [`buckets`] of one projection: the reference; `None` if it may be wrong.
pub(super) fn bucket<T: Scalar>(rule: BucketRule<T>, projection: T, tolerance: T) -> Option<i32> {
    let scalar = pulp::Scalar::new();
    let (word, [off, _]) = buckets(scalar, rule, &[T::splat(scalar, projection)]);
    let certain = T::all_less(scalar, off, T::splat(scalar, tolerance));
    certain.then_some(word.wrapping_sub(T::SHIFT_BITS) as i32)
}

/// Writes the bucket id of each projection of one hash function, and appends to `uncertain` the
/// position of each that may be wrong, by the `tolerances` of the rows.
pub(super) fn floor_and_hash<T: Scalar>(
    rule: BucketRule<T>,
    projections: &[T],
    tolerances: &[T],
    ids: &mut [i32],
    uncertain: &mut Vec<u32>,
    isa: Isa,
) {
    debug_assert!(projections.len() == tolerances.len() && tolerances.len() == ids.len());
    dispatch(
        isa,
        FloorAndHash {
            rule,
            projections,
            tolerances,
            ids,
            uncertain,
        },
    );
}

struct FloorAndHash<'a, T> {
    rule: BucketRule<T>,
    projections: &'a [T],
    tolerances: &'a [T],
    ids: &'a mut [i32],
    uncertain: &'a mut Vec<u32>,
}

impl<T: Scalar> WithSimd for FloorAndHash<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A loop for each.
        match self.rule.sign {
            true => self.with_sign(simd, true),
            false => self.with_sign(simd, false),
        }
    }
}

impl<T: Scalar> FloorAndHash<'_, T> {
    #[inline(always)]
    fn with_sign<S: Simd>(self, simd: S, sign: bool) {
        let rule = BucketRule { sign, ..self.rule };
        let bits = simd.splat_u32s(T::SHIFT_BITS);
        let lanes = S::U32_LANES;
        let whole = self.ids.len() / lanes * lanes;
        for at in (0..whole).step_by(lanes) {
            let (words, off) = buckets(
                simd,
                rule,
                T::vectors::<S>(&self.projections[at..][..lanes]),
            );
            let ids = simd.sub_u32s(words, bits);
            self.ids[at..][..lanes].copy_from_slice(bytemuck::cast_slice(&[ids]));
            let tolerances = &self.tolerances[at..][..lanes];
            list_uncertain(
                simd,
                off,
                simd.splat_u32s(0),
                tolerances,
                at,
                self.uncertain,
            );
        }
        for at in whole..self.ids.len() {
            match bucket(rule, self.projections[at], self.tolerances[at]) {
                Some(id) => self.ids[at] = id,
                None => self.uncertain.push(at as u32),
            }
        }
    }
}

/// Writes the keys of the rows of a block in one table, by its functions' `rules`, `limbs` and
/// `projections`, (functions, rows). Appends to `unpacked` the positions of rows without a right key:
/// those with an id that may be wrong or is outside its field, and those after the last whole
/// [`ROWS`].
pub(super) fn floor_and_pack<T: Scalar>(
    rules: &[BucketRule<T>],
    limbs: &[Limb],
    projections: &[T],
    tolerances: &[T],
    keys: &mut [u128],
    unpacked: &mut Vec<u32>,
    isa: Isa,
) {
    debug_assert!(
        projections.len() == tolerances.len() * rules.len() && tolerances.len() == keys.len()
    );
    dispatch(
        isa,
        FloorAndPack {
            rules,
            limbs,
            projections,
            tolerances,
            keys,
            unpacked,
        },
    );
}

struct FloorAndPack<'a, T> {
    rules: &'a [BucketRule<T>],
    limbs: &'a [Limb],
    projections: &'a [T],
    tolerances: &'a [T],
    keys: &'a mut [u128],
    unpacked: &'a mut Vec<u32>,
}

impl<T: Scalar> WithSimd for FloorAndPack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.rules.first().is_some_and(|rule| rule.sign) {
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
        let rows = self.tolerances.len();
        let lanes = S::U32_LANES;
        let whole = rows / ROWS * ROWS;
        let none = T::splat(simd, T::ZERO - T::INFINITY);
        for at in (0..whole).step_by(ROWS) {
            let (mut packer, mut outside) = (Packer::default(), [simd.splat_u32s(0); V]);
            // A NaN may be lost in there, but only a row that has no tolerance has one.
            let mut furthest = [[none; 2]; V];
            let mut columns = self.rules.iter().zip(self.projections.chunks_exact(rows));
            for limb in self.limbs {
                let mut bits = [simd.splat_u32s(0); V];
                for (field, (&rule, column)) in limb.fields.iter().zip(&mut columns) {
                    let rule = BucketRule { sign, ..rule };
                    let low = simd.splat_u32s((field.low as u32).wrapping_add(T::SHIFT_BITS));
                    let span = simd.splat_u32s(field.span);
                    let shift = simd.splat_u32s(field.shift);
                    let column = &column[at..][..ROWS];
                    for vector in 0..V {
                        let projections = T::vectors::<S>(&column[vector * lanes..][..lanes]);
                        let (words, off) = buckets(simd, rule, projections);
                        for (furthest, off) in furthest[vector].iter_mut().zip(off) {
                            *furthest = T::larger(simd, *furthest, off);
                        }
                        let codes = simd.sub_u32s(words, low);
                        // Zero where the code is at most the span.
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
                let tolerances = &self.tolerances[first..][..lanes];
                list_uncertain(simd, off, outside, tolerances, first, self.unpacked);
            }
        }
        self.unpacked.extend(whole as u32..rows as u32);
    }
}

/// Lists the rows from `first` on whose id may be wrong, or that are outside.
#[inline(always)]
fn list_uncertain<S: Simd, T: Scalar>(
    simd: S,
    off: [T::Vector<S>; 2],
    outside: S::u32s,
    tolerances: &[T],
    first: usize,
    found: &mut Vec<u32>,
) {
    let outside = [outside];
    let outside: &[u32] = bytemuck::cast_slice(&outside);
    let certain = T::vectors::<S>(tolerances)
        .iter()
        .zip(off)
        .all(|(&tolerance, off)| T::all_less(simd, off, tolerance));
    if !certain || outside.iter().any(|&outside| outside != 0) {
        list(T::values::<S>(&off), outside, tolerances, first, found);
    }
}

/// Few are listed, and so this is kept out of the loop.
#[cold]
#[inline(never)]
fn list<T: Scalar>(
    off: &[T],
    outside: &[u32],
    tolerances: &[T],
    first: usize,
    found: &mut Vec<u32>,
) {
    for (at, (off, tolerance)) in off.iter().zip(tolerances).enumerate() {
        // Comparisons with NaN are false, so it is certainty that has to be proven.
        let certain = off < tolerance && outside[at] == 0;
        if !certain {
            found.push((first + at) as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::dispatch::on_each_isa;

    fn rule<T: Scalar>(sign: bool) -> BucketRule<T> {
        BucketRule {
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
                    let tolerance =
                        |at: usize| [0.5, 0.4, -0.01, f64::NEG_INFINITY, f64::NAN][at % 5];
                    let tolerances: Vec<T> = (0..n).map(|at| T::from_f64(tolerance(at))).collect();
                    let (mut ids, mut uncertain) = (vec![0; n], Vec::new());
                    let rule = rule(sign);
                    floor_and_hash(
                        rule,
                        &projections,
                        &tolerances,
                        &mut ids,
                        &mut uncertain,
                        isa,
                    );
                    for at in 0..n {
                        let expected = bucket(rule, projections[at], tolerances[at]);
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
        let rule = BucketRule {
            scale: 1.0_f32,
            offset: -0.5,
            sign: false,
        };
        assert_eq!(bucket(rule, 2.5, 0.49), Some(2));
        assert_eq!(bucket(rule, -0.5, 0.49), Some(-1));
        assert_eq!(bucket(rule, 2.995, 0.49), None, "within the guard");
        assert_eq!(bucket(rule, 3.0, 0.49), None, "on the boundary");
        assert_eq!(bucket(rule, f32::NAN, 0.49), None);
        let sign = BucketRule {
            scale: 1.0_f64,
            offset: 0.0,
            sign: true,
        };
        assert_eq!(bucket(sign, -0.02, -0.01), Some(0));
        assert_eq!(bucket(sign, 3.0, -0.01), Some(1));
        assert_eq!(bucket(sign, 0.005, -0.01), None, "too near zero");
    }
}
