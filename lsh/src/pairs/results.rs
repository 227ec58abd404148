//! What joins return.

use lshjoin_kernels::{Scalar, memory};
use rayon::prelude::*;

use crate::{base::error::Result, vectors::Vectors};

/// How an out-of-memory error names them.
pub(crate) const NEIGHBORS: &str = "neighbours";

/// The k nearest items of each query.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbors<T> {
    /// Neighbours per query.
    pub k: usize,
    /// Distances, (queries, k) row-major, rising, infinite where there are fewer than k.
    pub distances: Vec<T>,
    /// Rows of the items, laid out alike; −1 where there are fewer than k. Among items at the same
    /// distance the lower row comes first.
    pub indices: Vec<i64>,
}

impl<T: Scalar> Neighbors<T> {
    /// The neighbours of one query, nearest first.
    pub(crate) fn of(&self, query: u32) -> impl Iterator<Item = u32> + Clone {
        let list = &self.indices[query as usize * self.k..][..self.k];
        list.iter()
            .take_while(|&&index| index >= 0)
            .map(|&index| index as u32)
    }

    /// The same with `rows[i]` in place of each index i.
    fn with_rows(mut self, rows: &[u32]) -> Self {
        let known = self.indices.par_iter_mut().filter(|index| **index >= 0);
        known.for_each(|index| *index = i64::from(rows[*index as usize]));
        self
    }

    /// The same with indices of rows, of queries and of items, in place of internal ids.
    pub(crate) fn by_index(
        mut self,
        left: &Vectors<'_, T>,
        right: &Vectors<'_, T>,
    ) -> Result<Self> {
        if let Some(rows) = right.rows_by_id() {
            self = self.with_rows(rows);
        }
        match left.ids_by_row() {
            Some(positions) => self.gathered(positions),
            None => Ok(self),
        }
    }

    /// The lists at these positions, one after the other.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn gathered(self, positions: &[u32]) -> Result<Self> {
        Ok(Self {
            k: self.k,
            distances: gathered(self.distances, self.k, positions, T::INFINITY)?,
            indices: gathered(self.indices, self.k, positions, -1)?,
        })
    }

    /// The same with `k` neighbours per query, not fewer than before; there are none at the new
    /// ones.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn with_k(self, k: usize) -> Result<Self> {
        if k == self.k {
            return Ok(self);
        }
        let queries = self.indices.len() / self.k;
        let mut distances = memory::filled(T::INFINITY, queries.saturating_mul(k), NEIGHBORS)?;
        let mut indices = memory::filled(-1, queries.saturating_mul(k), NEIGHBORS)?;
        for query in 0..queries {
            let (from, to) = (query * self.k, query * k);
            let few = k.min(self.k);
            distances[to..to + few].copy_from_slice(&self.distances[from..from + few]);
            indices[to..to + few].copy_from_slice(&self.indices[from..from + few]);
        }
        Ok(Self {
            k,
            distances,
            indices,
        })
    }
}

/// The `k` values at each of these positions.
pub(crate) fn gathered<V: Copy + Send + Sync>(
    values: Vec<V>,
    k: usize,
    positions: &[u32],
    none: V,
) -> Result<Vec<V>> {
    let mut copied = memory::filled(none, positions.len().saturating_mul(k), NEIGHBORS)?;
    let rows = copied.par_chunks_mut(k).zip(positions);
    rows.for_each(|(row, &position)| row.copy_from_slice(&values[position as usize * k..][..k]));
    Ok(copied)
}

/// A left row, a right row and their distance.
pub(crate) type Pair<T> = (u32, u32, T);

/// How an out-of-memory error names them.
pub(crate) const PAIRS: &str = "pairs that are near";

/// Pairs of rows and their distances.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinedPairs<T> {
    /// Rows of the left side.
    pub left: Vec<i64>,
    /// Rows of the right side.
    pub right: Vec<i64>,
    /// Their distances.
    pub distances: Vec<T>,
}

/// All pairs of a query and an item within a radius.
#[derive(Clone, Debug, PartialEq)]
pub struct RadiusNeighbors<T> {
    /// The neighbours of query i are at positions `lims[i]..lims[i + 1]`.
    pub lims: Vec<i64>,
    /// Distances, rising for each query.
    pub distances: Vec<T>,
    /// Rows of the items; at the same distance the lower row comes first.
    pub indices: Vec<i64>,
}

impl<T: Scalar> JoinedPairs<T> {
    pub(crate) fn new() -> Self {
        Self {
            left: Vec::new(),
            right: Vec::new(),
            distances: Vec::new(),
        }
    }

    /// Appends pairs.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn extend(&mut self, pairs: &[Pair<T>]) -> Result<()> {
        let left = pairs.iter().map(|pair| i64::from(pair.0));
        memory::extend(&mut self.left, left, PAIRS)?;
        let right = pairs.iter().map(|pair| i64::from(pair.1));
        memory::extend(&mut self.right, right, PAIRS)?;
        let distances = pairs.iter().map(|pair| pair.2);
        Ok(memory::extend(&mut self.distances, distances, PAIRS)?)
    }
}

impl<T: Scalar> RadiusNeighbors<T> {
    /// From triples of query, item and distance, in any order; those that come twice count once.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn sorted<I>(mut pairs: Vec<(u32, I, T)>, queries: usize) -> Result<Self>
    where
        I: Into<i64> + Ord + Copy + Send + Sync,
    {
        pairs.par_sort_unstable_by(|x, y| {
            let by_distance = || x.2.partial_cmp(&y.2).unwrap_or(std::cmp::Ordering::Equal);
            x.0.cmp(&y.0).then_with(by_distance).then(x.1.cmp(&y.1))
        });
        pairs.dedup_by_key(|pair| (pair.0, pair.1));
        let mut lims = memory::zeroed(queries + 1, PAIRS)?;
        for pair in &pairs {
            lims[pair.0 as usize + 1] += 1;
        }
        for query in 0..queries {
            lims[query + 1] += lims[query];
        }
        Ok(Self {
            lims,
            distances: memory::par_collect(pairs.par_iter().map(|pair| pair.2), PAIRS)?,
            indices: memory::par_collect(pairs.par_iter().map(|pair| pair.1.into()), PAIRS)?,
        })
    }
}
