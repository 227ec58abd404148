//! Probing by single rows: the rows of each list are compared with those that probe it.
//!
//! A row probes the lists whose centroids are about as near as the nearest one, but for those of
//! the warm start. All queries being known, those that probe a list are gathered from all over and
//! compared with its rows as tiles, as in FAISS's `big_batch_search`. A self-join needs a third of
//! the pairs, since two rows are compared when either probes the other's list. (To probe the
//! buckets that probably hold neighbours: Q. Lv et al., "Multi-probe LSH", 2007.)

use std::ops::Range;

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, plan::MOST_LISTS},
    ivf::{
        coarse_quantiser::{BLOCK, CoarseQuantiser, ListsOfRow},
        list_offsets::ListOffsets,
        margins::Reach,
        warm_start::WarmStart,
    },
    vectors::Vectors,
};

/// Lists are probed in parts, up to some margins: all rows are compared with what is more promising
/// first, so that most pairs of later parts fail the filter on codes.
struct Parts {
    /// Rising.
    margins: Vec<f32>,
}

/// How many parts there are at most.
const MOST_PARTS: usize = 3;

impl Parts {
    /// Halfway to where a neighbour pass is tried, if it is, or else to the end; then all of that;
    /// then the rest.
    fn of(reach: Reach) -> Self {
        let first = reach.before_pass.unwrap_or(reach.margin);
        let mut margins = vec![0.5 * first, first];
        if reach.before_pass.is_some() {
            margins.push(reach.margin);
        }
        Self { margins }
    }

    /// The part of a list that is so much further than the nearest one.
    fn part_of(&self, further: f32) -> usize {
        let part = self.margins.iter().position(|&margin| further <= margin);
        part.unwrap_or(0)
    }
}

/// How an out-of-memory error names them.
const PROBES: &str = "probes of lists";

/// Left and right rows by list, the warm start, and which left rows probe each list.
pub(crate) struct ProbeLists {
    warm_start: WarmStart,
    /// `None` in a self-join of the right side.
    left: Option<ListOffsets>,
    right: ListOffsets,
    parts: Parts,
    probes: Probes,
}

/// The rows that probe each list, by part and list, as internal ids.
struct Probes {
    starts: ListOffsets,
    rows: Vec<u32>,
}

/// The list of each row of a block, and what it probes: a key for each list and part. `ends` has
/// where the keys of each row end.
#[derive(Default)]
struct OfBlock {
    lists: Vec<u32>,
    ends: Vec<u32>,
    keys: Vec<u32>,
}

/// Bytes of a probe, while probes are held both by row and by list.
pub(crate) const PROBE_BYTES: usize = 2 * size_of::<u32>();

// A key, of a part and a list, fits 32 bits.
const _: () = assert!(MOST_PARTS * MOST_LISTS <= 1 << 32);

/// Ranges of two orders of rows that are to be compared.
type BlockPairs = Vec<(Range<usize>, Range<usize>)>;

/// Gives the side's rows internal ids by list and, where they probe (`probing` has a warm start and
/// a margin), collects which rows probe each list.
fn assign<T: Scalar>(
    quantiser: &CoarseQuantiser,
    side: &mut Vectors<'_, T>,
    probing: Option<(&WarmStart, &Parts)>,
    ctx: &Context,
) -> Result<(ListOffsets, Probes)> {
    let margin = probing.and_then(|(_, parts)| parts.margins.last().copied());
    let margin = margin.unwrap_or(0.0);
    let parts = probing.map_or(0, |(_, parts)| parts.margins.len());
    let probe = |of_block: &mut dyn Iterator<Item = ListsOfRow>| {
        let mut block = OfBlock::default();
        let mut listed = Ok(());
        for of_row in of_block {
            let own = of_row.nearest();
            block.lists.push(own);
            if let Some((warm_start, parts)) = probing {
                of_row.within(|list, further| {
                    if warm_start.covers(own, list) {
                        return;
                    }
                    let key = key(parts.part_of(further), list, quantiser.len());
                    if listed.is_ok() {
                        listed = memory::push(&mut block.keys, key, PROBES);
                    }
                });
            }
            block.ends.push(block.keys.len() as u32);
        }
        listed?;
        Ok(block)
    };
    let rows = memory::collect(0..side.len() as u32, ROW_NUMBERS)?;
    let blocks = match &side.codes {
        Some(codes) => quantiser.each_block_within(codes, &rows, margin, probe, ctx)?,
        None => Vec::new(),
    };
    let of_rows = blocks.iter().flat_map(|block| &block.lists);
    let of_rows = memory::collect(of_rows.copied(), ROW_NUMBERS)?;
    let starts = ListOffsets::new(of_rows.iter().copied(), quantiser.len());
    let order = starts.order(&of_rows)?;
    let probes = Probes::new(&blocks, &order, parts * quantiser.len())?;
    drop(blocks);
    side.reorder(order)?;
    Ok((starts, probes))
}

