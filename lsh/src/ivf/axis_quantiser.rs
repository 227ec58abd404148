//! The coarse quantiser of an index: centroids along the principal axes of its rows.

use lshjoin_kernels::{Rows, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, metric::Metric},
    ivf::{
        centroids::{Centroids, Sample, centroid_sample_step},
        coarse_quantiser::nearest_first,
        list_offsets::ListOffsets,
    },
    pairs::top_k_join::TopKJoin,
    vectors::{
        Vectors,
        norms::sum_of_squares,
        principal_axes::{PrincipalAxes, project},
    },
};

/// Lists near a list: squared distances and numbers of lists, by rising distance.
pub(crate) type NearLists = Vec<(f32, u32)>;

/// A coarse quantiser whose centroids have only the coordinates along the leading principal axes.
pub(crate) struct AxisQuantiser {
    axes: PrincipalAxes,
    centroids: Centroids,
}

impl AxisQuantiser {
    /// At most `count` lists, learnt from a sample of the side's rows.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_sample<T: Scalar>(
        axes: &PrincipalAxes,
        side: &Vectors<'_, T>,
        count: usize,
        seed: u64,
        ctx: &Context,
    ) -> Result<Self> {
        let rows =
            (0..side.rows.len() as u32).step_by(centroid_sample_step(side.rows.len(), count));
        let rows = memory::collect(rows, ROW_NUMBERS)?;
        let values = side.rows.gather(&rows)?;
        let values = Rows::new(&values, side.rows.dim())?;
        let indices = rows.iter().map(|&row| row as usize);
        let sample = projected(axes, side, values, indices, ctx)?;
        let sample = Rows::new(&sample, axes.count())?;
        let sample = Vectors::new("sample", sample, Metric::Euclidean, ctx)?;
        let learnt_from = Sample::of_side(&sample, usize::MAX, ctx)?;
        let all = learnt_from.all()?;
        let centroids = Centroids::of_sample(&learnt_from, &all, count, (seed, 0), ctx)?;
        Ok(Self {
            axes: axes.clone(),
            centroids: centroids.moved(sample.centre()),
        })
    }

    /// From axes and centroids that were learnt before.
    pub(crate) fn of_parts(axes: PrincipalAxes, centroids: Vec<f32>) -> Self {
        let centroids = Centroids::of_parts(centroids, axes.count());
        Self { axes, centroids }
    }

    /// The centroids, row-major.
    pub(crate) fn into_centroids(self) -> Vec<f32> {
        self.centroids.into_values()
    }

    /// The list of each of the side's rows: that of the nearest centroid by exact distance.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_rows<T: Scalar>(
        &self,
        side: &Vectors<'_, T>,
        ctx: &Context,
    ) -> Result<Vec<u32>> {
        let projected = projected(&self.axes, side, side.rows, 0..side.rows.len(), ctx)?;
        let rows = Rows::new(&projected, self.axes.count())?;
        let centroids = self.centroids.rows()?;
        let centroids = Vectors::new("centroids", centroids, Metric::Euclidean, ctx)?;
        let rows = centroids.prepare_other("rows", rows, ctx)?;
        let join = TopKJoin::new(Some(&rows), &centroids, 1, ctx)?;
        join.join_all(&join.nearest.unbounded())?;
        let found = join.nearest.finish()?.indices;
        Ok(memory::collect(
            found.into_iter().map(|list| list as u32),
            ROW_NUMBERS,
        )?)
    }

    /// Gives the side's rows internal ids by list, within a list as they come; returns where lists
    /// start.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn starts<T: Scalar>(
        &self,
        side: &mut Vectors<'_, T>,
        ctx: &Context,
    ) -> Result<ListOffsets> {
        let lists = self.of_rows(side, ctx)?;
        let starts = ListOffsets::new(lists.iter().copied(), self.centroids.len());
        side.reorder(starts.order(&lists)?)?;
        Ok(starts)
    }

    /// For each list the `most` nearest lists that hold items, nearest first, with squared
    /// distances.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn neighbors(
        &self,
        items: &ListOffsets,
        most: usize,
        ctx: &Context,
    ) -> Result<Vec<NearLists>> {
        let centroids: Vec<&[f32]> = self.centroids.each().collect();
        centroids
            .par_iter()
            .map(|centroid| {
                ctx.check()?;
                let others = (0..).zip(&centroids);
                let others = others.filter(|&(list, _)| !items.of(list).is_empty());
                let others = others.map(|(list, other)| (distance2(centroid, other), list));
                Ok(nearest_first(others.collect(), most))
            })
            .collect()
    }
}

/// Coordinates along the axes of `rows`, which are those of the side at `indices`: of their
/// directions where the metric compares these.
fn projected<T: Scalar>(
    axes: &PrincipalAxes,
    side: &Vectors<'_, T>,
    rows: Rows<'_, T>,
    indices: impl Iterator<Item = usize>,
    ctx: &Context,
) -> Result<Vec<f32>> {
    let mut projected = project(rows, axes.rows()?, ctx)?;
    for (row, index) in projected.chunks_mut(axes.count()).zip(indices) {
        let scale = side.direction_scale(index);
        row.iter_mut()
            .for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
    Ok(projected)
}

/// The squared Euclidean distance.
fn distance2(x: &[f32], y: &[f32]) -> f32 {
    sum_of_squares(x.iter().zip(y).map(|(x, y)| f64::from(x - y))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;
    use crate::ivf::list_offsets::ListOffsets;
    use crate::vectors::principal_axes::PrincipalAxes;

    #[test]
    fn near_lists_are_not_searched_once_cancelled() {
        let axes = PrincipalAxes::of_parts(vec![1.0], 1);
        let quantiser = AxisQuantiser::of_parts(axes, vec![0.0, 3.0, 1.0]);
        let items = ListOffsets::of_starts(vec![0, 1, 2, 3]);
        let ctx = Context::new().unwrap();
        let near = quantiser.neighbors(&items, 2, &ctx).unwrap();
        assert_eq!(near[0], [(0.0, 0), (1.0, 2)]);
        ctx.cancel();
        assert_eq!(quantiser.neighbors(&items, 2, &ctx), Err(Error::Cancelled));
    }
}
