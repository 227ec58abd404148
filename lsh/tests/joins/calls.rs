//! Joins as one call each, for tests that try many arguments.

use lshjoin::{
    Context, Distance, JoinPlan, JoinedPairs, KnnJoin, Metric, Neighbors, PlanStudy, RadiusJoin,
    RadiusNeighbors, Result, Rows, Scalar,
};

pub fn knn_join<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    plan: &JoinPlan,
    ctx: &Context,
) -> Result<Neighbors<T>> {
    let join = KnnJoin::new(items).queries(queries).k(k).metric(metric);
    Ok(join.plan(*plan).run(ctx)?.neighbors)
}

pub fn plan_knn_join<T: Scalar>(
    items: Rows<'_, T>,
    k: usize,
    metric: Metric,
    recall: f64,
    ctx: &Context,
) -> Result<PlanStudy> {
    KnnJoin::new(items)
        .k(k)
        .metric(metric)
        .recall(recall)
        .study(ctx)
}

pub fn radius_join<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    radius: f64,
    metric: Metric,
    ctx: &Context,
) -> Result<RadiusNeighbors<T>> {
    let join = RadiusJoin::new(items, radius).queries(queries);
    join.distance(Distance::try_from(metric)?).run(ctx)
}

pub fn radius_join_batches<T: Scalar>(
    queries: Option<Rows<'_, T>>,
    items: Rows<'_, T>,
    radius: f64,
    metric: Metric,
    batch_size: usize,
    ctx: &Context,
    deliver: impl FnMut(JoinedPairs<T>) + Send,
) -> Result<()> {
    let join = RadiusJoin::new(items, radius).queries(queries);
    join.distance(Distance::try_from(metric)?)
        .run_batches(batch_size, ctx, deliver)
}
