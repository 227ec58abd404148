//! Items that come in batches made into a segment, three passes over them.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use lshjoin_kernels::{CommonScale, Quantised, Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        context::Run,
        error::{Error, Result},
        magnitude,
        metric::Metric,
        plan::{JoinPlan, MOST_CELLS, PartitionPlan},
    },
    index::segment::Segment,
    ivf::{axis_quantiser::AxisCells, coarse_quantiser},
    storage::{
        array::{Array, ArrayWriter, Written},
        directory::{Directory, Facts, Unfinished, UnfinishedFile},
        layout::{ARRAYS, Shapes, UNDER_WAY, has_codes, held_out_count, held_out_step, width},
    },
    vectors::{
        augment::longer,
        duplicates::hash,
        grid::Grid,
        norms::norms_of,
        principal_axes::{self, PrincipalAxes},
        vectors::Side,
    },
};

/// What memory is asked for.
const CELLS: &str = "the cell of each item";
const OF_CELL: &str = "items of a cell";

/// Rows that are brought to their cells at a time.
const ASSIGNED: usize = 1 << 16;

/// How many times in a pass it is recorded what is done, where building can be resumed.
const RECORDS: usize = 32;

/// Builds an [`Index`](super::Index) from items that need not fit in memory.
///
/// All items come in the same batches [`IndexBuilder::PASSES`] times: cells are learnt from a
/// sample of them, then the items' cells are found, then they are written by cell, to memory or
/// into the files of a directory. Beside a batch, memory holds the sample and about 20 bytes an
/// item.
///
/// ```
/// use lshjoin::{IndexBuilder, Metric, Rows, Run};
///
/// let run = Run::new()?;
/// let batches = [[0.0_f32, 1.0], [5.0, 7.0]];
/// let mut builder = IndexBuilder::new(4, 1, Metric::Euclidean, None, 0, None)?;
/// for _ in 0..IndexBuilder::PASSES {
///     for (ids, batch) in [[10, 11], [12, 13]].iter().zip(&batches) {
///         builder.push(Rows::new(batch, 1)?, ids, &run)?;
///     }
/// }
/// let index = builder.finish(&run)?;
/// assert_eq!(index.len(), 4);
/// # Ok::<(), lshjoin::Error>(())
/// ```
pub struct IndexBuilder {
    items: usize,
    dim: usize,
    metric: Metric,
    plan: PartitionPlan,
    directory: Option<Directory>,
    /// Whether what is done stays in the directory, however this ends.
    resumable: bool,
    /// Items that have come in this pass.
    seen: usize,
    /// Of these, those that a builder that goes on from here need not have again.
    recorded: usize,
    stage: Stage,
}

enum Stage {
    Learn(Sample),
    Assign(Box<Writing>),
    Write(Box<Writing>),
    Done(Done),
}

/// Items that all is learnt from.
#[derive(Default)]
struct Sample {
    /// Every so manieth item, for the axes.
    axes: Vec<f32>,
    /// The same for the centroids.
    cells: Vec<f32>,
    /// The largest norm, where inner products are searched.
    longest: f64,
}

struct Learnt {
    axes: PrincipalAxes,
    centroids: Vec<f32>,
    /// `None` where the metric has no codes.
    grid: Option<Grid<f32>>,
    longest: f64,
}

struct Writing {
    learnt: Learnt,
    /// The cell of each item that was brought to one.
    cells: Vec<u32>,
    /// Where each cell's next row goes.
    next: Vec<usize>,
    writers: BTreeMap<&'static str, ArrayWriter>,
}

/// What is left to do when all items are written.
#[derive(Default)]
struct Done {
    /// The cell of each item.
    cells: Vec<u32>,
    starts: Vec<usize>,
    writers: BTreeMap<&'static str, ArrayWriter>,
}

impl IndexBuilder {
    /// How many times all items have to come.
    pub const PASSES: usize = 3;

