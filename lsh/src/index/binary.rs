//! Indexes of packed bits: rows and ids, kept in the same directories as other indexes.
//!
//! Bits are compared as they lie, and to count them is so quick that nothing is learnt from them
//! beforehand: an index of them is for its ids, changes and files.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
};

use lshjoin_kernels::{LeftBits, Rows, memory};
use safetensors::tensor::Dtype;

use crate::{
    base::{
        ROW_NUMBERS,
        check::check_dimension,
        context::Context,
        error::{Error, Result},
        keys::{Keys, NO_KEY, PairKeys},
        plan::JoinPlan,
    },
    binary::{
        knn::{KnnParams, knn, plan_until},
        metric::BinaryMetric,
        radius::radius_join,
        sides::BinarySides,
    },
    index::{
        changes::Changes,
        copy,
        ids::{by_id, check_count},
        radius::add_pairs,
        search::{merged, with_ids},
    },
    pairs::results::{Neighbors, RadiusNeighbors},
    storage::{
        array::Array,
        format::Shape,
        layout::check_items,
        manifest::{IndexMetadata, Manifest},
        writer::ArrayWriter,
    },
};

/// The arrays of an index of packed bits: `ids` (rows), rising, and `rows` (rows, bytes).
const ARRAYS: [&str; 2] = ["ids", "rows"];

/// How an out-of-memory error names them.
const COPIES: &str = "copies of rows";

/// Items of packed bits to join queries with, again and again, under the user's ids: what
/// [`Index`](crate::Index) is for vectors.
///
/// Saved, it is such a directory, too. A search compares all pairs or, of very many queries for a
/// recall, goes by lists that it learns, as [`BinaryKnnJoin`](crate::BinaryKnnJoin).
///
/// A clone shares the items.
///
/// ```
/// use lshjoin::{BinaryIndex, BinaryMetric, Context, JoinPlan, Rows};
///
/// let ctx = Context::new()?;
/// let items = Rows::new(&[0b0000_1111_u8, 0b0000_0111, 0b1111_0000], 1)?;
/// let mut index = BinaryIndex::build(items, &[10, 11, 12], BinaryMetric::Hamming, &ctx)?;
/// index.add(Rows::new(&[0b0000_0011_u8], 1)?, &[13], &ctx)?;
/// index.remove(&[11], &ctx)?;
/// let near = index.knn(Rows::new(&[0b0000_0001_u8], 1)?, 2, &JoinPlan::Exact, &ctx)?;
/// assert_eq!((near.indices, near.distances), (vec![13, 10], vec![1.0, 3.0]));
/// # Ok::<(), lshjoin::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BinaryIndex {
    segment: Arc<BinarySegment>,
    changes: Changes<u8>,
}

/// What an index of packed bits tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BinaryIndexInfo {
    /// Items that were written.
    pub items: usize,
    /// Of these, how many were removed since.
    pub removed: usize,
    /// Items that were added since.
    pub added: usize,
    /// Bytes of an item.
    pub dim: usize,
    /// What "near" means.
    pub metric: BinaryMetric,
}

/// Items by rising id, in arrays that are never written to.
#[derive(Debug)]
struct BinarySegment {
    metric: BinaryMetric,
    dim: usize,
    arrays: BTreeMap<String, Array>,
    /// Set once they were found sound.
    sound: OnceLock<()>,
}

/// The shapes of its arrays.
fn shape(name: &str, items: usize, dim: usize) -> Shape {
    match name {
        "ids" => Shape::new(Dtype::I64, &[items]),
        _ => Shape::new(Dtype::U8, &[items, dim]),
    }
}

impl BinarySegment {
    /// These items.
    ///
    /// # Errors
    /// When an id comes twice, there is no memory, or the run is cancelled.
    fn new(metric: BinaryMetric, items: Rows<'_, u8>, ids: &[i64], ctx: &Context) -> Result<Self> {
        let (dim, order) = (items.dim(), by_id(ids)?);
        let rising = order.iter().map(|&row| ids[row as usize]);
        let rising = memory::collect(rising, ROW_NUMBERS)?;
        let mut arrays = BTreeMap::new();
        for name in ARRAYS {
            let mut writer = ArrayWriter::new(name, shape(name, ids.len(), dim), None)?;
            match name {
                "ids" => writer.write(0, &rising)?,
                _ => (0..)
                    .zip(&order)
                    .try_for_each(|(at, &row)| writer.write(at * dim, items.bits(row as usize)))?,
            }
            arrays.insert(name.into(), writer.finish(ctx)?.0);
        }
        Ok(Self {
            metric,
            dim,
            arrays,
            sound: OnceLock::from(()),
        })
    }

