//! Largest inner products as nearest neighbours.

use lshjoin_kernels::{Measure, Rows, Scalar, check_finite, distances_of};
use rayon::prelude::*;

use crate::{
    error::Result, knn_join::knn_join, metric::Metric, nearest::Neighbors, plan::JoinPlan, run::Run,
};

/// For each query the k items of the largest inner product, at the distance −q·x.
///
/// Items become (x, √(M² − ‖x‖²)) and queries (q, 0), M being the longest item's length: then
/// ‖q′ − x′‖² = ‖q‖² + M² − 2 q·x, so that the nearest are those wanted (Bachrach et al. 2014).
/// Inner products are computed from the rows as given; which items are at the k-th place is
/// decided within the rounding of the longer rows.
pub(crate) fn knn_join_by_inner_product<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    plan: &JoinPlan,
    run: &Run,
) -> Result<Neighbors<T>> {
    check_finite(items, run.isa()).map_err(|error| ("items", error))?;
    let own = queries.is_none();
    let queries = queries.unwrap_or(items);
    check_finite(queries, run.isa()).map_err(|error| ("queries", error))?;
    let squares: Vec<f64> = (0..items.len())
        .into_par_iter()
        .map(|row| square(items.row(row)))
        .collect();
    let longest = squares
        .iter()
        .fold(0.0, |longest: f64, &square| longest.max(square));
    let longer_items = longer(items, |row| (longest - squares[row]).max(0.0).sqrt());
    let longer_queries = longer(queries, |_| 0.0);
    let dim = items.dim() + 1;
    // A row of the items may find itself, which is then left out.
    let places = k
        .saturating_add(usize::from(own && k > 0))
        .min(items.len().max(k));
    let found = knn_join(
        Some(Rows::new(&longer_queries, dim)?),
        Rows::new(&longer_items, dim)?,
        places,
        Metric::Euclidean,
        plan,
        run,
    )?;
    let mut neighbors = Neighbors {
        k,
        distances: vec![T::INFINITY; queries.len() * k],
        indices: vec![-1; queries.len() * k],
    };
    neighbors
        .distances
        .par_chunks_mut(k)
        .zip(neighbors.indices.par_chunks_mut(k))
        .enumerate()
        .try_for_each_init(Vec::new, |products, (query, (distances, indices))| {
            run.check()?;
            let pairs: Vec<(u32, u32)> = found
                .of(query as u32)
                .filter(|&item| !(own && item as usize == query))
                .map(|item| (query as u32, item))
                .collect();
            distances_of(Measure::Dot, queries, items, &pairs, products, run.isa())?;
            let mut scored: Vec<(T, u32)> = products
                .iter()
                .map(|&product| T::ZERO - product)
                .zip(pairs.iter().map(|pair| pair.1))
                .collect();
            scored.sort_by(|x, y| {
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
    Ok(neighbors)
}

/// Rows with one value more at their end.
pub(crate) fn longer<T: Scalar>(rows: Rows<'_, T>, last: impl Fn(usize) -> f64 + Sync) -> Vec<T> {
    let mut values = vec![T::ZERO; rows.len() * (rows.dim() + 1)];
    values
        .par_chunks_mut(rows.dim() + 1)
        .enumerate()
        .for_each(|(row, longer)| {
            longer[..rows.dim()].copy_from_slice(rows.row(row));
            longer[rows.dim()] = T::from_f64(last(row));
        });
    values
}

pub(crate) fn square<T: Scalar>(row: &[T]) -> f64 {
    row.iter()
        .map(|value| value.to_f64() * value.to_f64())
        .sum()
}
