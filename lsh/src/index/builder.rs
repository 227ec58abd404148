//! Builds a segment from items that come in batches, in passes over them: learn, assign and, in memory,
//! write. On disk they are put aside when they are assigned, and written from there.

use std::{collections::BTreeMap, path::Path};

use lshjoin_kernels::Rows;

use crate::{
    base::{
        check::check_dimension,
        context::Context,
        error::{Error, Result},
        magnitude,
        metric::Metric,
        plan::{JoinPlan, PartitionPlan, lists_for},
    },
    index::{
        ids::{by_id, check_count, duplicate_ranks},
        learn::{Learnt, Sample},
        segment::Segment,
        write::{OF_ID, Writing, part_lists, part_records, write},
    },
    ivf::{
        bisectors::MOST_BISECTED,
        coarse_quantiser::{QuantiserParts, sample_step},
        list_offsets::ListOffsets,
    },
    storage::{
        array::Array,
        directory::Directory,
        format::Written,
        layout::{ARRAYS, CHECKPOINT_ARRAYS, Shapes, check_numbers, held_out_count, width},
        manifest::IndexMetadata,
        spill::Spill,
        writer::ArrayWriter,
    },
    vectors::norms::norms_of,
};

/// How many times a checkpoint is written while lists are found, where the build can be resumed.
const RECORDS: usize = 32;

/// Bytes of rows that are written by list at a time where it is not known for how many there is
/// memory, since none came since the build was resumed.
const STORED: usize = 1 << 20;

/// Builds an [`Index`](super::Index) from items that need not fit in memory.
///
/// All items come in the same order [so many times](IndexBuilder::passes): first lists are learnt
/// from a sample of them, then the list of each item is found. Those of an index on disk are put
/// aside there, in parts of neighbouring lists, each of which is written by list at the end, and
/// removed: no more than the index takes up is on disk, but for a part. For one in memory items come
/// once more. Beside a batch, memory holds the sample and about 20 bytes an item.
///
/// ```
/// use lshjoin::{IndexBuilder, Metric, Rows, Context};
///
/// let ctx = Context::new()?;
/// let batches = [[0.0_f32, 1.0], [5.0, 7.0]];
/// let mut builder = IndexBuilder::new(4, 1, Metric::Euclidean, None, 0, None)?;
/// for _ in 0..builder.passes() {
///     for (ids, batch) in [[10, 11], [12, 13]].iter().zip(&batches) {
///         builder.push(Rows::new(batch, 1)?, ids, &ctx)?;
///     }
/// }
/// let index = builder.finish(&ctx)?;
/// assert_eq!(index.len(), 4);
/// # Ok::<(), lshjoin::Error>(())
/// ```
pub struct IndexBuilder {
    pub(crate) items: usize,
    pub(crate) dim: usize,
    pub(crate) metric: Metric,
    pub(crate) plan: PartitionPlan,
    pub(crate) directory: Option<Directory>,
    /// Whether what is done stays in the directory however the build ends, to be resumed.
    pub(crate) resumable: bool,
    /// The largest batch of this pass: for as many items there is memory.
    pub(crate) batch: usize,
    /// Items that have come in this pass.
    pub(crate) seen: usize,
    /// Of these, those that the last checkpoint covers: whoever resumes the build need not bring
    /// them again.
    pub(crate) recorded: usize,
    pub(crate) stage: Stage,
}

/// What is being done.
pub(crate) enum Stage {
    Learn(Sample),
    Assign(Box<Writing>),
    /// In memory only.
    Write(Box<Writing>),
    /// All items have come, and so many parts of the spill, if there is one, are written by list.
    Store(Box<Writing>, usize),
}

impl IndexBuilder {
    /// For so many items of `dim` values: in memory, or in the files of a directory, where the
    /// index is once [`IndexBuilder::finish`] has succeeded, in place of any index that was there.
    ///
    /// Lists are those of `plan`; without one, as many as the number of items asks for, from
    /// centroids that start at `seed`.
    ///
    /// # Errors
    /// When there are too many items, they have no values, or the plan is out of range; and when
    /// the directory can't be written to, or holds anything but an index.
    pub fn new(
        items: usize,
        dim: usize,
        metric: Metric,
        plan: Option<PartitionPlan>,
        seed: u64,
        directory: Option<&Path>,
    ) -> Result<Self> {
        let plan = match plan {
            Some(plan) => plan,
            None => default_plan(items, seed),
        };
        check_numbers(items, dim, plan)?;
        let mut builder = Self {
            items,
            dim,
            metric,
            plan,
            directory: directory.map(Directory::create).transpose()?,
            resumable: false,
            batch: 0,
            seen: 0,
            recorded: 0,
            stage: Stage::Learn(Sample::default()),
        };
        if items == 0 {
            let learnt = Learnt {
                quantiser: QuantiserParts::default(),
                grid: None,
                longest: 0.0,
            };
            builder.stage = Stage::Store(builder.begin_writing(learnt)?.into(), 0);
        }
        Ok(builder)
    }

