//! The median.

use std::cmp::Ordering;

/// Of an even number of values the upper of the two in the middle; `None` of none.
pub(crate) fn median<T: PartialOrd + Copy>(values: &[T]) -> Option<T> {
    let mut values = values.to_vec();
    let middle = values.len() / 2;
    let order = |x: &T, y: &T| x.partial_cmp(y).unwrap_or(Ordering::Equal);
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, order).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_the_numbers() {
        assert_eq!(median::<f32>(&[]), None);
        assert_eq!(median(&[7.0_f32]), Some(7.0));
        assert_eq!(median(&[3.0, 1.0, 90.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, f64::INFINITY, 2.0]), Some(4.0));
    }
}
