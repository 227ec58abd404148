//! The rows of an index by cell, in arrays that are never written to.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

use lshjoin_kernels::{Quantised, Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{
        context::Run,
        error::{Error, Result},
        magnitude,
        metric::Metric,
        plan::{JoinPlan, PartitionPlan},
    },
    index::builder::{check_numbers, twins},
    ivf::{
        axis_quantiser::{AxisCells, Neighborhood},
        list_offsets::CellStarts,
    },
    storage::{
        array::Array,
        directory::{Facts, Manifest},
        layout::{ARRAYS, Shapes, has_codes, has_norms, width},
    },
    vectors::{
        duplicates::hash,
        norms::{directions, norm_error, norms_of},
        principal_axes::PrincipalAxes,
        row_source::RowSource,
        vectors::Side,
    },
};

/// What memory is asked for.
const CELLS: &str = "the cells of an index";

/// Cells near a cell that are listed, which is as far as a query of it can look: a list of all for
/// each of 16384 would take up 2 GB.
const NEAR_CELLS: usize = 1024;

/// Rows that are looked at between two looks at whether to go on.
const LOOKED_AT: usize = 1 << 14;

/// No value of an axis, whose norm is 1 but for rounding, is above this.
const UNIT: f32 = 1.001;

/// No norm of a row that is kept is above this, however long the row is.
const LONGEST: f64 = 1e45;

/// Some rows of an index with all that was learnt from them.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    /// By which the cells were made.
    pub(crate) plan: PartitionPlan,
    arrays: BTreeMap<String, Array>,
    /// Whether all but the rows was found sound, or made here.
    sound: OnceLock<()>,
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

impl RowSource for Kept<'_> {
    fn id(&self, number: u32) -> i64 {
        self.ids[number as usize]
    }

    fn takes_part(&self, number: u32) -> bool {
        (self.twins[number as usize] as usize) < self.most_twins
            && !self.removed.contains(self.first + number as usize)
    }

    fn check(&self, row: u32, width: usize) -> Result<()> {
        let bytes = width * size_of::<f32>();
        let start = (self.first + row as usize) * bytes;
        self.rows.check(start..start + bytes)
    }
}

