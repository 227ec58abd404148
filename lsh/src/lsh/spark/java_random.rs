//! java.util.Random, from which Spark draws its random vectors.

use crate::lsh::spark::strict_math;

/// The generator that `new java.util.Random(seed)` makes: the linear congruential one of Knuth
/// (*The Art of Computer Programming*, volume 2, section 3.2.1), 48 bits, and Gaussians by
/// Marsaglia's polar method (section 3.4.1), as the Java API documentation fixes them.
pub(crate) struct JavaRandom {
    state: u64,
    next_gaussian: Option<f64>,
}

const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const MASK: u64 = (1 << 48) - 1;

impl JavaRandom {
    pub(crate) fn new(seed: i64) -> Self {
        Self {
            state: (seed as u64 ^ MULTIPLIER) & MASK,
            next_gaussian: None,
        }
    }

    fn bits(&mut self, count: u32) -> u64 {
        self.state = (self.state.wrapping_mul(MULTIPLIER).wrapping_add(0xB)) & MASK;
        self.state >> (48 - count)
    }

    /// Uniform in [0, 1), 53 bits.
    fn double(&mut self) -> f64 {
        let high = self.bits(26) << 27;
        (high + self.bits(27)) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in [0, bound), as `nextInt(bound)` has it for a bound that is no power of two: what
    /// would make some remainders likelier than others is drawn again.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        loop {
            let bits = self.bits(31) as u32;
            let value = bits % bound;
            if bits - value + (bound - 1) <= i32::MAX as u32 {
                return value;
            }
        }
    }

    /// Standard normal.
    pub(crate) fn gaussian(&mut self) -> f64 {
        if let Some(gaussian) = self.next_gaussian.take() {
            return gaussian;
        }
        loop {
            let (a, b) = (2.0 * self.double() - 1.0, 2.0 * self.double() - 1.0);
            let square = a * a + b * b;
            if square < 1.0 && square != 0.0 {
                let multiplier = (-2.0 * strict_math::log(square) / square).sqrt();
                self.next_gaussian = Some(b * multiplier);
                return a * multiplier;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spark_semantics_golden_values() {
        let mut rng = JavaRandom::new(12345);
        let golden = [
            -0.187808989658912,
            0.5884363051154796,
            0.9488047804400426,
            -0.49428072062604445,
        ];
        for expected in golden {
            assert_eq!(rng.gaussian(), expected);
        }
    }

    /// The first draws of Spark's MinHashLSH.
    #[test]
    fn numbers_below_a_bound_are_javas() {
        let mut rng = JavaRandom::new(-1);
        let drawn: Vec<u32> = (0..6).map(|_| rng.below(2_038_074_742)).collect();
        assert_eq!(
            drawn,
            [
                577549913, 943952225, 26349579, 1176895439, 1421815604, 1290198438
            ]
        );
    }

    #[test]
    fn negative_seeds_are_seeds_too() {
        // new java.util.Random(-1).nextGaussian(), from a JVM.
        assert!(JavaRandom::new(-1).gaussian() != JavaRandom::new(1).gaussian());
    }
}
