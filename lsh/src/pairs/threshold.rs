//! Pairs nearer than a threshold.

use lshjoin_kernels::{Isa, Near, Scalar, memory};

use crate::{
    base::{context::Context, error::Result, keys::PairKeys, metric::Metric},
    pairs::{
        results::{PAIRS, Pair},
        tile_join::PairSink,
    },
    vectors::{Vectors, interval::filter_interval},
};

/// Keeps the pairs nearer than a threshold that no earlier table has brought together.
pub(crate) struct ThresholdSink<'a, T> {
    pub(crate) left: &'a Vectors<'a, T>,
    pub(crate) right: &'a Vectors<'a, T>,
    pub(crate) threshold: f64,
    /// The Euclidean distance, in the measure of codes, that pairs within the threshold never
    /// exceed.
    pub(crate) bound: f32,
    /// Which pairs of rows are let in.
    pub(crate) keys: PairKeys<'a>,
    /// In a self-join each pair is compared once but wanted both ways.
    pub(crate) with_itself: bool,
    pub(crate) isa: Isa,
    /// For each earlier table, the buckets of the left and right rows.
    pub(crate) earlier: Vec<BucketIds>,
}

/// What one thread has found in a task, and its buffers.
pub(crate) struct ThresholdScratch<T> {
    pub(crate) found: Vec<Pair<T>>,
    pub(crate) pairs: Vec<(u32, u32)>,
    pub(crate) distances: Vec<f64>,
}

impl<'a, T: Scalar> ThresholdSink<'a, T> {
    /// For a self-join of `left` when `right` is `None`.
    pub(crate) fn new(
        left: &'a Vectors<'a, T>,
        right: Option<&'a Vectors<'a, T>>,
        threshold: f64,
        ctx: &Context,
    ) -> Self {
        let (_, bound) = filter_interval::<T>(left.metric, threshold, left.rows.dim());
        Self {
            left,
            right: right.unwrap_or(left),
            threshold,
            bound,
            keys: PairKeys::default(),
            with_itself: right.is_none(),
            isa: ctx.isa(),
            earlier: Vec::new(),
        }
    }

    /// Takes out the pairs found, sorted by row: tiles find them in no promised order.
    pub(crate) fn take(&self, scratch: &mut ThresholdScratch<T>) -> Result<Vec<Pair<T>>> {
        let mut found = std::mem::take(&mut scratch.found);
        if self.with_itself {
            let more = found.len();
            memory::reserve(&mut found, more, PAIRS)?;
            for pair in 0..found.len() {
                let (left, right, distance) = found[pair];
                found.push((right, left, distance));
            }
        }
        // One number is compared in half the time of two.
        found.sort_unstable_by_key(|&(left, right, _)| u64::from(left) << 32 | u64::from(right));
        Ok(found)
    }

    /// Each row with itself: at distance 0 or, where it has no direction, 1.
    pub(crate) fn with_itself(&self) -> impl Iterator<Item = Pair<T>> {
        let rows = self.left.rows;
        let distance = move |row: u32| match self.left.metric {
            Metric::Cosine if rows.row(row as usize).iter().all(|&x| x == T::ZERO) => 1.0,
            _ => 0.0,
        };
        (0..rows.len() as u32)
            .map(move |row| (row, row, distance(row)))
            .filter(|pair| pair.2 < self.threshold)
            .map(|(left, right, distance)| (left, right, T::from_f64(distance)))
    }
}

impl<T: Scalar> PairSink<T> for ThresholdSink<'_, T> {
    type Scratch = ThresholdScratch<T>;

    fn scratch(&self) -> Self::Scratch {
        ThresholdScratch {
            found: Vec::new(),
            pairs: Vec::new(),
            distances: Vec::new(),
        }
    }

    fn left_bound(&self, _: u32) -> f32 {
        self.bound
    }

    fn right_bound(&self, _: u32) -> f32 {
        -1.0
    }

    fn consume(
        &self,
        left: &[u32],
        right: &[u32],
        near: &mut Vec<Near>,
        scratch: &mut Self::Scratch,
    ) -> Result<()> {
        let rows = |pair: &Near| (left[pair.left as usize], right[pair.right as usize]);
        if !self.keys.is_empty() {
            near.retain(|pair| self.keys.let_in(rows(pair)));
        }
        scratch.pairs.clear();
        memory::extend(&mut scratch.pairs, near.iter().map(rows), PAIRS)?;
        self.left
            .distances(self.right, &scratch.pairs, &mut scratch.distances, self.isa)?;
        for (&(left, right), &distance) in scratch.pairs.iter().zip(&scratch.distances) {
            let distance = T::from_f64(distance);
            if distance.to_f64() < self.threshold
                && !self.earlier.iter().any(|table| table.shared(left, right))
            {
                memory::push(&mut scratch.found, (left, right, distance), PAIRS)?;
            }
        }
        Ok(())
    }
}

/// The bucket of each row in one table, numbered alike on both sides.
pub(crate) struct BucketIds {
    pub(crate) left: Vec<u32>,
    /// Empty in a self-join.
    pub(crate) right: Vec<u32>,
}

impl BucketIds {
    /// Whether the two rows share a bucket.
    fn shared(&self, left: u32, right: u32) -> bool {
        let of_right = if self.right.is_empty() {
            &self.left
        } else {
            &self.right
        };
        self.left[left as usize] == of_right[right as usize]
    }
}
