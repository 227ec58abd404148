//! Which rows probe which lists.
//!
//! A row probes the lists whose centroids are about as near as the nearest one, but for those of
//! the warm start. (To probe the buckets that probably hold neighbours: Q. Lv et al., "Multi-probe
//! LSH", 2007.)

use std::ops::Range;

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, plan::MOST_LISTS},
    ivf::{
        coarse_quantiser::CoarseQuantiser,
        list_distances::{BLOCK, ListsOfRow},
        list_offsets::ListOffsets,
        margins::Reach,
        warm_start::WarmStart,
    },
    vectors::Vectors,
};

/// Lists are probed in parts, up to some margins: all rows are compared with what is more promising
/// first, so that most pairs of later parts fail the filter on codes.
pub(super) struct Parts {
    /// Rising.
    pub(super) margins: Vec<f32>,
}

/// How many parts there are at most.
const MOST_PARTS: usize = 3;

impl Parts {
    /// Halfway to where a neighbour pass is tried, if it is, or else to the end; then all of that;
    /// then the rest.
    pub(super) fn of(reach: Reach) -> Self {
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

/// Right rows by list.
pub(crate) struct RightLists {
    /// Internal ids.
    pub(crate) order: Vec<u32>,
    /// Where those of each list start in `order`.
    pub(crate) positions: ListOffsets,
}

/// The rows that probe each list, by part and list, as internal ids.
pub(crate) struct Probes {
    pub(super) parts: Parts,
    lists: usize,
    starts: ListOffsets,
    pub(super) rows: Vec<u32>,
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

/// Finds the list of each of these rows, by internal id, and what they probe where they do
/// (`probing` has a warm start and margins).
fn assigned<T: Scalar>(
    quantiser: &CoarseQuantiser,
    side: &Vectors<'_, T>,
    rows: &[u32],
    probing: Option<(&WarmStart, &Parts)>,
    ctx: &Context,
) -> Result<Vec<OfBlock>> {
    let margin = probing.and_then(|(_, parts)| parts.margins.last().copied());
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
    match &side.codes {
        Some(codes) => quantiser.each_block_within(codes, rows, margin.unwrap_or(0.0), probe, ctx),
        None => Ok(Vec::new()),
    }
}

/// Gives the side's rows internal ids by list.
pub(super) fn assign<T: Scalar>(
    quantiser: &CoarseQuantiser,
    side: &mut Vectors<'_, T>,
    ctx: &Context,
) -> Result<ListOffsets> {
    let rows = memory::collect(0..side.len() as u32, ROW_NUMBERS)?;
    let blocks = assigned(quantiser, side, &rows, None, ctx)?;
    let (starts, order) = by_list(&blocks, quantiser)?;
    drop(blocks);
    side.reorder(order)?;
    Ok(starts)
}

/// The same, and collects which rows probe each list.
pub(super) fn assign_probing<T: Scalar>(
    quantiser: &CoarseQuantiser,
    side: &mut Vectors<'_, T>,
    warm_start: &WarmStart,
    reach: Reach,
    ctx: &Context,
) -> Result<(ListOffsets, Probes)> {
    let parts = Parts::of(reach);
    let rows = memory::collect(0..side.len() as u32, ROW_NUMBERS)?;
    let blocks = assigned(quantiser, side, &rows, Some((warm_start, &parts)), ctx)?;
    let (starts, order) = by_list(&blocks, quantiser)?;
    let ids = (0..).zip(order.iter().copied());
    let probes = Probes::new(parts, &blocks, ids, quantiser.len())?;
    drop(blocks);
    side.reorder(order)?;
    Ok((starts, probes))
}

/// Where the rows of lists start, and the rows in order of lists.
fn by_list(blocks: &[OfBlock], quantiser: &CoarseQuantiser) -> Result<(ListOffsets, Vec<u32>)> {
    let of_rows = blocks.iter().flat_map(|block| &block.lists);
    let of_rows = memory::collect(of_rows.copied(), ROW_NUMBERS)?;
    let starts = ListOffsets::new(of_rows.iter().copied(), quantiser.len());
    let order = starts.order(&of_rows)?;
    Ok((starts, order))
}

/// A key for each part of each list.
fn key(part: usize, list: u32, lists: usize) -> u32 {
    (part * lists) as u32 + list
}

impl Probes {
    /// Of all rows, block by block; `ids` are those of rows, rising, with their positions in the
    /// blocks.
    fn new(
        parts: Parts,
        blocks: &[OfBlock],
        ids: impl Iterator<Item = (u32, u32)>,
        lists: usize,
    ) -> Result<Self> {
        let keys = blocks.iter().flat_map(|block| &block.keys).copied();
        let starts = ListOffsets::new(keys, parts.margins.len() * lists);
        let probes = ids.flat_map(|(id, position)| {
            let position = position as usize;
            let keys = blocks[position / BLOCK].keys_of(position % BLOCK);
            keys.iter().map(move |&key| (key, id))
        });
        Ok(Self {
            rows: starts.by_list(probes, PROBES)?,
            parts,
            lists,
            starts,
        })
    }

    /// Of the rows of a side that is by list already and probes its own lists.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn of_items<T: Scalar>(
        quantiser: &CoarseQuantiser,
        warm_start: &WarmStart,
        side: &Vectors<'_, T>,
        lists: &RightLists,
        reach: Reach,
        ctx: &Context,
    ) -> Result<Self> {
        let parts = Parts::of(reach);
        let blocks = assigned(
            quantiser,
            side,
            &lists.order,
            Some((warm_start, &parts)),
            ctx,
        )?;
        let ids = lists.order.iter().copied().zip(0..);
        Self::new(parts, &blocks, ids, quantiser.len())
    }

    /// Where the rows that probe a list are.
    pub(super) fn of(&self, part: usize, list: u32) -> Range<usize> {
        self.starts.of(key(part, list, self.lists))
    }

    /// The lists that some row probes.
    pub(super) fn probed(&self) -> Vec<bool> {
        let parts = 0..self.parts.margins.len();
        let is_probed = |list| parts.clone().any(|part| !self.of(part, list).is_empty());
        (0..self.lists as u32).map(is_probed).collect()
    }
}

impl OfBlock {
    fn keys_of(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.keys[start as usize..self.ends[row] as usize]
    }
}

impl RightLists {
    /// Of all rows, which have internal ids by list.
    pub(super) fn of_all(positions: ListOffsets) -> Result<Self> {
        let order = memory::collect(0..positions.rows() as u32, ROW_NUMBERS)?;
        Ok(Self { order, positions })
    }

    /// Of those rows of a side, by list already, that may be neighbours, of some of the lists.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn of_items<T: Scalar>(
        side: &Vectors<'_, T>,
        starts: &ListOffsets,
        wanted: impl Fn(u32) -> bool,
    ) -> Result<Self> {
        let (mut order, mut ends) = (Vec::new(), vec![0]);
        for list in 0..starts.len() as u32 {
            if wanted(list) {
                let rows = starts.ids(list);
                memory::reserve(&mut order, rows.len(), ROW_NUMBERS)?;
                order.extend(rows.filter(|&row| side.takes_part(row)));
            }
            ends.push(order.len());
        }
        let positions = ListOffsets::of_starts(ends);
        Ok(Self { order, positions })
    }

    /// The rows of a list.
    pub(super) fn of(&self, list: u32) -> &[u32] {
        &self.order[self.positions.of(list)]
    }
}
