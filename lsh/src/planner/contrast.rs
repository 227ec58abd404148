//! Contrast: how much further random items are than near ones. Without it no index can tell near
//! from far, nor 8-bit codes which pairs to drop (Slaney, Lifshits and He, "Optimal parameters for
//! locality-sensitive hashing", 2012).

use lshjoin_kernels::Scalar;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    base::{context::Context, error::Result, median::median, metric::Metric},
    planner::prediction::Prediction,
    recall::ground_truth::{GroundTruth, Split},
    vectors::Sides,
};

/// Random items that the distances of a held-out row are measured to.
const OTHERS: usize = 8;

/// Up to this contrast, near and random items are taken to be about as far.
const NO_CONTRAST: f64 = 1.2;

/// How far held-out rows are from random items.
pub(super) struct RandomLengths {
    /// Of each row to one of them.
    pub(super) distances: Vec<f64>,
    /// The share of such pairs that codes can't tell from near ones.
    pub(super) ambiguous: f64,
}

/// How far held-out rows are from items chosen at random.
pub(super) fn random_lengths<T: Scalar>(
    (left, right): Sides<'_, '_, T>,
    ground_truth: &GroundTruth<T>,
    seed: u64,
    ctx: &Context,
) -> Result<RandomLengths> {
    let items = right.len() as u64;
    let with_itself = left.is_none();
    let left = left.unwrap_or(right);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut other = |row: u32| loop {
        let other = (rng.next_u64() % items) as u32;
        if !with_itself || other != row || items == 1 {
            return (row, other);
        }
    };
    let rows = ground_truth.some(Split::All);
    let rows = rows.flat_map(|row| std::iter::repeat_n(row, OTHERS));
    let pairs: Vec<(u32, u32)> = rows
        .clone()
        .map(|row| other(left.internal_id(row.row)))
        .collect();
    let mut distances = Vec::new();
    left.distances(right, &pairs, &mut distances, ctx.isa())?;
    let ambiguous = rows.zip(&pairs).zip(&distances);
    let ambiguous = ambiguous.filter(|&((row, &pair), &random)| {
        let (_, near) = left.filter_interval(right, pair, row.furthest.to_f64());
        let (random, _) = left.filter_interval(right, pair, random);
        random <= near + left.code_error(pair.0) + right.code_error(pair.1)
    });
    let ambiguous = ambiguous.count() as f64 / pairs.len().max(1) as f64;
    let some = pairs.iter().zip(distances).step_by(OTHERS);
    Ok(RandomLengths {
        ambiguous,
        distances: some
            .map(|(&(row, _), distance)| left.length(right, row, distance))
            .collect(),
    })
}

/// How far the held-out rows are from their k-th neighbours, as lengths.
pub(super) fn furthest_lengths<T: Scalar>(
    (left, right): Sides<'_, '_, T>,
    ground_truth: &GroundTruth<T>,
) -> Vec<f64> {
    let left = left.unwrap_or(right);
    let rows = ground_truth.some(Split::All);
    let lengths = rows.map(|row| {
        let id = left.internal_id(row.row);
        left.length(right, id, row.furthest.to_f64())
    });
    lengths.collect()
}

/// Whether near and random items are about as far.
pub(super) fn is_hard(exact: &Prediction) -> bool {
    exact
        .contrast
        .is_some_and(|contrast| contrast < NO_CONTRAST)
}

/// How many times as far as their neighbours random items are; `None` for neighbours at distance 0.
pub(super) fn contrast(near: &[f64], random: &[f64], metric: Metric) -> Option<f64> {
    // A cosine distance is half the square of a Euclidean one.
    let length = |distance: f64| match metric {
        Metric::Cosine => distance.sqrt(),
        _ => distance,
    };
    let (near, random) = (length(median(near)?), length(median(random)?));
    (near > 0.0)
        .then(|| random / near)
        .filter(|contrast| contrast.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_is_that_of_the_medians() {
        let near = [1.0, 2.0, 90.0];
        let random = [3.0, 6.0, 1000.0];
        assert_eq!(contrast(&near, &random, Metric::Euclidean), Some(3.0));
        let squares = |values: [f64; 3]| values.map(|value| value * value);
        let cosine = contrast(&squares(near), &squares(random), Metric::Cosine);
        assert!((cosine.unwrap() - 3.0).abs() < 1e-12);
        assert_eq!(contrast(&[0.0; 3], &random, Metric::Euclidean), None);
        assert_eq!(
            contrast(&near, &[f64::INFINITY; 3], Metric::Euclidean),
            None
        );
    }
}
