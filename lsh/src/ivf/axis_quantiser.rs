//! The coarse quantiser of an index: centroids along the principal axes of its rows.

use lshjoin_kernels::{Rows, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Run, error::Result, metric::Metric},
    ivf::{
        coarse_quantiser::{Cells, sample_step},
        list_offsets::CellStarts,
    },
    pairs::top_k_join::TopKJoin,
    vectors::{
        Side,
        principal_axes::{PrincipalAxes, project},
    },
};

/// Cells near a cell: their squared distances and numbers, by rising distance.
pub(crate) type Neighborhood = Vec<(f32, u32)>;

/// Cells of an index, in the space of the leading principal axes of its rows.
pub(crate) struct AxisCells {
    axes: PrincipalAxes,
    cells: Cells,
}

impl AxisCells {
    /// At most `count` cells, from a sample of the side's rows.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_sample<T: Scalar>(
        axes: &PrincipalAxes,
        side: &Side<'_, T>,
        count: usize,
        seed: u64,
        run: &Run,
    ) -> Result<Self> {
        let rows = (0..side.rows.len() as u32).step_by(sample_step(side.rows.len(), count));
        let rows = memory::collect(rows, ROW_NUMBERS)?;
        let values = side.rows.gather(&rows)?;
        let values = Rows::new(&values, side.rows.dim())?;
        let indices = rows.iter().map(|&row| row as usize);
        let sample = projected(axes, side, values, indices, run)?;
        let sample = Rows::new(&sample, axes.count())?;
        let sample = Side::new("sample", sample, Metric::Euclidean, run)?;
        let cells = Cells::of_side(&sample, count, seed, run)?.moved(sample.centre());
        let axes = axes.clone();
        Ok(Self { axes, cells })
    }

    /// What was learnt before.
    pub(crate) fn of_parts(axes: PrincipalAxes, centroids: Vec<f32>) -> Self {
        let cells = Cells::of_parts(centroids, axes.count());
        Self { axes, cells }
    }

    /// The centroids, row-major.
    pub(crate) fn into_centroids(self) -> Vec<f32> {
        self.cells.into_centroids()
    }

    /// The cell of each of the side's rows, exactly.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_rows<T: Scalar>(&self, side: &Side<'_, T>, run: &Run) -> Result<Vec<u32>> {
        let projected = projected(&self.axes, side, side.rows, 0..side.rows.len(), run)?;
        let rows = Rows::new(&projected, self.axes.count())?;
        let centroids = self.cells.centroids()?;
        let centroids = Side::new("centroids", centroids, Metric::Euclidean, run)?;
        let rows = centroids.to_meet("rows", rows, run)?;
        let join = TopKJoin::new(Some(&rows), &centroids, 1, run)?;
        join.meet_all(&join.nearest.first())?;
        let found = join.nearest.finish()?.indices;
        Ok(memory::collect(
            found.into_iter().map(|cell| cell as u32),
            ROW_NUMBERS,
        )?)
    }

    /// Numbers the side's rows by cell, then as they come.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn starts<T: Scalar>(
        &self,
        side: &mut Side<'_, T>,
        run: &Run,
    ) -> Result<CellStarts> {
        let cells = self.of_rows(side, run)?;
        let starts = CellStarts::new(cells.iter().copied(), self.cells.len());
        side.reorder(starts.order(&cells)?)?;
        Ok(starts)
    }

    /// For each cell the `most` nearest cells that hold items, nearest first, with squared distances.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn neighbors(
        &self,
        items: &CellStarts,
        most: usize,
        run: &Run,
    ) -> Result<Vec<Neighborhood>> {
        let centroids: Vec<&[f32]> = self.cells.each().collect();
        centroids
            .par_iter()
            .map(|centroid| {
                run.check()?;
                let mut neighbors: Neighborhood = (0..)
                    .zip(&centroids)
                    .filter(|&(cell, _)| !items.of(cell).is_empty())
                    .map(|(cell, other)| (distance2(centroid, other), cell))
                    .collect();
                let nearer =
                    |x: &(f32, u32), y: &(f32, u32)| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1));
                if neighbors.len() > most {
                    neighbors.select_nth_unstable_by(most, nearer);
                    neighbors.truncate(most);
                    neighbors.shrink_to_fit();
                }
                neighbors.sort_unstable_by(nearer);
                Ok(neighbors)
            })
            .collect()
    }
}

/// The coordinates along the axes of some of the side's rows, of their directions where these are
/// what the metric compares; `indices` are those of `rows`.
fn projected<T: Scalar>(
    axes: &PrincipalAxes,
    side: &Side<'_, T>,
    rows: Rows<'_, T>,
    indices: impl Iterator<Item = usize>,
    run: &Run,
) -> Result<Vec<f32>> {
    let mut projected = project(rows, axes.rows()?, run)?;
    for (row, index) in projected.chunks_mut(axes.count()).zip(indices) {
        let scale = side.direction_scale(index);
        row.iter_mut()
            .for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
    Ok(projected)
}

fn distance2(x: &[f32], y: &[f32]) -> f32 {
    let differences = x.iter().zip(y).map(|(x, y)| f64::from(x - y));
    differences
        .map(|difference| difference * difference)
        .sum::<f64>() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;
    use crate::ivf::list_offsets::CellStarts;
    use crate::vectors::principal_axes::PrincipalAxes;

    #[test]
    fn cells_are_not_looked_for_once_cancelled() {
        let axes = PrincipalAxes::of_parts(vec![1.0], 1);
        let cells = AxisCells::of_parts(axes, vec![0.0, 3.0, 1.0]);
        let items = CellStarts::of_starts(vec![0, 1, 2, 3]);
        let run = Run::new().unwrap();
        let near = cells.neighbors(&items, 2, &run).unwrap();
        assert_eq!(near[0], [(0.0, 0), (1.0, 2)]);
        run.cancel();
        assert_eq!(cells.neighbors(&items, 2, &run), Err(Error::Cancelled));
    }
}