    /// For so many items of `dim` values: in memory, or in the files of a directory, where the
    /// index is once [`IndexBuilder::finish`] has succeeded, in place of any index that was there.
    ///
    /// Cells are those of `plan`; without one, as many as the number of items asks for, from
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
                axes: PrincipalAxes::of_parts(Vec::new(), builder.width()),
                centroids: Vec::new(),
                grid: None,
                longest: 0.0,
            };
            let mut writing = builder.begin_writing(learnt)?;
            writing.next = writing.starts(0);
            builder.stage = Stage::Write(Box::new(writing));
            builder.end_pass(&Run::new()?)?;
        }
        Ok(builder)
    }

    /// A builder that leaves in its directory what it has done, however it ends, and that goes on
    /// with what an earlier one of the same arguments left: [`IndexBuilder::next`] tells from
    /// where. The items have to be the same.
    ///
    /// ```
    /// use lshjoin::{IndexBuilder, Metric, Rows, Run};
    ///
    /// let directory = tempfile::tempdir().unwrap();
    /// let begin = || IndexBuilder::resume(2, 1, Metric::Euclidean, None, 0, directory.path());
    /// let (items, run) = (Rows::new(&[0.0_f32, 1.0], 1)?, Run::new()?);
    /// let mut builder = begin()?;
    /// builder.push(items, &[10, 11], &run)?;
    /// drop(builder);
    /// let mut builder = begin()?;
    /// assert_eq!(builder.next(), (1, 0));
    /// builder.push(items, &[10, 11], &run)?;
    /// builder.push(items, &[10, 11], &run)?;
    /// assert_eq!(builder.finish(&run)?.len(), 2);
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
        let facts = builder.facts();
        if let (true, Some(directory)) = (builder.resumable, &mut builder.directory) {
            match directory.unfinished(&facts).cloned() {
                None => directory.clear()?,
                Some(unfinished) => builder.go_on(&unfinished)?,
            }
        }
        Ok(builder)
    }

    /// The pass, from 0 to [`IndexBuilder::PASSES`], which is past the last, and the item in it that
    /// are to come next.
    pub fn next(&self) -> (usize, usize) {
        let pass = match self.stage {
            Stage::Learn(_) => 0,
            Stage::Assign(_) => 1,
            Stage::Write(_) => 2,
            Stage::Done(_) => Self::PASSES,
        };
        (pass, self.seen)
    }

    fn facts(&self) -> Facts {
        Facts {
            items: self.items,
            dim: self.dim,
            metric: self.metric.to_string(),
            plan: JoinPlan::Partitions(self.plan),
        }
    }

    /// Goes on from where another builder was.
    fn go_on(&mut self, unfinished: &Unfinished) -> Result<()> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let writer = |name: &'static str| match unfinished.files.get(name) {
            Some(UnfinishedFile { file, shape }) => {
                let shape = shape.clone();
                Ok((
                    name,
                    ArrayWriter::reopen(name, shape, directory.path(), file)?,
                ))
            }
            None => Err(Error::damaged(
                directory.path(),
                "of an array that was begun there is no file",
            )),
        };
        let writers = ARRAYS.into_iter().chain(UNDER_WAY).map(writer);
        let writers: BTreeMap<&'static str, ArrayWriter> = writers.collect::<Result<_>>()?;
        let other = || {
            Error::damaged(
                directory.path(),
                "what was begun there is not an index of these items",
            )
        };
        let length = |name| writers[name].shape().length();
        let shapes = self.shapes(length("axes"), length("centre"), length("centroids"));
        let mut shaped = writers.iter();
        if !shapes.is_possible(&self.plan)
            || !shaped.all(|(&name, writer)| *writer.shape() == shapes.of(name))
        {
            return Err(other());
        }
        let centre: Vec<f32> = writers["centre"].values()?;
        let centre = (!centre.is_empty()).then_some(centre);
        let scale = unfinished.scale.and_then(CommonScale::from_bits);
        let learnt = Learnt {
            axes: PrincipalAxes::of_parts(writers["axes"].values()?, self.width()),
            centroids: writers["centroids"].values()?,
            grid: scale.map(|scale| Grid { centre, scale }),
            longest: f64::from_bits(unfinished.longest),
        };
        let mut cells: Vec<u32> = writers["cells"].values()?;
        if !unfinished.writing {
            cells.truncate(unfinished.seen);
        }
        let mut writing = Writing {
            learnt,
            cells,
            next: Vec::new(),
            writers,
        };
        let (count, learnt) = (writing.count(), &writing.learnt);
        let mut values = learnt.axes.axes.iter().chain(&learnt.centroids);
        if unfinished.seen > self.items
            || !values.all(|value| value.is_finite())
            || !(0.0..=f64::MAX).contains(&learnt.longest)
            || learnt.grid.is_some() != has_codes(self.metric)
            || writing.cells.iter().any(|&cell| cell as usize >= count)
        {
            return Err(other());
        }
        (self.seen, self.recorded) = (unfinished.seen, unfinished.seen);
        if unfinished.writing {
            writing.next = writing.starts(unfinished.seen);
            self.stage = Stage::Write(writing.into());
        } else {
            self.stage = Stage::Assign(writing.into());
        }
        if self.seen == self.items {
            self.end_pass(&Run::new()?)?;
        }
        Ok(())
    }

    /// Brings to disk what was done, and then notes that it is there.
    fn record(&mut self) -> Result<()> {
        let facts = self.facts();
        let (Some(directory), true) = (&mut self.directory, self.resumable) else {
            return Ok(());
        };
        let (writing, is_writing) = match &mut self.stage {
            Stage::Assign(writing) => (writing, false),
            Stage::Write(writing) => (writing, true),
            Stage::Learn(_) | Stage::Done(_) => return Ok(()),
        };
        if !is_writing {
            let cells = &writing.cells[self.recorded..];
            write(&mut writing.writers, "cells", self.recorded, cells)?;
        }
        let mut files = BTreeMap::new();
        for (&name, writer) in &mut writing.writers {
            writer.sync()?;
            if let Some(file) = writer.file() {
                let shape = writer.shape().clone();
                files.insert(name.into(), UnfinishedFile { file, shape });
            }
        }
        let mut unfinished = Unfinished::new(facts, files);
        (unfinished.writing, unfinished.seen) = (is_writing, self.seen);
        let grid = writing.learnt.grid.as_ref();
        unfinished.scale = grid.map(|grid| grid.scale.to_bits());
        unfinished.longest = writing.learnt.longest.to_bits();
        directory.record(unfinished)?;
        self.recorded = self.seen;
        Ok(())
    }

    fn width(&self) -> usize {
        width(self.metric, self.dim)
    }

    /// Takes the next items and their ids; the ids are looked at in the last pass alone.
    ///
    /// # Errors
    /// When there are more items than were announced, or not an id for each, of another dimension,
    /// when one holds NaN or infinity, a file can't be written, or the run is cancelled. The
    /// builder is of no more use then.
    pub fn push(&mut self, items: Rows<'_, f32>, ids: &[i64], run: &Run) -> Result<()> {
        let count = |what, must_be, value: usize| {
            Err(Error::Parameter {
                name: what,
                must_be,
                value: value.to_string(),
            })
        };
        if items.dim() != self.dim {
            return Err(Error::Dimension {
                what: "items",
                got: items.dim(),
                expected: self.dim,
            });
        }
        if ids.len() != items.len() {
            return count("the number of ids", "that of items", ids.len());
        }
        if items.is_empty() {
            return Ok(());
        }
        if matches!(self.stage, Stage::Done(_)) || self.seen + items.len() > self.items {
            let seen = self.seen + items.len();
            return count("the number of items", "as announced in each pass", seen);
        }
        let first = self.seen;
        match &mut self.stage {
            Stage::Learn(sample) => {
                magnitude::check("items", items, self.metric, run)
                    .map_err(|error| error.after(first))?;
                let width = width(self.metric, self.dim);
                let axes = principal_axes::sample_step(self.items, width);
                let cells = coarse_quantiser::sample_step(self.items, self.plan.cells);
                sample.add(items, first, axes, cells)?;
                if self.metric == Metric::InnerProduct {
                    let norms = norms_of(items, run)?.into_iter();
                    sample.longest = norms.fold(sample.longest, f64::max);
                }
            }
            Stage::Assign(writing) => {
                let Writing {
                    learnt,
                    cells: found,
                    ..
                } = &mut **writing;
                if has_codes(self.metric) {
                    let cells = learnt.cells();
                    for start in (0..items.len()).step_by(ASSIGNED) {
                        run.check()?;
                        let part = items.slice(start..items.len().min(start + ASSIGNED));
                        let values = learnt.kept(part, self.metric, run)?;
                        let rows = Rows::new(&values, width(self.metric, self.dim))?;
                        let side = Side::without_codes("items", rows, self.metric, run)?;
                        memory::extend(found, cells.of_rows(&side, run)?, CELLS)?;
                    }
                } else {
                    memory::extend(found, std::iter::repeat_n(0, items.len()), CELLS)?;
                }
            }
            Stage::Write(writing) => {
                writing.add(items, ids, first, self.metric, run)?;
            }
            Stage::Done(_) => {}
        }
        self.seen += items.len();
        if self.seen == self.items || (self.seen - self.recorded) * RECORDS >= self.items {
            self.record()?;
        }
        if self.seen == self.items {
            self.end_pass(run)?;
        }
        Ok(())
    }

    fn end_pass(&mut self, run: &Run) -> Result<()> {
        (self.seen, self.recorded) = (0, 0);
        let stage = std::mem::replace(&mut self.stage, Stage::Done(Done::default()));
        self.stage = match stage {
            Stage::Learn(sample) => {
                let learnt = sample.learn(self.metric, self.dim, &self.plan, run)?;
                Stage::Assign(self.begin_writing(learnt)?.into())
            }
            Stage::Assign(mut writing) => {
                writing.next = writing.starts(0);
                Stage::Write(writing)
            }
            Stage::Write(writing) => Stage::Done(writing.end()),
            done => done,
        };
        self.record()
    }

    fn shapes(&self, axes: usize, centres: usize, cells: usize) -> Shapes {
        Shapes {
            rows: self.items,
            width: self.width(),
            metric: self.metric,
            axes,
            centres,
            cells,
            held_out: held_out_count(self.items),
        }
    }

    fn begin_writing(&mut self, learnt: Learnt) -> Result<Writing> {
        if let Some(directory) = &mut self.directory {
            directory.begin()?;
        }
        let centres = usize::from(learnt.centre().is_some());
        let shapes = self.shapes(learnt.axes_count(), centres, learnt.cells_count());
        let directory = self.directory.as_ref();
        let writer = |name: &'static str| {
            let shape = shapes.of(name);
            let writer = match directory {
                None => ArrayWriter::new(name, shape, None)?,
                Some(directory) => directory.writer(name, shape)?,
            };
            Ok((name, writer))
        };
        let under_way = UNDER_WAY.into_iter();
        let under_way = under_way.filter(|&name| self.resumable || name != "cells");
        let writers = ARRAYS.into_iter().chain(under_way).map(writer);
        let mut writers = writers.collect::<Result<_>>()?;
        write(&mut writers, "axes", 0, &learnt.axes.axes)?;
        write(
            &mut writers,
            "centre",
            0,
            learnt.centre().unwrap_or_default(),
        )?;
        write(&mut writers, "centroids", 0, &learnt.centroids)?;
        Ok(Writing {
            learnt,
            cells: Vec::new(),
            next: Vec::new(),
            writers,
        })
    }

    /// The index; in its directory, if it was given one, of which it is mapped.
    ///
    /// # Errors
    /// When not all items have come in each pass, a file can't be written, or the run is
    /// cancelled: a directory then has the index that it had before.
    pub fn finish(self, run: &Run) -> Result<super::Index> {
        let width = self.width();
        let Stage::Done(mut done) = self.stage else {
            return Err(Error::Parameter {
                name: "the number of items",
                must_be: "as announced in each pass",
                value: format!("{} in the last", self.seen),
            });
        };
        let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
        let mut files: Vec<Written> = Vec::new();
        // What others are made of.
        for name in ["ids", "hashes", "rows"] {
            done.finish(name, &mut arrays, &mut files, run)?;
        }
        let by_id = by_id(arrays["ids"].values())?;
        let rows = Rows::new(arrays["rows"].values(), width)?;
        let twins = twins(&by_id, arrays["hashes"].values(), rows)?;
        write(&mut done.writers, "by_id", 0, &by_id)?;
        write(&mut done.writers, "twins", 0, &twins)?;
        let held_out = done.held_out();
        write(&mut done.writers, "held_out", 0, &held_out)?;
        let starts: Vec<u64> = done.starts.iter().map(|&start| start as u64).collect();
        write(&mut done.writers, "starts", 0, &starts)?;
        for name in ARRAYS {
            done.finish(name, &mut arrays, &mut files, run)?;
        }
        for name in UNDER_WAY {
            arrays.remove(name);
            files.retain(|written| written.name != name);
        }
        let segment = Segment::new(self.metric, self.dim, self.plan, arrays);
        let segment = match self.directory {
            None => segment,
            Some(directory) => {
                let facts = segment.facts();
                drop(segment);
                let path = directory.path().to_path_buf();
                directory.commit(facts, files)?;
                Segment::open(&path, true, run)?
            }
        };
        Ok(super::Index::of(segment))
    }
}

