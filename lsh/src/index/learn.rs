//! What is learnt from a sample of the items of an index.

use std::borrow::Cow;

use lshjoin_kernels::{Rows, memory};

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
        metric::Metric,
        plan::PartitionPlan,
    },
    ivf::axis_quantiser::AxisQuantiser,
    storage::layout::{has_codes, width},
    vectors::{
        Vectors, augment::with_last_value, grid::Grid, norms::norms_of,
        principal_axes::PrincipalAxes,
    },
};

/// Samples of the items, which all is learnt from.
#[derive(Default)]
pub(crate) struct Sample {
    /// Items at equal steps, for the axes.
    pub(crate) axes: Vec<f32>,
    /// The same, at other steps, for the centroids.
    pub(crate) centroids: Vec<f32>,
    /// The largest norm, where inner products are searched.
    pub(crate) longest: f64,
}

/// What is learnt from the samples.
pub(crate) struct Learnt {
    pub(crate) axes: PrincipalAxes,
    pub(crate) centroids: Vec<f32>,
    /// `None` where the metric has no codes.
    pub(crate) grid: Option<Grid<f32>>,
    pub(crate) longest: f64,
}

impl Sample {
    /// Adds those of a batch that are at the steps of each sample; `first` items came before.
    pub(crate) fn add(
        &mut self,
        items: Rows<'_, f32>,
        first: usize,
        axes: usize,
        centroids: usize,
    ) -> Result<()> {
        let take = |step: usize, values: &mut Vec<f32>| {
            let start = first.next_multiple_of(step) - first;
            let rows = (start..items.len()).step_by(step);
            memory::reserve(values, rows.len() * items.dim(), "a sample of the items")?;
            rows.for_each(|row| values.extend_from_slice(items.row(row)));
            Ok::<_, Error>(())
        };
        take(axes, &mut self.axes)?;
        take(centroids, &mut self.centroids)
    }

    pub(crate) fn learn(
        self,
        metric: Metric,
        dim: usize,
        plan: &PartitionPlan,
        ctx: &Context,
    ) -> Result<Learnt> {
        let width = width(metric, dim);
        let mut learnt = Learnt {
            axes: PrincipalAxes::of_parts(Vec::new(), width),
            centroids: Vec::new(),
            grid: None,
            longest: self.longest,
        };
        if !has_codes(metric) {
            return Ok(learnt);
        }
        let rows = learnt.kept(Rows::new(&self.axes, dim)?, metric, ctx)?;
        learnt.axes = PrincipalAxes::of_sample(Rows::new(&rows, width)?, plan.axes, ctx)?;
        let rows = learnt.kept(Rows::new(&self.centroids, dim)?, metric, ctx)?;
        let rows = Rows::new(&rows, width)?;
        learnt.grid = Some(Grid::of(rows, metric, ctx)?);
        let side = Vectors::without_codes("items", rows, metric, ctx)?;
        let quantiser = AxisQuantiser::of_sample(&learnt.axes, &side, plan.lists, plan.seed, ctx)?;
        learnt.centroids = quantiser.into_centroids();
        Ok(learnt)
    }
}

impl Learnt {
    pub(crate) fn axes_count(&self) -> usize {
        self.axes.count()
    }

    pub(crate) fn lists_count(&self) -> usize {
        self.centroids.len() / self.axes_count().max(1)
    }

    /// What is subtracted from rows before they are coded, if anything.
    pub(crate) fn centre(&self) -> Option<&[f32]> {
        self.grid.as_ref().and_then(|grid| grid.centre.as_deref())
    }

    pub(crate) fn quantiser(&self) -> AxisQuantiser {
        AxisQuantiser::of_parts(self.axes.clone(), self.centroids.clone())
    }

    /// Rows as they are stored: for inner products, augmented.
    pub(crate) fn kept<'a>(
        &self,
        items: Rows<'a, f32>,
        metric: Metric,
        ctx: &Context,
    ) -> Result<Cow<'a, [f32]>> {
        if metric != Metric::InnerProduct {
            return Ok(items.values().into());
        }
        let norms = norms_of(items, ctx)?;
        let last = |row: usize| self.longest.powi(2) - norms[row].powi(2);
        Ok(with_last_value(items, |row| last(row).max(0.0).sqrt())?.into())
    }
}
