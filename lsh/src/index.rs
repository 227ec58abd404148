//! Items made ready for joins to come: kept in memory or on disk, added to and removed from. Uses
//! [`join`](crate::join) and what is below it; begin with [`segment`] for what is stored,
//! [`search`] for how queries are joined with it.

pub(crate) mod added;
pub(crate) mod added_lists;
pub(crate) mod apart;
pub(crate) mod as_plan;
pub(crate) mod binary;
pub(crate) mod builder;
pub(crate) mod changes;
pub(crate) mod checkpoint;
pub(crate) mod deletions;
pub(crate) mod file_join;
pub(crate) mod ids;
pub(crate) mod keys;
pub(crate) mod learn;
pub(crate) mod lists;
pub(crate) mod radius;
pub(crate) mod search;
pub(crate) mod segment;
pub(crate) mod self_join;
pub(crate) mod verify;
pub(crate) mod write;

use std::{path::Path, sync::Arc};

use lshjoin_kernels::{Rows, memory};

use crate::{
    base::{
        ROW_NUMBERS,
        check::{check_dimension, check_recall},
        context::Context,
        error::Result,
        magnitude,
        metric::Metric,
        plan::{JoinPlan, PartitionPlan},
    },
    index::{
        builder::IndexBuilder, changes::Changes, ids::check_count, keys::KeysApart,
        segment::Segment,
    },
    storage::{array::Array, directory::Directory, layout::ARRAYS, manifest::IndexMetadata},
};

/// Up to so many pairs of a query and an item, a search compares them all.
const FEW_PAIRS: f64 = 1e5;

/// Bytes that are copied at a time to another index's files.
const COPIED: usize = 16 << 20;

/// Rows that are gathered at a time to be written to an index.
pub(crate) const REWRITTEN: usize = 1 << 16;

/// Items to join queries with, again and again: by list, with their 8-bit codes, under the user's
/// ids.
///
/// Saved, an index is a directory: a manifest and safetensors files, which are mapped when it is
/// opened again, so that opening takes no longer for large ones. What is read from a file is
/// checked first against the checksums in the manifest.
///
/// A clone shares the items.
///
/// ```
/// use lshjoin::{Index, JoinPlan, Metric, Rows, Context};
///
/// let ctx = Context::new()?;
/// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
/// let mut index = Index::build(items, &[10, 11, 12], Metric::Euclidean, None, 0, &ctx)?;
/// index.add(Rows::new(&[6.0], 1)?, &[13], &ctx)?;
/// index.remove(&[12], &ctx)?;
/// let near = index.knn(Rows::new(&[5.0], 1)?, 2, &JoinPlan::Exact, &ctx)?;
/// assert_eq!((near.indices, near.distances), (vec![13, 11], vec![1.0, 4.0]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Index {
    pub(crate) segment: Arc<Segment>,
    pub(crate) changes: Changes<f32>,
    /// By which rows are kept apart, where they are.
    pub(crate) apart: Option<KeysApart>,
}

/// What an index tells of itself.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IndexInfo {
    /// Items that were written by list.
    pub items: usize,
    /// Of these, how many were removed since.
    pub removed: usize,
    /// Items that were added since.
    pub added: usize,
    /// Values of an item.
    pub dim: usize,
    /// What "near" means.
    pub metric: Metric,
    /// The plan by which the lists were made.
    pub plan: PartitionPlan,
}

impl Index {
    pub(crate) fn of(segment: Segment) -> Self {
        Self {
            changes: Changes::none(segment.dim),
            segment: segment.into(),
            apart: None,
        }
    }