/// Whether there may be an index of so many items and values, and of such cells.
///
/// # Errors
/// When a number is out of range.
pub(crate) fn check_numbers(items: usize, dim: usize, plan: PartitionPlan) -> Result<()> {
    Rows::<f32>::new(&[], dim)?;
    for (name, number) in [("the number of items", items), ("the dimension", dim)] {
        if number >= u32::MAX as usize {
            return Err(Error::Parameter {
                name,
                must_be: "below 2**32 - 1",
                value: number.to_string(),
            });
        }
    }
    JoinPlan::Partitions(plan).check()
}

/// The cells that so many items ask for.
pub(crate) fn default_plan(items: usize, seed: u64) -> PartitionPlan {
    PartitionPlan {
        seed,
        axes: 48,
        cells: ((1.5 * (items as f64).sqrt()) as usize).clamp(1, MOST_CELLS),
        probes: 1,
        until_recall: Some(0.95),
    }
}

impl Sample {
    fn add(&mut self, items: Rows<'_, f32>, first: usize, axes: usize, cells: usize) -> Result<()> {
        let take = |step: usize, values: &mut Vec<f32>| {
            let start = first.next_multiple_of(step) - first;
            let rows = (start..items.len()).step_by(step);
            memory::reserve(values, rows.len() * items.dim(), "a sample of the items")?;
            rows.for_each(|row| values.extend_from_slice(items.row(row)));
            Ok::<_, Error>(())
        };
        take(axes, &mut self.axes)?;
        take(cells, &mut self.cells)
    }

