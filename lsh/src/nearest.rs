//! The nearest neighbours found so far, of all rows at once, for threads to add to.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use lshjoin_kernels::{Scalar, TopK};

use crate::{
    error::Result,
    metric::Metric,
    side::{distance, filter_bound},
};

/// Rows that share a lock: few enough that threads rarely meet at one.
const SHARD: usize = 64;

/// For each row of a side, the k best candidates and the bound that new ones have to beat.
///
/// What ends up in the lists depends only on the candidates, not on the order in which threads
/// bring them: the order by (score, index) is total.
pub(crate) struct NearestLists<T> {
    metric: Metric,
    dim: usize,
    k: usize,
    rows: usize,
    shards: Vec<Mutex<TopK<T>>>,
    /// [`filter_bound`] of each row's k-th distance, infinite until there are k; as bits.
    bounds: Vec<AtomicU32>,
}

impl<T: Scalar> NearestLists<T> {
    pub(crate) fn new(rows: usize, dim: usize, k: usize, metric: Metric) -> Result<Self> {
        let shards = (0..rows)
            .step_by(SHARD)
            .map(|first| Ok(Mutex::new(TopK::new(SHARD.min(rows - first), k)?)))
            .collect::<Result<_>>()?;
        let unbounded = || AtomicU32::new(f32::INFINITY.to_bits());
        let bounds = std::iter::repeat_with(unbounded).take(rows).collect();
        Ok(Self {
            metric,
            dim,
            k,
            rows,
            shards,
            bounds,
        })
    }

    /// The bound of `row` now; a later one is never larger.
    pub(crate) fn bound(&self, row: u32) -> f32 {
        f32::from_bits(self.bounds[row as usize].load(Ordering::Relaxed))
    }

    pub(crate) fn insert(&self, row: u32, candidates: impl Iterator<Item = (T, u32)>) {
        let row = row as usize;
        let mut shard = self.shards[row / SHARD]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut nearest = shard.row_mut(row % SHARD);
        let mut changed = false;
        for (score, index) in candidates {
            changed |= nearest.insert(score, index);
        }
        if changed {
            let worst = distance(self.metric, nearest.worst()).to_f64();
            let bound = filter_bound::<T>(self.metric, worst, self.dim);
            self.bounds[row].store(bound.to_bits(), Ordering::Relaxed);
        }
    }

    pub(crate) fn finish(self) -> Neighbors<T> {
        let places = self.rows * self.k;
        let (mut distances, mut indices) = (Vec::with_capacity(places), Vec::with_capacity(places));
        for shard in self.shards {
            let shard = shard.into_inner().unwrap_or_else(PoisonError::into_inner);
            let (scores, rows) = shard.into_parts();
            distances.extend(scores.into_iter().map(|score| distance(self.metric, score)));
            indices.extend(
                rows.into_iter()
                    .map(|row| if row == u32::MAX { -1 } else { i64::from(row) }),
            );
        }
        Neighbors {
            k: self.k,
            distances,
            indices,
        }
    }
}

/// The k nearest items of each query.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbors<T> {
    /// Places a query.
    pub k: usize,
    /// Distances, (queries, k) row-major, rising, infinite where there are fewer than k.
    pub distances: Vec<T>,
    /// Rows of the items, in the same places; −1 where there are fewer than k. Among items at
    /// the same distance the lower row comes first.
    pub indices: Vec<i64>,
}

impl<T: Scalar> Neighbors<T> {
    /// The same with `k` places a query, not fewer than there are.
    pub(crate) fn padded(self, k: usize) -> Self {
        if k == self.k {
            return self;
        }
        let queries = self.indices.len() / self.k;
        let mut distances = vec![T::INFINITY; queries * k];
        let mut indices = vec![-1; queries * k];
        for query in 0..queries {
            let (from, to) = (query * self.k, query * k);
            distances[to..to + self.k].copy_from_slice(&self.distances[from..from + self.k]);
            indices[to..to + self.k].copy_from_slice(&self.indices[from..from + self.k]);
        }
        Self {
            k,
            distances,
            indices,
        }
    }
}
