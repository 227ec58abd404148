//! The grid of 8-bit codes, which all codes of a side share.

use lshjoin_kernels::{CommonScale, Isa, Quantised, Rows, Scalar, centre_of};

use crate::{
    base::{context::Context, error::Result, metric::Metric},
    vectors::norms::{directions, norms_of},
};

/// Where codes are counted from, if not from zero, and how long a step is.
pub(crate) struct Grid<T> {
    pub(crate) centre: Option<Vec<T>>,
    pub(crate) scale: CommonScale,
}

impl<T: Scalar> Grid<T> {
    /// For rows like these: all of a side, or a sample.
    pub(crate) fn of(rows: Rows<'_, T>, metric: Metric, ctx: &Context) -> Result<Self> {
        if metric != Metric::Cosine {
            return Ok(Self::of_values(rows, ctx.isa()));
        }
        let directions = directions(rows, &norms_of(rows, ctx)?)?;
        let Grid { centre, scale } =
            Grid::of_values(Rows::new(&directions, rows.dim())?, ctx.isa());
        let centre = centre.map(|centre| converted(&centre));
        Ok(Self { centre, scale })
    }

    fn of_values(rows: Rows<'_, T>, isa: Isa) -> Self {
        let centre = centre_of(rows, isa);
        let scale = CommonScale::of(rows, centre.as_deref(), isa);
        Self { centre, scale }
    }
}

/// Codes about a given centre (which may be none) and of a given scale, or else the rows' own; and
/// the centre.
pub(crate) fn quantised<T: Scalar>(
    rows: Rows<'_, T>,
    grid: Option<(Option<&[T]>, Option<CommonScale>)>,
    isa: Isa,
) -> Result<(Quantised<'static>, Option<Vec<T>>)> {
    let Grid { centre, scale } = match grid {
        None => Grid::of_values(rows, isa),
        Some((centre, scale)) => Grid {
            centre: centre.map(<[T]>::to_vec),
            scale: scale.unwrap_or_else(|| CommonScale::of(rows, centre, isa)),
        },
    };
    let codes = Quantised::with_scale(rows, centre.as_deref(), scale, isa)?;
    Ok((codes, centre))
}

/// The same values in another type; they are values of single precision.
pub(crate) fn converted<T: Scalar, U: Scalar>(values: &[T]) -> Vec<U> {
    let values = values.iter().map(|value| U::from_f64(value.to_f64()));
    values.collect()
}
