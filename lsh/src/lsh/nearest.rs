//! The k nearest of the candidates that a model's tables bring together.

use lshjoin_kernels::{Rows, Scalar};

use crate::{
    base::{context::Run, error::Result},
    lsh::model::LshModel,
    pairs::{
        results::Neighbors,
        tile_join::{Meeting, Meetings},
        top_k::Nearest,
    },
    vectors::Side,
};

impl LshModel {
    /// For each query the k nearest of the items that share a bucket with it; fewer where there
    /// are not as many.
    ///
    /// For one query this is Spark's `approxNearestNeighbors`; for many it is what Spark has not.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, `k` is 0, a bucket does not fit 32
    /// bits, or the run is cancelled.
    pub fn nearest_neighbors<T: Scalar>(
        &self,
        queries: Rows<'_, T>,
        items: Rows<'_, T>,
        k: usize,
        run: &Run,
    ) -> Result<Neighbors<T>> {
        self.check_dimension("queries", queries)?;
        self.check_dimension("items", items)?;
        let right = Side::new("items", items, self.distance().into(), run)?;
        let left = right.to_meet("queries", queries, run)?;
        let nearest = Nearest::new(&left, Some(&right), k, run)?;
        self.for_each_table(items, Some(queries), run, |items, queries| {
            let Some(queries) = queries else {
                return Ok(());
            };
            let meetings = Meetings {
                left: &left,
                left_order: &queries.order,
                right: Some((&right, &items.order)),
                codes: None,
                run,
            };
            let met = queries.matches(items)?.into_iter();
            let met = met.map(|(left, right)| Meeting { left, right });
            meetings.hold(met, &nearest.for_left())?;
            Ok(())
        })?;
        nearest.finish()
    }
}
