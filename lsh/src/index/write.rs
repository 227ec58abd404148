//! The last two passes of a build: what they keep, and items written by list.

use std::collections::BTreeMap;

use lshjoin_kernels::{Quantised, Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, metric::Metric},
    index::learn::Learnt,
    ivf::{coarse_quantiser::CoarseQuantiser, list_offsets::ListOffsets, shells::radius_of},
    storage::{
        array::Array,
        format::Written,
        layout::{held_out_step, width},
        writer::ArrayWriter,
    },
    vectors::{Vectors, duplicates::hash},
};

/// How an out-of-memory error names them.
const OF_LIST: &str = "items of a list";
const LISTS: &str = "the list of each item";

/// Rows that are assigned to lists at a time.
const ASSIGNED: usize = 1 << 16;

/// A build in one of its last two passes.
pub(crate) struct Writing {
    pub(crate) learnt: Learnt,
    /// Made of what was learnt when the first items are assigned.
    pub(crate) quantiser: Option<CoarseQuantiser>,
    /// The list of each item that was assigned to one, in the order in which items come.
    pub(crate) lists: Vec<u32>,
    /// Where each list's next row goes.
    pub(crate) next: ListOffsets,
    pub(crate) writers: BTreeMap<&'static str, ArrayWriter>,
}

/// What is left to do when all items are written.
#[derive(Default)]
pub(crate) struct Done {
    /// The list of each item, in the order in which items came.
    pub(crate) lists: Vec<u32>,
    pub(crate) offsets: ListOffsets,
    pub(crate) writers: BTreeMap<&'static str, ArrayWriter>,
}

impl Writing {
    /// How many lists there are; where the metric has no use for any, one of all rows.
    pub(crate) fn count(&self) -> usize {
        self.learnt.lists().max(1)
    }

    /// Where the next row of each list goes once the first `seen` items are written; where `seen`
    /// is 0, the start of each list.
    pub(crate) fn next_after(&self, seen: usize) -> ListOffsets {
        let mut next = ListOffsets::new(self.lists.iter().copied(), self.count());
        self.lists[..seen].iter().for_each(|&list| {
            next.take(list, 1);
        });
        next
    }

    /// Finds the lists of a batch.
    pub(crate) fn assign(
        &mut self,
        items: Rows<'_, f32>,
        metric: Metric,
        ctx: &Context,
    ) -> Result<()> {
        if self.learnt.lists() == 0 {
            return Ok(memory::extend(
                &mut self.lists,
                std::iter::repeat_n(0, items.len()),
                LISTS,
            )?);
        }
        let width = width(metric, items.dim());
        let quantiser = match self.quantiser.take() {
            Some(quantiser) => quantiser,
            None => CoarseQuantiser::of_parts(self.learnt.quantiser.clone(), width, ctx)?,
        };
        let quantiser = self.quantiser.insert(quantiser);
        for start in (0..items.len()).step_by(ASSIGNED) {
            let part = items.slice(start..items.len().min(start + ASSIGNED));
            let values = self.learnt.kept(part, metric, ctx)?;
            let side = self
                .learnt
                .prepared(Rows::new(&values, width)?, metric, ctx)?;
            if let Some(codes) = &side.codes {
                let rows: Vec<u32> = (0..part.len() as u32).collect();
                let found = quantiser.assign(codes, &rows, ctx)?;
                memory::extend(&mut self.lists, found, LISTS)?;
            }
        }
        Ok(())
    }

