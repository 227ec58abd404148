//! Samples of rows.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// At most `most` of `rows` rows, rising: a random one from each of as many ranges of equal length.
/// Rows at equal steps would be alike where the data have a period.
pub(crate) fn sample(rows: usize, most: usize) -> Vec<u32> {
    seeded_sample(rows, most, 0)
}

pub(crate) fn seeded_sample(rows: usize, most: usize, seed: u64) -> Vec<u32> {
    let step = rows.div_ceil(most).max(1);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..rows)
        .step_by(step)
        .map(|first| {
            let length = step.min(rows - first);
            (first + (rng.next_u64() % length as u64) as usize) as u32
        })
        .collect()
}
