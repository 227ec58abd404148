//! Choices and numbers out of a fuzzer's bytes.

use arbitrary::{Arbitrary, Unstructured};
use lshjoin_kernels::Isa;

/// Bytes to make choices by; what is asked for after their end is 0.
pub struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// A number, or a tuple of some: each as likely as any other.
    pub fn any<A: Arbitrary<'a> + Default>(&mut self) -> A {
        self.0.arbitrary().unwrap_or_default()
    }

    /// A number from 0 to `most`.
    pub fn up_to(&mut self, most: usize) -> usize {
        self.0.int_in_range(0..=most).unwrap_or_default()
    }

    pub fn flag(&mut self) -> bool {
        self.any::<u8>() & 1 == 1
    }

    /// True about once in so many times; false when all bytes are used up.
    pub fn once_in(&mut self, times: u8) -> bool {
        self.any::<u8>() % times == times - 1
    }

    pub fn pick<V: Copy>(&mut self, from: &[V]) -> V {
        from[self.up_to(from.len() - 1)]
    }

    /// `count` of what `one` makes, as long as there are bytes to make it of.
    pub fn list<V>(&mut self, count: usize, mut one: impl FnMut(&mut Self) -> V) -> Vec<V> {
        let mut list = Vec::new();
        while list.len() < count && !self.is_over() {
            list.push(one(self));
        }
        list
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.0.bytes(self.0.len()).unwrap_or_default()
    }

    /// A number that arithmetic may stumble over, or any other.
    pub fn odd_f32(&mut self) -> f32 {
        match self.any::<u8>() {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3 => f32::MAX,
            4 => f32::MIN_POSITIVE,
            5 => f32::from_bits(1),
            6 => -0.0,
            7 => -1.0,
            8..64 => f32::from_bits(self.any()),
            small => (f32::from(small) - 160.0) / 8.0,
        }
    }

    pub fn isa(&mut self) -> Isa {
        self.pick(Isa::available())
    }
}

/// Numbers to make much of a few bytes: xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    /// Between −1 and 1, in steps of 2⁻²⁰.
    pub fn unit(&mut self) -> f64 {
        (self.below((1 << 21) + 1) as f64 - f64::from(1 << 20)) / f64::from(1 << 20)
    }
}

/// The square root of the sum of some squares, none of which overflows or vanishes.
pub fn norm(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values
        .clone()
        .fold(0.0_f64, |most, value| most.max(value.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    largest
        * values
            .map(|value| (value / largest).powi(2))
            .sum::<f64>()
            .sqrt()
}
