//! Builds a segment from items that come in batches, in three passes over them: learn, assign,
//! write.

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
        write::{Done, Writing, write},
    },
    ivf::{
        coarse_quantiser::{QuantiserParts, sample_step},
        list_offsets::ListOffsets,
    },
    storage::{
        array::Array,
        directory::Directory,
        format::Written,
        layout::{ARRAYS, CHECKPOINT_ARRAYS, Shapes, check_numbers, held_out_count, width},
        manifest::IndexMetadata,
        writer::ArrayWriter,
    },
    vectors::norms::norms_of,
};

/// How many times in a pass a checkpoint is written, where the build can be resumed.
const RECORDS: usize = 32;

/// Builds an [`Index`](super::Index) from items that need not fit in memory.
///
/// All items come in the same batches [`IndexBuilder::PASSES`] times: first lists are learnt from a
/// sample of them, then the list of each item is found, then items are written by list, to memory
/// or into the files of a directory. Beside a batch, memory holds the sample and about 20 bytes an
/// item.
///
/// ```
/// use lshjoin::{IndexBuilder, Metric, Rows, Context};
///
/// let ctx = Context::new()?;
/// let batches = [[0.0_f32, 1.0], [5.0, 7.0]];
/// let mut builder = IndexBuilder::new(4, 1, Metric::Euclidean, None, 0, None)?;
/// for _ in 0..IndexBuilder::PASSES {
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
    /// Items that have come in this pass.
    pub(crate) seen: usize,
    /// Of these, those that the last checkpoint covers: whoever resumes the build need not bring
    /// them again.
    pub(crate) recorded: usize,
    pub(crate) stage: Stage,
}

/// Which pass is being made.
pub(crate) enum Stage {
    Learn(Sample),
    Assign(Box<Writing>),
    Write(Box<Writing>),
    Done(Done),
}

impl IndexBuilder {
    /// How many times all items have to come.
    pub const PASSES: usize = 3;

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
            let mut writing = builder.begin_writing(learnt)?;
            writing.next = writing.next_after(0);
            builder.stage = Stage::Write(Box::new(writing));
            builder.end_pass(&Context::new()?)?;
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

    /// The pass and the item in it that are to come next. Passes count from 0;
    /// [`IndexBuilder::PASSES`] is past the last.
    pub fn position(&self) -> (usize, usize) {
        let pass = match self.stage {
            Stage::Learn(_) => 0,
            Stage::Assign(_) => 1,
            Stage::Write(_) => 2,
            Stage::Done(_) => Self::PASSES,
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
        if matches!(self.stage, Stage::Done(_)) || self.seen + items.len() > self.items {
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
            Stage::Assign(writing) => writing.assign(items, self.metric, ctx)?,
            Stage::Write(writing) => {
                writing.add(items, ids, first, self.metric, ctx)?;
            }
            Stage::Done(_) => {}
        }
        self.seen += items.len();
        if self.seen == self.items || (self.seen - self.recorded) * RECORDS >= self.items {
            self.record()?;
        }
        if self.seen == self.items {
            self.end_pass(ctx)?;
        }
        Ok(())
    }

    /// Goes on to the next pass.
    pub(crate) fn end_pass(&mut self, ctx: &Context) -> Result<()> {
        (self.seen, self.recorded) = (0, 0);
        let stage = std::mem::replace(&mut self.stage, Stage::Done(Done::default()));
        self.stage = match stage {
            Stage::Learn(sample) => {
                let learnt = sample.learn(self.metric, self.dim, &self.plan, ctx)?;
                Stage::Assign(self.begin_writing(learnt)?.into())
            }
            Stage::Assign(mut writing) => {
                writing.next = writing.next_after(0);
                Stage::Write(writing)
            }
            Stage::Write(writing) => Stage::Done(writing.end()),
            done => done,
        };
        self.record()
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
        Ok(Writing {
            learnt,
            quantiser: None,
            lists: Vec::new(),
            next: ListOffsets::default(),
            writers,
        })
    }

    /// The segment; in its directory, if it was given one, from which it is mapped.
    ///
    /// # Errors
    /// When not all items have come in each pass, a file can't be written, or the run is
    /// cancelled: a directory then has the index that it had before.
    pub(crate) fn finish_segment(self, ctx: &Context) -> Result<Segment> {
        let width = self.width();
        let Stage::Done(mut done) = self.stage else {
            return Err(Error::parameter(
                "the number of items",
                "as announced in each pass",
                format!("{} in the last", self.seen),
            ));
        };
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

/// The plan for so many items, where none is given.
pub(crate) fn default_plan(items: usize, seed: u64) -> PartitionPlan {
    PartitionPlan::new(lists_for(items), 1)
        .seed(seed)
        .until_recall(0.95)
}
