//! The rows of an index by cell, in arrays that are never written to.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

use lshjoin_kernels::{Quantised, Rows};
use safetensors::tensor::Dtype;

use super::{
    array::{Array, Shape},
    directory::{Facts, Manifest},
};
use crate::{
    cells::CellStarts,
    directions::PrincipalAxes,
    error::{Error, Result},
    metric::Metric,
    plan::{JoinPlan, PartitionPlan},
    reach::{AxisCells, Neighborhood},
    run::Run,
    side::Side,
};

/// The arrays of an index, which are its files too.
///
/// - `axes` (axes, dim) and `centroids` (cells, axes): see [`Cells`]; of no rows where the metric
///   has no codes.
/// - `centre` (1, dim): what codes are counted from; of no rows where that is zero.
/// - `starts` (cells + 1): the first row of each cell, and the end of the last.
/// - `held_out`: rows that recall is measured by.
/// - `rows` (rows, dim), by cell; with one value more where inner products are searched.
/// - `codes` (rows, stride) and `known` (rows, 16): see [`Quantised::parts`].
/// - `squares`: squared norms, for the cosine.
/// - `ids`: of the user's; `by_id`: rows by rising id.
/// - `twins`: for each row how many equal ones have lower ids.
pub(crate) const ARRAYS: [&str; 12] = [
    "axes",
    "by_id",
    "centre",
    "centroids",
    "codes",
    "held_out",
    "ids",
    "known",
    "rows",
    "squares",
    "starts",
    "twins",
];

/// The arrays that are there only while an index is built.
///
/// - `cells`: that of each item, as they come; where building can be resumed.
/// - `hashes`: equal for equal rows; row by row.
pub(crate) const UNDER_WAY: [&str; 2] = ["cells", "hashes"];

/// Cells near a cell that are listed, which is as far as a query of it can look: a list of all for
/// each of 16384 would take up 2 GB.
const NEAR_CELLS: usize = 1024;

/// The shape of each array of an index.
pub(crate) struct Shapes {
    pub(crate) rows: usize,
    /// Values of a row as it is kept.
    pub(crate) width: usize,
    pub(crate) metric: Metric,
    pub(crate) axes: usize,
    /// One, or none where codes are counted from zero.
    pub(crate) centres: usize,
    pub(crate) cells: usize,
    pub(crate) held_out: usize,
}

impl Shapes {
    pub(crate) fn of(&self, name: &str) -> Shape {
        let coded = if has_codes(self.metric) { self.rows } else { 0 };
        match name {
            "axes" => Shape::new(Dtype::F32, &[self.axes, self.width]),
            "by_id" | "cells" | "twins" => Shape::new(Dtype::U32, &[self.rows]),
            "centre" => Shape::new(Dtype::F32, &[self.centres, self.width]),
            "centroids" => Shape::new(Dtype::F32, &[self.cells, self.axes]),
            "codes" => Shape::new(Dtype::I8, &[coded, Quantised::stride(self.width)]),
            "hashes" => Shape::new(Dtype::U64, &[self.rows]),
            "held_out" => Shape::new(Dtype::U32, &[self.held_out]),
            "ids" => Shape::new(Dtype::I64, &[self.rows]),
            "known" => Shape::new(Dtype::U8, &[coded, 16]),
            "rows" => Shape::new(Dtype::F32, &[self.rows, self.width]),
            "squares" if self.metric == Metric::Cosine => Shape::new(Dtype::F64, &[self.rows]),
            "squares" => Shape::new(Dtype::F64, &[0]),
            _ => Shape::new(Dtype::U64, &[self.cells + 1]),
        }
    }
}

/// Whether the metric has a filter on codes, so that cells are of use.
pub(crate) fn has_codes(metric: Metric) -> bool {
    metric != Metric::Manhattan
}

/// The metric by which rows are compared as they are kept.
pub(crate) fn compared_by(metric: Metric) -> Metric {
    match metric {
        Metric::InnerProduct => Metric::Euclidean,
        metric => metric,
    }
}

/// Values of a row as it is kept.
pub(crate) fn width(metric: Metric, dim: usize) -> usize {
    dim + usize::from(metric == Metric::InnerProduct)
}

/// Some rows of an index with all that was learnt from them.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    /// By which the cells were made.
    pub(crate) plan: PartitionPlan,
    arrays: BTreeMap<String, Array>,
    cells: OnceLock<Option<Arc<SegmentCells>>>,
}

/// The cells of a segment.
pub(crate) struct SegmentCells {
    axes: PrincipalAxes,
    centroids: Vec<f32>,
    pub(crate) table: CellStarts,
    pub(crate) neighbors: Vec<Neighborhood>,
}

impl std::fmt::Debug for SegmentCells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cells", self.table.len())
    }
}

