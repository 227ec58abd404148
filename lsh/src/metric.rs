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
}

impl Metric {
    /// `"euclidean"`, `"manhattan"` or `"cosine"`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Euclidean => "euclidean",
            Metric::Manhattan => "manhattan",
            Metric::Cosine => "cosine",
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
        [Metric::Euclidean, Metric::Manhattan, Metric::Cosine]
            .into_iter()
            .find(|metric| metric.name() == name)
            .ok_or_else(|| Error::Parameter {
                name: "metric",
                must_be: "\"euclidean\", \"manhattan\" or \"cosine\"",
                value: format!("{name:?}"),
            })
    }
}
