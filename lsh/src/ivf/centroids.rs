//! Centroids by k-means, learnt from a sample.
//!
//! K-means as a hash function (L. Paulevé, H. Jégou and L. Amsaleg, "Locality sensitive hashing: a
//! comparison of hash function types and querying mechanisms", 2010), on 8-bit codes, which tell
//! well enough which centroid is near.

use lshjoin_kernels::{
    CodePair, Isa, LeftPanel, Quantised, RightPanel, Rows, Scalar, code_distances2, code_pairs,
    insert_keys, least, memory, sum_rows,
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

/// Sampled rows for each centroid of an index; and rounds of k-means.
const LEARNT_FROM: usize = 24;
pub(crate) const ROUNDS: usize = 4;

/// The largest value of a row that centroids are learnt from: its square fits single precision.
const LARGEST: f64 = 1e18;

/// Rows that are compared with all centroids at a time.
pub(crate) const BLOCK: usize = 128;

/// How an out-of-memory error names them.
pub(crate) const CENTROIDS: &str = "centroids and their sample";

/// The step between the rows that so many centroids are learnt from.
pub(crate) fn centroid_sample_step(rows: usize, centroids: usize) -> usize {
    (rows / centroids.saturating_mul(LEARNT_FROM)).max(1)
}

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
    let sample = Sample::new(memory::collect(values, CENTROIDS)?, rows.dim(), ctx)?;
    let centroids = Centroids::of_sample(&sample, &sample.all()?, count, (seed, 0), ctx)?;
    Ok(centroids.into_values())
}

/// Rows that centroids are learnt from.
pub(crate) struct Sample {
    /// Values of a row.
    width: usize,
    values: Vec<f32>,
    pub(crate) codes: Quantised<'static>,
}

impl Sample {
    fn new(values: Vec<f32>, width: usize, ctx: &Context) -> Result<Self> {
        let codes = Quantised::new(Rows::new(&values, width)?, ctx.isa())?;
        Ok(Self {
            width,
            values,
            codes,
        })
    }

    /// About so many of a side's rows: the values that their codes stand for.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_side<T: Scalar>(
        side: &Vectors<'_, T>,
        rows: usize,
        ctx: &Context,
    ) -> Result<Self> {
        ctx.check()?;
        let step = (side.len() / rows.max(1)).max(1);
        let (sampled, dim) = (side.len().div_ceil(step), side.rows.dim());
        let mut values = memory::zeroed(sampled.saturating_mul(dim), CENTROIDS)?;
        let copies = values.par_chunks_mut(dim).enumerate();
        copies.for_each(|(place, copy)| {
            let row = side.row((place * step) as u32);
            for (copy, value) in copy.iter_mut().zip(side.coded(row as usize)) {
                *copy = value.clamp(-LARGEST, LARGEST) as f32;
            }
        });
        Self::new(values, dim, ctx)
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.codes.len()
    }

    /// All of the rows.
    pub(crate) fn all(&self) -> Result<Vec<u32>> {
        Ok(memory::collect(0..self.len() as u32, ROW_NUMBERS)?)
    }

    fn rows(&self) -> Result<Rows<'_, f32>> {
        Ok(Rows::new(&self.values, self.width)?)
    }
}

/// Centroids; near ones have near numbers, mostly.
pub(crate) struct Centroids {
    /// Values of a centroid.
    width: usize,
    /// (centroids, width), row-major.
    values: Vec<f32>,
}

