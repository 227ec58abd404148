//! The least of some numbers, and those that are not much more.

use pulp::{Simd, WithSimd};

use crate::{
    base::isa::Isa,
    simd::{bits::set_bits, dispatch::dispatch},
};

/// Numbers that are compared side by side.
pub(crate) const LANES: usize = 16;

/// The least of `numbers`; infinite where there is none, and NaN is none.
///
/// ```
/// use lshjoin_kernels::{Isa, least};
///
/// assert_eq!(least(&[3.0, f32::NAN, 1.0], Isa::best()), 1.0);
/// ```
pub fn least(numbers: &[f32], isa: Isa) -> f32 {
    dispatch(isa, Least(numbers))
}

/// Calls `found` with the positions, rising, of `numbers` that are more than `least` by no more than
/// `margin`.
///
/// ```
/// use lshjoin_kernels::{Isa, each_near_least};
///
/// let mut positions = Vec::new();
/// each_near_least(&[3.0, 9.0, 1.0], 1.0, 2.0, |position| positions.push(position), Isa::best());
/// assert_eq!(positions, [0, 2]);
/// ```
pub fn each_near_least(
    numbers: &[f32],
    least: f32,
    margin: f32,
    found: impl FnMut(usize),
    isa: Isa,
) {
    let near = NearLeast {
        numbers,
        least,
        margin,
        found,
    };
    dispatch(isa, near);
}

struct Least<'a>(&'a [f32]);

impl WithSimd for Least<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let rest = self.0.as_chunks::<LANES>().1;
        let lanes = least_of_lanes::<LANES>(self.0);
        lanes
            .iter()
            .chain(rest)
            .copied()
            .fold(f32::INFINITY, lesser)
    }
}

struct NearLeast<'a, F> {
    numbers: &'a [f32],
    least: f32,
    margin: f32,
    found: F,
}

impl<F: FnMut(usize)> WithSimd for NearLeast<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            numbers,
            least,
            margin,
            found,
        } = self;
        // Of infinities there is no difference.
        each_position(
            numbers,
            |number| (number <= least) | (number - least <= margin),
            found,
        );
    }
}

/// The least of every N-th number, from each of the first N on; of whole chunks of N.
#[inline(always)]
pub(crate) fn least_of_lanes<const N: usize>(numbers: &[f32]) -> [f32; N] {
    let mut least = [f32::INFINITY; N];
    for numbers in numbers.as_chunks::<N>().0 {
        for (least, &number) in least.iter_mut().zip(numbers) {
            *least = lesser(*least, number);
        }
    }
    least
}

/// Calls `found` with the positions, rising, of numbers that are `near`.
#[inline(always)]
pub(crate) fn each_position(
    numbers: &[f32],
    near: impl Fn(f32) -> bool,
    mut found: impl FnMut(usize),
) {
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for (chunk, numbers) in chunks.iter().enumerate() {
        set_bits(mask_of(numbers, &near)).for_each(|at| found(chunk * LANES + at));
    }
    for (at, &number) in rest.iter().enumerate() {
        if near(number) {
            found(chunks.len() * LANES + at);
        }
    }
}

/// The bits of those of some numbers that are `near`.
#[inline(always)]
pub(crate) fn mask_of(numbers: &[f32; LANES], near: impl Fn(f32) -> bool) -> u32 {
    // Few are: so one branch for all of them, not one for each.
    if !numbers
        .iter()
        .fold(false, |any, &number| any | near(number))
    {
        return 0;
    }
    let mut near_ones = [0; LANES];
    for (at, bit) in near_ones.iter_mut().enumerate() {
        *bit = u32::from(near(numbers[at])) << at;
    }
    near_ones.iter().fold(0, |mask, bit| mask | bit)
}

/// The first, unless the second is less.
#[inline(always)]
fn lesser(first: f32, second: f32) -> f32 {
    if second < first { second } else { first }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::dispatch::on_each_isa;

    fn numbers() -> impl Strategy<Value = Vec<f32>> {
        let special = prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0]);
        prop::collection::vec(prop_oneof![9 => -9.0_f32..9.0, 1 => special], 0..80)
    }

    proptest! {
        #[test]
        fn those_near_the_least_are_found_in_their_order(numbers in numbers(), margin in 0.0_f32..9.0) {
            let of_numbers = numbers.iter().copied();
            let expected = of_numbers.clone().fold(f32::INFINITY, f32::min);
            let near = |&position: &usize| {
                numbers[position] == expected || numbers[position] - expected <= margin
            };
            let near: Vec<usize> = (0..numbers.len()).filter(near).collect();
            on_each_isa(|isa| {
                assert_eq!(least(&numbers, isa), expected);
                let mut found = Vec::new();
                each_near_least(&numbers, expected, margin, |position| found.push(position), isa);
                assert_eq!(found, near);
            });
        }
    }
}
