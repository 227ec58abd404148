//! What is learnt from a sample of the items of an index.

use std::borrow::Cow;

use lshjoin_kernels::{Rows, memory};

use crate::{
    base::{context::Context, error::Result, metric::Metric, plan::PartitionPlan},
    ivf::coarse_quantiser::{CoarseQuantiser, QuantiserParts},
    storage::layout::{has_codes, width},
    vectors::{Vectors, augment::with_last_value, grid::Grid, norms::norms_of},
};

/// What all is learnt from.
#[derive(Default)]
pub(crate) struct Sample {
    /// Items at equal steps.
    rows: Vec<f32>,
    /// The largest norm, where inner products are searched.
    pub(crate) longest: f64,
}

/// What is learnt from the sample.
pub(crate) struct Learnt {
    pub(crate) quantiser: QuantiserParts,
    /// `None` where the metric has no codes.
    pub(crate) grid: Option<Grid<f32>>,
    pub(crate) longest: f64,
}

impl Sample {
    /// Adds every `step`th of all items from a batch; `first` items came before.
    pub(crate) fn add(&mut self, items: Rows<'_, f32>, first: usize, step: usize) -> Result<()> {
        let start = first.next_multiple_of(step) - first;
        let rows = (start..items.len()).step_by(step);
        memory::reserve(
            &mut self.rows,
            rows.len() * items.dim(),
            "a sample of the items",
        )?;
        rows.for_each(|row| items.append_row(row, &mut self.rows));
        Ok(())
    }

    pub(crate) fn learn(
        self,
        metric: Metric,
        dim: usize,
        plan: &PartitionPlan,
        ctx: &Context,
    ) -> Result<Learnt> {
        let mut learnt = Learnt {
            quantiser: QuantiserParts::default(),
            grid: None,
            longest: self.longest,
        };
        if !has_codes(metric) {
            return Ok(learnt);
        }
        let rows = learnt.kept(Rows::new(&self.rows, dim)?, metric, ctx)?;
        let rows = Rows::new(&rows, width(metric, dim))?;
        let grid = Grid::of(rows, metric, ctx)?;
        let side = Vectors::with_grid("items", rows, metric, &grid, ctx)?;
        let quantiser =
            CoarseQuantiser::of_side(&side, plan.lists, plan.until_recall, plan.seed, ctx)?;
        (learnt.quantiser, learnt.grid) = (quantiser.into_parts(), Some(grid));
        Ok(learnt)
    }
}

impl Learnt {
    pub(crate) fn groups(&self) -> usize {
        self.quantiser.starts.len().saturating_sub(1)
    }

    pub(crate) fn lists(&self) -> usize {
        self.quantiser.starts.last().map_or(0, |&end| end as usize)
    }

    /// What is subtracted from rows before they are coded, if anything.
    pub(crate) fn centre(&self) -> Option<&[f32]> {
        self.grid.as_ref().and_then(|grid| grid.centre.as_deref())
    }

    /// Rows as they are stored, prepared: for inner products, augmented ones.
    pub(crate) fn prepared<'a>(
        &self,
        rows: Rows<'a, f32>,
        metric: Metric,
        ctx: &Context,
    ) -> Result<Vectors<'a, f32>> {
        let side = match &self.grid {
            Some(grid) => Vectors::with_grid("items", rows, metric, grid, ctx)?,
            None => Vectors::new("items", rows, metric, ctx)?,
        };
        match metric {
            Metric::InnerProduct => side.with_norm(self.longest),
            _ => Ok(side),
        }
    }

    /// Rows as they are stored: for inner products, augmented.
    pub(crate) fn kept<'a>(
        &self,
        items: Rows<'a, f32>,
        metric: Metric,
        ctx: &Context,
    ) -> Result<Cow<'a, [f32]>> {
        if metric != Metric::InnerProduct {
            return Ok(items.values()?);
        }
        let norms = norms_of(items, ctx)?;
        let last = |row: usize| self.longest.powi(2) - norms[row].powi(2);
        Ok(with_last_value(items, |row| last(row).max(0.0).sqrt())?.into())
    }
}
