//! A join by an index that is made for it, and dropped after that.

use lshjoin_kernels::{Rows, Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        context::Context,
        error::{Error, Result},
        input::Input,
        keys::Keys,
        metric::Metric,
        plan::{JoinPlan, PartitionPlan},
    },
    index::{REWRITTEN, builder::IndexBuilder},
    pairs::results::{NEIGHBORS, Neighbors},
};

/// Queries, at most, that tell how far all have to probe, where they are no items. Joins of files
/// take as many.
pub(crate) const SAMPLE: usize = 512;

/// [`KnnJoin`](crate::KnnJoin) by the lists of an index that is made for it. It finds the pairs
/// that a join out of core by the same plan finds.
pub(crate) fn join_by_index<T: Scalar>(
    Input {
        queries,
        items,
        apart,
    }: Input<'_, T>,
    k: usize,
    metric: Metric,
    plan: PartitionPlan,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    if size_of::<T>() > size_of::<f32>() {
        return Err(Error::parameter(
            "plan",
            "another one for vectors of 64 bits: an index holds 32 bits a value",
            "one of partitions",
        ));
    }
    let single = |rows: Rows<'_, T>| {
        let values = rows.values()?;
        let values = values.par_iter().map(|value| value.to_f64() as f32);
        memory::par_collect(values, "copies of rows")
    };
    let (count, dim) = (items.len(), items.dim());
    ctx.begin_stage("index");
    let mut builder = IndexBuilder::new(count, dim, metric, Some(plan), plan.seed, None)?;
    for _ in 0..builder.passes() {
        for start in (0..count).step_by(REWRITTEN) {
            let range = start..count.min(start + REWRITTEN);
            let ids: Vec<i64> = range.clone().map(|row| row as i64).collect();
            builder.push(Rows::new(&single(items.slice(range))?, dim)?, &ids, ctx)?;
        }
    }
    let index = builder.finish(ctx)?;
    let kept = |apart: Option<Keys<'_>>| match apart {
        Some(keys) => index.kept_apart(keys, ctx),
        None => Ok(index.clone()),
    };
    let plan = JoinPlan::Partitions(plan);
    ctx.begin_stage("plan");
    let found = match queries {
        Some(queries) => {
            let values = single(queries)?;
            let queries = Rows::new(&values, dim)?;
            let sample = (0..queries.len() as u32).step_by(queries.len().div_ceil(SAMPLE).max(1));
            let rows: Vec<u32> = memory::collect(sample, "a sample of the queries")?;
            let sample = queries.gather(&rows)?;
            let sample = (Rows::new(&sample, dim)?, queries.len());
            let of_sample = apart.map(|keys| keys.gather(&rows, &[])).transpose()?;
            let of_sample = of_sample.as_ref().and_then(|keys| keys.0.as_deref());
            let of_sample = kept(apart.map(|keys| keys.queries(of_sample)))?;
            let plan = of_sample.fixed_plan(Some(sample), k, &plan, ctx)?;
            kept(apart)?.knn(queries, k, &plan, ctx)?
        }
        None => {
            let index = kept(apart)?;
            let plan = index.fixed_plan(None, k, &plan, ctx)?;
            let (rows, found) = index.knn_of_chunk(0..count, k, &plan, ctx)?;
            let mut positions = memory::zeroed(rows.len(), ROW_NUMBERS)?;
            for (position, &row) in (0..).zip(&rows) {
                positions[row as usize] = position;
            }
            found.gathered(&positions)?
        }
    };
    let distances = found.distances.iter();
    let distances = distances.map(|&far| T::from_f64(far.into()));
    Ok(Neighbors {
        k: found.k,
        distances: memory::collect(distances, NEIGHBORS)?,
        indices: found.indices,
    })
}
