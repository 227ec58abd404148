//! The rows of an index by list, in arrays that are never written to.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

use lshjoin_kernels::{CommonScale, Quantised, Rows, memory};

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
        metric::Metric,
        plan::{JoinPlan, PartitionPlan},
    },
    index::{deletions::DeletionBitmap, ids::ById, lists::SegmentLists},
    ivf::{
        coarse_quantiser::{CoarseQuantiser, QuantiserParts},
        list_offsets::ListOffsets,
    },
    storage::{
        array::Array,
        layout::{ARRAYS, Shapes, check_numbers, has_codes, width},
        manifest::{IndexMetadata, Manifest},
    },
    vectors::{Vectors, row_source::RowSource},
};

/// How an out-of-memory error names them.
const LISTS: &str = "the lists of an index";

/// Some rows of an index with all that was learnt from them.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    /// The plan by which the lists were made.
    pub(crate) plan: PartitionPlan,
    pub(crate) arrays: BTreeMap<String, Array>,
    /// Set once everything but the rows was found sound; from the beginning, if it was made here.
    pub(crate) sound: OnceLock<()>,
    lists: OnceLock<Option<Arc<SegmentLists>>>,
}

/// What a segment knows of some of its rows, beside what a join needs of any.
#[derive(Clone, Copy)]
struct SegmentRows<'a> {
    pub(crate) ids: &'a [i64],
    removed: &'a DeletionBitmap,
    rows: &'a Array,
    duplicate_ranks: &'a [u32],
    /// Of equal rows, so many take part. More would only be found by each other, which takes days
    /// where there are a million.
    most_duplicates: usize,
    /// The first of these rows in the segment.
    first: usize,
}

impl RowSource for SegmentRows<'_> {
    fn user_id(&self, id: u32) -> i64 {
        self.ids[id as usize]
    }

    fn takes_part(&self, id: u32) -> bool {
        (self.duplicate_ranks[id as usize] as usize) < self.most_duplicates
            && !self.removed.contains(self.first + id as usize)
    }

    fn check(&self, row: u32, width: usize) -> Result<()> {
        let bytes = width * size_of::<f32>();
        let start = (self.first + row as usize) * bytes;
        self.rows.check(start..start + bytes)
    }
}