/// A key for each part of each list.
fn key(part: usize, list: u32, lists: usize) -> u32 {
    (part * lists) as u32 + list
}

impl Probes {
    /// Of all rows, block by block; `order` has them in order of their new internal ids.
    fn new(blocks: &[OfBlock], order: &[u32], keys_of_all: usize) -> Result<Self> {
        let keys = blocks.iter().flat_map(|block| &block.keys);
        let keys = keys.copied();
        let starts = ListOffsets::new(keys, keys_of_all);
        let (mut rows, mut next) = (memory::zeroed(starts.rows(), PROBES)?, starts.clone());
        for (id, &row) in (0..).zip(order) {
            let (block, row) = (&blocks[row as usize / BLOCK], row as usize % BLOCK);
            for &key in block.keys_of(row) {
                rows[next.take(key, 1)] = id;
            }
        }
        Ok(Self { starts, rows })
    }
}

impl OfBlock {
    fn keys_of(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.keys[start as usize..self.ends[row] as usize]
    }
}

impl ProbeLists {
    /// Gives both sides' rows internal ids by list, and lets the left ones probe as far as they
    /// have to after the warm start.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn new<T: Scalar>(
        quantiser: &CoarseQuantiser,
        warm_start: WarmStart,
        left: Option<&mut Vectors<'_, T>>,
        right: &mut Vectors<'_, T>,
        reach: Reach,
        ctx: &Context,
    ) -> Result<Self> {
        let parts = Parts::of(reach);
        let probing = Some((&warm_start, &parts));
        let ((left, probes), right) = match left {
            None => {
                let (right, probes) = assign(quantiser, right, probing, ctx)?;
                ((None, probes), right)
            }
            Some(left) => {
                let right = assign(quantiser, right, None, ctx)?.0;
                let (left, probes) = assign(quantiser, left, probing, ctx)?;
                ((Some(left), probes), right)
            }
        };
        Ok(Self {
            warm_start,
            left,
            right,
            parts,
            probes,
        })
    }

    /// The left rows that probe lists, in the order that [`ProbeLists::parts`] refers to.
    pub(crate) fn order(&self) -> &[u32] {
        &self.probes.rows
    }

    /// Ranges of [`ProbeLists::order`], each with the right rows that it is to be compared with;
    /// the most promising part first.
    pub(crate) fn parts(&self) -> impl ExactSizeIterator<Item = BlockPairs> {
        (0..self.parts.margins.len()).map(|part| {
            let lists = 0..self.right.len() as u32;
            let blocks = lists.map(|list| {
                let key = key(part, list, self.right.len());
                (self.probes.starts.of(key), self.right.of(list))
            });
            blocks
                .filter(|(left, right)| !left.is_empty() && !right.is_empty())
                .collect()
        })
    }

    /// The warm start: ranges of all left rows, each with a range of the right rows that are
    /// returned.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn warm_start(&self) -> Result<(Vec<u32>, BlockPairs)> {
        let (mut order, mut blocks) = (Vec::new(), Vec::new());
        let left = self.left.as_ref().unwrap_or(&self.right);
        for list in 0..left.len() as u32 {
            let rows = left.of(list);
            if rows.is_empty() {
                continue;
            }
            let start = order.len();
            for &other in self.warm_start.from(list) {
                memory::extend(&mut order, self.right.ids(other), ROW_NUMBERS)?;
            }
            let (of_left, of_right) = (rows.len(), order.len() - start);
            let count = self.warm_start.parts(list);
            let parts = (0..count).map(|part| {
                let cut = |length| part * length / count..(part + 1) * length / count;
                let (left, right) = (cut(of_left), cut(of_right));
                (
                    rows.start + left.start..rows.start + left.end,
                    start + right.start..start + right.end,
                )
            });
            memory::extend(&mut blocks, parts, "parts of lists")?;
        }
        Ok((order, blocks))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use lshjoin_kernels::Rows;

    use super::*;
    use crate::{
        base::metric::Metric,
        base::random::gaussian,
        ivf::coarse_quantiser::CentroidDistances,
        ivf::margins::{margin_of, probe_stats},
    };

    fn gaussians(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| gaussian(&mut rng) as f32).collect()
    }

    #[test]
    fn rows_probe_the_lists_within_their_margin_once_each() {
        const DIM: usize = 5;
        let ctx = Context::new().unwrap();
        let (queries, items) = (gaussians(300 * DIM, 1), gaussians(700 * DIM, 2));
        let side = |values| {
            let rows = Rows::new(values, DIM).unwrap();
            Vectors::new("rows", rows, Metric::Euclidean, &ctx).unwrap()
        };
        for (two_sided, warm_start) in [(false, 10), (false, 100), (true, 10), (true, 100)] {
            let (mut left, mut right) = (two_sided.then(|| side(&queries)), side(&items));
            let probing = side(if two_sided { &queries } else { &items });
            let quantiser = CoarseQuantiser::of_side(&right, 20, 3, &ctx).unwrap();
            let warm_start =
                WarmStart::new(&quantiser, &right, !two_sided, warm_start, &ctx).unwrap();
            let margin = margin_of(&quantiser, &probing, 4, &ctx).unwrap();
            let reach = Reach {
                margin,
                before_pass: two_sided.then_some(0.7 * margin),
            };
            let all: Vec<u32> = (0..probing.rows.len() as u32).collect();
            let of_row = |_: usize, of: &CentroidDistances| Ok((of.nearest(), of.margins()?));
            let margins = quantiser.each_row_of(&probing, &all, of_row, &ctx).unwrap();
            let all: Vec<u32> = (0..right.rows.len() as u32).collect();
            let nearest = |_: usize, of: &CentroidDistances| Ok(of.nearest());
            let of_items = quantiser.each_row_of(&right, &all, nearest, &ctx).unwrap();
            let probe_stats =
                probe_stats(&quantiser, &warm_start, &probing, &[margin], &ctx).unwrap();
            let probe_lists = ProbeLists::new(
                &quantiser,
                warm_start,
                left.as_mut(),
                &mut right,
                reach,
                &ctx,
            )
            .unwrap();
            let warm_start = &probe_lists.warm_start;
            let left = left.as_ref().unwrap_or(&right);

            let mut found = BTreeSet::new();
            for (blocks, &part) in probe_lists.parts().zip(&probe_lists.parts.margins) {
                for (of_left, of_right) in blocks {
                    let list = probe_lists.right.list_of(of_right.start as u32);
                    assert_eq!(probe_lists.right.of(list), of_right);
                    for id in of_right {
                        assert_eq!(of_items[right.row(id as u32) as usize], list);
                    }
                    for &id in &probe_lists.order()[of_left] {
                        let row = left.row(id);
                        let far = margins[row as usize].1[list as usize];
                        assert!(far.0 == list && far.1 <= part);
                        assert!(found.insert((row, list)), "{row} probes {list} twice");
                    }
                }
            }
            let expected = (0..).zip(&margins).flat_map(|(row, (own, margins))| {
                let lists = margins
                    .iter()
                    .copied()
                    .filter(|&(list, further)| further <= margin && !warm_start.covers(*own, list));
                lists.map(move |(list, _)| (row, list))
            });
            assert_eq!(found, expected.collect());
            let average = found.len() as f64 / margins.len() as f64;
            let stats = &probe_stats[0];
            assert!(
                (average - stats.lists).abs() < 0.2,
                "{average}, {}",
                stats.lists
            );

            check_warm_start(&probe_lists, quantiser.len() as u32, left.rows.len());
        }
    }

    /// Checks that the warm start has all rows of the lists that it says it has, for each left row.
    fn check_warm_start(probe_lists: &ProbeLists, lists: u32, left_rows: usize) {
        let warm_start = &probe_lists.warm_start;
        let (order, blocks) = probe_lists.warm_start().unwrap();
        let of_left = probe_lists.left.as_ref().unwrap_or(&probe_lists.right);
        let mut filled: Vec<usize> = Vec::new();
        for (left_rows, of_right) in blocks {
            let list = of_left.list_of(left_rows.start as u32);
            let with: BTreeSet<u32> = order[of_right].iter().copied().collect();
            for other in 0..lists {
                let mut rows = probe_lists.right.ids(other);
                let is_from = warm_start.is_from(list, other);
                assert!(!is_from || rows.all(|row| with.contains(&row)));
                // A list is covered if the warm start has it and, in a self-join, that of each has
                // the other.
                let covers = warm_start.covers(list, other);
                let is_found = probe_lists.left.is_some() || warm_start.is_from(other, list);
                assert_eq!(covers, is_from && is_found);
            }
            filled.extend(left_rows);
        }
        assert_eq!(filled, (0..left_rows).collect::<Vec<_>>());
    }
}