/// The metric and the plan of an index, whose manifest gives all arrays the shapes that follow from
/// them: nothing is read, nor any memory taken, before that is known.
///
/// # Errors
/// When no index is like that.
fn checked(directory: &Path, manifest: &Manifest) -> Result<(Metric, PartitionPlan)> {
    let damaged = |what: &str| Manifest::damaged(directory, what);
    let wrong = |error: Error| damaged(&error.to_string());
    let (facts, arrays) = (&manifest.facts, &manifest.arrays);
    let JoinPlan::Partitions(plan) = facts.plan else {
        return Err(damaged("it has a plan that is not one of partitions"));
    };
    check_numbers(facts.items, facts.dim, plan).map_err(wrong)?;
    let metric: Metric = facts.metric.parse().map_err(wrong)?;
    if !arrays.keys().map(String::as_str).eq(ARRAYS) {
        return Err(damaged("it has other arrays than those of an index"));
    }
    let shapes = Shapes {
        rows: facts.items,
        width: width(metric, facts.dim),
        metric,
        axes: arrays["axes"].shape().length(),
        centres: arrays["centre"].shape().length(),
        cells: arrays["centroids"].shape().length(),
        held_out: arrays["held_out"].shape().length(),
    };
    let shaped = |name: &&str| arrays[*name].shape() == shapes.of(name);
    if !shapes.is_possible(&plan) || !ARRAYS.iter().all(shaped) {
        return Err(damaged("it has arrays of shapes that do not fit its facts"));
    }
    Ok((metric, plan))
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
            sound: OnceLock::from(()),
            cells: OnceLock::new(),
        }
    }

    /// Opens what was saved in a directory.
    ///
    /// # Errors
    /// When it is not there, or is not what was saved.
    pub(crate) fn open(directory: &Path, mapped: bool, run: &Run) -> Result<Self> {
        let manifest = Manifest::read(directory)?;
        let (metric, plan) = checked(directory, &manifest)?;
        let arrays = match manifest.open(directory, mapped, run) {
            // Saved anew in between, and the old files removed.
            Err(Error::Io { .. }) if Manifest::read(directory)? != manifest => {
                return Self::open(directory, mapped, run);
            }
            arrays => arrays?,
        };
        let segment = Self {
            sound: OnceLock::new(),
            ..Self::new(metric, manifest.facts.dim, plan, arrays)
        };
        if !mapped {
            segment.verify(run)?;
        }
        Ok(segment)
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
    /// Not only that it is what was saved: whoever saved it may have meant harm, and nothing may
    /// then be read out of bounds or without end.
    fn check_small(&self, run: &Run) -> Result<()> {
        if self.sound.get().is_some() {
            return Ok(());
        }
        let mut small = self.arrays.iter().filter(|(name, _)| *name != "rows");
        small.try_for_each(|(_, array)| array.check_all(run))?;
        let items = self.len();
        let starts: &[u64] = self.array("starts").values();
        let ends = (starts.first(), starts.last());
        let end = if starts.len() > 1 { items as u64 } else { 0 };
        if ends != (Some(&0), Some(&end)) || !starts.is_sorted() {
            let starts = self.array("starts");
            return Err(starts.damaged("cells don't follow one another"));
        }
        for name in ["by_id", "held_out"] {
            let rows: &[u32] = self.array(name).values();
            if let Some(row) = rows.iter().find(|&&row| row as usize >= items) {
                let problem = format!("it names row {row} of {items}");
                return Err(self.array(name).damaged(&problem));
            }
        }
        // Each once, then: no id comes twice, and no row.
        let (by_id, ids) = (self.array("by_id"), self.array("ids").values::<i64>());
        let id = |row: &u32| ids[*row as usize];
        let rising = |pair: &[u32]| id(&pair[0]) < id(&pair[1]);
        if !by_id.values::<u32>().par_windows(2).all(rising) {
            return Err(by_id.damaged("ids don't rise, or one comes twice"));
        }
        let axes: &[f32] = self.array("axes").values();
        if axes.iter().any(|value| value.abs() > UNIT) {
            return Err(self.array("axes").damaged("an axis is longer than 1"));
        }
        if let Ok(centroids) = Rows::new(
            self.array("centroids").values::<f32>(),
            self.array("axes").shape().length(),
        ) {
            let checked = magnitude::check("centroids", centroids, Metric::Euclidean, run);
            checked.map_err(|error| self.damaged("centroids", error))?;
        }
        let norms: &[f64] = self.array("norms").values();
        let mut norms = norms.iter().zip(0..);
        if let Some((norm, row)) = norms.find(|(norm, _)| !(0.0..=LONGEST).contains(*norm)) {
            let problem = format!("the norm of row {row} is {norm}");
            return Err(self.array("norms").damaged(&problem));
        }
        // Rows less the centre are numbers, too.
        let is_near = |middle: &f32| middle.abs() <= f32::MAX / 4.0;
        let mut middles = self.centre().into_iter().flatten();
        if let Some(middle) = middles.find(|middle| !is_near(middle)) {
            let problem = format!("it holds {middle:e}, far from all rows");
            return Err(self.array("centre").damaged(&problem));
        }
        if let Some(codes) = self.codes(&(0..items))? {
            for start in (0..items).step_by(LOOKED_AT) {
                run.check()?;
                if let Some(row) = codes.unsound(start..items.min(start + LOOKED_AT)) {
                    let problem = format!("what it says of row {row} is true of no codes");
                    return Err(self.array("known").damaged(&problem));
                }
            }
        }
        let _ = self.sound.set(());
        Ok(())
    }

    /// Checks all, and that what was learnt from rows was learnt from these: then answers are
    /// those of the rows.
    ///
    /// # Errors
    /// When anything is not what was saved, or was not learnt from these rows, or the run is
    /// cancelled.
    pub(crate) fn verify(&self, run: &Run) -> Result<()> {
        self.check_all(run)?;
        self.check_small(run)?;
        let (items, width) = (self.len(), self.width());
        let rows: Rows<'_, f32> = Rows::new(self.array("rows").values(), width)?;
        let norms: &[f64] = self.array("norms").values();
        let codes = self.codes(&(0..items))?;
        let other = |name: &str, row: usize| {
            let problem = format!("it was not made of row {row}");
            Err(self.array(name).damaged(&problem))
        };
        let mut hashes = memory::empty(items, "hashes of rows")?;
        for start in (0..items).step_by(LOOKED_AT) {
            run.check()?;
            let range = start..items.min(start + LOOKED_AT);
            let part = rows.slice(range.clone());
            if self.metric != Metric::InnerProduct {
                let checked = magnitude::check("items", part, self.metric, run);
                checked.map_err(|error| self.damaged("rows", error.after(start)))?;
            }
            hashes.extend((0..part.len()).map(|row| hash(&part.row(row)[..self.dim])));
            let mut coded = Cow::Borrowed(part.values());
            if has_norms(self.metric) {
                let (own, kept) = (norms_of(part, run)?, &norms[range.clone()]);
                // Augmented rows all have the same norm, but for rounding.
                let (common, error) = match self.metric {
                    Metric::InnerProduct => (Some(norms[0]), norm_error::<f32>(width)),
                    _ => (None, 0.0),
                };
                let same = |(own, kept): (&f64, &f64)| {
                    common.is_none_or(|common| common == *kept)
                        && (own - kept).abs() <= kept * error
                };
                if let Some(row) = own.iter().zip(kept).position(|pair| !same(pair)) {
                    return other("norms", start + row);
                }
                if self.metric == Metric::Cosine {
                    let mut directions = directions(part, kept)?;
                    // Nothing may be known of rows without one: so far are their codes from it.
                    let rows = directions.chunks_mut(width);
                    let zeros = rows.filter(|row| row.iter().all(|&value| value == 0.0));
                    zeros.for_each(|row| row.fill(f32::MAX));
                    coded = directions.into();
                }
            }
            if let Some(codes) = &codes {
                let coded = Rows::new(&coded, width)?;
                if let Some(row) = codes.slice(range).uncovered(coded, self.centre())? {
                    return other("codes", start + row);
                }
            }
        }
        let kept: &[u32] = self.array("twins").values();
        let own = twins(self.array("by_id").values(), &hashes, rows)?;
        match own.iter().zip(kept).position(|(own, kept)| own != kept) {
            Some(row) => other("twins", row),
            None => Ok(()),
        }
    }

    /// What is wrong with the values of an array, unless the run was cancelled.
    fn damaged(&self, name: &str, error: Error) -> Error {
        match error {
            Error::Cancelled => error,
            error => self.array(name).damaged(&error.to_string()),
        }
    }

    /// What codes are counted from, if not from zero; without a check.
    fn centre(&self) -> Option<&[f32]> {
        let centre: &[f32] = self.array("centre").values();
        (!centre.is_empty()).then_some(centre)
    }

    /// The codes of these rows, where the metric has any use for them; without a check.
    fn codes(&self, rows: &Range<usize>) -> Result<Option<Quantised<'_>>> {
        if !has_codes(self.metric) {
            return Ok(None);
        }
        let (stride, of_row) = (Quantised::stride(self.width()), Quantised::KNOWN);
        let codes = &self.array("codes").values()[rows.start * stride..rows.end * stride];
        let known = &self.array("known").values()[rows.start * of_row..rows.end * of_row];
        Ok(Some(Quantised::from_parts(self.width(), codes, known)?))
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
        self.check_small(run)?;
        Ok(ById {
            ids: self.array("ids").values(),
            rows: self.array("by_id").values(),
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
        let cells = self.learnt_cells(run)?;
        Ok(self.cells.get_or_init(|| cells).clone())
    }

    fn learnt_cells(&self, run: &Run) -> Result<Option<Arc<SegmentCells>>> {
        let centroids: &[f32] = self.array("centroids").values();
        if centroids.is_empty() {
            return Ok(None);
        }
        let axes: &[f32] = self.array("axes").values();
        let starts: &[u64] = self.array("starts").values();
        let mut cells = SegmentCells {
            axes: PrincipalAxes::of_parts(memory::copied(axes, CELLS)?, self.width()),
            centroids: memory::copied(centroids, CELLS)?,
            table: CellStarts::of_starts(memory::collect(
                starts.iter().map(|&start| start as usize),
                CELLS,
            )?),
            neighbors: Vec::new(),
        };
        cells.neighbors = cells.cells().neighbors(&cells.table, NEAR_CELLS, run)?;
        Ok(Some(Arc::new(cells)))
    }

    /// The rows that recall is measured by.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn held_out(&self, run: &Run) -> Result<Vec<u32>> {
        self.check_small(run)?;
        Ok(memory::copied(
            self.array("held_out").values(),
            "held-out rows",
        )?)
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
        let rows = Rows::new(self.array("rows").values(), self.width())?.slice(range.clone());
        let codes = self.codes(range)?;
        let centre = self.centre();
        let norms: &[f64] = self.array("norms").values();
        let kept = Kept {
            ids: &self.array("ids").values()[range.clone()],
            removed,
            rows: self.array("rows"),
            twins: &self.array("twins").values()[range.clone()],
            most_twins,
            first: range.start,
        };
        let norms = norms.get(range.clone()).unwrap_or_default();
        Ok(Side::of_index(
            rows,
            self.metric,
            (codes, centre),
            norms,
            kept,
        ))
    }
}
