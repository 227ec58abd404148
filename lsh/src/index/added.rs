//! Items that were added since an index was built.

use std::collections::BTreeMap;

/// By rising id, so that of items at the same distance that of the lower id comes first.
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

    pub(crate) fn insert(&mut self, id: i64, item: &[f32]) {
        self.items.insert(id, item.into());
    }

    pub(crate) fn remove(&mut self, id: i64) {
        self.items.remove(&id);
    }

    /// All ids, and the items' values row after row.
    pub(crate) fn rows(&self) -> (Vec<i64>, Vec<f32>) {
        let mut values = Vec::with_capacity(self.items.len() * self.dim);
        self.items.values().for_each(|item| values.extend(item));
        (self.items.keys().copied().collect(), values)
    }
}
