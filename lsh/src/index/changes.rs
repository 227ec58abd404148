//! What was added to the items of an index, and removed from them, since they were written.

use std::{borrow::Cow, sync::Arc};

use lshjoin_kernels::memory;

use crate::{
    base::{
        ROW_NUMBERS,
        context::Context,
        error::{Error, Result},
    },
    index::{added::Added, deletions::DeletionBitmap, ids::check_unique},
};

/// Items that were added, of values `V`, and rows of those written that were removed.
#[derive(Clone, Debug)]
pub(crate) struct Changes<V> {
    pub(crate) removed: Arc<DeletionBitmap>,
    pub(crate) added: Arc<Added<V>>,
}

/// Where an item is.
enum Location {
    Written(usize),
    Added,
}

impl<V: Copy> Changes<V> {
    /// None, to items of so many values.
    pub(crate) fn none(dim: usize) -> Self {
        Self {
            removed: Arc::default(),
            added: Added::new(dim).into(),
        }
    }

    /// Whether there is any.
    pub(crate) fn are_some(&self) -> bool {
        self.removed.len() + self.added.len() > 0
    }

    /// How many items there are where so many were written.
    pub(crate) fn items(&self, written: usize) -> usize {
        written - self.removed.len() + self.added.len()
    }

    /// Adds items, of which `item` has the values; `row` finds what was written by id.
    ///
    /// # Errors
    /// When an id is there already or comes twice, there is no memory, or the run is cancelled. Nothing
    /// is added then.
    pub(crate) fn add<'a>(
        &mut self,
        ids: &[i64],
        item: impl Fn(usize) -> Cow<'a, [V]>,
        row: impl Fn(i64) -> Option<usize>,
        ctx: &Context,
    ) -> Result<()>
    where
        V: 'a,
    {
        check_unique(ids)?;
        for &id in ids {
            if self.locate(id, &row).is_some() {
                return Err(Error::Id {
                    id,
                    problem: "is in the index already; remove it first to replace its item",
                });
            }
        }
        self.added.check_room(ids.len())?;
        ctx.check()?; // From here on nothing can fail.
        let added = Arc::make_mut(&mut self.added);
        for (at, &id) in ids.iter().enumerate() {
            added.insert(id, &item(at));
        }
        Ok(())
    }

    /// Removes the items of these ids; `row` finds what was written by id.
    ///
    /// # Errors
    /// When an id is not there or comes twice. Nothing is removed then.
    pub(crate) fn remove(
        &mut self,
        ids: &[i64],
        row: impl Fn(i64) -> Option<usize>,
        ctx: &Context,
    ) -> Result<()> {
        check_unique(ids)?;
        let mut rows = Vec::new();
        for &id in ids {
            match self.locate(id, &row) {
                Some(Location::Written(row)) => memory::push(&mut rows, row, ROW_NUMBERS)?,
                Some(Location::Added) => {}
                None => {
                    return Err(Error::Id {
                        id,
                        problem: "is not in the index",
                    });
                }
            }
        }
        if rows.len() < ids.len() {
            self.added.check_room(0)?;
        }
        ctx.check()?; // From here on nothing can fail.
        if rows.len() < ids.len() {
            let added = Arc::make_mut(&mut self.added);
            ids.iter().for_each(|id| added.remove(*id));
        }
        if !rows.is_empty() {
            let removed = Arc::make_mut(&mut self.removed);
            rows.into_iter().for_each(|row| removed.insert(row));
        }
        Ok(())
    }

    fn locate(&self, id: i64, row: impl Fn(i64) -> Option<usize>) -> Option<Location> {
        if self.added.contains(id) {
            return Some(Location::Added);
        }
        let row = row(id).filter(|&row| !self.removed.contains(row));
        row.map(Location::Written)
    }
}
