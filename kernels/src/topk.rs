use rayon::prelude::*;

use crate::{
    error::{KernelError, Result},
    memory,
    rows::Scalar,
};

/// The index of a place that is not taken yet.
const NONE: u32 = u32::MAX;

/// The nearest k candidates of each of n rows, kept sorted by (distance, index).
///
/// The order is total, so ties at the last place go to the smaller index and the lists end up the
/// same whatever the order in which candidates came, as long as a candidate that comes twice comes
/// with the same distance. Free places hold an infinite distance and the index `u32::MAX`.
///
/// ```
/// use lshjoin_kernels::TopK;
///
/// let mut lists = TopK::new(1, 2)?;
/// let mut nearest = lists.row_mut(0);
/// assert!(nearest.insert(4.0_f32, 7));
/// assert_eq!(nearest.worst(), f32::INFINITY); // not full yet
/// nearest.insert(1.0, 9);
/// nearest.insert(4.0, 3); // as far as 7, but the smaller index
/// assert!(!nearest.insert(1.0, 9)); // already there
/// assert_eq!(lists.into_parts(), (vec![1.0, 4.0], vec![9, 3]));
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TopK<T> {
    k: usize,
    distances: Vec<T>,
    indices: Vec<u32>,
}

impl<T: Scalar> TopK<T> {
    /// Empty lists of `k` places for each of `rows` rows.
    ///
    /// # Errors
    /// [`KernelError::NoNeighbours`] when `k` is 0, [`KernelError::TooManyRows`] when the number
    /// of places overflows, [`KernelError::Memory`].
    pub fn new(rows: usize, k: usize) -> Result<Self> {
        if k == 0 {
            return Err(KernelError::NoNeighbours);
        }
        let Some(places) = rows.checked_mul(k) else {
            let limit = usize::MAX / k;
            return Err(KernelError::TooManyRows { rows, limit });
        };
        Ok(Self {
            k,
            distances: memory::filled(T::INFINITY, places, "lists of the nearest")?,
            indices: memory::filled(NONE, places, "lists of the nearest")?,
        })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.distances.len() / self.k
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.distances.is_empty()
    }

    /// Places a row, at least 1.
    pub fn k(&self) -> usize {
        self.k
    }

    /// What `row` holds so far, nearest first: distances and indices, k or fewer of each.
    /// Panics when out of range, as slices do.
    pub fn row(&self, row: usize) -> (&[T], &[u32]) {
        let distances = &self.distances[row * self.k..][..self.k];
        let indices = &self.indices[row * self.k..][..self.k];
        let taken = indices.partition_point(|&index| index != NONE);
        (&distances[..taken], &indices[..taken])
    }

    /// The k-th distance of `row`, infinite while it holds fewer.
    /// Panics when out of range, as slices do.
    #[inline]
    pub fn worst(&self, row: usize) -> T {
        self.distances[row * self.k..][self.k - 1]
    }

    /// The list of `row`. Panics when out of range, as slices do.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> Nearest<'_, T> {
        nearest(&mut self.distances, &mut self.indices, self.k, row)
    }

    /// The lists one by one, in row order.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = Nearest<'_, T>> {
        self.distances
            .chunks_exact_mut(self.k)
            .zip(self.indices.chunks_exact_mut(self.k))
            .map(|(distances, indices)| Nearest { distances, indices })
    }

    /// The lists in chunks of `rows` rows (at least 1; the last may be smaller), for a thread each.
    pub fn par_chunks_mut(
        &mut self,
        rows: usize,
    ) -> impl IndexedParallelIterator<Item = TopKChunk<'_, T>> {
        let k = self.k;
        let places = rows.max(1).saturating_mul(k);
        self.distances
            .par_chunks_mut(places)
            .zip(self.indices.par_chunks_mut(places))
            .map(move |(distances, indices)| TopKChunk {
                k,
                distances,
                indices,
            })
    }

    /// Distances and indices, each rows × k, row after row.
    pub fn into_parts(self) -> (Vec<T>, Vec<u32>) {
        (self.distances, self.indices)
    }
}

/// The lists of some consecutive rows of a [`TopK`].
#[derive(Debug)]
pub struct TopKChunk<'a, T> {
    k: usize,
    distances: &'a mut [T],
    indices: &'a mut [u32],
}

impl<T: Scalar> TopKChunk<'_, T> {
    /// Number of rows of this chunk.
    pub fn len(&self) -> usize {
        self.distances.len() / self.k
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.distances.is_empty()
    }

    /// The k-th distance of the chunk's row `row`, infinite while it holds fewer.
    /// Panics when out of range, as slices do.
    #[inline]
    pub fn worst(&self, row: usize) -> T {
        self.distances[row * self.k..][self.k - 1]
    }

    /// The list of the chunk's row `row`. Panics when out of range, as slices do.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> Nearest<'_, T> {
        nearest(self.distances, self.indices, self.k, row)
    }
}

fn nearest<'a, T>(
    distances: &'a mut [T],
    indices: &'a mut [u32],
    k: usize,
    row: usize,
) -> Nearest<'a, T> {
    Nearest {
        distances: &mut distances[row * k..][..k],
        indices: &mut indices[row * k..][..k],
    }
}

/// The nearest candidates of one row, to be added to.
#[derive(Debug)]
pub struct Nearest<'a, T> {
    distances: &'a mut [T],
    indices: &'a mut [u32],
}

