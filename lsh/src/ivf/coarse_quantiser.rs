//! The coarse quantiser: centroids, each of which has the list of the rows that it is nearest to.
//!
//! K-means as a hash function (L. Paulevé, H. Jégou and L. Amsaleg, "Locality sensitive hashing: a
//! comparison of hash function types and querying mechanisms", 2010), on 8-bit codes, which tell
//! well enough which centroid is near.

use lshjoin_kernels::{
    Isa, LeftPanel, Quantised, RightPanel, Rows, Scalar, code_distances2, each_near_least, least,
    memory, sum_rows,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result},
    ivf::list_offsets::ListOffsets,
    vectors::Vectors,
};

/// Rows for each list that centroids are learnt from, and rounds of k-means.
pub(crate) const LEARNT_FROM: usize = 24;
pub(crate) const ROUNDS: usize = 4;

/// The step between the rows that centroids are learnt from.
pub(crate) fn centroid_sample_step(rows: usize, lists: usize) -> usize {
    (rows / lists.saturating_mul(LEARNT_FROM)).max(1)
}

/// The largest value of a row that centroids are learnt from: its square fits single precision.
const LARGEST: f64 = 1e18;

/// Rows that are compared with all centroids at a time.
pub(crate) const BLOCK: usize = 128;

/// How an out-of-memory error names them.
const CENTROIDS: &str = "centroids and their sample";

/// The centroids of at most `count` clusters of rows, row-major; near ones follow each other, mostly.
///
/// By Lloyd's algorithm (1982), from random rows on, some rounds of it, with distances by 8-bit codes.
///
/// # Errors
/// When a value is NaN, or the run is cancelled.
pub fn kmeans<T: Scalar>(
    rows: Rows<'_, T>,
    count: usize,
    seed: u64,
    ctx: &Context,
) -> Result<Vec<f32>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let values = rows.values().iter().map(|value| value.to_f64());
    let values = values.map(|value| value.clamp(-LARGEST, LARGEST) as f32);
    let values = memory::collect(values, CENTROIDS)?;
    let lists = CoarseQuantiser::of_sample(Rows::new(&values, rows.dim())?, count, seed, ctx)?;
    Ok(lists.into_centroids())
}

/// Centroids; near ones follow each other, mostly.
pub(crate) struct CoarseQuantiser {
    /// Values of a centroid.
    width: usize,
    /// (lists, width), row-major.
    centroids: Vec<f32>,
}

