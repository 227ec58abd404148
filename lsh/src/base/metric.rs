//! Metrics and distances.

use std::{fmt, str::FromStr};

use crate::base::error::{Error, Result};

/// What "near" means where pairs are compared with a threshold: a [`Metric`] whose least value is
/// that of a row with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Distance {
    /// As [`Metric::Euclidean`].
    Euclidean,
    /// As [`Metric::Manhattan`].
    Manhattan,
    /// As [`Metric::Cosine`].
    Cosine,
}

impl Distance {
    /// `"euclidean"`, `"manhattan"` or `"cosine"`.
    pub fn name(self) -> &'static str {
        Metric::from(self).name()
    }
}

impl From<Distance> for Metric {
    fn from(distance: Distance) -> Self {
        match distance {
            Distance::Euclidean => Metric::Euclidean,
            Distance::Manhattan => Metric::Manhattan,
            Distance::Cosine => Metric::Cosine,
        }
    }
}

impl TryFrom<Metric> for Distance {
    type Error = Error;

    fn try_from(metric: Metric) -> Result<Self> {
        match metric {
            Metric::Euclidean => Ok(Distance::Euclidean),
            Metric::Manhattan => Ok(Distance::Manhattan),
            Metric::Cosine => Ok(Distance::Cosine),
            Metric::InnerProduct => Err(Error::parameter(
                "metric",
                "a distance; inner products have none but in knn_join",
                metric,
            )),
        }
    }
}

impl FromStr for Distance {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        name.parse::<Metric>()?.try_into()
    }
}

/// What "near" means.
///
/// Distances of all finite rows are right to a few roundings of the rows' type, from the smallest
/// subnormal number up to the magnitudes below, with L the largest number of the type and d the
/// dimension: beyond these a distance might not fit the type, and joins refuse the row by its index
/// and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// √Σ (xᵢ − yᵢ)²; of values up to L / (2√d).
    Euclidean,
    /// Σ |xᵢ − yᵢ|; of values up to L / (2d).
    Manhattan,
    /// 1 − x·y / (‖x‖‖y‖), between 0 and 2; 1 where a vector is zero. Of values up to L / √d; small
    /// distances are right too, as half the squared distance of the two directions.
    Cosine,
    /// −x·y: the largest inner product is the nearest. For [`KnnJoin`](crate::KnnJoin) only; of
    /// values up to √(L / d). Right to a few roundings of ‖x‖‖y‖ in double precision.
    InnerProduct,
}

impl Metric {
    /// `"euclidean"`, `"manhattan"`, `"cosine"` or `"inner_product"`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Euclidean => "euclidean",
            Metric::Manhattan => "manhattan",
            Metric::Cosine => "cosine",
            Metric::InnerProduct => "inner_product",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [
            Metric::Euclidean,
            Metric::Manhattan,
            Metric::Cosine,
            Metric::InnerProduct,
        ]
        .into_iter()
        .find(|metric| metric.name() == name)
        .ok_or_else(|| {
            Error::parameter(
                "metric",
                "\"euclidean\", \"manhattan\", \"cosine\" or \"inner_product\"; of packed bits \
                 \"hamming\" or \"jaccard\"",
                format!("{name:?}"),
            )
        })
    }
}