    fn metadata(&self) -> IndexMetadata {
        IndexMetadata {
            items: self.len(),
            dim: self.dim,
            metric: self.metric.to_string(),
            plan: JoinPlan::Exact,
        }
    }

    fn array(&self, name: &str) -> &Array {
        // `ARRAYS` are all there.
        &self.arrays[name]
    }

    fn len(&self) -> usize {
        self.array("ids").shape().length()
    }

    /// Checks every byte, before the first answer, and that no id comes twice.
    fn check(&self, ctx: &Context) -> Result<()> {
        if self.sound.get().is_some() {
            return Ok(());
        }
        self.arrays
            .values()
            .try_for_each(|array| array.check_all(ctx))?;
        let ids = self.array("ids");
        if !ids.values::<i64>().is_sorted_by(|x, y| x < y) {
            return Err(ids.damaged("ids don't rise, or one comes twice"));
        }
        let _ = self.sound.set(());
        Ok(())
    }

    /// The items and their ids.
    fn items(&self, ctx: &Context) -> Result<(Rows<'_, u8>, &[i64])> {
        self.check(ctx)?;
        let rows = Rows::new(self.array("rows").values(), self.dim)?;
        Ok((rows, self.array("ids").values()))
    }
}

/// The metric of an index, once it is known that all arrays in its manifest have the shapes that follow
/// from it.
fn checked(directory: &Path, manifest: &Manifest) -> Result<BinaryMetric> {
    let damaged = |what: &str| Manifest::damaged(directory, what);
    let wrong = |error: Error| damaged(&error.to_string());
    let IndexMetadata {
        items,
        dim,
        metric,
        plan,
    } = &manifest.metadata;
    let metric: BinaryMetric = metric.parse().map_err(wrong)?;
    check_items(*items, *dim).map_err(wrong)?;
    check_width(*dim).map_err(wrong)?;
    let shaped = |name: &&str| manifest.arrays[*name].shape() == shape(name, *items, *dim);
    let named = manifest.arrays.keys().map(String::as_str).eq(ARRAYS);
    if *plan != JoinPlan::Exact || !named || !ARRAYS.iter().all(shaped) {
        return Err(damaged("it has other arrays than those of packed bits"));
    }
    Ok(metric)
}

/// Refuses rows that are too wide to be compared.
fn check_width(dim: usize) -> Result<()> {
    Ok(LeftBits::default().gather(Rows::new(&[], dim)?, &[])?)
}

impl BinaryIndex {
    fn of(segment: BinarySegment) -> Self {
        Self {
            changes: Changes::none(segment.dim),
            segment: segment.into(),
        }
    }

    /// An index of these items, in memory.
    ///
    /// # Errors
    /// When there are not as many ids as items, an id comes twice, rows have two megabytes and more, or
    /// the run is cancelled.
    pub fn build(
        items: Rows<'_, u8>,
        ids: &[i64],
        metric: BinaryMetric,
        ctx: &Context,
    ) -> Result<Self> {
        check_count(ids, items)?;
        check_items(items.len(), items.dim())?;
        check_width(items.dim())?;
        Ok(Self::of(BinarySegment::new(metric, items, ids, ctx)?))
    }

    /// Whether what was saved in a directory is an index of packed bits.
    ///
    /// # Errors
    /// As [`BinaryIndex::open`], for its manifest.
    pub fn is_saved_in(path: &Path) -> Result<bool> {
        let metric: Result<BinaryMetric> = Manifest::read(path)?.metadata.metric.parse();
        Ok(metric.is_ok())
    }

    /// Opens what was saved in a directory: mapped, and checked before the first answer, or read into
    /// memory and checked now. Whoever it comes from, its answers are those of its rows.
    ///
    /// # Errors
    /// As [`Index::open`](crate::Index::open).
    pub fn open(path: &Path, mapped: bool, ctx: &Context) -> Result<Self> {
        let checked = |manifest: &Manifest| checked(path, manifest);
        let (manifest, metric, arrays) = Manifest::opened(path, mapped, ctx, checked)?;
        let segment = BinarySegment {
            metric,
            dim: manifest.metadata.dim,
            arrays,
            sound: OnceLock::new(),
        };
        if !mapped {
            segment.check(ctx)?;
        }
        Ok(Self::of(segment))
    }

    /// Saves to a directory, as [`Index::save`](crate::Index::save): without what was removed, and with
    /// what was added in its place by id, for which all items are in memory.
    ///
    /// # Errors
    /// When the directory holds anything but an index or can't be written to, the index is
    /// damaged, or the run is cancelled.
    pub fn save(&self, path: &Path, ctx: &Context) -> Result<()> {
        let settled = match self.changes.are_some() {
            true => self.settled(ctx)?.segment,
            false => Arc::clone(&self.segment),
        };
        settled.check(ctx)?;
        let arrays = ARRAYS.map(|name| (name, settled.array(name)));
        copy(&arrays, settled.metadata(), path, ctx)
    }

