//! How far a projection may be from the middle of its bucket for rounding not to matter.
//!
//! Summed in any order, a projection is off by at most γ‖x‖‖r‖ with γ = n·u / (1 − n·u), u the unit
//! roundoff and n the dimension (Higham, *Accuracy and Stability of Numerical Algorithms*, section
//! 3.1); some more for rounding r, the constants and the place, which is no larger than
//! ‖x‖‖r‖/w + |b|/w + 1. The definition's own rounding, of the same form in double precision, is added.

use super::bucketing::Bucketing;
use crate::{
    base::isa::Isa,
    distances::products::fast_norms,
    rows::{matrix::Rows, scalar::Scalar},
};

/// For each row how far a projection may be from the middle of a bucket, for signs: minus how far it
/// has to be from zero, for its id to be right by any function with these norms ‖r‖ and offsets b.
pub(super) fn tolerances<T: Scalar>(
    rows: Rows<'_, T>,
    bucketing: Bucketing,
    of_functions: &[f64],
    offsets: &[f64],
    isa: Isa,
) -> Vec<T> {
    let gamma = |roundoff: f64| {
        let nu = (rows.dim() + 12) as f64 * roundoff;
        if nu < 0.5 {
            nu / (1.0 - nu)
        } else {
            f64::INFINITY
        }
    };
    let error = gamma(T::UNIT_ROUNDOFF) + gamma(f64::UNIT_ROUNDOFF);
    // Norms are off by some γ, their products with this by some roundings.
    let slack = 1.0 + 8.0 * gamma(T::UNIT_ROUNDOFF);
    let most = |values: &[f64], least: f64| values.iter().fold(least, |a, &b| a.max(b.abs()));
    let norm = most(of_functions, T::TINY_NORM) * slack;
    let scale = bucketing.scale();
    let offset = most(offsets, 0.0) * scale + 1.0;
    let guard = 8.0 * T::UNIT_ROUNDOFF * offset;
    let (limit, middle) = match bucketing {
        Bucketing::Width(_) => (T::SHIFT_LIMIT, 0.5),
        Bucketing::Sign => (f64::INFINITY, 0.0),
    };
    let tolerance = |length: T| {
        let product = length.to_f64() * norm;
        let place = product * scale;
        // Directions may be too large for the rows' precision, or projections on them.
        let fits = norm < T::LARGEST && product < T::LARGEST / 8.0;
        let is_decided = place + offset < limit && fits;
        let tolerance = if is_decided {
            middle - (place * error + guard)
        } else {
            f64::NEG_INFINITY
        };
        T::from_f64(tolerance)
    };
    let mut tolerances = fast_norms(rows, isa);
    for of_row in &mut tolerances {
        *of_row = tolerance(*of_row);
    }
    tolerances
}
