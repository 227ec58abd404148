//! The last two passes of a build: what they keep, and items written by list.

use std::collections::BTreeMap;

use lshjoin_kernels::{Quantised, Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, metric::Metric},
    index::learn::Learnt,
    ivf::{coarse_quantiser::CoarseQuantiser, list_offsets::ListOffsets},
    storage::{
        array::Array,
        format::Written,
        layout::{held_out_step, width},
        writer::ArrayWriter,
    },
    vectors::duplicates::hash,
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
        for of_list in order.chunk_by(|&x, &y| lists[x as usize] == lists[y as usize]) {
            ctx.check()?;
            let at = self.next.take(lists[of_list[0] as usize], of_list.len());
            let indices = of_list.iter().map(|&row| row as usize);
            let of_rows: Vec<i64> = gather(ids, 1, indices.clone())?;
            write(&mut self.writers, "ids", at, &of_rows)?;
            let hashes = indices.clone().map(|row| hash(items.row(row)));
            let hashes = memory::collect(hashes, OF_LIST)?;
            write(&mut self.writers, "hashes", at, &hashes)?;
            let dim = rows.dim();
            let values: Vec<f32> = gather(rows.values(), dim, indices.clone())?;
            write(&mut self.writers, "rows", at * dim, &values)?;
            if let Some(codes) = &side.codes {
                let (codes, known) = codes.parts();
                let stride = codes.len() / rows.len();
                let codes: Vec<i8> = gather(codes, stride, indices.clone())?;
                write(&mut self.writers, "codes", at * stride, &codes)?;
                let of_row = Quantised::KNOWN;
                let known: Vec<u8> = gather(known, of_row, indices.clone())?;
                write(&mut self.writers, "known", at * of_row, &known)?;
            }
            if !side.norms.is_empty() {
                let norms: Vec<f64> = gather(&side.norms, 1, indices)?;
                write(&mut self.writers, "norms", at, &norms)?;
            }
        }
        Ok(())
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

/// The rows of these indices, each of `width` values, copied.
pub(crate) fn gather<V: Copy>(
    values: &[V],
    width: usize,
    rows: impl ExactSizeIterator<Item = usize>,
) -> Result<Vec<V>> {
    let mut gathered = memory::empty(rows.len() * width, OF_LIST)?;
    rows.for_each(|row| gathered.extend_from_slice(&values[row * width..][..width]));
    Ok(gathered)
}