    fn learn(self, metric: Metric, dim: usize, plan: &PartitionPlan, run: &Run) -> Result<Learnt> {
        let width = width(metric, dim);
        let mut learnt = Learnt {
            axes: PrincipalAxes::of_parts(Vec::new(), width),
            centroids: Vec::new(),
            grid: None,
            longest: self.longest,
        };
        if !has_codes(metric) {
            return Ok(learnt);
        }
        let rows = learnt.kept(Rows::new(&self.axes, dim)?, metric, run)?;
        learnt.axes = PrincipalAxes::of_sample(Rows::new(&rows, width)?, plan.axes, run)?;
        let rows = learnt.kept(Rows::new(&self.cells, dim)?, metric, run)?;
        let rows = Rows::new(&rows, width)?;
        learnt.grid = Some(Grid::of(rows, metric, run)?);
        let side = Side::without_codes("items", rows, metric, run)?;
        let cells = AxisCells::of_sample(&learnt.axes, &side, plan.cells, plan.seed, run)?;
        learnt.centroids = cells.into_centroids();
        Ok(learnt)
    }
}

impl Learnt {
    fn axes_count(&self) -> usize {
        self.axes.count()
    }

    fn cells_count(&self) -> usize {
        self.centroids.len() / self.axes_count().max(1)
    }

