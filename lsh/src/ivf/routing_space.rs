//! Where rows that are routed are compared with centroids.

use lshjoin_kernels::{Rows, Scalar, check_finite, memory};
use rayon::prelude::*;

use crate::{
    base::{check::check_dimension, context::Context, error::Result, metric::Metric},
    vectors::{augment::exponent_of, norms::sum_of_squares},
};

/// Rows of the sample have values up to 1; larger ones of others count as this.
const MOST: f64 = 1e6;

/// Exponents of the factor by which values are brought there.
const EXPONENTS: i32 = 1000;

/// How an out-of-memory error names them.
pub(super) const ROUTED: &str = "rows that are routed";

/// A side of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinSide {
    /// The rows that want neighbours.
    Queries,
    /// The rows to choose from.
    Items,
}

impl JoinSide {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Queries => "queries",
            Self::Items => "items",
        }
    }
}

/// Where rows are compared with centroids: by Euclidean distance or the cosine, in single precision,
/// at a scale that the sample tells.
pub(super) struct Space {
    pub(super) metric: Metric,
    /// Values of a row as it comes.
    pub(super) dim: usize,
    pub(super) factor: f64,
    /// The largest norm of the sampled items. For inner products: items have a value more, by which
    /// all have this norm, queries are given it, and the nearest then have the largest product (see
    /// [`augment`](crate::vectors::augment)).
    pub(super) longest: f64,
}

impl Space {
    pub(super) fn of<T: Scalar>(items: Rows<'_, T>, metric: Metric) -> Result<Self> {
        let values = items.values()?;
        let values = values.iter().map(|value| value.to_f64().abs());
        let exponent = exponent_of(values.fold(0.0, f64::max));
        let factor = 2_f64.powi(-exponent.clamp(-EXPONENTS, EXPONENTS));
        let rows = (0..items.len()).map(|row| norm(&items.row(row), factor));
        Ok(Self {
            metric,
            dim: items.dim(),
            factor,
            longest: rows.fold(0.0, f64::max),
        })
    }

    pub(super) fn width(&self) -> usize {
        self.dim + usize::from(self.metric == Metric::InnerProduct)
    }

    /// By what rows are compared with centroids: that orders lists nearly as the metric itself does.
    pub(super) const fn metric_of_lists(&self) -> Metric {
        match self.metric {
            Metric::Cosine => Metric::Cosine,
            _ => Metric::Euclidean,
        }
    }

    /// By what neighbours are found: inner products are distances here.
    pub(super) const fn metric_of_rows(&self) -> Metric {
        match self.metric {
            Metric::InnerProduct => Metric::Euclidean,
            metric => metric,
        }
    }

    pub(super) fn rows<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        side: JoinSide,
        ctx: &Context,
    ) -> Result<Vec<f32>> {
        check_dimension(side.name(), rows, self.dim)?;
        check_finite(rows, ctx.isa()).map_err(|error| (side.name(), error))?;
        let width = self.width();
        let mut values = memory::zeroed(rows.len().saturating_mul(width), ROUTED)?;
        let to = values.par_chunks_mut(width.max(1)).enumerate();
        to.for_each(|(row, to)| {
            let row = rows.row(row);
            let mut factor = self.factor;
            if self.metric == Metric::InnerProduct {
                let norm = norm(&row, factor);
                match side {
                    JoinSide::Queries if norm > 0.0 => factor *= self.longest / norm,
                    JoinSide::Queries => {}
                    JoinSide::Items => {
                        let rest = self.longest.powi(2) - norm.powi(2);
                        to[self.dim] = rest.max(0.0).sqrt() as f32;
                    }
                }
            }
            for (to, value) in to.iter_mut().zip(row.iter()) {
                *to = (value.to_f64() * factor).clamp(-MOST, MOST) as f32;
            }
        });
        Ok(values)
    }
}

fn norm<T: Scalar>(row: &[T], factor: f64) -> f64 {
    let values = row.iter().map(|value| value.to_f64() * factor);
    sum_of_squares(values.map(|value| value.clamp(-MOST, MOST))).sqrt()
}