/// The metric and the plan of an index, once it is known that all arrays in its manifest have the
/// shapes that follow from them. Nothing is read before that, nor any memory taken.
///
/// # Errors
/// When no index is like that.
fn checked(directory: &Path, manifest: &Manifest) -> Result<(Metric, PartitionPlan)> {
    let damaged = |what: &str| Manifest::damaged(directory, what);
    let wrong = |error: Error| damaged(&error.to_string());
    let (metadata, arrays) = (&manifest.metadata, &manifest.arrays);
    let JoinPlan::Partitions(plan) = metadata.plan else {
        return Err(damaged("it has a plan that is not one of partitions"));
    };
    check_numbers(metadata.items, metadata.dim, plan).map_err(wrong)?;
    let metric: Metric = metadata.metric.parse().map_err(wrong)?;
    if !arrays.keys().map(String::as_str).eq(ARRAYS) {
        return Err(damaged("it has other arrays than those of an index"));
    }
    let shapes = Shapes {
        rows: metadata.items,
        width: width(metric, metadata.dim),
        metric,
        groups: arrays["groups"].shape().length(),
        centres: arrays["centre"].shape().length(),
        lists: arrays["centroids"].shape().length(),
        ground_truth: arrays["held_out"].shape().length(),
    };
    let shaped = |name: &&str| arrays[*name].shape() == shapes.of(name);
    if !shapes.is_possible(&plan) || !ARRAYS.iter().all(shaped) {
        return Err(damaged(
            "it has arrays of shapes that do not fit its metadata",
        ));
    }
    Ok((metric, plan))
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
            lists: OnceLock::new(),
        }
    }

    /// Opens what was saved in a directory.
    ///
    /// # Errors
    /// When it is not there, or is not what was saved.
    pub(crate) fn open(directory: &Path, mapped: bool, ctx: &Context) -> Result<Self> {
        let (manifest, (metric, plan), arrays) =
            Manifest::opened(directory, mapped, ctx, |manifest| {
                checked(directory, manifest)
            })?;
        let segment = Self {
            sound: OnceLock::new(),
            ..Self::new(metric, manifest.metadata.dim, plan, arrays)
        };
        if !mapped {
            segment.verify(ctx)?;
        }
        Ok(segment)
    }

    pub(crate) fn metadata(&self) -> IndexMetadata {
        IndexMetadata {
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

    /// Values of a stored row.
    pub(crate) fn width(&self) -> usize {
        width(self.metric, self.dim)
    }

    /// What is subtracted from rows before they are coded, if anything; unchecked.
    pub(crate) fn centre(&self) -> Option<&[f32]> {
        let centre: &[f32] = self.array("centre").values();
        (!centre.is_empty()).then_some(centre)
    }

    /// The codes of these rows, where the metric has any use for them; unchecked.
    pub(crate) fn codes(&self, rows: &Range<usize>) -> Result<Option<Quantised<'_>>> {
        if !has_codes(self.metric) {
            return Ok(None);
        }
        let (stride, of_row) = (Quantised::stride(self.width()), Quantised::KNOWN);
        let codes = &self.array("codes").values()[rows.start * stride..rows.end * stride];
        let known = &self.array("known").values()[rows.start * of_row..rows.end * of_row];
        Ok(Some(Quantised::from_parts(self.width(), codes, known)?))
    }

    /// The user's id of each row.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn ids(&self, ctx: &Context) -> Result<&[i64]> {
        self.array("ids").check_all(ctx)?;
        Ok(self.array("ids").values())
    }

    /// Where rows are looked up by id.
    ///
    /// # Errors
    /// When ids are damaged.
    pub(crate) fn by_id(&self, ctx: &Context) -> Result<ById<'_>> {
        self.check_small(ctx)?;
        Ok(ById {
            ids: self.array("ids").values(),
            rows: self.array("by_id").values(),
        })
    }

    /// The lists, where the metric has any use for them.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn lists(&self, ctx: &Context) -> Result<Option<Arc<SegmentLists>>> {
        if let Some(lists) = self.lists.get() {
            return Ok(lists.clone());
        }
        self.check_small(ctx)?;
        let lists = self.learnt_lists(ctx)?;
        Ok(self.lists.get_or_init(|| lists).clone())
    }

    fn learnt_lists(&self, ctx: &Context) -> Result<Option<Arc<SegmentLists>>> {
        let centroids: &[f32] = self.array("centroids").values();
        if centroids.is_empty() {
            return Ok(None);
        }
        let groups: &[f32] = self.array("groups").values();
        let group_starts: &[u64] = self.array("group_starts").values();
        let parts = QuantiserParts {
            groups: memory::copied(groups, LISTS)?,
            lists: memory::copied(centroids, LISTS)?,
            starts: memory::copied(group_starts, LISTS)?,
        };
        let quantiser = CoarseQuantiser::of_parts(parts, self.width(), ctx)?;
        let starts: &[u64] = self.array("starts").values();
        let starts = starts.iter().map(|&start| start as usize);
        let starts = ListOffsets::of_starts(memory::collect(starts, LISTS)?);
        let codes = self.codes(&(0..self.len()))?;
        let held_out: &[u32] = self.array("held_out").values();
        let scales = held_out.iter();
        let scales = scales.filter_map(|&row| codes.as_ref()?.scale(row as usize));
        // Those of longer rows are larger by powers of two.
        let scale = scales.fold(f32::INFINITY, f32::min);
        let scale = CommonScale::from_bits(scale.to_bits());
        Ok(Some(Arc::new(SegmentLists::new(quantiser, starts, scale))))
    }

    /// The held-out rows, by which it is chosen how far to probe.
    ///
    /// # Errors
    /// When they are damaged.
    pub(crate) fn ground_truth(&self, ctx: &Context) -> Result<Vec<u32>> {
        self.check_small(ctx)?;
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
        removed: &'a DeletionBitmap,
        k: usize,
        ctx: &Context,
    ) -> Result<Vectors<'a, f32>> {
        // As many more as were removed: these may be just the ones of the lowest ids.
        let most_duplicates = k.saturating_add(removed.len());
        self.side(&(0..self.len()), removed, most_duplicates, ctx)
    }

    /// The rows of `range` as one side of a join.
    ///
    /// # Errors
    /// When something is damaged.
    pub(crate) fn side<'a>(
        &'a self,
        range: &Range<usize>,
        removed: &'a DeletionBitmap,
        most_duplicates: usize,
        ctx: &Context,
    ) -> Result<Vectors<'a, f32>> {
        self.check_small(ctx)?;
        let rows = Rows::new(self.array("rows").values(), self.width())?.slice(range.clone());
        let codes = self.codes(range)?;
        let centre = self.centre();
        let norms: &[f64] = self.array("norms").values();
        let kept = SegmentRows {
            ids: &self.array("ids").values()[range.clone()],
            removed,
            rows: self.array("rows"),
            duplicate_ranks: &self.array("duplicate_ranks").values()[range.clone()],
            most_duplicates,
            first: range.start,
        };
        let norms = norms.get(range.clone()).unwrap_or_default();
        Ok(Vectors::of_index(
            rows,
            self.metric,
            (codes, centre),
            norms,
            kept,
        ))
    }
}
