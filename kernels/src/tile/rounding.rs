//! Single precision that errs to the safe side: what is not a number, or was rounded, loses no pair.

/// Factors that leave room for roundings in single precision, down and up.
pub(super) const LESS: f32 = 1.0 - 1.0 / (1 << 20) as f32;
pub(super) const MORE: f32 = 1.0 + 1.0 / (1 << 18) as f32;

/// The larger of two; the second if the first is not a number.
#[inline(always)]
pub(super) fn larger(first: f32, second: f32) -> f32 {
    if first > second { first } else { second }
}

/// 0 if the number is below it. What is not a number, where single precision overflowed, stays so: it
/// says nothing.
#[inline(always)]
pub(super) fn not_negative(number: f32) -> f32 {
    if number < 0.0 { 0.0 } else { number }
}

/// Infinity in place of what is not a number, where single precision overflowed.
#[inline(always)]
pub(super) fn at_most_infinite(number: f32) -> f32 {
    if number < f32::INFINITY {
        number
    } else {
        f32::INFINITY
    }
}
