use std::{fmt, str::FromStr};

use crate::error::{Error, Result};

/// What "near" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// √Σ (xᵢ − yᵢ)².
    Euclidean,
    /// Σ |xᵢ − yᵢ|.
    Manhattan,
    /// 1 − x·y / (‖x‖‖y‖), between 0 and 2; 1 where a vector is zero.
    Cosine,
    /// −x·y: the largest inner product is the nearest. For [`crate::knn_join`] only.
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