impl<T: Scalar> Nearest<'_, T> {
    /// The k-th distance, infinite while there are fewer candidates: whatever is farther need not
    /// be inserted.
    #[inline]
    pub fn worst(&self) -> T {
        self.distances[self.distances.len() - 1]
    }

    /// Adds a candidate, dropping the last one of a full list; says whether the list changed.
    ///
    /// It does not when the candidate is no nearer than the last, is there already, has a distance
    /// of NaN or the index `u32::MAX`, which marks free places.
    #[inline]
    pub fn insert(&mut self, distance: T, index: u32) -> bool {
        // Few candidates pass, so this comparison is all that most of them cost.
        if distance <= self.worst() {
            self.insert_near(distance, index)
        } else {
            false
        }
    }

    fn insert_near(&mut self, distance: T, index: u32) -> bool {
        let nearer = self.distances.partition_point(|&other| other < distance);
        let ties = self.distances[nearer..]
            .iter()
            .zip(&self.indices[nearer..])
            .take_while(|&(&other, &at)| other == distance && at < index)
            .count();
        let place = nearer + ties;
        if place == self.indices.len() || index == NONE || self.indices.contains(&index) {
            return false;
        }
        let last = self.indices.len() - 1;
        self.distances.copy_within(place..last, place + 1);
        self.indices.copy_within(place..last, place + 1);
        self.distances[place] = distance;
        self.indices[place] = index;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A candidate's distance follows from its index, with many ties, infinities and both zeros.
    fn distance_of(index: u32) -> f32 {
        [3.0, -0.0, 0.0, 0.5, f32::INFINITY, 1e-40, 2.0][index as usize * 5 % 7]
    }

    /// Sort, remove duplicates, cut, pad.
    fn oracle(candidates: &[u32], k: usize) -> (Vec<u32>, Vec<u32>) {
        let mut best = candidates.to_vec();
        let by_distance = |a: &u32, b: &u32| distance_of(*a).partial_cmp(&distance_of(*b)).unwrap();
        best.sort_by(|a, b| by_distance(a, b).then(a.cmp(b)));
        best.dedup();
        best.truncate(k);
        let mut bits: Vec<u32> = best
            .iter()
            .map(|&index| distance_of(index).to_bits())
            .collect();
        best.resize(k, NONE);
        bits.resize(k, f32::INFINITY.to_bits());
        (bits, best)
    }

    proptest! {
        #[test]
        fn lists_do_not_depend_on_the_order_of_insertion(
            candidates in prop::collection::vec(0..60_u32, 0..150),
            k in 1..40_usize,
        ) {
            let mut lists = TopK::new(2, k).unwrap();
            for &index in &candidates {
                lists.row_mut(0).insert(distance_of(index), index);
            }
            for chunk in [&candidates[candidates.len() / 3..], &candidates] {
                for &index in chunk.iter().rev() {
                    lists.row_mut(1).insert(distance_of(index), index);
                }
            }
            let (bits, best) = oracle(&candidates, k);
            let taken = best.iter().filter(|&&index| index != NONE).count();
            for row in 0..2 {
                prop_assert_eq!(lists.worst(row).to_bits(), bits[k - 1]);
                prop_assert_eq!(lists.row(row).1, &best[..taken]);
                prop_assert_eq!(lists.row(row).0.len(), taken);
            }
            let (distances, indices) = lists.into_parts();
            prop_assert_eq!(indices, [&best[..], &best].concat());
            let all_bits: Vec<u32> = distances.iter().map(|d| d.to_bits()).collect();
            prop_assert_eq!(all_bits, [&bits[..], &bits].concat());
        }
    }

    #[test]
    fn what_cannot_be_a_neighbour_is_refused() {
        let mut lists = TopK::new(1, 2).unwrap();
        let mut nearest = lists.row_mut(0);
        assert!(!nearest.insert(f64::NAN, 1));
        assert!(!nearest.insert(1.0, NONE));
        assert!(nearest.insert(f64::INFINITY, 9));
        assert!(nearest.insert(2.0, 4));
        assert!(nearest.insert(f64::INFINITY, 8)); // a tie, won by the smaller index
        assert!(!nearest.insert(1.0, NONE));
        assert!(!nearest.insert(1.0, 4)); // the index counts, whatever the distance
        assert_eq!(lists.row(0), (&[2.0, f64::INFINITY][..], &[4, 8][..]));
    }

    #[test]
    fn threads_reach_every_row_once() {
        let mut lists = TopK::new(10, 3).unwrap();
        lists
            .par_chunks_mut(4)
            .enumerate()
            .for_each(|(chunk, mut rows)| {
                assert_eq!(rows.len(), [4, 4, 2][chunk]);
                for row in 0..rows.len() {
                    assert_eq!(rows.worst(row), f32::INFINITY);
                    rows.row_mut(row).insert(1.0, (4 * chunk + row) as u32);
                }
            });
        for (row, mut nearest) in lists.rows_mut().enumerate() {
            assert!(!nearest.insert(1.0, row as u32));
        }
        assert_eq!((lists.len(), lists.k(), lists.is_empty()), (10, 3, false));
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert_eq!(TopK::<f32>::new(5, 0), Err(KernelError::NoNeighbours));
        let limit = usize::MAX / 2;
        let rows = limit + 1;
        let expected = Err(KernelError::TooManyRows { rows, limit });
        assert_eq!(TopK::<f32>::new(rows, 2), expected);
        assert!(TopK::<f32>::new(0, 2).unwrap().is_empty());
    }
}
