//! The k nearest of the sets that a model's tables bring together.

use std::sync::{Mutex, PoisonError};

use lshjoin_kernels::memory;
use rayon::prelude::*;

use crate::{
    base::{
        check::positive,
        context::Context,
        error::{Error, Result},
    },
    lsh::minhash::{
        model::{HashedSets, MinHashModel},
        sets::Sets,
        similarity::CANDIDATES_AT_ONCE,
    },
    pairs::results::{NEIGHBORS, Neighbors},
};

/// Items and their distances.
type List = Vec<(f64, u32)>;

impl MinHashModel {
    /// For each query the k nearest by Jaccard distance of the items that share a bucket with it;
    /// fewer where there are not as many. For one query this is Spark's `approxNearestNeighbors`.
    ///
    /// # Errors
    /// When `k` is 0, there is no memory for it, or the run is cancelled.
    pub fn nearest_neighbors(
        &self,
        queries: &Sets,
        items: &Sets,
        k: usize,
        ctx: &Context,
    ) -> Result<Neighbors<f64>> {
        positive("k", k)?;
        let slots = queries.len().saturating_mul(k);
        let mut distances = memory::filled(f64::INFINITY, slots, NEIGHBORS)?;
        let mut indices = memory::filled(-1, slots, NEIGHBORS)?;
        let queries = HashedSets::new(self, queries, ctx)?;
        let items = HashedSets::new(self, items, ctx)?;
        // A query is in one bucket of a table: nobody waits for its list.
        let lists = (0..queries.len()).map(|_| Mutex::new(List::new()));
        let lists = memory::collect(lists, NEIGHBORS)?;
        ctx.expect(self.tables());
        for table in 0..self.tables() {
            let (of_queries, of_items) = (queries.table(table)?, items.table(table)?);
            of_queries
                .matches(&of_items)?
                .into_par_iter()
                .flat_map(|(mine, theirs)| mine.into_par_iter().map(move |at| (at, theirs.clone())))
                .try_for_each(|(at, theirs)| {
                    let query = of_queries.order[at];
                    let list = &lists[query as usize];
                    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                    for candidates in of_items.order[theirs].chunks(CANDIDATES_AT_ONCE) {
                        ctx.check()?;
                        for &item in candidates {
                            let infinity = f64::INFINITY;
                            if let Some(distance) =
                                queries.nearer(query, &items, item, table, infinity)
                            {
                                memory::push(&mut list, (distance, item), NEIGHBORS)?;
                            }
                        }
                        keep_nearest(&mut list, k);
                    }
                    Ok::<_, Error>(())
                })?;
            ctx.advance(1);
        }
        let rows = distances.par_chunks_mut(k).zip(indices.par_chunks_mut(k));
        rows.zip(lists).for_each(|((distances, indices), list)| {
            let mut list = list.into_inner().unwrap_or_else(PoisonError::into_inner);
            list.sort_unstable_by(nearest_first);
            for (slot, (distance, item)) in list.into_iter().enumerate() {
                distances[slot] = distance;
                indices[slot] = item.into();
            }
        });
        Ok(Neighbors {
            k,
            distances,
            indices,
        })
    }
}

/// By distance, then by row.
fn nearest_first(x: &(f64, u32), y: &(f64, u32)) -> std::cmp::Ordering {
    x.0.total_cmp(&y.0).then(x.1.cmp(&y.1))
}

fn keep_nearest(list: &mut List, k: usize) {
    if list.len() > k {
        list.select_nth_unstable_by(k, nearest_first);
        list.truncate(k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsh::minhash::tests::{brute_force, overlapping};

    #[test]
    fn nearest_are_those_of_brute_force() {
        let ctx = Context::new().unwrap();
        let (queries, items) = (overlapping(30, 3, &ctx), overlapping(80, 0, &ctx));
        for (per_table, tables, k) in [(1, 1, 1), (1, 6, 4), (2, 5, 100)] {
            let model = MinHashModel::draw(per_table, tables, 3).unwrap();
            let mut expected = brute_force(&model, &queries, &items, &ctx);
            expected.sort_by(|x, y| x.0.cmp(&y.0).then(x.2.total_cmp(&y.2)).then(x.1.cmp(&y.1)));
            let found = model.nearest_neighbors(&queries, &items, k, &ctx).unwrap();
            for query in 0..queries.len() {
                let of_query = expected.iter().filter(|&&(left, ..)| left == query as i64);
                let mut nearest: Vec<_> = of_query.take(k).map(|pair| (pair.1, pair.2)).collect();
                nearest.resize(k, (-1, f64::INFINITY));
                let slots = query * k..(query + 1) * k;
                let (indices, distances) = (&found.indices[slots.clone()], &found.distances[slots]);
                let actual = indices.iter().copied().zip(distances.iter().copied());
                assert_eq!(actual.collect::<Vec<_>>(), nearest);
            }
        }
    }

    #[test]
    fn no_neighbours_is_an_error() {
        let ctx = Context::new().unwrap();
        let sets = overlapping(3, 0, &ctx);
        let model = MinHashModel::draw(1, 1, 3).unwrap();
        assert!(model.nearest_neighbors(&sets, &sets, 0, &ctx).is_err());
    }
}
