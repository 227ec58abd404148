//! Largest inner products as nearest neighbours.

use lshjoin_kernels::{Measure, Rows, Scalar, check_finite, distances_of, memory};
use rayon::prelude::*;

use crate::{
    error::Result,
    nearest::{NEIGHBORS, Neighbors},
    run::Run,
};

/// Items and queries as rows of which the nearest have the largest inner products: (x, √(M² − ‖x‖²))
/// and (q, 0), M being the longest item's length, so that ‖q′ − x′‖² = ‖q‖² + M² − 2 q·x (Bachrach
/// et al. 2014).
pub(crate) struct Longer<T> {
    queries: Vec<T>,
    items: Vec<T>,
    dim: usize,
}

impl<T: Scalar> Longer<T> {
    /// # Errors
    /// When a row holds NaN or infinity.
    pub(crate) fn of(queries: Rows<'_, T>, items: Rows<'_, T>, run: &Run) -> Result<Self> {
        check_finite(items, run.isa()).map_err(|error| ("items", error))?;
        check_finite(queries, run.isa()).map_err(|error| ("queries", error))?;
        let squares = (0..items.len()).into_par_iter();
        let squares = squares.map(|row| square(items.row(row)));
        let squares = memory::par_collect(squares, "squared norms")?;
        let longest = squares
            .iter()
            .fold(0.0, |longest: f64, &square| longest.max(square));
        Ok(Self {
            queries: longer(queries, |_| 0.0)?,
            items: longer(items, |row| (longest - squares[row]).max(0.0).sqrt())?,
            dim: items.dim() + 1,
        })
    }

    pub(crate) fn queries(&self) -> Result<Rows<'_, T>> {
        Ok(Rows::new(&self.queries, self.dim)?)
    }

    pub(crate) fn items(&self) -> Result<Rows<'_, T>> {
        Ok(Rows::new(&self.items, self.dim)?)
    }
}

/// For each query the k items of the largest inner product, at the distance −q·x: of those that
/// `join` finds among [`Longer`] rows, with what else it returns.
///
/// Inner products are computed from the rows as given; which items are at the k-th place is
/// decided within the rounding of the longer rows.
pub(crate) fn by_inner_product<T: Scalar, E>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    run: &Run,
    join: impl FnOnce(Rows<'_, T>, Rows<'_, T>, usize) -> Result<(Neighbors<T>, E)>,
) -> Result<(Neighbors<T>, E)> {
    let own = queries.is_none();
    let queries = queries.unwrap_or(items);
    let longer = Longer::of(queries, items, run)?;
    // A row of the items may find itself, which is then left out.
    let places = k
        .saturating_add(usize::from(own && k > 0))
        .min(items.len().max(k));
    let (found, other) = join(longer.queries()?, longer.items()?, places)?;
    let mut neighbors = Neighbors {
        k,
        distances: memory::filled(T::INFINITY, queries.len().saturating_mul(k), NEIGHBORS)?,
        indices: memory::filled(-1, queries.len().saturating_mul(k), NEIGHBORS)?,
    };
    neighbors
        .distances
        .par_chunks_mut(k)
        .zip(neighbors.indices.par_chunks_mut(k))
        .enumerate()
        .try_for_each_init(Vec::new, |products, (query, (distances, indices))| {
            run.check()?;
            let others = found.of(query as u32);
            let others = others.filter(|&item| !(own && item as usize == query));
            let pairs = memory::collect(others.map(|item| (query as u32, item)), NEIGHBORS)?;
            distances_of(Measure::Dot, queries, items, &pairs, products, run.isa())?;
            let scored = products.iter().map(|&product| T::ZERO - product);
            let scored = scored.zip(pairs.iter().map(|pair| pair.1));
            let mut scored: Vec<(T, u32)> = memory::collect(scored, NEIGHBORS)?;
            scored.sort_unstable_by(|x, y| {
                x.0.partial_cmp(&y.0)
                    .unwrap_or(std::cmp::Ordering::Equal)
                    .then(x.1.cmp(&y.1))
            });
            for ((distance, index), (score, item)) in distances.iter_mut().zip(indices).zip(scored)
            {
                (*distance, *index) = (score, i64::from(item));
            }
            Ok::<_, crate::Error>(())
        })?;
    Ok((neighbors, other))
}

/// Rows with one value more at their end.
pub(crate) fn longer<T: Scalar>(
    rows: Rows<'_, T>,
    last: impl Fn(usize) -> f64 + Sync,
) -> Result<Vec<T>> {
    let mut values = memory::zeroed(rows.len().saturating_mul(rows.dim() + 1), "longer rows")?;
    values
        .par_chunks_mut(rows.dim() + 1)
        .enumerate()
        .for_each(|(row, longer)| {
            longer[..rows.dim()].copy_from_slice(rows.row(row));
            longer[rows.dim()] = T::from_f64(last(row));
        });
    Ok(values)
}

pub(crate) fn square<T: Scalar>(row: &[T]) -> f64 {
    row.iter()
        .map(|value| value.to_f64() * value.to_f64())
        .sum()
}