    /// Writes a batch, before which `first` items came: the rows of each list, and what belongs to
    /// them, after those that it has.
    pub(crate) fn add(
        &mut self,
        items: Rows<'_, f32>,
        ids: &[i64],
        first: usize,
        metric: Metric,
        ctx: &Context,
    ) -> Result<()> {
        let lists = &self.lists[first..first + items.len()];
        let mut order = memory::collect(0..items.len() as u32, ROW_NUMBERS)?;
        order.par_sort_unstable_by_key(|&row| (lists[row as usize], row));
        let values = self.learnt.kept(items, metric, ctx)?;
        let rows = Rows::new(&values, width(metric, items.dim()))?;
        let side = self.learnt.prepared(rows, metric, ctx)?;
        let radii = self.radii(&side, first)?;
        let lists = &self.lists[first..first + items.len()];
        let of_lists = order.chunk_by(|&x, &y| lists[x as usize] == lists[y as usize]);
        let next = &mut self.next;
        let places = of_lists.map(|of_list| {
            let at = next.take(lists[of_list[0] as usize], of_list.len());
            (at, of_list)
        });
        let places: Vec<(usize, &[u32])> = memory::collect(places, OF_LIST)?;
        let hashes = (0..items.len())
            .into_par_iter()
            .map(|row| hash(&items.row(row)));
        let hashes: Vec<u64> = memory::par_collect(hashes, OF_LIST)?;
        let (codes, known) = side
            .codes
            .as_ref()
            .map(Quantised::parts)
            .unwrap_or_default();
        let stride = codes.len() / rows.len();
        // Each array is a file of its own, and these wait for the disk.
        self.writers.par_iter_mut().try_for_each(|(&name, writer)| {
            let to = (writer, places.as_slice());
            match name {
                "ids" => scatter(to, ids, 1, ctx),
                "hashes" => scatter(to, &hashes, 1, ctx),
                "rows" => scatter(to, &values, rows.dim(), ctx),
                "codes" => scatter(to, codes, stride, ctx),
                "known" if stride > 0 => scatter(to, known, Quantised::KNOWN, ctx),
                "radii" if !radii.is_empty() => scatter(to, &radii, 1, ctx),
                "norms" if !side.norms.is_empty() => scatter(to, &side.norms, 1, ctx),
                _ => Ok(()),
            }
        })
    }

    /// How far prepared rows, before which `first` items came, are from the centroids of their lists.
    fn radii(&self, side: &Vectors<'_, f32>, first: usize) -> Result<Vec<f32>> {
        if self.learnt.lists() == 0 {
            return Ok(Vec::new());
        }
        let centroids = Rows::new(&self.learnt.quantiser.lists, side.rows.dim())?;
        let lists = &self.lists[first..first + side.rows.len()];
        let radii = lists.par_iter().enumerate();
        let radii = radii.map(|(row, &list)| radius_of(side, row, &centroids.row(list as usize)));
        Ok(memory::par_collect(radii, OF_LIST)?)
    }

    /// Ends the pass.
    pub(crate) fn end(self) -> Done {
        let has_lists = self.learnt.lists() > 0;
        Done {
            offsets: if has_lists {
                self.next_after(0)
            } else {
                ListOffsets::of_starts(vec![0])
            },
            lists: self.lists,
            writers: self.writers,
        }
    }
}

impl Done {
    /// Ends an array of which all is written, if it is not ended yet.
    pub(crate) fn finish(
        &mut self,
        name: &str,
        arrays: &mut BTreeMap<String, Array>,
        files: &mut Vec<Written>,
        ctx: &Context,
    ) -> Result<()> {
        if let Some(writer) = self.writers.remove(name) {
            let (array, written) = writer.finish(ctx)?;
            files.extend(written);
            arrays.insert(name.into(), array);
        }
        Ok(())
    }

    /// The held-out rows: those of items at equal steps, in the order in which items came.
    pub(crate) fn ground_truth(&self) -> Vec<u32> {
        let step = held_out_step(self.lists.len());
        let mut next = self.offsets.clone();
        let rows = self.lists.iter().map(|&list| next.take(list, 1) as u32);
        rows.step_by(step).collect()
    }
}

/// Writes to one of the arrays; to one that is not there, nothing.
pub(crate) fn write<V: bytemuck::Pod>(
    writers: &mut BTreeMap<&'static str, ArrayWriter>,
    name: &str,
    first: usize,
    values: &[V],
) -> Result<()> {
    let writer = writers.get_mut(name);
    writer.map_or(Ok(()), |writer| writer.write(first, values))
}

/// Writes rows, each of `width` values: those of each list from its place on.
fn scatter<V: bytemuck::Pod>(
    (writer, places): (&mut ArrayWriter, &[(usize, &[u32])]),
    values: &[V],
    width: usize,
    ctx: &Context,
) -> Result<()> {
    let mut gathered = Vec::new();
    for (at, rows) in places {
        ctx.check()?;
        gathered.clear();
        memory::reserve(&mut gathered, rows.len() * width, OF_LIST)?;
        for &row in *rows {
            gathered.extend_from_slice(&values[row as usize * width..][..width]);
        }
        writer.write(at * width, &gathered)?;
    }
    Ok(())
}