    /// What codes are counted from, if not from zero.
    fn centre(&self) -> Option<&[f32]> {
        self.grid.as_ref().and_then(|grid| grid.centre.as_deref())
    }

    fn cells(&self) -> AxisCells {
        AxisCells::of_parts(self.axes.clone(), self.centroids.clone())
    }

    /// Rows as they are kept.
    fn kept<'a>(&self, items: Rows<'a, f32>, metric: Metric, run: &Run) -> Result<Cow<'a, [f32]>> {
        if metric != Metric::InnerProduct {
            return Ok(items.values().into());
        }
        let norms = norms_of(items, run)?;
        let last = |row: usize| self.longest.powi(2) - norms[row].powi(2);
        Ok(longer(items, |row| last(row).max(0.0).sqrt())?.into())
    }
}

impl Writing {
    /// How many cells there are; where there are none, all rows are of one.
    fn count(&self) -> usize {
        self.learnt.cells_count().max(1)
    }

    /// Where each cell's rows go after the first `seen` items; of none, where they start, with their
    /// end.
    fn starts(&self, seen: usize) -> Vec<usize> {
        let mut starts = vec![0; self.count() + 1];
        for &cell in &self.cells {
            starts[cell as usize + 1] += 1;
        }
        for cell in 1..starts.len() {
            starts[cell] += starts[cell - 1];
        }
        for &cell in &self.cells[..seen] {
            starts[cell as usize] += 1;
        }
        starts
    }

