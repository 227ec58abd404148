//! Probing by single rows: the rows of each list are compared with those that probe it.
//!
//! All queries being known, those that probe a list are gathered from all over and compared with its
//! rows as tiles, as in FAISS's `big_batch_search`. A self-join needs a third of the pairs, since two
//! rows are compared when either probes the other's list. It may go chunk by chunk, where there is
//! no memory for what is found of all rows: the pairs are the same wherever chunks end.

use std::{borrow::Cow, ops::Range, sync::Arc};

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result},
    ivf::{
        coarse_quantiser::CoarseQuantiser,
        list_offsets::ListOffsets,
        margins::Reach,
        probes::{PROBE_BYTES, Parts, Probes, RightLists, assign, assign_probing},
        warm_start::WarmStart,
    },
    vectors::Vectors,
};

/// The steps of a join by lists: the warm start first, then what rows probe, part by part.
pub(crate) struct ProbeLists {
    warm_start: Arc<WarmStart>,
    /// `None` in a self-join of the right side.
    left: Option<ListOffsets>,
    right: Arc<RightLists>,
    /// What left rows probe first; `None` where it is found batch by batch.
    probes: Option<Arc<Probes>>,
    batches: usize,
    /// Where the left rows are a chunk of the right ones: which rows, and where their lists start.
    chunk: Option<(Range<usize>, ListOffsets)>,
}

/// What is to be compared in one go: ranges of positions in two orders of rows, as internal ids.
pub(crate) struct Step<'a> {
    pub(crate) left: Cow<'a, [u32]>,
    pub(crate) right: Cow<'a, [u32]>,
    pub(crate) blocks: Vec<Ranges>,
}

/// Probes are held of so many rows at a time that they take at most this share of what the left rows
/// take, or so many bytes.
const SHARE: usize = 8;
const AT_LEAST: usize = 128 << 20;

/// In how many batches of rows probes are found, if rows probe so many lists on average.
fn batches<T: Scalar>(left: &Vectors<'_, T>, lists: f64) -> usize {
    let rows = left.len() * left.rows.dim() * size_of::<T>();
    let all = lists * (left.len() * PROBE_BYTES) as f64;
    (all / (rows / SHARE).max(AT_LEAST) as f64).ceil().max(1.0) as usize
}

/// Positions of left and of right rows.
type Ranges = (Range<usize>, Range<usize>);

/// Whether there is anything to compare.
fn has_pairs((left, right): &Ranges) -> bool {
    !left.is_empty() && !right.is_empty()
}

/// Of a range of positions of rising rows, those of rows in `chunk`.
fn within(rows: &[u32], positions: Range<usize>, chunk: &Range<usize>) -> Range<usize> {
    let of_range = &rows[positions.clone()];
    let before = |end: usize| of_range.partition_point(|&row| (row as usize) < end);
    positions.start + before(chunk.start)..positions.start + before(chunk.end)
}

