//! How a projection becomes a bucket id.

use crate::rows::scalar::Scalar;

/// How a projection becomes a bucket id.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Bucketing {
    /// `⌊(r·x + b) · (1 / w)⌋`: p-stable hashing (Datar et al. 2004), w being the bucket length.
    Width(f64),
    /// 1 where `r·x + b ≥ 0`, else 0: random hyperplanes (Charikar 2002).
    Sign,
}

impl Bucketing {
    /// The bucket of r·x + b in double precision: the definition. It need not fit an id.
    pub(super) fn bucket(self, place: f64) -> f64 {
        match self {
            Bucketing::Width(_) => (place * self.scale()).floor(),
            Bucketing::Sign => f64::from(u8::from(place >= 0.0)),
        }
    }

    /// What projections are multiplied by: 1 / w, or 1 for signs.
    pub(super) fn scale(self) -> f64 {
        match self {
            Bucketing::Width(width) => 1.0 / width,
            Bucketing::Sign => 1.0,
        }
    }

    /// The constants of a function with this offset b.
    pub(super) fn rule<T: Scalar>(self, offset: f64) -> BucketRule<T> {
        let sign = self == Bucketing::Sign;
        let middle = if sign { 0.0 } else { 0.5 };
        BucketRule {
            scale: T::from_f64(self.scale()),
            offset: T::from_f64(offset * self.scale() - middle),
            sign,
        }
    }
}

/// One hash function's constants, in the precision of the projection.
#[derive(Clone, Copy, Debug)]
pub(super) struct BucketRule<T> {
    /// What projections are multiplied by: 1 / w, or 1 for signs.
    pub(super) scale: T,
    /// What is added then: b / w − ½, so that the nearest integer is the bucket; b for signs.
    pub(super) offset: T,
    /// Whether the ids are 0 below zero and 1 from there on, with no other boundary.
    pub(super) sign: bool,
}
