//! Searches in which rows of equal keys are not each other's neighbours.

use std::{ops::Range, sync::Arc};

use lshjoin_kernels::memory;

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
        keys::{Keys, NO_KEY},
    },
    index::{Index, keys::KeysApart},
    vectors::Vectors,
};

/// How an out-of-memory error names them.
const KEYS: &str = "keys of items";

impl Index {
    /// The same items for a search in which rows of equal keys are not each other's neighbours, as of
    /// [`KnnJoin::apart`](crate::KnnJoin::apart). Keys are of its queries or, where items are joined with
    /// themselves, of these alone; an item has the key at its id, so that ids have to be row numbers.
    ///
    /// ```
    /// use lshjoin::{Context, Index, JoinPlan, Keys, Metric, Rows};
    ///
    /// let ctx = Context::new()?;
    /// let items = Rows::new(&[0.0_f32, 1.0, 5.0], 1)?;
    /// let index = Index::build(items, &[0, 1, 2], Metric::Euclidean, None, 0, &ctx)?;
    /// let apart = index.kept_apart(Keys::new(&[7, 8, 8]).queries(&[8][..]), &ctx)?;
    /// let near = apart.knn(Rows::new(&[4.0], 1)?, 1, &JoinPlan::Exact, &ctx)?;
    /// assert_eq!(near.indices, [0]);
    /// # Ok::<(), lshjoin::Error>(())
    /// ```
    ///
    /// # Errors
    /// When ids are not the numbers from 0 on, with a key for each, something was added or removed, or
    /// the index is damaged.
    pub fn kept_apart(&self, keys: Keys<'_>, ctx: &Context) -> Result<Self> {
        let ids = self.segment.ids(ctx)?;
        keys.check(keys.queries.map(<[u32]>::len), ids.len())?;
        let mut items = memory::empty(ids.len(), KEYS)?;
        for &id in ids.iter() {
            let key = usize::try_from(id).ok().and_then(|id| keys.items.get(id));
            items.push(*key.ok_or_else(|| {
                Error::parameter("ids of items kept apart", "their row numbers", id)
            })?);
        }
        let queries = keys.queries.map(|keys| memory::copied(keys, KEYS));
        let apart = KeysApart {
            queries: queries.transpose()?.map(Arc::new),
            items: items.into(),
        };
        let view = Self {
            apart: Some(apart),
            ..self.clone()
        };
        view.check_apart()?;
        Ok(view)
    }

    /// What was added later has no key.
    fn check_apart(&self) -> Result<()> {
        match self.apart.is_some() && self.is_changed() {
            true => Err(Error::parameter(
                "an index whose items are kept apart",
                "saved and opened anew after a change",
                "changed",
            )),
            false => Ok(()),
        }
    }

    /// The items by list, to find the `k` nearest among.
    pub(crate) fn items(&self, k: usize, ctx: &Context) -> Result<Vectors<'_, f32>> {
        self.check_apart()?;
        let (segment, removed) = (&self.segment, &self.changes.removed);
        let Some(keys) = &self.apart else {
            return segment.nearest_of(removed, k, ctx);
        };
        // Of equal items the first k may all have the key of the query.
        let items = segment.nearest_of(removed, usize::MAX, ctx)?;
        Ok(items.kept_apart(Some(keys.items.as_slice())))
    }

    /// Items of a range of these, as queries.
    pub(crate) fn some_items(
        &self,
        range: &Range<usize>,
        ctx: &Context,
    ) -> Result<Vectors<'_, f32>> {
        let some = self
            .segment
            .side(range, &self.changes.removed, usize::MAX, ctx)?;
        let keys = self.apart.as_ref().map(|keys| &keys.items[range.clone()]);
        Ok(some.kept_apart(keys))
    }

    /// Queries with their keys.
    pub(crate) fn asked<'a>(&'a self, queries: Vectors<'a, f32>) -> Result<Vectors<'a, f32>> {
        let Some(keys) = &self.apart else {
            return Ok(queries);
        };
        let of_queries = keys.queries.as_ref().map_or(&[][..], |keys| keys);
        if of_queries.len() != queries.rows.len() {
            let (keys, rows) = (of_queries.len(), queries.rows.len());
            let value = format!("{keys} for {rows} rows");
            return Err(Error::parameter("keys of queries", "one a row", value));
        }
        Ok(queries.kept_apart(Some(of_queries)))
    }

    /// The same with the keys of these items for those of queries.
    pub(crate) fn asked_for(&self, rows: impl Iterator<Item = usize>) -> Result<Self> {
        let mut asked = self.clone();
        if let Some(keys) = &mut asked.apart {
            let of_row = |row| keys.items.get(row).copied().unwrap_or(NO_KEY);
            let of_rows = memory::collect(rows.map(of_row), KEYS)?;
            keys.queries = Some(of_rows.into());
        }
        Ok(asked)
    }
}