impl SegmentCells {
    pub(crate) fn cells(&self) -> AxisCells {
        AxisCells::of_parts(self.axes.clone(), self.centroids.clone())
    }
}

/// What an index knows of a side's rows beside what a join has to.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a> {
    pub(crate) ids: &'a [i64],
    removed: &'a Removed,
    rows: &'a Array,
    twins: &'a [u32],
    /// Of equal rows, so many take part; any more would only be each other's neighbours, which is
    /// a matter of days where there are a million.
    most_twins: usize,
    /// The side's first row.
    first: usize,
}

impl Kept<'_> {
    pub(crate) fn takes_part(&self, number: u32) -> bool {
        (self.twins[number as usize] as usize) < self.most_twins
            && !self.removed.contains(self.first + number as usize)
    }

    /// # Errors
    /// When these rows, of so many values, are damaged.
    pub(crate) fn check(&self, rows: impl Iterator<Item = u32>, width: usize) -> Result<()> {
        let bytes = width * size_of::<f32>();
        for row in rows {
            let start = (self.first + row as usize) * bytes;
            self.rows.check(start..start + bytes)?;
        }
        Ok(())
    }
}

/// Rows of a segment that were removed since.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removed {
    /// A bit a row, up to the last that was removed.
    bits: Vec<u64>,
    count: usize,
}

impl Removed {
    pub(crate) fn contains(&self, row: usize) -> bool {
        let word = self.bits.get(row / 64);
        word.is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, row: usize) {
        if !self.contains(row) {
            let words = self.bits.len().max(row / 64 + 1);
            self.bits.resize(words, 0);
            self.bits[row / 64] |= 1 << (row % 64);
            self.count += 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }
}

/// The ids of a segment's rows, and the rows by rising id.
#[derive(Clone, Copy)]
pub(crate) struct ById<'a> {
    ids: &'a [i64],
    rows: &'a [u32],
}

impl ById<'_> {
    /// The row of an id.
    pub(crate) fn row(&self, id: i64) -> Option<usize> {
        let of = |row: &u32| self.ids.get(*row as usize).copied();
        let place = self.rows.binary_search_by_key(&Some(id), of);
        place.ok().map(|place| self.rows[place] as usize)
    }
}

impl Segment {
    pub(crate) fn new(
        metric: Metric,
        dim: usize,
        plan: PartitionPlan,
        arrays: BTreeMap<String, Array>,
    ) -> Self {
        Self {
            metric,
            dim,
            plan,
            arrays,
            cells: OnceLock::new(),
        }
    }

    /// Opens what was saved in a directory.
    ///
    /// # Errors
    /// When it is not there, or is not what was saved.
    pub(crate) fn open(directory: &Path, mapped: bool, run: &Run) -> Result<Self> {
        let manifest = Manifest::read(directory)?;
        let arrays = match manifest.open(directory, mapped) {
            // Saved anew in between, and the old files removed.
            Err(Error::Io { .. }) if Manifest::read(directory)? != manifest => {
                return Self::open(directory, mapped, run);
            }
            arrays => arrays?,
        };
        let segment = Self::of_arrays(directory, &manifest.facts, arrays)?;
        if !mapped {
            segment.check_all(run)?;
        }
        Ok(segment)
    }

    fn of_arrays(directory: &Path, facts: &Facts, arrays: BTreeMap<String, Array>) -> Result<Self> {
        let damaged = |what| Error::damaged(directory, what);
        let JoinPlan::Partitions(plan) = facts.plan else {
            return Err(damaged(
                "the manifest has a plan that is not one of partitions",
            ));
        };
        if !arrays.keys().map(String::as_str).eq(ARRAYS) {
            return Err(damaged("the manifest has other arrays than an index has"));
        }
        let metric: Metric = facts.metric.parse()?;
        let length = |name: &str| arrays[name].shape().shape.first().copied().unwrap_or(0);
        let shapes = Shapes {
            rows: facts.items,
            width: width(metric, facts.dim),
            metric,
            axes: length("axes"),
            centres: length("centre"),
            cells: length("centroids"),
            held_out: length("held_out"),
        };
        let shaped = |name: &&str| *arrays[*name].shape() == shapes.of(name);
        if shapes.centres > 1
            || facts.dim == 0
            || facts.items >= u32::MAX as usize
            || !ARRAYS.iter().all(shaped)
        {
            return Err(damaged("the manifest has arrays of shapes that do not fit"));
        }
        Ok(Self::new(metric, facts.dim, plan, arrays))
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts {
            items: self.len(),
            dim: self.dim,
            metric: self.metric.to_string(),
            plan: JoinPlan::Partitions(self.plan),
        }
    }

    pub(crate) fn array(&self, name: &str) -> &Array {
        // `ARRAYS` are all there.
        &self.arrays[name]
    }

    pub(crate) fn len(&self) -> usize {
        self.array("ids").shape().shape[0]
    }