    /// The same items without changes.
    fn settled(&self, ctx: &Context) -> Result<Self> {
        let (rows, ids) = self.segment.items(ctx)?;
        let kept = (0..ids.len()).filter(|&row| !self.changes.removed.contains(row));
        let kept: Vec<u32> = memory::collect(kept.map(|row| row as u32), ROW_NUMBERS)?;
        let mut values = rows.gather_bits(&kept)?;
        let ids = kept.iter().map(|&row| ids[row as usize]);
        let mut ids = memory::collect(ids, ROW_NUMBERS)?;
        let (of_added, added) = self.changes.added.rows()?;
        memory::extend(&mut values, added, COPIES)?;
        memory::extend(&mut ids, of_added, ROW_NUMBERS)?;
        let rows = Rows::new(&values, self.segment.dim)?;
        Self::build(rows, &ids, self.segment.metric, ctx)
    }

    /// Checks every byte.
    ///
    /// # Errors
    /// [`Error::Damaged`] when one is not what was saved, or an id comes twice; or when the run is
    /// cancelled.
    pub fn verify(&self, ctx: &Context) -> Result<()> {
        self.segment.check(ctx)
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
    pub fn info(&self) -> BinaryIndexInfo {
        BinaryIndexInfo {
            items: self.segment.len(),
            removed: self.changes.removed.len(),
            added: self.changes.added.len(),
            dim: self.segment.dim,
            metric: self.segment.metric,
        }
    }

    /// Adds items.
    ///
    /// # Errors
    /// When there are not as many ids as items, an id is there already or comes twice, or rows have
    /// another number of bytes. Nothing is added then.
    pub fn add(&mut self, items: Rows<'_, u8>, ids: &[i64], ctx: &Context) -> Result<()> {
        check_dimension("items", items, self.segment.dim)?;
        check_count(ids, items)?;
        let (_, written) = self.segment.items(ctx)?;
        let item = |row| Cow::Borrowed(items.bits(row));
        let row = |id| written.binary_search(&id).ok();
        self.changes.add(ids, item, row, ctx)
    }

    /// Removes the items of these ids.
    ///
    /// # Errors
    /// When an id is not there or comes twice. Nothing is removed then.
    pub fn remove(&mut self, ids: &[i64], ctx: &Context) -> Result<()> {
        let (_, written) = self.segment.items(ctx)?;
        let row = |id| written.binary_search(&id).ok();
        self.changes.remove(ids, row, ctx)
    }

    /// The plan of a search for `recall` of the neighbours of so many queries.
    ///
    /// # Errors
    /// When `recall` is not above 0 and at most 1.
    pub fn plan(&self, recall: f64, queries: usize) -> Result<JoinPlan> {
        plan_until(recall, (queries, self.len()), self.segment.dim, 0)
    }

    /// For each query the `k` nearest items, ids in place of rows; ties by id.
    ///
    /// # Errors
    /// When queries have another number of bytes, `k` is 0, the plan is neither exact nor of lists
    /// without rounds, the index is damaged, or the run is cancelled.
    pub fn knn(
        &self,
        queries: Rows<'_, u8>,
        k: usize,
        plan: &JoinPlan,
        ctx: &Context,
    ) -> Result<Neighbors<f32>> {
        check_dimension("queries", queries, self.segment.dim)?;
        let join = |items, keys, plan| {
            let sides = self.sides(queries, items, keys);
            let params = KnnParams {
                k,
                recall: 1.0,
                seed: 0,
                plan: Some(plan),
            };
            Ok::<_, Error>(knn(&sides, &params, ctx)?.0)
        };
        // Added items first: the recall that is reported is that of the others.
        let (of_added, values) = self.changes.added.rows()?;
        let added = match of_added.is_empty() {
            true => None,
            false => {
                let added = Rows::new(&values, self.segment.dim)?;
                Some(join(added, PairKeys::default(), JoinPlan::Exact)?)
            }
        };
        let (rows, ids) = self.segment.items(ctx)?;
        let keys = self.keys_of_kept(queries.len())?;
        let found = join(rows, pair_keys(keys.as_ref()), *plan)?;
        match added {
            None => Ok(with_ids(found, ids)),
            Some(added) => merged([(found, ids), (added, &of_added)]),
        }
    }

    /// Every item nearer than `radius` (strictly) to each query, ids in place of rows.
    ///
    /// # Errors
    /// When queries have another number of bytes, the radius is negative or NaN, the index is damaged,
    /// or the run is cancelled.
    pub fn radius(
        &self,
        queries: Rows<'_, u8>,
        radius: f64,
        ctx: &Context,
    ) -> Result<RadiusNeighbors<f32>> {
        check_dimension("queries", queries, self.segment.dim)?;
        let (rows, ids) = self.segment.items(ctx)?;
        let keys = self.keys_of_kept(queries.len())?;
        let sides = self.sides(queries, rows, pair_keys(keys.as_ref()));
        let found = radius_join(&sides, radius, ctx)?;
        let mut pairs = Vec::new();
        add_pairs(&mut pairs, &found, ids)?;
        let (of_added, values) = self.changes.added.rows()?;
        let added = Rows::new(&values, self.segment.dim)?;
        let sides = self.sides(queries, added, PairKeys::default());
        add_pairs(&mut pairs, &radius_join(&sides, radius, ctx)?, &of_added)?;
        RadiusNeighbors::sorted(pairs, queries.len())
    }

    fn sides<'a>(
        &self,
        queries: Rows<'a, u8>,
        items: Rows<'a, u8>,
        keys: PairKeys<'a>,
    ) -> BinarySides<'a> {
        BinarySides {
            queries: Some(queries),
            items,
            metric: self.segment.metric,
            keys,
        }
    }

    /// Keys within which queries are joined with the items that were not removed, if any was: of so many
    /// queries, and of the items.
    fn keys_of_kept(&self, queries: usize) -> Result<Option<(Vec<u32>, Vec<u32>)>> {
        let removed = &self.changes.removed;
        if removed.len() == 0 {
            return Ok(None);
        }
        let of_item = |row| if removed.contains(row) { NO_KEY } else { 0 };
        let of_items = (0..self.segment.len()).map(of_item);
        let of_items = memory::collect(of_items, ROW_NUMBERS)?;
        Ok(Some((memory::zeroed(queries, ROW_NUMBERS)?, of_items)))
    }
}