impl CoarseQuantiser {
    /// At most `count` lists, learnt from a sample of the values that the side's codes stand for.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_side<T: Scalar>(
        side: &Vectors<'_, T>,
        count: usize,
        seed: u64,
        ctx: &Context,
    ) -> Result<Self> {
        let step = centroid_sample_step(side.len(), count);
        let (sampled, dim) = (side.len().div_ceil(step), side.rows.dim());
        let mut values = memory::zeroed(sampled.saturating_mul(dim), CENTROIDS)?;
        values
            .par_chunks_mut(dim)
            .enumerate()
            .for_each(|(position, copy)| {
                let row = side.row((position * step) as u32);
                for (copy, value) in copy.iter_mut().zip(side.coded(row as usize)) {
                    *copy = value.clamp(-LARGEST, LARGEST) as f32;
                }
            });
        Self::of_sample(Rows::new(&values, dim)?, count, seed, ctx)
    }

    /// At most `count` lists, by k-means on these rows (Lloyd 1982).
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_sample(
        sample: Rows<'_, f32>,
        count: usize,
        seed: u64,
        ctx: &Context,
    ) -> Result<Self> {
        // Random rows to begin with, each once.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut order = memory::collect(0..sample.len(), ROW_NUMBERS)?;
        let count = count.clamp(1, order.len());
        for position in 0..count {
            let other = position + (rng.next_u64() % (order.len() - position) as u64) as usize;
            order.swap(position, other);
        }
        let first = order[..count].iter().flat_map(|&row| sample.row(row));
        let mut centroids = memory::empty(count * sample.dim(), CENTROIDS)?;
        centroids.extend(first);
        let mut quantiser = Self::of_parts(centroids, sample.dim());
        let codes = Quantised::new(sample, ctx.isa())?;
        let rows = memory::collect(0..sample.len() as u32, ROW_NUMBERS)?;
        for _ in 0..ROUNDS {
            let nearest = |_: usize, distances: &CentroidDistances| Ok(distances.nearest());
            let nearest = quantiser.each_row(&codes, &rows, nearest, ctx)?;
            quantiser.move_to(sample, &nearest, ctx.isa())?;
        }
        quantiser.reorder()?;
        Ok(quantiser)
    }

    /// The same with `by` added to each centroid.
    pub(crate) fn moved(mut self, by: Option<&[f32]>) -> Self {
        if let Some(by) = by {
            for centroid in self.centroids.chunks_mut(self.width) {
                let values = centroid.iter_mut().zip(by);
                values.for_each(|(value, by)| *value += by);
            }
        }
        self
    }

    /// From centroids that were learnt before, row-major, of `width` values.
    pub(crate) fn of_parts(centroids: Vec<f32>, width: usize) -> Self {
        Self { width, centroids }
    }

    /// How many lists there are.
    pub(crate) fn len(&self) -> usize {
        self.centroids.len() / self.width
    }

    /// The centroids.
    pub(crate) fn each(&self) -> impl Iterator<Item = &[f32]> {
        self.centroids.chunks(self.width)
    }

    /// The centroids, row-major.
    pub(crate) fn into_centroids(self) -> Vec<f32> {
        self.centroids
    }

    /// The centroids as rows.
    pub(crate) fn centroids(&self) -> Result<Rows<'_, f32>> {
        Ok(Rows::new(&self.centroids, self.width)?)
    }

    /// What `of_row` makes of each of these rows, by internal id: it is given the position in
    /// `rows` and the distances to all centroids.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn each_row<V: Send>(
        &self,
        codes: &Quantised,
        rows: &[u32],
        of_row: impl Fn(usize, &CentroidDistances) -> Result<V> + Sync,
        ctx: &Context,
    ) -> Result<Vec<V>> {
        let of_block = |distances: &mut dyn Iterator<Item = CentroidDistances>| {
            let of_rows = distances.map(|distances| of_row(distances.position, &distances));
            of_rows.collect()
        };
        let blocks: Vec<Vec<V>> = self.each_block(codes, rows, of_block, ctx)?;
        let mut of_rows = memory::empty(rows.len(), ROW_NUMBERS)?;
        of_rows.extend(blocks.into_iter().flatten());
        Ok(of_rows)
    }

    /// [`CoarseQuantiser::each_row`] for some of a side's rows, by index; nothing where the side
    /// has no codes.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn each_row_of<T: Scalar, V: Send>(
        &self,
        side: &Vectors<'_, T>,
        rows: &[u32],
        of_row: impl Fn(usize, &CentroidDistances) -> Result<V> + Sync,
        ctx: &Context,
    ) -> Result<Vec<V>> {
        let Some(codes) = &side.codes else {
            return Ok(Vec::new());
        };
        let ids = memory::collect(rows.iter().map(|&row| side.internal_id(row)), ROW_NUMBERS)?;
        self.each_row(codes, &ids, of_row, ctx)
    }

    /// What `of_block` makes of each block of rows, given their distances to all centroids.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn each_block<V: Send>(
        &self,
        codes: &Quantised,
        rows: &[u32],
        of_block: impl Fn(&mut dyn Iterator<Item = CentroidDistances>) -> Result<V> + Sync,
        ctx: &Context,
    ) -> Result<Vec<V>> {
        let centroids = Quantised::new(self.centroids()?, ctx.isa())?;
        let all: Vec<u32> = (0..self.len() as u32).collect();
        let mut right = RightPanel::new(ctx.isa());
        right.gather(&centroids, &all, &vec![-1.0; all.len()])?;
        let columns: Vec<Option<u32>> = right.columns().collect();
        let buffers = || (LeftPanel::new(ctx.isa()), Vec::new());
        let blocks = rows.par_chunks(BLOCK).enumerate();
        let blocks = blocks.map_init(buffers, |(left, squares), (block, rows)| {
            ctx.check()?;
            left.gather(codes, rows, &vec![-1.0; rows.len()])?;
            code_distances2(left, &right, squares)?;
            let of_rows = squares.chunks(columns.len()).enumerate();
            of_block(&mut of_rows.map(|(row, squares)| CentroidDistances {
                position: block * BLOCK + row,
                least: least(squares, ctx.isa()),
                squares,
                columns: &columns,
                isa: ctx.isa(),
            }))
        });
        blocks.collect()
    }

    /// Moves each centroid to the mean of its rows, if it has any.
    fn move_to(&mut self, sample: Rows<'_, f32>, nearest: &[u32], isa: Isa) -> Result<()> {
        let starts = ListOffsets::new(nearest.iter().copied(), self.len());
        let order = starts.order(nearest)?;
        let centroids = self.centroids.par_chunks_mut(self.width);
        centroids.enumerate().try_for_each(|(list, centroid)| {
            let rows = &order[starts.of(list as u32)];
            if !rows.is_empty() {
                let sums = sum_rows(sample, rows, isa)?;
                for (value, sum) in centroid.iter_mut().zip(sums) {
                    *value = (sum / rows.len() as f64) as f32;
                }
            }
            Ok(())
        })
    }

    /// Orders the centroids so that near ones follow each other, and near lists lie together in
    /// memory.
    fn reorder(&mut self) -> Result<()> {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        in_order(&mut order, &self.centroids, self.width);
        self.centroids = self.centroids()?.gather(&order)?;
        Ok(())
    }
}

