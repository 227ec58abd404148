//! One side of a join: its rows, and what scoring pairs of them needs to know.

use lshjoin_kernels::{
    Isa, Measure, Quantised, Rows, Scalar, check_finite, distances_of,
};
use rayon::prelude::*;

use crate::{
    error::{Error, Result},
    metric::Metric,
    run::Run,
};

/// Rows that are normalised at a time, so that normalised copies stay small.
const CHUNK: usize = 4096;

/// The rows of one side, their 8-bit codes where the metric can be filtered on codes, and their
/// squared norms where it is the cosine.
pub(crate) struct Side<'a, T> {
    pub(crate) rows: Rows<'a, T>,
    pub(crate) codes: Option<Quantised>,
    squares: Vec<f64>,
}

impl<'a, T: Scalar> Side<'a, T> {
    pub(crate) fn new(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        run: &Run,
    ) -> Result<Self> {
        check_finite(rows, run.isa()).map_err(|error| error.on(name))?;
        run.check()?;
        let mut side = Self { rows, codes: None, squares: Vec::new() };
        match metric {
            Metric::Euclidean => side.codes = Some(Quantised::new(rows, run.isa())?),
            Metric::Manhattan => {}
            Metric::Cosine => {
                side.squares =
                    (0..rows.len()).into_par_iter().map(|row| square(rows.row(row))).collect();
                side.codes = Some(side.codes_of_directions(run.isa())?);
            }
        }
        Ok(side)
    }
}