    /// Values of a row as it is kept.
    pub(crate) fn width(&self) -> usize {
        width(self.metric, self.dim)
    }

    /// # Errors
    /// When any byte is not what was saved, or the run is cancelled.
    pub(crate) fn check_all(&self, run: &Run) -> Result<()> {
        self.arrays
            .values()
            .try_for_each(|array| array.check_all(run))
    }

    /// Asked before the first answer: all is checked but the rows, which are when they are read.
    fn check_small(&self, run: &Run) -> Result<()> {
        let mut small = self.arrays.iter().filter(|(name, _)| *name != "rows");
        small.try_for_each(|(_, array)| array.check_all(run))
    }

    /// The user's ids, row by row.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn ids(&self, run: &Run) -> Result<&[i64]> {
        self.array("ids").check_all(run)?;
        Ok(self.array("ids").values())
    }

    /// To look ids up in.
    ///
    /// # Errors
    /// When ids are damaged.
    pub(crate) fn by_id(&self, run: &Run) -> Result<ById<'_>> {
        let rows = self.array("by_id");
        rows.check_all(run)?;
        Ok(ById {
            ids: self.ids(run)?,
            rows: rows.values(),
        })
    }

    /// The cells, where the metric has any use for them.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn cells(&self, run: &Run) -> Result<Option<Arc<SegmentCells>>> {
        if let Some(cells) = self.cells.get() {
            return Ok(cells.clone());
        }
        self.check_small(run)?;
        let cells = self.learnt_cells()?;
        Ok(self.cells.get_or_init(|| cells).clone())
    }

    fn learnt_cells(&self) -> Result<Option<Arc<SegmentCells>>> {
        let centroids: &[f32] = self.array("centroids").values();
        if centroids.is_empty() {
            return Ok(None);
        }
        let axes: &[f32] = self.array("axes").values();
        let starts: &[u64] = self.array("starts").values();
        let ends = (starts.first(), starts.last());
        if ends != (Some(&0), Some(&(self.len() as u64))) || !starts.is_sorted() {
            return Err(self
                .array("starts")
                .damaged("cells don't follow one another"));
        }
        let mut cells = SegmentCells {
            axes: PrincipalAxes::of_parts(axes.to_vec(), self.width()),
            centroids: centroids.to_vec(),
            table: CellStarts::of_starts(starts.iter().map(|&start| start as usize).collect()),
            neighbors: Vec::new(),
        };
        cells.neighbors = cells.cells().neighbors(&cells.table, NEAR_CELLS);
        Ok(Some(Arc::new(cells)))
    }

    /// The rows that recall is measured by.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn held_out(&self, run: &Run) -> Result<Vec<u32>> {
        let array = self.array("held_out");
        array.check_all(run)?;
        let rows: &[u32] = array.values();
        if rows.iter().any(|&row| row as usize >= self.len()) {
            return Err(array.damaged("it names a row that is not there"));
        }
        Ok(rows.to_vec())
    }

    /// All rows, to find the `k` nearest among.
    ///
    /// # Errors
    /// When something is damaged.
    pub(crate) fn nearest_of<'a>(
        &'a self,
        removed: &'a Removed,
        k: usize,
        run: &Run,
    ) -> Result<Side<'a, f32>> {
        // Those that were removed may be just the ones of the lowest ids.
        let most_twins = k.saturating_add(removed.len());
        self.side(&(0..self.len()), removed, most_twins, run)
    }

    /// Rows `range` as one side of a join.
    ///
    /// # Errors
    /// When something is damaged.
    pub(crate) fn side<'a>(
        &'a self,
        range: &Range<usize>,
        removed: &'a Removed,
        most_twins: usize,
        run: &Run,
    ) -> Result<Side<'a, f32>> {
        self.check_small(run)?;
        let (width, stride) = (self.width(), Quantised::stride(self.width()));
        let rows = Rows::new(self.array("rows").values(), width)?.slice(range.clone());
        let codes: &[i8] = self.array("codes").values();
        let known: &[u8] = self.array("known").values();
        let codes = match has_codes(self.metric) {
            false => None,
            true => Some(Quantised::from_parts(
                width,
                &codes[range.start * stride..range.end * stride],
                &known[range.start * 16..range.end * 16],
            )?),
        };
        let centre: &[f32] = self.array("centre").values();
        let centre = (!centre.is_empty()).then_some(centre);
        let squares: &[f64] = self.array("squares").values();
        let kept = Kept {
            ids: &self.array("ids").values()[range.clone()],
            removed,
            rows: self.array("rows"),
            twins: &self.array("twins").values()[range.clone()],
            most_twins,
            first: range.start,
        };
        let squares = squares.get(range.clone()).unwrap_or_default();
        let metric = compared_by(self.metric);
        Ok(Side::of_index(rows, metric, (codes, centre), squares, kept))
    }
}
