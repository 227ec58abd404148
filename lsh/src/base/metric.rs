use std::{fmt, str::FromStr};

use crate::base::error::{Error, Result};

/// What "near" means.
///
/// Distances of all finite rows are right to a few roundings of the rows' type, from the smallest
/// subnormal number up to the magnitudes below, with L the largest number of the type and d the
/// dimension: beyond these a distance might not fit the type, and joins refuse the row by its index and
/// value.
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
    /// −x·y: the largest inner product is the nearest. For [`crate::knn_join`] only; of values up to
    /// √(L / d). Right to a few roundings of ‖x‖‖y‖ in double precision.
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
        .ok_or_else(|| Error::Parameter {
            name: "metric",
            must_be: "\"euclidean\", \"manhattan\", \"cosine\" or \"inner_product\"",
            value: format!("{name:?}"),
        })
    }
}
