//! Bounds on distances, in the measure in which codes are filtered.

use lshjoin_kernels::Scalar;

use crate::base::metric::Metric;

/// `bound`, widened for rounding: no distance above the result has a [`filter_interval`] that
/// begins within `bound`. For metrics without codes.
pub(crate) fn widened<T: Scalar>(bound: f32, dim: usize) -> T {
    let error = (dim + 8) as f64 * T::UNIT_ROUNDOFF + f64::from(f32::EPSILON);
    let bound = f64::from(bound);
    T::from_f64(bound + bound.abs() * 4.0 * error + f64::from(f32::MIN_POSITIVE))
}

/// Bounds on the Euclidean distance of two rows (of their directions, for the cosine) whose
/// distance by `metric` was computed as `distance`, or rounded to it from double precision. Codes
/// are filtered by that measure. For the Manhattan distance, which has no codes, bounds on itself.
pub(crate) fn filter_interval<T: Scalar>(metric: Metric, distance: f64, dim: usize) -> (f32, f32) {
    let of_sums = (dim + 8) as f64;
    let error = match metric {
        Metric::Manhattan => of_sums * T::UNIT_ROUNDOFF,
        _ => of_sums * f64::EPSILON + 2.0 * T::UNIT_ROUNDOFF,
    };
    // ‖x − y‖² = 2(1 − cos) on the unit sphere. Both directions are rounded to f32 on the way to
    // their codes.
    let (length, of_directions) = match metric {
        Metric::Cosine => ((2.0 * distance).sqrt(), 4.0 * f32::UNIT_ROUNDOFF),
        _ => (distance, 0.0),
    };
    outwards(
        length * (1.0 - error) - of_directions,
        length * (1.0 + error) + of_directions,
    )
}

/// Rounded outwards to single precision.
pub(crate) fn outwards(lower: f64, upper: f64) -> (f32, f32) {
    (
        (lower as f32).next_down().max(0.0),
        (upper as f32).next_up(),
    )
}