    /// A builder that leaves in its directory what it has done, however it ends, and that goes on
    /// with what an earlier one of the same arguments left: [`IndexBuilder::position`] tells from
    /// where. The items have to be the same.
    ///
    /// ```
    /// use lshjoin::{IndexBuilder, Metric, Rows, Context};
    ///
    /// let directory = tempfile::tempdir().unwrap();
    /// let begin = || IndexBuilder::resume(2, 1, Metric::Euclidean, None, 0, directory.path());
    /// let (items, ctx) = (Rows::new(&[0.0_f32, 1.0], 1)?, Context::new()?);
    /// let mut builder = begin()?;
    /// builder.push(items, &[10, 11], &ctx)?;
    /// drop(builder);
    /// let mut builder = begin()?;
    /// assert_eq!(builder.position(), (1, 0));
    /// builder.push(items, &[10, 11], &ctx)?;
    /// assert_eq!(builder.finish(&ctx)?.len(), 2);
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`IndexBuilder::new`], and when the files that were left are not those that were begun.
    pub fn resume(
        items: usize,
        dim: usize,
        metric: Metric,
        plan: Option<PartitionPlan>,
        seed: u64,
        directory: &Path,
    ) -> Result<Self> {
        let mut builder = Self::new(items, dim, metric, plan, seed, Some(directory))?;
        builder.resumable = items > 0;
        let metadata = builder.metadata();
        if let (true, Some(directory)) = (builder.resumable, &mut builder.directory) {
            match directory.checkpoint(&metadata).cloned() {
                None => directory.clear()?,
                Some(checkpoint) => builder.resume_from(&checkpoint)?,
            }
        }
        Ok(builder)
    }

    /// How many times all items have to come.
    pub fn passes(&self) -> usize {
        match self.directory {
            Some(_) => 2,
            None => 3,
        }
    }

    /// The pass and the item in it that are to come next. Passes count from 0;
    /// [`IndexBuilder::passes`] is past the last.
    pub fn position(&self) -> (usize, usize) {
        let pass = match self.stage {
            Stage::Learn(_) => 0,
            Stage::Assign(_) => 1,
            Stage::Write(_) => 2,
            Stage::Store(..) => self.passes(),
        };
        (pass, self.seen)
    }

    pub(crate) fn metadata(&self) -> IndexMetadata {
        IndexMetadata {
            items: self.items,
            dim: self.dim,
            metric: self.metric.to_string(),
            plan: JoinPlan::Partitions(self.plan),
        }
    }

    pub(crate) fn width(&self) -> usize {
        width(self.metric, self.dim)
    }

    /// Takes the next items and their ids. The ids are used in the last pass alone.
    ///
    /// # Errors
    /// When there are more items than were announced, or not an id for each, of another dimension,
    /// when one holds NaN or infinity, a file can't be written, or the run is cancelled. The
    /// builder is of no more use then.
    pub fn push(&mut self, items: Rows<'_, f32>, ids: &[i64], ctx: &Context) -> Result<()> {
        check_dimension("items", items, self.dim)?;
        check_count(ids, items)?;
        if items.is_empty() {
            return Ok(());
        }
        if matches!(self.stage, Stage::Store(..)) || self.seen + items.len() > self.items {
            let seen = self.seen + items.len();
            return Err(Error::parameter(
                "the number of items",
                "as announced in each pass",
                seen,
            ));
        }
        let first = self.seen;
        match &mut self.stage {
            Stage::Learn(sample) => {
                magnitude::check("items", items, self.metric, ctx)
                    .map_err(|error| error.after(first))?;
                sample.add(items, first, sample_step(self.items, self.plan.lists))?;
                if self.metric == Metric::InnerProduct {
                    let norms = norms_of(items, ctx)?.into_iter();
                    sample.longest = norms.fold(sample.longest, f64::max);
                }
            }
            Stage::Assign(writing) => writing.add(items, ids, ctx)?,
            Stage::Write(writing) => writing.write(items, ids, first, ctx)?,
            Stage::Store(..) => {}
        }
        self.batch = self.batch.max(items.len());
        self.seen += items.len();
        if self.seen == self.items || (self.seen - self.recorded) * RECORDS >= self.items {
            self.record()?;
        }
        if self.seen == self.items {
            self.end_pass(ctx)?;
        }
        Ok(())
    }

    /// Goes on to what comes after a pass.
    pub(crate) fn end_pass(&mut self, ctx: &Context) -> Result<()> {
        (self.seen, self.recorded) = (0, 0);
        let stage = std::mem::replace(&mut self.stage, Stage::Learn(Sample::default()));
        self.stage = match stage {
            Stage::Learn(sample) => {
                self.batch = 0;
                let learnt = sample.learn(self.metric, self.dim, &self.plan, ctx)?;
                Stage::Assign(self.begin_writing(learnt)?.into())
            }
            Stage::Assign(mut writing) => {
                writing.next = writing.offsets();
                match self.directory {
                    Some(_) => Stage::Store(writing, 0),
                    None => Stage::Write(writing),
                }
            }
            Stage::Write(writing) => Stage::Store(writing, 0),
            stored => stored,
        };
        self.record()
    }

    /// Words of a record of the spill.
    pub(crate) fn record_words(&self) -> usize {
        OF_ID + self.width()
    }

    /// Writes by list what was put aside.
    fn store(&mut self, ctx: &Context) -> Result<()> {
        if let Stage::Store(writing, stored) = &self.stage {
            let records = part_records(&writing.lists, writing.count());
            // In memory nothing was put aside.
            let parts = writing.spill.len();
            ctx.expect(records.iter().take(parts).skip(*stored).sum());
        }
        while self.store_part(ctx)? {}
        Ok(())
    }

    /// The same of the next part of the spill; whether there was one.
    fn store_part(&mut self, ctx: &Context) -> Result<bool> {
        let of_row = self.width() * size_of::<f32>();
        let at_once = self.batch.max(STORED / of_row).max(1);
        let part = match &mut self.stage {
            Stage::Store(writing, stored) if *stored < writing.spill.len() => {
                writing.store(*stored, at_once, ctx)?;
                *stored += 1;
                *stored - 1
            }
            _ => return Ok(false),
        };
        self.record()?;
        // Only now: whoever goes on from an earlier checkpoint needs it.
        if let Stage::Store(writing, _) = &mut self.stage {
            writing.spill.remove(part)?;
        }
        Ok(true)
    }

    pub(crate) fn shapes(&self, groups: usize, centres: usize, lists: usize) -> Shapes {
        Shapes {
            rows: self.items,
            width: self.width(),
            metric: self.metric,
            groups,
            centres,
            lists,
            ground_truth: held_out_count(self.items),
        }
    }

    /// Begins all arrays, and writes what was learnt.
    fn begin_writing(&mut self, learnt: Learnt) -> Result<Writing> {
        if let Some(directory) = &mut self.directory {
            directory.begin()?;
        }
        let centres = usize::from(learnt.centre().is_some());
        let shapes = self.shapes(learnt.groups(), centres, learnt.lists());
        let directory = self.directory.as_ref();
        let writer = |name: &'static str| {
            let shape = shapes.of(name);
            let writer = match directory {
                None => ArrayWriter::new(name, shape, None)?,
                Some(directory) => directory.writer(name, shape)?,
            };
            Ok((name, writer))
        };
        let checkpointed = CHECKPOINT_ARRAYS.into_iter();
        let checkpointed = checkpointed.filter(|&name| self.resumable || name != "lists");
        let writers = ARRAYS.into_iter().chain(checkpointed).map(writer);
        let mut writers = writers.collect::<Result<_>>()?;
        write(
            &mut writers,
            "centre",
            0,
            learnt.centre().unwrap_or_default(),
        )?;
        let QuantiserParts {
            groups,
            lists,
            starts,
        } = &learnt.quantiser;
        write(&mut writers, "groups", 0, groups)?;
        write(&mut writers, "centroids", 0, lists)?;
        let of_none = if starts.is_empty() { &[0][..] } else { &[] };
        write(&mut writers, "group_starts", 0, &[starts, of_none].concat())?;
        let parts = part_lists(learnt.lists().max(1)).len();
        let spill = match directory {
            None => Spill::default(),
            Some(directory) => directory.spill(self.record_words(), parts)?,
        };
        Ok(Writing {
            metric: self.metric,
            dim: self.dim,
            learnt,
            quantiser: None,
            lists: Vec::new(),
            spill,
            next: ListOffsets::default(),
            writers,
        })
    }

    /// The segment; in its directory, if it was given one, from which it is mapped.
    ///
    /// # Errors
    /// When not all items have come in each pass, a file can't be written, or the run is
    /// cancelled: a directory then has the index that it had before.
    pub(crate) fn finish_segment(mut self, ctx: &Context) -> Result<Segment> {
        let width = self.width();
        self.store(ctx)?;
        let Stage::Store(writing, _) = self.stage else {
            return Err(Error::parameter(
                "the number of items",
                "as announced in each pass",
                format!("{} in the last", self.seen),
            ));
        };
        let mut done = writing.end();
        let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
        let mut files: Vec<Written> = Vec::new();
        // First the arrays that others are made of.
        for name in ["ids", "hashes", "rows"] {
            done.finish(name, &mut arrays, &mut files, ctx)?;
        }
        let by_id = by_id(arrays["ids"].values())?;
        let rows = Rows::new(arrays["rows"].values(), width)?;
        let duplicate_ranks = duplicate_ranks(&by_id, arrays["hashes"].values(), rows)?;
        write(&mut done.writers, "by_id", 0, &by_id)?;
        write(&mut done.writers, "duplicate_ranks", 0, &duplicate_ranks)?;
        let ground_truth = done.ground_truth();
        write(&mut done.writers, "held_out", 0, &ground_truth)?;
        let starts: Vec<u64> = done.offsets.starts().collect();
        write(&mut done.writers, "starts", 0, &starts)?;
        for name in ARRAYS {
            done.finish(name, &mut arrays, &mut files, ctx)?;
        }
        for name in CHECKPOINT_ARRAYS {
            arrays.remove(name);
            files.retain(|written| written.name != name);
        }
        let segment = Segment::new(self.metric, self.dim, self.plan, arrays);
        let segment = match self.directory {
            None => segment,
            Some(directory) => {
                let metadata = segment.metadata();
                drop(segment);
                let path = directory.path().to_path_buf();
                directory.commit(metadata, files)?;
                Segment::open(&path, true, ctx)?
            }
        };
        Ok(segment)
    }
}