impl ProbeLists {
    /// Gives both sides' rows internal ids by list, and finds what the left ones probe first, after the
    /// warm start, if that can be held for all of them.
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
        let batches = batches(left.as_deref().unwrap_or(right), reach.lists);
        let assign_left = |side: &mut Vectors<'_, T>| -> Result<_> {
            if batches > 1 {
                return Ok((assign(quantiser, side, ctx)?, None));
            }
            let (starts, probes) =
                assign_probing(quantiser, side, &warm_start, reach.first(), ctx)?;
            Ok((starts, Some(Arc::new(probes))))
        };
        let (left, right, probes) = match left {
            None => {
                let (right, probes) = assign_left(right)?;
                (None, right, probes)
            }
            Some(left) => {
                let right = assign(quantiser, right, ctx)?;
                let (left, probes) = assign_left(left)?;
                (Some(left), right, probes)
            }
        };
        Ok(Self {
            warm_start: warm_start.into(),
            left,
            right: RightLists::of_all(right)?.into(),
            probes,
            batches,
            chunk: None,
        })
    }

    /// Lets queries probe lists that are there already: `starts` has their rows. Which items a query
    /// is compared with depends on nothing but itself.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of_queries<T: Scalar>(
        quantiser: &CoarseQuantiser,
        warm_start: Arc<WarmStart>,
        queries: &mut Vectors<'_, T>,
        (items, starts): (&Vectors<'_, T>, &ListOffsets),
        margin: f32,
        ctx: &Context,
    ) -> Result<Self> {
        let (left, probes) = assign_probing(quantiser, queries, &warm_start, margin, ctx)?;
        let mut wanted = probes.probed();
        for list in (0..left.len() as u32).filter(|&list| !left.of(list).is_empty()) {
            let near = warm_start.from(list).iter();
            near.for_each(|&other| wanted[other as usize] = true);
        }
        let right = RightLists::of_items(items, starts, |list| wanted[list as usize])?;
        Ok(Self {
            warm_start,
            left: Some(left),
            right: right.into(),
            probes: Some(probes.into()),
            batches: 1,
            chunk: None,
        })
    }

    /// Left rows with those of their own lists, of a side that is by list already.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn own_lists<T: Scalar>(
        quantiser: &CoarseQuantiser,
        left: &mut Vectors<'_, T>,
        (items, starts): (&Vectors<'_, T>, &ListOffsets),
        ctx: &Context,
    ) -> Result<Step<'static>> {
        let of_left = assign(quantiser, left, ctx)?;
        let right = RightLists::of_items(items, starts, |list| !of_left.of(list).is_empty())?;
        let lists = 0..of_left.len() as u32;
        let blocks = lists.map(|list| (of_left.of(list), right.positions.of(list)));
        Ok(Step {
            left: memory::collect(0..of_left.rows() as u32, ROW_NUMBERS)?.into(),
            blocks: blocks.filter(has_pairs).collect(),
            right: right.order.into(),
        })
    }

    /// For a chunk of the rows that `probes` are of, which `starts` has by list.
    pub(crate) fn of_chunk(
        warm_start: Arc<WarmStart>,
        starts: &ListOffsets,
        (right, probes): (Arc<RightLists>, Arc<Probes>),
        chunk: Range<usize>,
    ) -> Self {
        Self {
            warm_start,
            left: Some(starts.slice(&chunk)),
            right,
            probes: Some(probes),
            batches: 1,
            chunk: Some((chunk, starts.clone())),
        }
    }

    /// The left rows, in batches of which all probes can be held.
    pub(crate) fn batches(&self) -> impl Iterator<Item = Range<u32>> {
        let rows = self.left.as_ref().unwrap_or(&self.right.positions).rows();
        let start = move |batch: usize| (batch * rows / self.batches) as u32;
        (0..self.batches).map(move |batch| start(batch)..start(batch + 1))
    }

    /// What the left rows of a batch probe.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn probes_of<T: Scalar>(
        &self,
        batch: Range<u32>,
        quantiser: &CoarseQuantiser,
        left: &Vectors<'_, T>,
        parts: Parts,
        ctx: &Context,
    ) -> Result<Probes> {
        let rows = memory::collect(batch, ROW_NUMBERS)?;
        Probes::of_rows(quantiser, (&self.warm_start, parts), left, &rows, ctx)
    }

    /// What left rows probe first; `None` where it is found batch by batch.
    pub(crate) fn probes(&self) -> Option<&Probes> {
        self.probes.as_deref()
    }

    /// What is compared in a part of these probes; the most promising comes first.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn part<'a>(&'a self, probes: &'a Probes, part: usize) -> Result<Vec<Step<'a>>> {
        match &self.chunk {
            Some((chunk, _)) => self.part_of_chunk(probes, part, chunk),
            None => {
                let lists = 0..self.right.positions.len() as u32;
                let blocks =
                    lists.map(|list| (probes.of(part, list), self.right.positions.of(list)));
                Ok(vec![Step {
                    left: probes.rows.as_slice().into(),
                    right: self.right.order.as_slice().into(),
                    blocks: blocks.filter(has_pairs).collect(),
                }])
            }
        }
    }

    /// What is compared for the rows of a chunk: those that probe a list with its rows, and its own
    /// with the rows elsewhere that probe their list.
    fn part_of_chunk<'a>(
        &'a self,
        probes: &'a Probes,
        part: usize,
        chunk: &Range<usize>,
    ) -> Result<Vec<Step<'a>>> {
        let right = &self.right;
        let first = chunk.start as u32;
        let local = |rows: &[u32]| {
            let rows = rows.iter().map(|row| row - first);
            memory::collect(rows, ROW_NUMBERS)
        };
        let own = within(&right.order, 0..right.order.len(), chunk);
        let (mut probing, mut straight, mut turned) = (Vec::new(), Vec::new(), Vec::new());
        for list in 0..right.positions.len() as u32 {
            let (all, items) = (probes.of(part, list), right.positions.of(list));
            let inside = within(&probes.rows, all.clone(), chunk);
            let start = probing.len();
            memory::extend(
                &mut probing,
                local(&probes.rows[inside.clone()])?,
                ROW_NUMBERS,
            )?;
            straight.push((start..probing.len(), items.clone()));
            let items = items.start.max(own.start)..items.end.min(own.end);
            if !items.is_empty() {
                let items = items.start - own.start..items.end - own.start;
                turned.push((items.clone(), all.start..inside.start));
                turned.push((items, inside.end..all.end));
            }
        }
        for blocks in [&mut straight, &mut turned] {
            blocks.retain(has_pairs);
        }
        Ok(vec![
            Step {
                left: probing.into(),
                right: right.order.as_slice().into(),
                blocks: straight,
            },
            Step {
                left: local(&right.order[own])?.into(),
                right: probes.rows.as_slice().into(),
                blocks: turned,
            },
        ])
    }

    /// The warm start, of all left rows.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(crate) fn warm_start(&self) -> Result<Step<'_>> {
        let (mut order, mut blocks) = (Vec::new(), Vec::new());
        let left = self.left.as_ref().unwrap_or(&self.right.positions);
        let mut rows_of_left = memory::collect(0..left.rows() as u32, ROW_NUMBERS)?;
        for list in 0..left.len() as u32 {
            let rows = left.of(list);
            if rows.is_empty() {
                continue;
            }
            let start = order.len();
            for &other in self.warm_start.from(list) {
                memory::extend(
                    &mut order,
                    self.right.of(other).iter().copied(),
                    ROW_NUMBERS,
                )?;
            }
            let of_right = start..order.len();
            if self.is_of_queries() {
                // The first part for all of them, whichever others there are.
                let few = of_right.len().div_ceil(self.warm_start.parts(list));
                blocks.push((rows, start..start + few));
                continue;
            }
            memory::extend(
                &mut blocks,
                self.cut(list, &rows, &of_right),
                "parts of lists",
            )?;
            if self.warm_start.parts(list) > 1 {
                // These probe no list, since they are not found by others: they find equal rows.
                let surplus = self.surplus(list, &rows);
                let from = rows_of_left.len();
                memory::extend(&mut rows_of_left, surplus, ROW_NUMBERS)?;
                let own = start..start + self.right.of(list).len();
                blocks.push((from..rows_of_left.len(), own));
            }
        }
        blocks.retain(has_pairs);
        Ok(Step {
            left: rows_of_left.into(),
            right: order.into(),
            blocks,
        })
    }

    /// Whether left rows are no right rows.
    fn is_of_queries(&self) -> bool {
        self.left.is_some() && self.chunk.is_none()
    }

    /// The left rows of a list, and the right ones near it, cut into parts: those of the whole list,
    /// wherever a chunk of it begins.
    fn cut(
        &self,
        list: u32,
        rows: &Range<usize>,
        near: &Range<usize>,
    ) -> impl ExactSizeIterator<Item = Ranges> {
        let (whole, before) = match &self.chunk {
            Some((chunk, starts)) => {
                let whole = starts.of(list);
                (whole.len(), chunk.start.max(whole.start) - whole.start)
            }
            None => (rows.len(), 0),
        };
        let (rows, near, count) = (rows.clone(), near.clone(), self.warm_start.parts(list));
        (0..count).map(move |part| {
            let cut = |length: usize| part * length / count..(part + 1) * length / count;
            let (of_left, of_right) = (cut(whole), cut(near.len()));
            let clip = |at: usize| rows.start + at.clamp(before, before + rows.len()) - before;
            (
                clip(of_left.start)..clip(of_left.end),
                near.start + of_right.start..near.start + of_right.end,
            )
        })
    }

    /// Rows of a list, those of `rows`, that are no neighbours of others.
    fn surplus(&self, list: u32, rows: &Range<usize>) -> Vec<u32> {
        let first = self.chunk.as_ref().map_or(0, |(chunk, _)| chunk.start);
        let others = self.right.of(list);
        let is_surplus = |row: &usize| others.binary_search(&((first + row) as u32)).is_err();
        let rows = rows.clone().filter(is_surplus);
        rows.map(|row| row as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lshjoin_kernels::Rows;

    use super::*;
    use crate::{
        base::metric::Metric,
        base::random::gaussians,
        ivf::list_distances::CentroidDistances,
        ivf::margins::{margin_of, probe_stats},
    };

    #[test]
    fn rows_probe_the_lists_within_their_margin_once_each() {
        const DIM: usize = 5;
        let ctx = Context::new().unwrap();
        let (queries, items) = (gaussians(300 * DIM, 1), gaussians(700 * DIM, 2));
        let side = |values| {
            let rows = Rows::new(values, DIM).unwrap();
            Vectors::new("rows", rows, Metric::Euclidean, &ctx).unwrap()
        };
        // So many lists a row that they are found in batches of a few rows.
        let many = 1e6;
        for (two_sided, warm_start, lists) in [
            (false, 10, 1.0),
            (false, 100, many),
            (true, 10, many),
            (true, 100, 1.0),
        ] {
            let (mut left, mut right) = (two_sided.then(|| side(&queries)), side(&items));
            let probing = side(if two_sided { &queries } else { &items });
            let quantiser = CoarseQuantiser::of_side(&right, 20, None, 3, &ctx).unwrap();
            let warm_start =
                WarmStart::new(&quantiser, &right, !two_sided, warm_start, &ctx).unwrap();
            let margin = margin_of(&quantiser, &probing, 4.0, &ctx).unwrap();
            let reach = Reach::without_pass(0.8 * margin, lists);
            let all: Vec<u32> = (0..probing.rows.len() as u32).collect();
            let of_row = |_: usize, of: &CentroidDistances| Ok((of.nearest(), of.margins()?));
            let margins = quantiser.each_row_of(&probing, &all, of_row, &ctx).unwrap();
            let all: Vec<u32> = (0..right.rows.len() as u32).collect();
            let nearest = |_: usize, of: &CentroidDistances| Ok(of.nearest());
            let of_items = quantiser.each_row_of(&right, &all, nearest, &ctx).unwrap();
            let [stats] = probe_stats(&quantiser, &warm_start, &probing, [margin], &ctx).unwrap();
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

            assert_eq!(probe_lists.probes().is_none(), lists == many);
            assert!(lists < many || probe_lists.batches().count() > 10);
            let in_batches = |parts: &Parts| -> Vec<Probes> {
                let batches = probe_lists.batches().map(|batch| {
                    probe_lists.probes_of(batch, &quantiser, left, parts.clone(), &ctx)
                });
                batches.collect::<Result<_>>().unwrap()
            };
            let batches = match probe_lists.probes() {
                Some(_) => Vec::new(),
                None => in_batches(&Parts::up_to(reach.margin)),
            };
            let further = in_batches(&Parts::between(reach.margin, margin));
            let mut found = BTreeSet::new();
            let probes = probe_lists.probes().into_iter();
            let probes = probes.chain(&batches).chain(&further);
            let parts =
                probes.flat_map(|probes| (0..probes.parts()).map(move |part| (probes, part)));
            for (probes, part) in parts {
                let margin = probes.margin(part);
                let steps = probe_lists.part(probes, part).unwrap();
                assert_eq!(steps.len(), 1);
                for (of_left, of_right) in steps[0].blocks.clone() {
                    let positions = &probe_lists.right.positions;
                    let list = positions.list_of(of_right.start as u32);
                    assert_eq!(positions.of(list), of_right);
                    for id in of_right {
                        assert_eq!(of_items[right.row(id as u32) as usize], list);
                    }
                    for &id in &steps[0].left[of_left] {
                        let row = left.row(id);
                        let far = margins[row as usize].1[list as usize];
                        assert!(far.0 == list && far.1 <= margin);
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
        let step = probe_lists.warm_start().unwrap();
        let (order, blocks) = (step.right, step.blocks);
        let of_left = probe_lists.left.as_ref();
        let of_left = of_left.unwrap_or(&probe_lists.right.positions);
        let mut filled: Vec<usize> = Vec::new();
        for (left_rows, of_right) in blocks {
            let list = of_left.list_of(left_rows.start as u32);
            let with: BTreeSet<u32> = order[of_right].iter().copied().collect();
            for other in 0..lists {
                let mut rows = probe_lists.right.of(other).iter().copied();
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