/// A row's squared distances to all centroids, as far as codes tell: the same on every machine.
pub(crate) struct CentroidDistances<'a> {
    /// The position of the row among those that were asked for.
    position: usize,
    /// The least of them.
    least: f32,
    /// In the order of a panel's columns. Some of these only fill it up: they have no centroid and
    /// are infinitely far.
    squares: &'a [f32],
    columns: &'a [Option<u32>],
    isa: Isa,
}

impl CentroidDistances<'_> {
    /// The list of the row.
    pub(crate) fn nearest(&self) -> u32 {
        let mut nearest = None;
        self.within(0.0, |list, _| nearest = nearest.or(Some(list)));
        nearest.unwrap_or(0)
    }

    /// Calls `found` with the lists whose centroids are further than the nearest by no more than
    /// `margin`, and with by how much.
    pub(crate) fn within(&self, margin: f32, mut found: impl FnMut(u32, f32)) {
        let found = |column: usize| {
            if let Some(list) = self.columns[column] {
                found(list, self.squares[column] - self.least);
            }
        };
        each_near_least(self.squares, self.least, margin, found, self.isa);
    }

    /// How much further than the nearest each centroid is, by list.
    pub(crate) fn margins(&self) -> Result<Vec<f32>> {
        let lists = self.columns.iter().flatten().count();
        let mut margins = memory::filled(f32::INFINITY, lists, "margins")?;
        self.within(f32::INFINITY, |list, margin| {
            margins[list as usize] = margin;
        });
        Ok(margins)
    }

    /// How much further than the nearest one centroid is.
    pub(crate) fn margin(&self, list: u32) -> f32 {
        let column = self.columns.iter().position(|&column| column == Some(list));
        column.map_or(f32::INFINITY, |column| self.squares[column] - self.least)
    }

    /// The `count` nearest lists, nearest first.
    pub(crate) fn first(&self, count: usize) -> Vec<u32> {
        let lists = self.squares.iter().zip(self.columns);
        let lists = lists.filter_map(|(&square, &list)| Some((square, list?)));
        let nearest = nearest_first(lists.collect(), count).into_iter();
        nearest.map(|(_, list)| list).collect()
    }
}

/// The `most` nearest of some lists, given with their distances, nearest first.
pub(crate) fn nearest_first(mut lists: Vec<(f32, u32)>, most: usize) -> Vec<(f32, u32)> {
    let nearer = |x: &(f32, u32), y: &(f32, u32)| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1));
    if most < lists.len() {
        lists.select_nth_unstable_by(most, nearer);
        lists.truncate(most);
        lists.shrink_to_fit();
    }
    lists.sort_unstable_by(nearer);
    lists
}

/// Orders rows as the leaves of a k-d tree (J. Bentley, "Multidimensional binary search trees used
/// for associative searching", 1975).
fn in_order(rows: &mut [u32], values: &[f32], width: usize) {
    if rows.len() < 2 {
        return;
    }
    let value = |row: u32, axis: usize| values[row as usize * width + axis];
    let count = rows.len() as f64;
    // Row by row, as the values lie.
    let of_row = |&row: &u32| values[row as usize * width..][..width].iter();
    let (mut means, mut variances) = (vec![0.0; width], vec![0.0; width]);
    for row in rows.iter() {
        for (mean, &value) in means.iter_mut().zip(of_row(row)) {
            *mean += f64::from(value);
        }
    }
    means.iter_mut().for_each(|mean| *mean /= count);
    for row in rows.iter() {
        for ((variance, mean), &value) in variances.iter_mut().zip(&means).zip(of_row(row)) {
            let off = f64::from(value) - mean;
            *variance += off * off;
        }
    }
    let axis = (0..width)
        .max_by(|&x, &y| variances[x].total_cmp(&variances[y]))
        .unwrap_or(0);
    let by_value = |&x: &u32, &y: &u32| value(x, axis).total_cmp(&value(y, axis)).then(x.cmp(&y));
    rows.sort_unstable_by(by_value);
    let (low, high) = rows.split_at_mut(rows.len() / 2);
    in_order(low, values, width);
    in_order(high, values, width);
}