/// The plan for so many items, where none is given: with lists that serve a radius, too.
pub(crate) fn default_plan(items: usize, seed: u64) -> PartitionPlan {
    PartitionPlan::new(lists_for(items).min(MOST_BISECTED), 1.0)
        .seed(seed)
        .until_recall(0.95)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;

    #[test]
    fn a_build_that_ends_between_parts_goes_on_with_the_next() {
        let values: Vec<f32> = (0..4000).map(|value| (value * 37 % 1009) as f32).collect();
        let (items, ctx) = (Rows::new(&values, 4).unwrap(), Context::new().unwrap());
        let ids: Vec<i64> = (0..1000).map(|row| 7 * row % 1000).collect();
        let plan = PartitionPlan::new(40, 2.0);
        let directory = tempfile::tempdir().unwrap();
        let begin = || {
            let (metric, path) = (Metric::Euclidean, directory.path());
            IndexBuilder::resume(1000, 4, metric, Some(plan), 0, path).unwrap()
        };
        let spilled = || {
            let entries = directory.path().read_dir().unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.starts_with("spill")).count()
        };
        let mut builder = begin();
        builder.push(items, &ids, &ctx).unwrap();
        builder.push(items, &ids, &ctx).unwrap();
        let parts = spilled();
        assert!(parts > 10);
        for stored in 0..3 {
            assert_eq!(builder.position(), (builder.passes(), 0));
            assert_eq!(spilled(), parts - stored);
            assert!(builder.store_part(&ctx).unwrap());
            drop(builder);
            builder = begin();
        }
        let built = builder.finish(&ctx).unwrap();
        built.verify(&ctx).unwrap();
        let expected = Index::build(items, &ids, Metric::Euclidean, Some(plan), 0, &ctx);
        let expected = expected.unwrap();
        for name in ARRAYS {
            let of = |index: &Index| index.segment.array(name).data().to_vec();
            assert!(of(&built) == of(&expected), "{name}");
        }
        assert_eq!(
            directory.path().read_dir().unwrap().count(),
            ARRAYS.len() + 1
        );
    }
}
