//! Some rows of many.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// At most `most` of so many rows: one at random of each range of some, since rows at equal distances
/// may be alike.
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
