//! The grid of 8-bit codes, which all codes of a side share.

use lshjoin_kernels::{CommonScale, Isa, Rows, Scalar, centre_of};

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

    /// The one that is given, about a centre, which may be none, and of a scale, or else that of rows
    /// like these; where none is given, a grid for rows like these.
    pub(crate) fn or_of(
        given: Option<(Option<&[T]>, Option<CommonScale>)>,
        rows: Rows<'_, T>,
        isa: Isa,
    ) -> Self {
        match given {
            None => Self::of_values(rows, isa),
            Some((centre, scale)) => Self {
                centre: centre.map(<[T]>::to_vec),
                scale: scale.unwrap_or_else(|| CommonScale::of(rows, centre, isa)),
            },
        }
    }
}

/// The same values in another type; they are values of single precision.
pub(crate) fn converted<T: Scalar, U: Scalar>(values: &[T]) -> Vec<U> {
    let values = values.iter().map(|value| U::from_f64(value.to_f64()));
    values.collect()
}
