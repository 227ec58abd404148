//! Items that were added since an index was built.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use lshjoin_kernels::memory;

use crate::{base::error::Result, index::added_lists::AddedLists};

/// How an out-of-memory error names them.
const ADDED: &str = "added items";

/// Bytes that an item takes up beside its values, at most: in a node of the map, and on the heap.
const OF_ITEM: usize = 96;

/// So many items, and fewer, are compared with every query.
const FEW: usize = 4096;

/// Added items by rising id, so that of items at the same distance that of the lower id comes
/// first.
#[derive(Clone, Debug)]
pub(crate) struct Added<V> {
    dim: usize,
    items: BTreeMap<i64, Box<[V]>>,
    /// What searches made of them since the last change; of packed bits nothing.
    lists: OnceLock<Arc<AddedLists>>,
}

impl<V: Copy> Added<V> {
    pub(crate) fn new(dim: usize) -> Self {
        Self {
            dim,
            items: BTreeMap::new(),
            lists: OnceLock::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        self.items.contains_key(&id)
    }

    /// Whether there is memory for so many more items, and for a copy of what is there.
    ///
    /// # Errors
    /// When there is not.
    pub(crate) fn check_room(&self, more: usize) -> Result<()> {
        let of_item = self.dim * size_of::<V>() + OF_ITEM;
        let all = (self.len() + more).saturating_mul(of_item);
        Ok(memory::check(all, ADDED)?)
    }

    pub(crate) fn insert(&mut self, id: i64, item: &[V]) {
        self.lists.take();
        self.items.insert(id, item.into());
    }

    pub(crate) fn remove(&mut self, id: i64) {
        self.lists.take();
        self.items.remove(&id);
    }

    /// All ids, and the items' values row after row.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn rows(&self) -> Result<(Vec<i64>, Vec<V>)> {
        let mut values = memory::empty(self.items.len() * self.dim, ADDED)?;
        self.items
            .values()
            .for_each(|item| values.extend_from_slice(item));
        let ids = memory::collect(self.items.keys().copied(), ADDED)?;
        Ok((ids, values))
    }
}

impl Added<f32> {
    /// The items by list, made by `find` from all ids and values where they are not there yet; `None`
    /// of few items.
    ///
    /// # Errors
    /// Those of `find`, or when there is no memory.
    pub(crate) fn lists(
        &self,
        find: impl FnOnce(&[i64], &[f32]) -> Result<AddedLists>,
    ) -> Result<Option<&AddedLists>> {
        if self.len() <= FEW {
            return Ok(None);
        }
        if self.lists.get().is_none() {
            let (ids, values) = self.rows()?;
            let found = Arc::new(find(&ids, &values)?);
            self.lists.get_or_init(|| found);
        }
        Ok(self.lists.get().map(Arc::as_ref))
    }
}
