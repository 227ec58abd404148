//! Items that come in batches made into a segment, three passes over them.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use lshjoin_kernels::{CommonScale, Rows, check_finite};
use rayon::prelude::*;

use super::{
    array::{Array, ArrayWriter, Written},
    directory::Directory,
    segment::{ARRAYS, Segment, Shapes, compared_by, has_codes, width},
};
use crate::{
    cells::{self, Cells},
    directions::{self, PrincipalAxes},
    duplicates::hash,
    error::{Error, Result},
    held_out::HELD_OUT,
    inner_product::{longer, square},
    metric::Metric,
    plan::{CellPlan, JoinPlan, MOST_CELLS},
    run::Run,
    side::{Side, common_scale},
};

/// Rows that are brought to their cells at a time.
const ASSIGNED: usize = 1 << 16;

/// Builds an [`Index`](super::Index) from items that need not fit in memory.
///
/// All items come in the same batches [`IndexBuilder::PASSES`] times: cells are learnt from a
/// sample of them, then the items' cells are found, then they are written by cell, to memory or
/// into the files of a directory. Beside a batch, memory holds the sample and about 30 bytes an
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
    plan: CellPlan,
    directory: Option<Directory>,
    /// Items that have come in this pass.
    seen: usize,
    stage: Stage,
}

enum Stage {
    Learn(Sample),
    Assign(Learnt, Vec<u32>),
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
    /// The largest squared norm.
    longest: f64,
}

struct Learnt {
    axes: PrincipalAxes,
    centroids: Vec<f32>,
    scale: Option<CommonScale>,
    longest: f64,
}

struct Writing {
    learnt: Learnt,
    /// The cell of each item.
    cells: Vec<u32>,
    starts: Vec<usize>,
    /// Where each cell's next row goes.
    next: Vec<usize>,
    held_out: Vec<(usize, u32)>,
    ids: Vec<i64>,
    hashes: Vec<u64>,
    writers: BTreeMap<&'static str, ArrayWriter>,
}