    /// An index of these items, in memory; `plan` and `seed` as for [`IndexBuilder::new`].
    ///
    /// # Errors
    /// When there are not as many ids as items, an id comes twice, a row holds NaN or infinity,
    /// the plan is out of range, or the run is cancelled.
    pub fn build(
        items: Rows<'_, f32>,
        ids: &[i64],
        metric: Metric,
        plan: Option<PartitionPlan>,
        seed: u64,
        ctx: &Context,
    ) -> Result<Self> {
        let mut builder = IndexBuilder::new(items.len(), items.dim(), metric, plan, seed, None)?;
        for _ in 0..builder.passes() {
            builder.push(items, ids, ctx)?;
        }
        builder.finish(ctx)
    }

    /// Opens what was saved in a directory: mapped, or read into memory.
    ///
    /// Mapped, it is checked as it is read: the manifest and all sizes now, codes and ids before
    /// the first answer, and each megabyte of the items before anything in it is made use of. In
    /// memory, it is checked now, as by [`Index::verify`].
    ///
    /// Whoever it comes from, it can't make this crash, hang, or read or write elsewhere. Whether
    /// its answers are those of its rows, [`Index::verify`] tells.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it can't be read,
    /// [`Error::Damaged`](crate::Error::Damaged) when it is not what was saved, no index can be like
    /// that, or it is of a later version.
    pub fn open(path: &Path, mapped: bool, ctx: &Context) -> Result<Self> {
        Ok(Self::of(Segment::open(path, mapped, ctx)?))
    }

    /// Saves to a directory, in place of any index that is there: what was removed is left out, and
    /// what was added is put into lists, which are made anew for that.
    ///
    /// However it ends, by a kill or a full disk too, the directory has the old index or the new
    /// one. An index that is mapped from there stays as it is.
    ///
    /// # Errors
    /// When the directory holds anything but an index or can't be written to, the index is
    /// damaged, or the run is cancelled.
    pub fn save(&self, path: &Path, ctx: &Context) -> Result<()> {
        if !self.is_changed() {
            return self.copy(path, ctx);
        }
        let (segment, changes) = (&self.segment, &self.changes);
        let mut plan = segment.plan;
        if plan == builder::default_plan(segment.len(), plan.seed) {
            plan = builder::default_plan(self.len(), plan.seed);
        }
        let (items, dim, metric) = (self.len(), segment.dim, segment.metric);
        let mut builder = IndexBuilder::new(items, dim, metric, Some(plan), plan.seed, Some(path))?;
        let ids = segment.ids(ctx)?;
        let rows = segment.array("rows");
        let width = segment.width();
        for _ in 0..builder.passes() {
            for start in (0..segment.len()).step_by(REWRITTEN) {
                let range = start..segment.len().min(start + REWRITTEN);
                rows.check(range.start * width * 4..range.end * width * 4)?;
                let all: Rows<'_, f32> = Rows::new(rows.values(), width)?;
                let kept = range.filter(|&row| !changes.removed.contains(row));
                let kept = memory::collect(kept, ROW_NUMBERS)?;
                let values = as_given(all, kept.iter().copied(), dim)?;
                let ids = memory::collect(kept.iter().map(|&row| ids[row]), ROW_NUMBERS)?;
                builder.push(Rows::new(&values, dim)?, &ids, ctx)?;
            }
            let (ids, values) = changes.added.rows()?;
            builder.push(Rows::new(&values, dim)?, &ids, ctx)?;
        }
        builder.finish(ctx)?;
        Ok(())
    }

    /// Saves an index that was not changed: copies its arrays.
    fn copy(&self, path: &Path, ctx: &Context) -> Result<()> {
        let segment = &self.segment;
        segment.check_all(ctx)?;
        let arrays = ARRAYS.map(|name| (name, segment.array(name)));
        copy(&arrays, segment.metadata(), path, ctx)
    }