impl Centroids {
    /// At most `count` centroids of some rows of a sample, by k-means (Lloyd 1982) from random rows
    /// on, which the seed and a number for the choice of rows tell.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_sample(
        sample: &Sample,
        rows: &[u32],
        count: usize,
        (seed, choice): (u64, u64),
        ctx: &Context,
    ) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(choice);
        let mut order = memory::copied(rows, ROW_NUMBERS)?;
        let count = count.clamp(1, order.len());
        for place in 0..count {
            let other = place + (rng.next_u64() % (order.len() - place) as u64) as usize;
            order.swap(place, other);
        }
        let mut centroids = Self {
            width: sample.width,
            values: sample.rows()?.gather(&order[..count])?,
        };
        for _ in 0..ROUNDS {
            let nearest = centroids.nearest(&sample.codes, rows, ctx)?;
            centroids.move_to(sample, rows, &nearest, ctx.isa())?;
        }
        centroids.renumber()?;
        Ok(centroids)
    }

    /// From centroids that were learnt before, row-major, of `width` values.
    pub(crate) fn of_parts(values: Vec<f32>, width: usize) -> Self {
        Self { width, values }
    }

    /// Adds those of `other`, of the same width, after these.
    pub(crate) fn append(&mut self, other: &Self) -> Result<()> {
        Ok(memory::extend(
            &mut self.values,
            other.values.iter().copied(),
            CENTROIDS,
        )?)
    }

    /// The same with `by` added to each centroid.
    pub(crate) fn moved(mut self, by: Option<&[f32]>) -> Self {
        if let Some(by) = by {
            for centroid in self.values.chunks_mut(self.width) {
                let values = centroid.iter_mut().zip(by);
                values.for_each(|(value, by)| *value += by);
            }
        }
        self
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Each of them.
    pub(crate) fn each(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.width)
    }

    /// All of them, row-major.
    pub(crate) fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// As rows.
    pub(crate) fn rows(&self) -> Result<Rows<'_, f32>> {
        Ok(Rows::new(&self.values, self.width)?)
    }

    /// The nearest centroid of each of these rows, as far as codes tell.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn nearest(
        &self,
        codes: &Quantised,
        rows: &[u32],
        ctx: &Context,
    ) -> Result<Vec<u32>> {
        let panel = CentroidPanel::new(&Quantised::new(self.rows()?, ctx.isa())?, None, ctx.isa())?;
        let mut nearest = memory::zeroed(rows.len(), ROW_NUMBERS)?;
        let blocks = nearest.par_chunks_mut(BLOCK).zip(rows.par_chunks(BLOCK));
        let buffers = || (LeftPanel::new(ctx.isa()), Vec::new());
        blocks.try_for_each_init(buffers, |(left, squares), (nearest, rows)| {
            ctx.check()?;
            left.gather(codes, rows, &vec![-1.0; rows.len()])?;
            panel.distances2(left, squares)?;
            let of_rows = squares.chunks(panel.columns.len());
            for (nearest, squares) in nearest.iter_mut().zip(of_rows) {
                *nearest = panel.nearest(squares, ctx.isa());
            }
            Ok::<_, crate::Error>(())
        })?;
        Ok(nearest)
    }

    /// Moves each centroid to the mean of its rows, if it has any.
    fn move_to(&mut self, sample: &Sample, rows: &[u32], nearest: &[u32], isa: Isa) -> Result<()> {
        let offsets = ListOffsets::new(nearest.iter().copied(), self.len());
        let mut order = offsets.order(nearest)?;
        order
            .iter_mut()
            .for_each(|place| *place = rows[*place as usize]);
        let values = sample.rows()?;
        let centroids = self.values.par_chunks_mut(self.width);
        centroids.enumerate().try_for_each(|(number, centroid)| {
            let rows = &order[offsets.of(number as u32)];
            if !rows.is_empty() {
                let sums = sum_rows(values, rows, isa)?;
                for (value, sum) in centroid.iter_mut().zip(sums) {
                    *value = (sum / rows.len() as f64) as f32;
                }
            }
            Ok(())
        })
    }

    /// Orders the centroids so that near ones have near numbers, and near lists lie together in
    /// memory.
    fn renumber(&mut self) -> Result<()> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        in_order(&mut numbers, &self.values, self.width);
        self.values = self.rows()?.gather(&numbers)?;
        Ok(())
    }
}

/// Some centroids, ready to be compared with rows.
pub(crate) struct CentroidPanel {
    panel: RightPanel,
    /// The centroid of each column, by its place among those that were gathered; some columns only
    /// fill the panel up, have no centroid and are infinitely far.
    pub(crate) columns: Vec<Option<u32>>,
}

impl CentroidPanel {
    /// Of these centroids, or of all.
    pub(crate) fn new(codes: &Quantised, which: Option<&[u32]>, isa: Isa) -> Result<Self> {
        let all: Vec<u32>;
        let which = match which {
            Some(which) => which,
            None => {
                all = (0..codes.len() as u32).collect();
                &all
            }
        };
        let mut panel = RightPanel::new(isa);
        panel.gather(codes, which, &vec![-1.0; which.len()])?;
        let columns = panel.columns().collect();
        Ok(Self { panel, columns })
    }

    /// Sets `squares` to the squared distances of rows to each column, as far as codes tell: the
    /// same on every machine.
    pub(crate) fn distances2(&self, rows: &LeftPanel, squares: &mut Vec<f32>) -> Result<()> {
        Ok(code_distances2(rows, &self.panel, squares)?)
    }

    /// Appends the pairs of rows and centroids, by their places, whose squared distance is within the
    /// bounds of the rows.
    pub(crate) fn pairs(&self, rows: &LeftPanel, pairs: &mut Vec<CodePair>) -> Result<()> {
        Ok(code_pairs(rows, &self.panel, pairs)?)
    }

    /// The first centroid at the least of a row's squared distances, by its place.
    fn nearest(&self, squares: &[f32], isa: Isa) -> u32 {
        let least = least(squares, isa);
        let columns = squares.iter().zip(&self.columns);
        let mut nearest = columns.filter(|&(&square, _)| square <= least);
        nearest.find_map(|(_, &column)| column).unwrap_or(0)
    }

    /// The places of a row's N nearest centroids, nearest first, and the first of all where there
    /// are fewer.
    pub(crate) fn first<const N: usize>(&self, squares: &[f32], isa: Isa) -> [u32; N] {
        let mut first = [i64::MAX; N];
        // Positive numbers order as their bits do; what is no number is as far as can be.
        let key = |(&square, column): (&f32, &Option<u32>)| {
            let square = if square < f32::INFINITY {
                square.max(0.0)
            } else {
                f32::INFINITY
            };
            column.map(|place| i64::from(square.to_bits()) << 32 | i64::from(place))
        };
        let keys: Vec<i64> = squares.iter().zip(&self.columns).filter_map(key).collect();
        insert_keys(&mut first, &keys, isa);
        first.map(|key| if key == i64::MAX { 0 } else { key as u32 })
    }
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
