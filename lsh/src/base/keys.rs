//! A key a row, by which a join chooses which rows are compared.

use lshjoin_kernels::memory;

use crate::base::error::{Error, Result};

/// In place of the key of a row that has none: it is equal to no key, itself included.
pub const NO_KEY: u32 = u32::MAX;

/// Keys that say which pairs of rows may be neighbours: those of one key, those of two, or both.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PairKeys<'a> {
    /// Equal for the two.
    pub(crate) within: Option<Keys<'a>>,
    /// Different for the two.
    pub(crate) apart: Option<Keys<'a>>,
}

impl PairKeys<'_> {
    /// Whether all pairs may be.
    pub(crate) fn is_empty(&self) -> bool {
        self.within.is_none() && self.apart.is_none()
    }

    /// Whether a left and a right row may be neighbours.
    pub(crate) fn let_in(&self, (left, right): (u32, u32)) -> bool {
        let equal = |keys: &Keys<'_>| {
            let key = keys.queries.unwrap_or(keys.items)[left as usize];
            key != NO_KEY && key == keys.items[right as usize]
        };
        self.within.as_ref().is_none_or(equal) && !self.apart.as_ref().is_some_and(equal)
    }

    /// # Errors
    /// As [`Keys::check`].
    pub(crate) fn check(&self, queries: Option<usize>, items: usize) -> Result<()> {
        let mut keys = self.within.iter().chain(&self.apart);
        keys.try_for_each(|keys| keys.check(queries, items))
    }
}

/// A key for each row of both sides: any number, or [`NO_KEY`].
///
/// Whatever rows are to be grouped by (a country, a document) is numbered by the caller, alike on
/// both sides.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    pub(crate) queries: Option<&'a [u32]>,
    pub(crate) items: &'a [u32],
}

impl<'a> Keys<'a> {
    /// The keys of the items, for a join of these with themselves.
    pub fn new(items: &'a [u32]) -> Self {
        Self {
            queries: None,
            items,
        }
    }

    /// With those of the queries; `None` where the items are joined with themselves.
    pub fn queries(self, queries: impl Into<Option<&'a [u32]>>) -> Self {
        let queries = queries.into();
        Self { queries, ..self }
    }

    /// The same where the items are queries, too.
    pub(crate) fn two_sided(self) -> Self {
        let queries = self.queries.unwrap_or(self.items);
        self.queries(queries)
    }

    /// The keys of these queries, if there are any, and of these items.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn gather(
        &self,
        queries: &[u32],
        items: &[u32],
    ) -> Result<(Option<Vec<u32>>, Vec<u32>)> {
        let of_rows = |keys: &[u32], rows: &[u32]| {
            let keys = rows.iter().map(|&row| keys[row as usize]);
            memory::collect(keys, "keys of rows")
        };
        let of_queries = self.queries.map(|keys| of_rows(keys, queries));
        Ok((of_queries.transpose()?, of_rows(self.items, items)?))
    }

    /// # Errors
    /// When there is not one key for each of so many rows.
    pub(crate) fn check(&self, queries: Option<usize>, items: usize) -> Result<()> {
        let of_side = |name, keys: Option<&[u32]>, rows: Option<usize>| {
            let (keys, rows) = (keys.map_or(0, <[u32]>::len), rows.unwrap_or(0));
            match keys == rows {
                true => Ok(()),
                false => Err(Error::parameter(
                    name,
                    "one a row",
                    format!("{keys} for {rows} rows"),
                )),
            }
        };
        of_side("keys of queries", self.queries, queries)?;
        of_side("keys of items", Some(self.items), Some(items))
    }
}
