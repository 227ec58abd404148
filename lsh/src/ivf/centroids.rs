//! Centroids by k-means.
//!
//! K-means as a hash function (L. Paulevé, H. Jégou and L. Amsaleg, "Locality sensitive hashing: a
//! comparison of hash function types and querying mechanisms", 2010), of and by 8-bit codes, which
//! tell well enough which centroid is near.

use lshjoin_kernels::{
    Isa, LeftPanel, Quantised, RightPanel, Rows, code_distances2, decode, each_near_least, least,
    memory, sum_codes,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result},
    ivf::list_offsets::ListOffsets,
};

/// Rounds of k-means: with as much work, more rows do better than more rounds.
pub(crate) const ROUNDS: usize = 3;

/// The largest value of a row that centroids are learnt from: its square fits single precision.
const LARGEST: f32 = 1e18;

/// Rows that are compared with centroids at a time: their distances stay in the cache.
pub(crate) const BLOCK: usize = 32;

/// How an out-of-memory error names them.
pub(crate) const CENTROIDS: &str = "centroids and their sample";

/// Centroids; near ones have near numbers, mostly.
pub(crate) struct Centroids {
    /// Values of a centroid.
    width: usize,
    /// (centroids, width), row-major.
    values: Vec<f32>,
}

impl Centroids {
    /// At most `count` centroids of some rows, by k-means (Lloyd 1982) from random rows on, which
    /// the seed and a number for the choice of rows tell.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn learn(
        codes: &Quantised,
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
        let mut centroids = Self::of_parts(decode(codes, &order[..count])?, codes.dim());
        centroids.limit();
        // Gathered once for all rounds.
        let blocks = rows.par_chunks(BLOCK).map(|rows| {
            let mut block = LeftPanel::new(ctx.isa());
            block.gather(codes, rows, &vec![-1.0; rows.len()])?;
            Ok(block)
        });
        let blocks: Vec<LeftPanel> = blocks.collect::<Result<_>>()?;
        let mut nearest = memory::zeroed(rows.len(), ROW_NUMBERS)?;
        ctx.expect(ROUNDS * rows.len() * count);
        for _ in 0..ROUNDS {
            let panel = CentroidPanel::new(&centroids.codes(ctx.isa())?, None, ctx.isa())?;
            let blocks = nearest.par_chunks_mut(BLOCK).zip(&blocks);
            blocks.try_for_each_init(Vec::new, |squares, (nearest, block)| {
                ctx.check()?;
                ctx.advance(nearest.len() * count);
                panel.find_nearest(block, squares, nearest, ctx.isa())
            })?;
            centroids.move_to(codes, rows, &nearest, ctx.isa())?;
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

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// All of them, row-major.
    pub(crate) fn into_values(self) -> Vec<f32> {
        self.values
    }

    fn rows(&self) -> Result<Rows<'_, f32>> {
        Ok(Rows::new(&self.values, self.width)?)
    }

    /// Their codes.
    pub(crate) fn codes(&self, isa: Isa) -> Result<Quantised<'static>> {
        Ok(Quantised::new(self.rows()?, isa)?)
    }

    /// Moves each centroid to the mean of the rows that it is nearest to, if there are any.
    pub(crate) fn move_to(
        &mut self,
        codes: &Quantised,
        rows: &[u32],
        nearest: &[u32],
        isa: Isa,
    ) -> Result<()> {
        let offsets = ListOffsets::new(nearest.iter().copied(), self.len());
        let mut order = offsets.order(nearest)?;
        order
            .iter_mut()
            .for_each(|place| *place = rows[*place as usize]);
        let centroids = self.values.par_chunks_mut(self.width);
        centroids.enumerate().try_for_each(|(number, centroid)| {
            let rows = &order[offsets.of(number as u32)];
            if !rows.is_empty() {
                let sums = sum_codes(codes, rows, isa)?;
                for (value, sum) in centroid.iter_mut().zip(sums) {
                    *value = (sum / rows.len() as f64) as f32;
                }
            }
            Ok::<_, crate::Error>(())
        })?;
        self.limit();
        Ok(())
    }

    fn limit(&mut self) {
        let values = self.values.iter_mut();
        values.for_each(|value| *value = value.clamp(-LARGEST, LARGEST));
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

    /// Sets `nearest` to the nearest centroid of each row, by its place; of equally near ones, to the
    /// first.
    pub(crate) fn find_nearest(
        &self,
        rows: &LeftPanel,
        squares: &mut Vec<f32>,
        nearest: &mut [u32],
        isa: Isa,
    ) -> Result<()> {
        self.distances2(rows, squares)?;
        let of_rows = squares.chunks(self.columns.len().max(1));
        for (nearest, squares) in nearest.iter_mut().zip(of_rows) {
            let mut first = None;
            let found = |column: usize| first = first.or(self.columns[column]);
            each_near_least(squares, least(squares, isa), 0.0, found, isa);
            *nearest = first.unwrap_or(0);
        }
        Ok(())
    }
}

/// Rounds by which the direction is found along which rows are cut in two: near the one in which they
/// spread most is good enough.
const POWER_ROUNDS: usize = 3;

/// Orders rows as the leaves of a tree that cuts them in two along the direction in which they spread
/// most (R. Sproull, "Refinements to nearest-neighbor searching in k-dimensional trees", 1991).
fn in_order(rows: &mut [u32], values: &[f32], width: usize) {
    if rows.len() < 2 {
        return;
    }
    let of_row = |row: u32| &values[row as usize * width..][..width];
    let mut mean = vec![0.0; width];
    for &row in rows.iter() {
        add(&mut mean, of_row(row), 1.0 / rows.len() as f64);
    }
    let mut direction = vec![0.0; width];
    // By the power method, from one row's way on.
    add(&mut direction, of_row(rows[0]), 1.0);
    for _ in 0..POWER_ROUNDS {
        let mut next = vec![0.0; width];
        let of_mean: f64 = mean.iter().zip(&direction).map(|(x, y)| x * y).sum();
        let mut sum = 0.0;
        for &row in rows.iter() {
            let along = dot_with(of_row(row), &direction) - of_mean;
            add(&mut next, of_row(row), along);
            sum += along;
        }
        next.iter_mut()
            .zip(&mean)
            .for_each(|(next, mean)| *next -= sum * mean);
        direction = next;
    }
    let along = |&row: &u32| (dot_with(of_row(row), &direction), row);
    let mut cut: Vec<(f64, u32)> = rows.iter().map(along).collect();
    cut.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
    rows.iter_mut()
        .zip(cut)
        .for_each(|(row, (_, of_cut))| *row = of_cut);
    let (low, high) = rows.split_at_mut(rows.len() / 2);
    rayon::join(
        || in_order(low, values, width),
        || in_order(high, values, width),
    );
}

/// Adds `times` a row.
fn add(sums: &mut [f64], row: &[f32], times: f64) {
    for (sum, &value) in sums.iter_mut().zip(row) {
        *sum += times * f64::from(value);
    }
}

fn dot_with(row: &[f32], direction: &[f64]) -> f64 {
    let products = row.iter().zip(direction).map(|(&x, y)| f64::from(x) * y);
    products.sum()
}
