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
                            if queries.meet_first(query, &items, item, table)
                                && let Some(distance) =
                                    queries.nearer(query, &items, item, f64::INFINITY)
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
