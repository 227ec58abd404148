//! The k nearest of the candidates that a model's tables bring together.

use lshjoin_kernels::{Rows, Scalar};

use crate::{
    base::{context::Context, error::Result},
    lsh::model::LshModel,
    pairs::{
        results::Neighbors,
        tile_join::{BlockPair, TileJoin},
        top_k::TopK,
    },
    vectors::Vectors,
};

impl LshModel {
    /// For each query the k nearest of the items that share a bucket with it; fewer where there
    /// are not as many.
    ///
    /// For one query this is Spark's `approxNearestNeighbors`. For many queries Spark has nothing.
    ///
    /// # Errors
    /// When dimensions differ, a row holds NaN or infinity, `k` is 0, a bucket does not fit 32
    /// bits, or the run is cancelled.
    pub fn nearest_neighbors<T: Scalar>(
        &self,
        queries: Rows<'_, T>,
        items: Rows<'_, T>,
        k: usize,
        ctx: &Context,
    ) -> Result<Neighbors<T>> {
        self.check_dimension("queries", queries)?;
        self.check_dimension("items", items)?;
        let right = Vectors::new("items", items, self.distance().into(), ctx)?;
        let left = right.prepare_other("queries", queries, ctx)?;
        let nearest = TopK::new(&left, Some(&right), k, ctx)?;
        self.for_each_table(items, Some(queries), ctx, |items, queries| {
            let Some(queries) = queries else {
                return Ok(());
            };
            let tiles = TileJoin {
                left: &left,
                left_order: &queries.order,
                right: Some((&right, &items.order)),
                codes: None,
                ctx,
            };
            let blocks = queries.matches(items)?.into_iter();
            let blocks = blocks.map(|(left, right)| BlockPair { left, right });
            tiles.run(blocks, &nearest.one_way())?;
            Ok(())
        })?;
        nearest.finish()
    }
}