/// Only rows of these keys, if there are any, may be neighbours.
fn pair_keys(keys: Option<&(Vec<u32>, Vec<u32>)>) -> PairKeys<'_> {
    let within = keys.map(|(queries, items)| Keys::new(items).queries(queries.as_slice()));
    PairKeys {
        within,
        ..PairKeys::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index with these arrays, whose checksums are right.
    fn opened(
        ids: &[i64],
        rows: &[u8],
        change: impl Fn(&mut IndexMetadata),
    ) -> Result<BinaryIndex> {
        let ctx = Context::new()?;
        let mut ids_writer = ArrayWriter::new("ids", shape("ids", ids.len(), 2), None)?;
        ids_writer.write(0, ids)?;
        let of_rows = Shape::new(Dtype::U8, &[rows.len() / 2, 2]);
        let mut rows_writer = ArrayWriter::new("rows", of_rows, None)?;
        rows_writer.write(0, rows)?;
        let (ids_array, rows_array) = (ids_writer.finish(&ctx)?.0, rows_writer.finish(&ctx)?.0);
        let mut metadata = IndexMetadata {
            items: ids.len(),
            dim: 2,
            metric: BinaryMetric::Hamming.to_string(),
            plan: JoinPlan::Exact,
        };
        change(&mut metadata);
        let directory = tempfile::tempdir().unwrap();
        let arrays = [("ids", &ids_array), ("rows", &rows_array)];
        copy(&arrays, metadata, directory.path(), &ctx)?;
        BinaryIndex::open(directory.path(), false, &ctx)
    }

    #[test]
    fn whoever_means_harm_is_told_that_it_is_damaged() {
        let rows = [1_u8, 2, 3, 4, 5, 6];
        assert_eq!(opened(&[-3, 0, 9], &rows, |_| {}).unwrap().len(), 3);
        for ids in [[0, 0, 9], [0, 9, 1]] {
            let found = opened(&ids, &rows, |_| {});
            assert!(matches!(found, Err(Error::Damaged { .. })), "{found:?}");
        }
        let changes: [&dyn Fn(&mut IndexMetadata); 6] = [
            &|of| of.items = 2,
            &|of| of.items = usize::MAX,
            &|of| of.dim = 0,
            &|of| of.dim = 1 << 40,
            &|of| of.metric = "euclidean".into(),
            &|of| of.plan = JoinPlan::Partitions(crate::PartitionPlan::new(1, 1.0)),
        ];
        for change in changes {
            let found = opened(&[-3, 0, 9], &rows, change);
            assert!(matches!(found, Err(Error::Damaged { .. })), "{found:?}");
        }
        let short = opened(&[-3, 0, 9], &rows[..4], |_| {});
        assert!(matches!(short, Err(Error::Damaged { .. })), "{short:?}");
    }
}