/// What is left to do when all items are written.
#[derive(Default)]
struct Done {
    /// Equal for equal rows.
    hashes: Vec<u64>,
    by_id: Vec<u32>,
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
        plan: Option<CellPlan>,
        seed: u64,
        directory: Option<&Path>,
    ) -> Result<Self> {
        Rows::<f32>::new(&[], dim)?;
        if items >= u32::MAX as usize {
            return Err(Error::Parameter {
                name: "the number of items",
                must_be: "below 2**32 - 1",
                value: items.to_string(),
            });
        }
        let plan = match plan {
            Some(plan) => plan,
            None => default_plan(items, seed),
        };
        JoinPlan::Cells(plan).check()?;
        let mut builder = Self {
            items,
            dim,
            metric,
            plan,
            directory: directory.map(Directory::create).transpose()?,
            seen: 0,
            stage: Stage::Learn(Sample::default()),
        };
        if items == 0 {
            let learnt = Learnt {
                axes: PrincipalAxes::of_parts(Vec::new(), builder.width()),
                centroids: Vec::new(),
                scale: None,
                longest: 0.0,
            };
            builder.stage = Stage::Write(Box::new(builder.begin_writing(learnt, Vec::new())?));
            builder.end_pass(&Run::new()?)?;
        }
        Ok(builder)
    }

    fn width(&self) -> usize {
        width(self.metric, self.dim)
    }

    /// Takes the next items and their ids; the ids are looked at in the last pass alone.
    ///
    /// # Errors
    /// When there are more items than were announced, or not an id for each, of another dimension,
    /// when one holds NaN or infinity, an id comes twice, a file can't be written, or the run is
    /// cancelled. The builder is of no more use then.
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
                check_finite(items, run.isa())
                    .map_err(|error| Error::from(("items", error.after(first))))?;
                let width = width(self.metric, self.dim);
                let axes = directions::sample_step(self.items, width);
                let cells = cells::sample_step(self.items, self.plan.cells);
                sample.add(items, first, axes, cells);
                if self.metric == Metric::InnerProduct {
                    let squares = (0..items.len()).into_par_iter();
                    let squares = squares.map(|row| square(items.row(row)));
                    sample.longest = sample.longest.max(squares.reduce(|| 0.0, f64::max));
                }
            }
            Stage::Assign(learnt, found) => {
                if has_codes(self.metric) {
                    let cells = learnt.cells();
                    for start in (0..items.len()).step_by(ASSIGNED) {
                        run.check()?;
                        let part = items.slice(start..items.len().min(start + ASSIGNED));
                        let values = learnt.kept(part, self.metric);
                        let rows = Rows::new(&values, width(self.metric, self.dim))?;
                        let side = Side::new("items", rows, compared_by(self.metric), run)?;
                        found.extend(cells.of_rows(&side, run)?);
                    }
                } else {
                    found.resize(found.len() + items.len(), 0);
                }
            }
            Stage::Write(writing) => {
                writing.add(items, ids, first, (self.items, self.metric), run)?;
            }
            Stage::Done(_) => {}
        }
        self.seen += items.len();
        if self.seen == self.items {
            self.seen = 0;
            self.end_pass(run)?;
        }
        Ok(())
    }

    fn end_pass(&mut self, run: &Run) -> Result<()> {
        let stage = std::mem::replace(&mut self.stage, Stage::Done(Done::default()));
        self.stage = match stage {
            Stage::Learn(sample) => Stage::Assign(
                sample.learn(self.metric, self.dim, &self.plan, run)?,
                Vec::new(),
            ),
            Stage::Assign(learnt, cells) => {
                Stage::Write(Box::new(self.begin_writing(learnt, cells)?))
            }
            Stage::Write(writing) => Stage::Done(writing.end()?),
            done => done,
        };
        Ok(())
    }

    fn begin_writing(&self, learnt: Learnt, cells: Vec<u32>) -> Result<Writing> {
        let count = learnt.centroids.len() / learnt.axes_count().max(1);
        // Where there are no cells, all rows are of one.
        let mut starts = vec![0; count.max(1) + 1];
        for &cell in &cells {
            starts[cell as usize + 1] += 1;
        }
        for cell in 1..starts.len() {
            starts[cell] += starts[cell - 1];
        }
        let shapes = Shapes {
            rows: self.items,
            width: self.width(),
            metric: self.metric,
            axes: learnt.axes_count(),
            cells: count,
            held_out: self.items.div_ceil(held_out_step(self.items)),
        };
        let directory = self.directory.as_ref();
        let writer = |&name: &&'static str| {
            let shape = shapes.of(name);
            let writer = match directory {
                None => ArrayWriter::new(name, shape, None),
                Some(directory) => directory.writer(name, shape),
            };
            Ok((name, writer?))
        };
        Ok(Writing {
            next: starts.clone(),
            starts: if count == 0 { vec![0] } else { starts },
            learnt,
            cells,
            held_out: Vec::new(),
            ids: vec![0; self.items],
            hashes: vec![0; self.items],
            writers: ARRAYS.iter().map(writer).collect::<Result<_>>()?,
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
        // The rows first, among which there may be twins.
        for name in std::iter::once("rows").chain(ARRAYS) {
            let Some(mut writer) = done.writers.remove(name) else {
                continue;
            };
            if name == "twins" {
                let rows = Rows::new(arrays["rows"].values(), width)?;
                writer.write(0, &done.twins(rows))?;
            }
            let (array, written) = writer.finish(run)?;
            arrays.insert(name.into(), array);
            files.extend(written);
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

/// The cells that so many items ask for.
pub(crate) fn default_plan(items: usize, seed: u64) -> CellPlan {
    CellPlan {
        seed,
        axes: 48,
        cells: ((1.5 * (items as f64).sqrt()) as usize).clamp(1, MOST_CELLS),
        probes: 1,
        rounds: 0,
        until_recall: Some(0.95),
    }
}

/// Every how manieth of so many items is held out.
fn held_out_step(items: usize) -> usize {
    items.div_ceil(HELD_OUT).max(1)
}

impl Sample {
    fn add(&mut self, items: Rows<'_, f32>, first: usize, axes: usize, cells: usize) {
        let take = |step: usize, values: &mut Vec<f32>| {
            let start = first.next_multiple_of(step) - first;
            let rows = (start..items.len()).step_by(step);
            rows.for_each(|row| values.extend_from_slice(items.row(row)));
        };
        take(axes, &mut self.axes);
        take(cells, &mut self.cells);
    }

    fn learn(self, metric: Metric, dim: usize, plan: &CellPlan, run: &Run) -> Result<Learnt> {
        let width = width(metric, dim);
        let mut learnt = Learnt {
            axes: PrincipalAxes::of_parts(Vec::new(), width),
            centroids: Vec::new(),
            scale: None,
            longest: self.longest,
        };
        if !has_codes(metric) {
            return Ok(learnt);
        }
        let rows = learnt.kept(Rows::new(&self.axes, dim)?, metric);
        learnt.axes = PrincipalAxes::of_sample(Rows::new(&rows, width)?, plan.axes, run)?;
        let rows = learnt.kept(Rows::new(&self.cells, dim)?, metric);
        let rows = Rows::new(&rows, width)?;
        learnt.scale = Some(common_scale(rows, compared_by(metric), run)?);
        let side = Side::new("items", rows, compared_by(metric), run)?;
        let cells = Cells::of_sample(&learnt.axes, &side, plan.cells, plan.seed, run)?;
        learnt.centroids = cells.centroids;
        Ok(learnt)
    }
}

impl Learnt {
    fn axes_count(&self) -> usize {
        self.axes.count()
    }

    fn cells(&self) -> Cells {
        Cells::of_parts(self.axes.clone(), self.centroids.clone())
    }

    /// Rows as they are kept.
    fn kept<'a>(&self, items: Rows<'a, f32>, metric: Metric) -> Cow<'a, [f32]> {
        let last = |row| (self.longest - square(items.row(row))).max(0.0).sqrt();
        match metric {
            Metric::InnerProduct => longer(items, last).into(),
            _ => items.values().into(),
        }
    }
}

impl Writing {
    fn add(
        &mut self,
        items: Rows<'_, f32>,
        ids: &[i64],
        first: usize,
        (all, metric): (usize, Metric),
        run: &Run,
    ) -> Result<()> {
        let cells = &self.cells[first..first + items.len()];
        let mut order: Vec<u32> = (0..items.len() as u32).collect();
        order.par_sort_by_key(|&row| cells[row as usize]);
        let values = self.learnt.kept(items, metric);
        let rows = Rows::new(
            &values,
            items.dim() + usize::from(metric == Metric::InnerProduct),
        )?;
        let side = Side::with_scale("items", rows, compared_by(metric), self.learnt.scale, run)?;
        let step = held_out_step(all);
        for of_cell in order.chunk_by(|&x, &y| cells[x as usize] == cells[y as usize]) {
            run.check()?;
            let cell = cells[of_cell[0] as usize] as usize;
            let at = self.next[cell];
            self.next[cell] += of_cell.len();
            let indices = of_cell.iter().map(|&row| row as usize);
            for (place, row) in indices.clone().enumerate() {
                self.ids[at + place] = ids[row];
                self.hashes[at + place] = hash(items.row(row));
                if (first + row).is_multiple_of(step) {
                    self.held_out.push((first + row, (at + place) as u32));
                }
            }
            let width = rows.dim();
            let values: Vec<f32> = gather(rows.values(), width, indices.clone());
            write(&mut self.writers, "rows", at * width, &values)?;
            if let Some(codes) = &side.codes {
                let (codes, known) = codes.parts();
                let stride = codes.len() / rows.len();
                let codes: Vec<i8> = gather(codes, stride, indices.clone());
                write(&mut self.writers, "codes", at * stride, &codes)?;
                let known: Vec<u8> = gather(known, 16, indices.clone());
                write(&mut self.writers, "known", at * 16, &known)?;
            }
            if !side.squares.is_empty() {
                let squares: Vec<f64> = gather(&side.squares, 1, indices);
                write(&mut self.writers, "squares", at, &squares)?;
            }
        }
        Ok(())
    }

    fn end(mut self) -> Result<Done> {
        let mut by_id: Vec<u32> = (0..self.ids.len() as u32).collect();
        by_id.par_sort_unstable_by_key(|&row| self.ids[row as usize]);
        let id = |row: u32| self.ids[row as usize];
        if let Some(twice) = by_id.windows(2).find(|pair| id(pair[0]) == id(pair[1])) {
            return Err(Error::Id {
                id: id(twice[0]),
                problem: "is given twice; ids tell items apart",
            });
        }
        // In the order in which the items came.
        self.held_out.sort_unstable();
        let held_out: Vec<u32> = self.held_out.iter().map(|&(_, row)| row).collect();
        let starts: Vec<u64> = self.starts.iter().map(|&start| start as u64).collect();
        let writers = &mut self.writers;
        write(writers, "by_id", 0, &by_id)?;
        write(writers, "ids", 0, &self.ids)?;
        write(writers, "held_out", 0, &held_out)?;
        write(writers, "starts", 0, &starts)?;
        write(writers, "axes", 0, &self.learnt.axes.axes)?;
        write(writers, "centroids", 0, &self.learnt.centroids)?;
        Ok(Done {
            hashes: self.hashes,
            by_id,
            writers: self.writers,
        })
    }
}

impl Done {
    /// For each row how many equal ones have lower ids.
    fn twins(&self, rows: Rows<'_, f32>) -> Vec<u32> {
        let mut twins = vec![0; self.by_id.len()];
        let hash = |&row: &u32| self.hashes[row as usize];
        let row = |&row: &u32| rows.row(row as usize);
        let mut order = self.by_id.clone();
        order.par_sort_by_key(hash);
        let groups = order.chunk_by(|x, y| hash(x) == hash(y));
        for same in groups.filter(|same| same.len() > 1) {
            // Others of the same hash, if there ever are, count as nobody's twins.
            let equal = same.iter().filter(|&other| row(other) == row(&same[0]));
            for (rank, &row) in (0..).zip(equal) {
                twins[row as usize] = rank;
            }
        }
        twins
    }
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
fn gather<V: Copy>(values: &[V], width: usize, rows: impl Iterator<Item = usize>) -> Vec<V> {
    rows.flat_map(|row| &values[row * width..][..width])
        .copied()
        .collect()
}
