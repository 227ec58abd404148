//! What a row holds before it is quantised: its values less a centre, and their largest magnitude.

use pulp::Simd;

use crate::{
    rows::scalar::Scalar,
    simd::lanes::{LANES, halve_lanes},
};

/// The row less the centre, where there is one.
#[inline(always)]
pub(super) fn centred<'a, T: Scalar>(
    row: &'a [T],
    centre: Option<&[T]>,
    centred: &'a mut Vec<T>,
) -> &'a [T] {
    let Some(centre) = centre else {
        return row;
    };
    centred.clear();
    centred.extend(
        row.iter()
            .zip(centre)
            .map(|(&value, &middle)| value - middle),
    );
    centred
}

/// What is left of a row after whole chunks, filled up with zeros.
#[inline(always)]
pub(super) fn padded<T: Scalar>(rest: &[T]) -> [T; LANES] {
    let mut lanes = [T::ZERO; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// The largest magnitude in a row; infinite if some value is not finite.
#[inline(always)]
pub(super) fn extreme<S: Simd, T: Scalar>(simd: S, values: &[T]) -> f64 {
    match LANES / T::lanes::<S>() {
        2 => extreme_by::<S, T, 2>(simd, values),
        4 => extreme_by::<S, T, 4>(simd, values),
        8 => extreme_by::<S, T, 8>(simd, values),
        16 => extreme_by::<S, T, 16>(simd, values),
        _ => extreme_by::<S, T, LANES>(simd, values),
    }
}

/// [`extreme`] where `V` vectors are all lanes.
#[inline(always)]
fn extreme_by<S: Simd, T: Scalar, const V: usize>(simd: S, values: &[T]) -> f64 {
    let zero = T::splat(simd, T::ZERO);
    // Zero times what is not finite is NaN.
    let (mut largest, mut nothing) = ([zero; V], [zero; V]);
    let (chunks, rest) = values.as_chunks();
    let rest = padded(rest);
    // Zeros change nothing, where there is no rest.
    for chunk in 0..chunks.len() + 1 {
        let lanes = T::vectors::<S>(chunks.get(chunk).unwrap_or(&rest));
        for at in 0..V {
            largest[at] = T::larger(simd, T::absolute(simd, lanes[at]), largest[at]);
            nothing[at] = T::times_plus(simd, lanes[at], zero, nothing[at]);
        }
    }
    let nothing = halve_lanes::<S, T>(&mut nothing, |x, y| T::plus(simd, x, y), |x, y| x + y);
    let larger = |x: T, y: T| if x > y { x } else { y };
    let largest = halve_lanes::<S, T>(&mut largest, |x, y| T::larger(simd, x, y), larger);
    if nothing == T::ZERO {
        largest.to_f64()
    } else {
        f64::INFINITY
    }
}
