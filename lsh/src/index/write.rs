//! Items written by list. Where a list starts is known once all items have one: until then items of an
//! index on disk lie in a spill, in parts of neighbouring lists.

use std::{collections::BTreeMap, ops::Range};

use lshjoin_kernels::{Quantised, Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, metric::Metric},
    index::learn::Learnt,
    ivf::{coarse_quantiser::CoarseQuantiser, list_offsets::ListOffsets},
    storage::{
        array::Array,
        format::Written,
        layout::{SPILL_PARTS, held_out_step, width},
        spill::{PUT_ASIDE, Spill},
        writer::ArrayWriter,
    },
    vectors::duplicates::hash,
};

/// How an out-of-memory error names them.
const OF_LIST: &str = "items of a list";
const LISTS: &str = "the list of each item";

/// Items that are assigned to lists at a time.
const ASSIGNED: usize = 1 << 16;

/// 32-bit words of an id, the first of a record of the spill. A row as it is stored follows.
pub(crate) const OF_ID: usize = 2;

/// The arrays that are being written, by name.
pub(crate) type Writers = BTreeMap<&'static str, ArrayWriter>;

/// A build that has learnt its lists.
pub(crate) struct Writing {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    pub(crate) learnt: Learnt,
    /// Made of what was learnt when the first items are assigned.
    pub(crate) quantiser: Option<CoarseQuantiser>,
    /// The list of each item that was assigned to one, in the order in which items come.
    pub(crate) lists: Vec<u32>,
    /// The items that were assigned; of no parts in memory, where they come once more.
    pub(crate) spill: Spill,
    /// Where each list's next row goes, once all lists are known.
    pub(crate) next: ListOffsets,
    pub(crate) writers: Writers,
}

/// What is left to do when all items are written.
pub(crate) struct Done {
    /// The list of each item, in the order in which items came.
    lists: Vec<u32>,
    pub(crate) offsets: ListOffsets,
    pub(crate) writers: Writers,
}

/// The lists of each part of the spill, out of so many.
pub(crate) fn part_lists(count: usize) -> Vec<Range<u32>> {
    let of_part = count.div_ceil(SPILL_PARTS).max(1);
    let firsts = (0..count).step_by(of_part);
    let parts = firsts.map(|first| first as u32..count.min(first + of_part) as u32);
    parts.collect()
}

/// How many of the items of these lists, out of `count`, are in each part.
pub(crate) fn part_records(lists: &[u32], count: usize) -> Vec<usize> {
    let starts = ListOffsets::new(lists.iter().copied(), count);
    let parts = part_lists(count).into_iter();
    let records = parts.map(|of| starts.of(of.end - 1).end - starts.of(of.start).start);
    records.collect()
}

impl Writing {
    /// How many lists there are; where the metric has no use for any, one of all rows.
    pub(crate) fn count(&self) -> usize {
        self.learnt.lists().max(1)
    }

    /// Finds the lists of a batch, and puts its items aside.
    pub(crate) fn add(&mut self, items: Rows<'_, f32>, ids: &[i64], ctx: &Context) -> Result<()> {
        for start in (0..items.len()).step_by(ASSIGNED) {
            ctx.check()?;
            let range = start..items.len().min(start + ASSIGNED);
            let values = self
                .learnt
                .kept(items.slice(range.clone()), self.metric, ctx)?;
            let rows = Rows::new(&values, width(self.metric, self.dim))?;
            let lists = self.assign(rows, ctx)?;
            self.put_aside(&values, &ids[range], &lists)?;
            memory::extend(&mut self.lists, lists, LISTS)?;
        }
        Ok(())
    }

    /// The lists of rows as they are stored.
    fn assign(&mut self, rows: Rows<'_, f32>, ctx: &Context) -> Result<Vec<u32>> {
        let side = self.learnt.prepared(rows, self.metric, ctx)?;
        let Some(codes) = &side.codes else {
            return Ok(memory::zeroed(rows.len(), LISTS)?);
        };
        let quantiser = match self.quantiser.take() {
            Some(quantiser) => quantiser,
            None => CoarseQuantiser::of_parts(self.learnt.quantiser.clone(), rows.dim(), ctx)?,
        };
        let quantiser = self.quantiser.insert(quantiser);
        let all = memory::collect(0..rows.len() as u32, ROW_NUMBERS)?;
        quantiser.assign(codes, &all, ctx)
    }

    /// Appends rows, as they are stored, to the parts of the spill that their lists belong to.
    fn put_aside(&mut self, values: &[f32], ids: &[i64], lists: &[u32]) -> Result<()> {
        let of_part = part_lists(self.count());
        let width = width(self.metric, self.dim);
        self.spill.append(|part, words| {
            let is_own = |&row: &usize| of_part[part].contains(&lists[row]);
            let rows = memory::collect((0..ids.len()).filter(is_own), ROW_NUMBERS)?;
            memory::reserve(words, rows.len() * (OF_ID + width), PUT_ASIDE)?;
            for row in rows {
                words.extend(bytemuck::cast::<i64, [u32; OF_ID]>(ids[row]));
                words.extend_from_slice(bytemuck::cast_slice(&values[row * width..][..width]));
            }
            Ok(())
        })
    }

