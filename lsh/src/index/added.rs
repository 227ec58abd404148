//! Items that were added since an index was built.

use std::collections::BTreeMap;

use lshjoin_kernels::memory;

use crate::base::error::Result;

/// How an out-of-memory error names them.
const ADDED: &str = "added items";

/// Bytes that an item takes up beside its values, at most: in a node of the map, and on the heap.
const OF_ITEM: usize = 96;

/// Added items by rising id, so that of items at the same distance that of the lower id comes
/// first.
#[derive(Clone, Debug)]
pub(crate) struct Added {
    dim: usize,
    items: BTreeMap<i64, Box<[f32]>>,
}

impl Added {
    pub(crate) fn new(dim: usize) -> Self {
        let items = BTreeMap::new();
        Self { dim, items }
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
        let of_item = self.dim * size_of::<f32>() + OF_ITEM;
        let all = (self.len() + more).saturating_mul(of_item);
        Ok(memory::check(all, ADDED)?)
    }

    pub(crate) fn insert(&mut self, id: i64, item: &[f32]) {
        self.items.insert(id, item.into());
    }

    pub(crate) fn remove(&mut self, id: i64) {
        self.items.remove(&id);
    }

    /// All ids, and the items' values row after row.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn rows(&self) -> Result<(Vec<i64>, Vec<f32>)> {
        let mut values = memory::empty(self.items.len() * self.dim, ADDED)?;
        self.items.values().for_each(|item| values.extend(item));
        let ids = memory::collect(self.items.keys().copied(), ADDED)?;
        Ok((ids, values))
    }
}
