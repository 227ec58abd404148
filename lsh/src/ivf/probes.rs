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
        coarse_quantiser::CoarseQuantiser, list_distances::CentroidDistances,
        list_offsets::ListOffsets, warm_start::WarmStart,
    },
    vectors::Vectors,
};

/// Lists are probed in parts, up to some margins: all rows are compared with what is more promising
/// first, so that most pairs of later parts fail the filter on codes.
#[derive(Clone)]
pub(crate) struct Parts {
    /// Lists are probed if they are further than this,
    above: f32,
    /// and no further than the last of these, rising.
    pub(super) margins: Vec<f32>,
}

/// How many parts there are at most.
const MOST_PARTS: usize = 2;

impl Parts {
    /// Halfway, then the rest.
    pub(crate) fn up_to(margin: f32) -> Self {
        let above = f32::NEG_INFINITY;
        let margins = vec![0.5 * margin, margin];
        Self { above, margins }
    }

    /// What is further than some margin and no further than another, at once.
    pub(crate) fn between(above: f32, margin: f32) -> Self {
        let margins = vec![margin];
        Self { above, margins }
    }

    /// The margin of the last part.
    fn furthest(&self) -> f32 {
        self.margins.last().copied().unwrap_or(0.0)
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
    parts: Parts,
    lists: usize,
    starts: ListOffsets,
    pub(super) rows: Vec<u32>,
}

/// The lists of some rows, given by their positions, and what they probe: a key for each list and
/// part. `ends` has where the keys of each row end.
#[derive(Default)]
struct OfTask {
    positions: Vec<u32>,
    lists: Vec<u32>,
    ends: Vec<u32>,
    keys: Vec<u32>,
    /// The lists within reach of the row at hand, and how much further than the nearest they are.
    near: Vec<(u32, f32)>,
}

/// Bytes of a probe, while probes are held both by row and by list.
pub(crate) const PROBE_BYTES: usize = 2 * size_of::<u32>();

// A key, of a part and a list, fits 32 bits.
const _: () = assert!(MOST_PARTS * MOST_LISTS <= 1 << 32);

/// Finds the list of each of these rows, by internal id, and what they probe.
fn probing<T: Scalar>(
    quantiser: &CoarseQuantiser,
    side: &Vectors<'_, T>,
    rows: &[u32],
    (warm_start, parts): (&WarmStart, &Parts),
    ctx: &Context,
) -> Result<Vec<OfTask>> {
    let probe = |task: &mut OfTask, position: usize, distances: &CentroidDistances| {
        let OfTask { near, keys, .. } = task;
        near.clear();
        distances.within(parts.furthest(), |list, further| near.push((list, further)));
        // The nearest list, without another look at all distances.
        let nearest = near.iter().filter(|&&(_, further)| further == 0.0);
        let own = nearest.map(|&(list, _)| list).min().unwrap_or(0);
        memory::reserve(keys, near.len(), PROBES)?;
        let probed = near
            .iter()
            .filter(|&&(list, further)| further > parts.above && !warm_start.covers(own, list));
        keys.extend(
            probed.map(|&(list, further)| key(parts.part_of(further), list, quantiser.len())),
        );
        task.positions.push(position as u32);
        task.lists.push(own);
        task.ends.push(task.keys.len() as u32);
        Ok(())
    };
    match &side.codes {
        Some(codes) => quantiser.each_task(codes, rows, probe, ctx),
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
    let lists = match &side.codes {
        Some(codes) => quantiser.assign(codes, &rows, ctx)?,
        None => memory::zeroed(rows.len(), ROW_NUMBERS)?,
    };
    let (starts, order) = by_list(&lists, quantiser)?;
    side.reorder(order)?;
    Ok(starts)
}

/// The same, and collects which rows probe each list.
pub(super) fn assign_probing<T: Scalar>(
    quantiser: &CoarseQuantiser,
    side: &mut Vectors<'_, T>,
    warm_start: &WarmStart,
    margin: f32,
    ctx: &Context,
) -> Result<(ListOffsets, Probes)> {
    let parts = Parts::up_to(margin);
    let rows = memory::collect(0..side.len() as u32, ROW_NUMBERS)?;
    let tasks = probing(quantiser, side, &rows, (warm_start, &parts), ctx)?;
    let mut lists = memory::zeroed(rows.len(), ROW_NUMBERS)?;
    for task in &tasks {
        for (&position, &list) in task.positions.iter().zip(&task.lists) {
            lists[position as usize] = list;
        }
    }
    let (starts, order) = by_list(&lists, quantiser)?;
    let ids = rows.iter().copied().zip(order.iter().copied());
    let probes = Probes::new(parts, &tasks, ids, quantiser.len())?;
    drop(tasks);
    side.reorder(order)?;
    Ok((starts, probes))
}

/// Where the rows of lists start, and the rows, given by their lists, in order of these.
fn by_list(lists: &[u32], quantiser: &CoarseQuantiser) -> Result<(ListOffsets, Vec<u32>)> {
    let starts = ListOffsets::new(lists.iter().copied(), quantiser.len());
    let order = starts.order(lists)?;
    Ok((starts, order))
}

/// A key for each part of each list.
fn key(part: usize, list: u32, lists: usize) -> u32 {
    (part * lists) as u32 + list
}

impl Probes {
    /// Of all rows, task by task; `ids` are those of rows, rising, with their positions.
    fn new(
        parts: Parts,
        tasks: &[OfTask],
        ids: impl ExactSizeIterator<Item = (u32, u32)>,
        lists: usize,
    ) -> Result<Self> {
        let keys = tasks.iter().flat_map(|task| &task.keys).copied();
        let starts = ListOffsets::new(keys, parts.margins.len() * lists);
        // The task of each row, and which of its rows it is.
        let mut places = memory::zeroed(ids.len(), ROW_NUMBERS)?;
        for (number, task) in (0..).zip(tasks) {
            for (row, &position) in (0..).zip(&task.positions) {
                places[position as usize] = [number, row];
            }
        }
        let probes = ids.flat_map(|(id, position)| {
            let [task, row]: [u32; 2] = places[position as usize];
            let keys = tasks[task as usize].keys_of(row as usize);
            keys.iter().map(move |&key| (key, id))
        });
        Ok(Self {
            rows: starts.by_list(probes, PROBES)?,
            parts,
            lists,
            starts,
        })
    }

    /// Of these rows, rising internal ids, of a side that is by list already.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(super) fn of_rows<T: Scalar>(
        quantiser: &CoarseQuantiser,
        (warm_start, parts): (&WarmStart, Parts),
        side: &Vectors<'_, T>,
        rows: &[u32],
        ctx: &Context,
    ) -> Result<Self> {
        let tasks = probing(quantiser, side, rows, (warm_start, &parts), ctx)?;
        let ids = rows.iter().copied().zip(0..rows.len() as u32);
        Self::new(parts, &tasks, ids, quantiser.len())
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
        margin: f32,
        ctx: &Context,
    ) -> Result<Self> {
        let how = (warm_start, Parts::up_to(margin));
        Self::of_rows(quantiser, how, side, &lists.order, ctx)
    }

    /// How many parts there are.
    pub(crate) fn parts(&self) -> usize {
        self.parts.margins.len()
    }

    /// Up to which margin lists are probed in a part.
    #[cfg(test)]
    pub(super) fn margin(&self, part: usize) -> f32 {
        self.parts.margins[part]
    }

    /// Where the rows that probe a list are.
    pub(super) fn of(&self, part: usize, list: u32) -> Range<usize> {
        self.starts.of(key(part, list, self.lists))
    }

    /// The lists that some row probes.
    pub(super) fn probed(&self) -> Vec<bool> {
        let parts = 0..self.parts();
        let is_probed = |list| parts.clone().any(|part| !self.of(part, list).is_empty());
        (0..self.lists as u32).map(is_probed).collect()
    }
}

impl OfTask {
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
