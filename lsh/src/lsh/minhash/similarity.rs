//! Pairs of sets that share a bucket and are nearer than a threshold.

use lshjoin_kernels::memory;
use rayon::prelude::*;

use crate::{
    base::{check::not_negative, context::Context, error::Result},
    lsh::minhash::{
        model::{HashedSets, MinHashModel},
        sets::Sets,
    },
    pairs::results::{JoinedPairs, PAIRS, Pair},
};

/// Candidates between two checks for cancelling.
pub(crate) const CANDIDATES_AT_ONCE: usize = 1 << 10;

impl MinHashModel {
    /// Pairs of a set of `a` and a set of `b` that share a bucket and are nearer than `threshold`
    /// (strictly) by Jaccard distance, by left row, then by right row. In a self-join, where `b` is
    /// `None`, each pair comes both ways, and each set with itself. That is what Spark's
    /// `approxSimilarityJoin` returns.
    ///
    /// Memory grows with the results and with sets × functions, not with the candidates.
    ///
    /// # Errors
    /// When the threshold is negative or NaN, there is no memory for it, or the run is cancelled.
    pub fn similarity_join(
        &self,
        a: &Sets,
        b: Option<&Sets>,
        threshold: f64,
        ctx: &Context,
    ) -> Result<JoinedPairs<f64>> {
        not_negative("threshold", threshold)?;
        let left = HashedSets::new(self, a, ctx)?;
        let right = b.map(|b| HashedSets::new(self, b, ctx)).transpose()?;
        ctx.expect(self.tables());
        let mut pairs = Vec::new();
        for table in 0..self.tables() {
            let join = Join {
                left: &left,
                right: right.as_ref(),
                table,
                threshold,
                ctx,
            };
            memory::extend(&mut pairs, join.run()?, PAIRS)?;
            ctx.advance(1);
        }
        if b.is_none() {
            let mirrored = pairs.len();
            memory::reserve(&mut pairs, mirrored, PAIRS)?;
            for at in 0..mirrored {
                let (left, right, distance) = pairs[at];
                pairs.push((right, left, distance));
            }
            if threshold > 0.0 {
                memory::extend(
                    &mut pairs,
                    (0..a.len() as u32).map(|row| (row, row, 0.0)),
                    PAIRS,
                )?;
            }
        }
        ctx.check()?;
        pairs.par_sort_unstable_by_key(|&(left, right, _)| (left, right));
        let mut joined = JoinedPairs::new();
        joined.extend(&pairs)?;
        Ok(joined)
    }
}

/// The join of one table: the pairs that meet there first.
struct Join<'a> {
    left: &'a HashedSets<'a>,
    /// `None` in a self-join, which takes each pair once.
    right: Option<&'a HashedSets<'a>>,
    table: usize,
    threshold: f64,
    ctx: &'a Context,
}

impl Join<'_> {
    fn run(&self) -> Result<Vec<Pair<f64>>> {
        let left = self.left.table(self.table)?;
        let (order, matches) = match self.right {
            Some(right) => {
                let right = right.table(self.table)?;
                let matches = left.matches(&right)?;
                (right.order, matches)
            }
            None => {
                let order = memory::copied(&left.order, PAIRS)?;
                let buckets = left.ranges().map(|bucket| (bucket.clone(), bucket));
                (order, memory::collect(buckets, PAIRS)?)
            }
        };
        matches
            .into_par_iter()
            .flat_map(|(left, right)| left.into_par_iter().map(move |at| (at, right.clone())))
            .try_fold(Vec::new, |mut pairs, (at, right)| {
                let first = if self.right.is_none() {
                    at + 1
                } else {
                    right.start
                };
                self.of_row(left.order[at], &order[first..right.end], &mut pairs)?;
                Ok(pairs)
            })
            .try_reduce(Vec::new, |mut pairs, more| {
                memory::extend(&mut pairs, more, PAIRS)?;
                Ok(pairs)
            })
    }

    fn of_row(&self, row: u32, candidates: &[u32], pairs: &mut Vec<Pair<f64>>) -> Result<()> {
        let others = self.right.unwrap_or(self.left);
        for candidates in candidates.chunks(CANDIDATES_AT_ONCE) {
            self.ctx.check()?;
            for &other in candidates {
                let (table, limit) = (self.table, self.threshold);
                if let Some(distance) = self.left.nearer(row, others, other, table, limit) {
                    memory::push(pairs, (row, other, distance), PAIRS)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::lsh::minhash::tests::{brute_force, overlapping};

    fn pairs(joined: &JoinedPairs<f64>) -> Vec<(i64, i64, f64)> {
        let ids = joined.left.iter().zip(&joined.right);
        ids.zip(&joined.distances)
            .map(|((&left, &right), &distance)| (left, right, distance))
            .collect()
    }

    #[test]
    fn joins_are_those_of_brute_force_on_any_number_of_threads() {
        let ctx = Context::new().unwrap();
        let (a, b) = (overlapping(90, 0, &ctx), overlapping(70, 5, &ctx));
        for (per_table, tables, threshold) in [(1, 1, 0.4), (1, 5, 0.7), (3, 9, 1.0), (5, 20, 0.5)]
        {
            let model = MinHashModel::draw(per_table, tables, 7).unwrap();
            for right in [None, Some(&b)] {
                let mut expected = brute_force(&model, &a, right.unwrap_or(&a), &ctx);
                expected.retain(|&(.., distance)| distance < threshold);
                for threads in [1, 3] {
                    let pool = ThreadPoolBuilder::new()
                        .num_threads(threads)
                        .build()
                        .unwrap();
                    let joined =
                        pool.install(|| model.similarity_join(&a, right, threshold, &ctx).unwrap());
                    assert_eq!(pairs(&joined), expected);
                }
            }
        }
    }

    #[test]
    fn thresholds_are_strict_and_checked() {
        let ctx = Context::new().unwrap();
        let sets = overlapping(20, 0, &ctx);
        let model = MinHashModel::draw(1, 4, 0).unwrap();
        let join = |threshold| model.similarity_join(&sets, None, threshold, &ctx);
        assert!(join(0.0).unwrap().left.is_empty());
        assert!(join(f64::NAN).is_err());
        assert!(join(-1.0).is_err());
        let none = Sets::new(&[0], &[0_u32; 0], &ctx).unwrap();
        let joined = model.similarity_join(&none, Some(&sets), 1.0, &ctx);
        assert!(joined.unwrap().left.is_empty());
    }
}