    fn add(
        &mut self,
        items: Rows<'_, f32>,
        ids: &[i64],
        first: usize,
        metric: Metric,
        run: &Run,
    ) -> Result<()> {
        let cells = &self.cells[first..first + items.len()];
        let mut order = memory::collect(0..items.len() as u32, ROW_NUMBERS)?;
        order.par_sort_unstable_by_key(|&row| (cells[row as usize], row));
        let values = self.learnt.kept(items, metric, run)?;
        let rows = Rows::new(
            &values,
            items.dim() + usize::from(metric == Metric::InnerProduct),
        )?;
        let mut side = match &self.learnt.grid {
            Some(grid) => Side::with_grid("items", rows, metric, grid, run)?,
            None => Side::new("items", rows, metric, run)?,
        };
        if metric == Metric::InnerProduct {
            side = side.with_norm(self.learnt.longest)?;
        }
        for of_cell in order.chunk_by(|&x, &y| cells[x as usize] == cells[y as usize]) {
            run.check()?;
            let cell = cells[of_cell[0] as usize] as usize;
            let at = self.next[cell];
            self.next[cell] += of_cell.len();
            let indices = of_cell.iter().map(|&row| row as usize);
            let of_rows: Vec<i64> = gather(ids, 1, indices.clone())?;
            write(&mut self.writers, "ids", at, &of_rows)?;
            let hashes = indices.clone().map(|row| hash(items.row(row)));
            let hashes = memory::collect(hashes, OF_CELL)?;
            write(&mut self.writers, "hashes", at, &hashes)?;
            let width = rows.dim();
            let values: Vec<f32> = gather(rows.values(), width, indices.clone())?;
            write(&mut self.writers, "rows", at * width, &values)?;
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

    fn end(self) -> Done {
        let has_cells = !self.learnt.centroids.is_empty();
        Done {
            starts: if has_cells { self.starts(0) } else { vec![0] },
            cells: self.cells,
            writers: self.writers,
        }
    }
}

impl Done {
    /// Ends an array that all is written of, if that was not done before.
    fn finish(
        &mut self,
        name: &str,
        arrays: &mut BTreeMap<String, Array>,
        files: &mut Vec<Written>,
        run: &Run,
    ) -> Result<()> {
        if let Some(writer) = self.writers.remove(name) {
            let (array, written) = writer.finish(run)?;
            files.extend(written);
            arrays.insert(name.into(), array);
        }
        Ok(())
    }

    /// The rows of every so manieth item, in the order in which the items came.
    fn held_out(&self) -> Vec<u32> {
        let step = held_out_step(self.cells.len());
        let mut next = self.starts.clone();
        let places = self.cells.iter().map(|&cell| {
            let place = next[cell as usize];
            next[cell as usize] += 1;
            place as u32
        });
        places.step_by(step).collect()
    }
}

/// The rows by rising id.
fn by_id(ids: &[i64]) -> Result<Vec<u32>> {
    let id = |row: u32| ids[row as usize];
    let mut by_id = memory::collect(0..ids.len() as u32, ROW_NUMBERS)?;
    by_id.par_sort_unstable_by_key(|&row| id(row));
    match by_id.windows(2).find(|pair| id(pair[0]) == id(pair[1])) {
        None => Ok(by_id),
        Some(twice) => Err(Error::Id {
            id: id(twice[0]),
            problem: "is given twice; ids tell items apart",
        }),
    }
}

/// For each row how many equal ones have lower ids.
pub(crate) fn twins(by_id: &[u32], hashes: &[u64], rows: Rows<'_, f32>) -> Result<Vec<u32>> {
    let mut twins = memory::zeroed(by_id.len(), ROW_NUMBERS)?;
    let hash = |&place: &u32| hashes[by_id[place as usize] as usize];
    let row = |&place: &u32| rows.row(by_id[place as usize] as usize);
    let mut order = memory::collect(0..by_id.len() as u32, ROW_NUMBERS)?;
    order.par_sort_unstable_by_key(|place| (hash(place), *place));
    let groups = order.chunk_by(|x, y| hash(x) == hash(y));
    for same in groups.filter(|same| same.len() > 1) {
        // Others of the same hash, if there ever are, count as nobody's twins.
        let equal = same.iter().filter(|&other| row(other) == row(&same[0]));
        for (rank, &place) in (0..).zip(equal) {
            twins[by_id[place as usize] as usize] = rank;
        }
    }
    Ok(twins)
}

fn write<V: bytemuck::Pod>(
    writers: &mut BTreeMap<&'static str, ArrayWriter>,
    name: &str,
    first: usize,
    values: &[V],
) -> Result<()> {
    let writer = writers.get_mut(name);
    writer.map_or(Ok(()), |writer| writer.write(first, values))
}

/// The rows of these indices, each of `width` values.
fn gather<V: Copy>(
    values: &[V],
    width: usize,
    rows: impl ExactSizeIterator<Item = usize>,
) -> Result<Vec<V>> {
    let mut gathered = memory::empty(rows.len() * width, OF_CELL)?;
    rows.for_each(|row| gathered.extend_from_slice(&values[row * width..][..width]));
    Ok(gathered)
}