    /// Checks every byte, and that what was learnt from rows was learnt from these: an index of
    /// unknown origin then answers as one that is built of its rows.
    ///
    /// # Errors
    /// [`Error::Damaged`](crate::Error::Damaged) when one is not what was saved, or what was saved is no
    /// index of these rows; or when the run is cancelled.
    pub fn verify(&self, ctx: &Context) -> Result<()> {
        self.segment.verify(ctx)
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.changes.items(self.segment.len())
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known without reading the items.
    pub fn info(&self) -> IndexInfo {
        IndexInfo {
            items: self.segment.len(),
            removed: self.changes.removed.len(),
            added: self.changes.added.len(),
            dim: self.segment.dim,
            metric: self.segment.metric,
            plan: self.segment.plan,
        }
    }

    /// Whether anything was added or removed since the index was built or opened.
    pub(crate) fn is_changed(&self) -> bool {
        self.changes.are_some()
    }

    /// Adds items: a few are compared with every query, more go to their lists with the next search.
    ///
    /// # Errors
    /// When there are not as many ids as items, an id is there already or comes twice, dimensions
    /// differ, or a row holds NaN or infinity. Nothing is added then.
    pub fn add(&mut self, items: Rows<'_, f32>, ids: &[i64], ctx: &Context) -> Result<()> {
        check_dimension("items", items, self.segment.dim)?;
        check_count(ids, items)?;
        magnitude::check("items", items, self.segment.metric, ctx)?;
        let by_id = self.segment.by_id(ctx)?;
        self.changes
            .add(ids, |row| items.row(row), |id| by_id.row(id), ctx)
    }

    /// Removes the items of these ids.
    ///
    /// # Errors
    /// When an id is not there or comes twice. Nothing is removed then.
    pub fn remove(&mut self, ids: &[i64], ctx: &Context) -> Result<()> {
        let by_id = self.segment.by_id(ctx)?;
        self.changes.remove(ids, |id| by_id.row(id), ctx)
    }

    /// The plan of a search for `recall` of the neighbours of so many queries.
    ///
    /// # Errors
    /// When `recall` is not above 0 and at most 1.
    pub fn plan(&self, recall: f64, queries: usize) -> Result<JoinPlan> {
        check_recall("recall", recall)?;
        if recall == 1.0 || queries as f64 * self.len() as f64 <= FEW_PAIRS {
            return Ok(JoinPlan::Exact);
        }
        Ok(JoinPlan::Partitions(self.segment.plan.until_recall(recall)))
    }
}

impl IndexBuilder {
    /// The index; in its directory, if it was given one, from which it is mapped.
    ///
    /// # Errors
    /// When not all items have come in each pass, a file can't be written, or the run is
    /// cancelled: a directory then has the index that it had before.
    pub fn finish(self, ctx: &Context) -> Result<Index> {
        Ok(Index::of(self.finish_segment(ctx)?))
    }
}

/// Makes an index of copies of arrays, which were checked, in a directory.
///
/// # Errors
/// When the directory holds anything but an index or can't be written to, or the run is cancelled.
pub(crate) fn copy(
    arrays: &[(&'static str, &Array)],
    metadata: IndexMetadata,
    path: &Path,
    ctx: &Context,
) -> Result<()> {
    let mut directory = Directory::create(path)?;
    directory.begin()?;
    let written = arrays.iter().map(|&(name, array)| {
        let mut writer = directory.writer(name, array.shape().clone())?;
        for (index, part) in array.data().chunks(COPIED).enumerate() {
            ctx.check()?;
            writer.write(index * COPIED, part)?;
        }
        Ok(writer.finish(ctx)?.1)
    });
    let written = written.collect::<Result<Vec<_>>>()?;
    let files = written.into_iter().flatten().collect();
    directory.commit(metadata, files)?;
    Ok(())
}

/// Copies of stored rows as they were given: without the value more that they have for inner
/// products.
pub(crate) fn as_given(
    kept: Rows<'_, f32>,
    rows: impl ExactSizeIterator<Item = usize>,
    dim: usize,
) -> Result<Vec<f32>> {
    let mut values = memory::empty(rows.len() * dim, "copies of rows")?;
    rows.for_each(|row| values.extend_from_slice(&kept.row(row)[..dim]));
    Ok(values)
}
