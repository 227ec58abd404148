//! Distances of packed bits.

use std::{fmt, str::FromStr};

use lshjoin_kernels::DifferenceLimit;

use crate::base::error::{Error, Result};

/// What "near" means for rows of packed bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BinaryMetric {
    /// In how many bits two rows differ.
    Hamming,
    /// 1 − |x ∧ y| / |x ∨ y|, between 0 and 1: the rows are sets of the bits that are set. 0 for two
    /// empty ones.
    Jaccard,
}

/// So much is added to the limits of Jaccard distances, which are rounded: no pair is lost, and the
/// distance itself decides.
const ROUNDED: f64 = 1.0 + 1e-6;

/// No pair at all.
pub(crate) const NOTHING: DifferenceLimit = DifferenceLimit {
    most: -1.0,
    slope: 0.0,
};

impl BinaryMetric {
    /// `"hamming"` or `"jaccard"`.
    pub fn name(self) -> &'static str {
        match self {
            BinaryMetric::Hamming => "hamming",
            BinaryMetric::Jaccard => "jaccard",
        }
    }

    /// Of rows that differ in so many bits and have so many set.
    pub(crate) fn distance(self, differing: u32, left: u32, right: u32) -> f32 {
        match self {
            BinaryMetric::Hamming => differing as f32,
            BinaryMetric::Jaccard if left + right == 0 => 0.0,
            // The union has half of what is set on both sides and of what differs.
            BinaryMetric::Jaccard => {
                let twice_the_union = f64::from(left + right + differing);
                (2.0 * f64::from(differing) / twice_the_union) as f32
            }
        }
    }

    /// Of two rows.
    pub(crate) fn of_rows(self, x: &[u8], y: &[u8]) -> f32 {
        let set = |row: &[u8]| row.iter().map(|byte| byte.count_ones()).sum();
        let differing = x.iter().zip(y).map(|(x, y)| (x ^ y).count_ones()).sum();
        self.distance(differing, set(x), set(y))
    }

    /// In how many bits rows may differ from one with `left` bits set that are no further from it than
    /// `distance`. Of rows that are further it may let in some.
    pub(crate) fn within(self, distance: f32, left: u32) -> DifferenceLimit {
        if distance < 0.0 {
            return NOTHING;
        }
        match self {
            BinaryMetric::Hamming => DifferenceLimit {
                most: distance,
                slope: 0.0,
            },
            BinaryMetric::Jaccard if distance >= 1.0 => DifferenceLimit {
                most: f32::INFINITY,
                slope: 0.0,
            },
            BinaryMetric::Jaccard => {
                // 2 d ≤ t (x + y + d), solved for d.
                let distance = f64::from(distance);
                let slope = distance / (2.0 - distance) * ROUNDED;
                DifferenceLimit {
                    most: (slope * f64::from(left)) as f32,
                    slope: slope as f32,
                }
            }
        }
    }

    /// The same for rows that are nearer than `distance`. Where many distances are equal, it is the
    /// least or the largest that they are equal to: of those none is let in.
    pub(crate) fn nearer(self, distance: f32, left: u32) -> DifferenceLimit {
        match self {
            _ if distance <= 0.0 => NOTHING,
            // Distances are whole numbers.
            BinaryMetric::Hamming => self.within(distance.ceil() - 1.0, left),
            // Some bit is set in both, or none in either.
            BinaryMetric::Jaccard if distance == 1.0 => match left {
                0 => self.within(0.0, left),
                _ => DifferenceLimit {
                    most: left as f32 - 1.0,
                    slope: 1.0,
                },
            },
            BinaryMetric::Jaccard => self.within(distance, left),
        }
    }
}

impl fmt::Display for BinaryMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BinaryMetric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [BinaryMetric::Hamming, BinaryMetric::Jaccard]
            .into_iter()
            .find(|metric| metric.name() == name)
            .ok_or_else(|| {
                let must_be = "\"hamming\" or \"jaccard\" for packed bits";
                Error::parameter("metric", must_be, format!("{name:?}"))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the limit lets in a row with so many bits set, from which a left row differs in so many.
    fn lets_in(limit: DifferenceLimit, differing: u32, right: u32) -> bool {
        differing as f32 <= limit.most + limit.slope * right as f32
    }

    #[test]
    fn limits_lose_no_pair() {
        for metric in [BinaryMetric::Hamming, BinaryMetric::Jaccard] {
            for left in 0..24_u32 {
                for right in 0..24 {
                    for common in 0..=left.min(right) {
                        let differing = left + right - 2 * common;
                        let distance = metric.distance(differing, left, right);
                        let lets_in = |limit| lets_in(limit, differing, right);
                        assert!(lets_in(metric.within(distance, left)));
                        assert!(lets_in(metric.nearer(distance.next_up(), left)));
                        for further in [0.5, 1.0, 2.0, 9.5] {
                            assert!(lets_in(metric.nearer(further, left)) || distance >= further);
                        }
                        assert!(lets_in(metric.nearer(f32::INFINITY, left)));
                        assert!(!lets_in(metric.within(-1.0, left)));
                        if metric == BinaryMetric::Hamming || [0.0, 1.0].contains(&distance) {
                            assert!(!lets_in(metric.nearer(distance, left)));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn empty_rows_are_equal() {
        assert_eq!(BinaryMetric::Jaccard.distance(0, 0, 0), 0.0);
        assert_eq!(BinaryMetric::Jaccard.distance(3, 0, 3), 1.0);
    }
}