    /// Where each list starts.
    pub(crate) fn offsets(&self) -> ListOffsets {
        ListOffsets::new(self.lists.iter().copied(), self.count())
    }

    /// Writes a batch by list, before which `first` items came.
    pub(crate) fn write(
        &mut self,
        items: Rows<'_, f32>,
        ids: &[i64],
        first: usize,
        ctx: &Context,
    ) -> Result<()> {
        let values = self.learnt.kept(items, self.metric, ctx)?;
        let items = Items {
            rows: Rows::new(&values, width(self.metric, self.dim))?,
            ids,
            lists: &self.lists[first..first + items.len()],
        };
        let to = (&mut self.next, &mut self.writers);
        items.write(&self.learnt, (self.metric, self.dim), to, ctx)
    }

    /// Writes the items of a part of the spill by list, so many at a time at most.
    pub(crate) fn store(&mut self, part: usize, at_once: usize, ctx: &Context) -> Result<()> {
        let of_part = part_lists(self.count())[part].clone();
        let width = width(self.metric, self.dim);
        let lists = self.lists.iter().copied();
        let mut lists = lists.filter(|list| of_part.contains(list));
        let (next, writers) = (&mut self.next, &mut self.writers);
        self.spill.read(part, at_once, |records| {
            ctx.check()?;
            let records = records.chunks_exact(OF_ID + width);
            let count = records.len();
            let lists = memory::collect(lists.by_ref().take(count), LISTS)?;
            let mut ids: Vec<i64> = memory::empty(count, PUT_ASIDE)?;
            let mut values: Vec<f32> = memory::empty(count * width, PUT_ASIDE)?;
            for record in records {
                let (id, row) = record.split_at(OF_ID);
                ids.push(bytemuck::pod_read_unaligned(bytemuck::cast_slice(id)));
                values.extend_from_slice(bytemuck::cast_slice(row));
            }
            let items = Items {
                rows: Rows::new(&values, width)?,
                ids: &ids,
                lists: &lists,
            };
            let to = (&mut *next, &mut *writers);
            items.write(&self.learnt, (self.metric, self.dim), to, ctx)?;
            ctx.advance(count);
            Ok(())
        })
    }

    /// Ends the build of all but what follows from the whole.
    pub(crate) fn end(self) -> Done {
        let has_lists = self.learnt.lists() > 0;
        Done {
            offsets: if has_lists {
                self.offsets()
            } else {
                ListOffsets::of_starts(vec![0])
            },
            lists: self.lists,
            writers: self.writers,
        }
    }
}

/// Some items, as they are stored, with their lists.
struct Items<'a> {
    rows: Rows<'a, f32>,
    ids: &'a [i64],
    lists: &'a [u32],
}

impl Items<'_> {
    /// Writes the rows of each list, and what belongs to them, from `next` on.
    fn write(
        &self,
        learnt: &Learnt,
        (metric, dim): (Metric, usize),
        (next, writers): (&mut ListOffsets, &mut Writers),
        ctx: &Context,
    ) -> Result<()> {
        let &Self { rows, ids, lists } = self;
        let mut order = memory::collect(0..lists.len() as u32, ROW_NUMBERS)?;
        order.par_sort_unstable_by_key(|&row| (lists[row as usize], row));
        let side = learnt.prepared(rows, metric, ctx)?;
        let of_lists = order.chunk_by(|&x, &y| lists[x as usize] == lists[y as usize]);
        let places = of_lists.map(|of_list| {
            let at = next.take(lists[of_list[0] as usize], of_list.len());
            (at, of_list)
        });
        let places: Vec<(usize, &[u32])> = memory::collect(places, OF_LIST)?;
        let hashes = (0..rows.len())
            .into_par_iter()
            .map(|row| hash(&rows.row(row)[..dim]));
        let hashes: Vec<u64> = memory::par_collect(hashes, OF_LIST)?;
        let (codes, known) = side
            .codes
            .as_ref()
            .map(Quantised::parts)
            .unwrap_or_default();
        let stride = codes.len() / rows.len();
        let values = rows.values()?;
        // Each array is a file of its own, and these wait for the disk.
        writers.par_iter_mut().try_for_each(|(&name, writer)| {
            let to = (writer, places.as_slice());
            match name {
                "ids" => scatter(to, ids, 1, ctx),
                "hashes" => scatter(to, &hashes, 1, ctx),
                "rows" => scatter(to, &values, rows.dim(), ctx),
                "codes" => scatter(to, codes, stride, ctx),
                "known" if stride > 0 => scatter(to, known, Quantised::KNOWN, ctx),
                "norms" if !side.norms.is_empty() => scatter(to, &side.norms, 1, ctx),
                _ => Ok(()),
            }
        })
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
    writers: &mut Writers,
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
