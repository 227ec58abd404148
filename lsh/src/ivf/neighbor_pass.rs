//! Neighbour passes: a row's neighbours are likely to be near each other (W. Dong, C. Moses and K.
//! Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", 2011).

use lshjoin_kernels::{Scalar, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, error::Result},
    pairs::top_k_join::TopKJoin,
};

/// Left rows that are expanded together: as they lie together, they have neighbours in common.
const EXPANDED: usize = 128;

impl<T: Scalar> TopKJoin<'_, T> {
    /// Compares left rows that lie together with the neighbours of them all and, in a self-join,
    /// with the neighbours of these.
    pub(crate) fn expand(&self, left_order: &[u32]) -> Result<()> {
        let lists = self.nearest.lists.rerank(self.ctx)?;
        let candidates: Vec<Vec<u32>> = left_order
            .par_chunks(EXPANDED)
            .map(|block| {
                let near = block.iter().flat_map(|&row| lists.of(row));
                let mut near: Vec<u32> = memory::collect(near, ROW_NUMBERS)?;
                near.sort_unstable();
                near.dedup();
                if self.left.is_none() {
                    let next = near.iter().flat_map(|&row| lists.of(row));
                    let next: Vec<u32> = memory::collect(next, ROW_NUMBERS)?;
                    memory::extend(&mut near, next, ROW_NUMBERS)?;
                    near.sort_unstable();
                    near.dedup();
                }
                Ok(near)
            })
            .collect::<Result<_>>()?;
        let mut blocks = memory::empty(candidates.len(), ROW_NUMBERS)?;
        let mut right_order = Vec::new();
        for (block, candidates) in candidates.iter().enumerate() {
            let start = right_order.len();
            memory::extend(&mut right_order, candidates.iter().copied(), ROW_NUMBERS)?;
            let left = block * EXPANDED..left_order.len().min((block + 1) * EXPANDED);
            blocks.push((left, start..right_order.len()));
        }
        self.join(left_order, &right_order, blocks, &self.nearest.one_way())
    }
}
