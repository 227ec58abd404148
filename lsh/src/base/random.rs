//! Random numbers that are the same on every machine and in every version: `rand_distr`'s values
//! have changed between versions, and depend on which libm is linked in.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Uniform in (0, 1): never 0, so that its logarithm is finite.
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
}

/// Standard normal (Box and Muller 1958).
pub(crate) fn gaussian(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * libm::log(uniform(rng))).sqrt();
    radius * libm::cos(std::f64::consts::TAU * uniform(rng))
}

/// So many standard normal values of one seed, for tests.
#[cfg(test)]
pub(crate) fn gaussians(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = rand_chacha::rand_core::SeedableRng::seed_from_u64(seed);
    (0..count).map(|_| gaussian(&mut rng) as f32).collect()
}

/// Standard Cauchy, by inversion.
pub(crate) fn cauchy(rng: &mut ChaCha8Rng) -> f64 {
    libm::tan(std::f64::consts::PI * (uniform(rng) - 0.5))
}
