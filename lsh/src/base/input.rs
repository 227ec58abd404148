//! What is joined, before anything is made of it.

use lshjoin_kernels::{OwnedRows, Rows, Scalar};

use crate::base::{error::Result, keys::Keys};

/// The rows of a join, as the caller has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a, T> {
    /// `None` where the items are joined with themselves.
    pub(crate) queries: Option<Rows<'a, T>>,
    pub(crate) items: Rows<'a, T>,
    /// Rows of equal keys are not each other's neighbours.
    pub(crate) apart: Option<Keys<'a>>,
}

/// Copies of some of them.
pub(crate) struct Gathered<T> {
    queries: Option<OwnedRows<T>>,
    items: OwnedRows<T>,
    /// Of queries and items.
    apart: Option<(Option<Vec<u32>>, Vec<u32>)>,
}

impl<'a, T: Scalar> Input<'a, T> {
    /// Without keys.
    pub(crate) fn new(queries: Option<Rows<'a, T>>, items: Rows<'a, T>) -> Self {
        Self {
            queries,
            items,
            apart: None,
        }
    }

    /// The keys of the queries and of the items that are kept apart, if they are.
    pub(crate) fn keys_apart(&self) -> (Option<&'a [u32]>, Option<&'a [u32]>) {
        let of_queries = self.apart.and_then(|keys| keys.queries);
        (of_queries, self.apart.map(|keys| keys.items))
    }

    /// Rows on the left: queries, or the items.
    pub(crate) fn left(&self) -> usize {
        self.queries.unwrap_or(self.items).len()
    }

    /// Copies of these queries and items; in a self-join of the items.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub(crate) fn gather(&self, queries: &[u32], items: &[u32]) -> Result<Gathered<T>> {
        let of_queries = self.queries.map(|rows| OwnedRows::of(rows, queries));
        let apart = self.apart.map(|keys| keys.gather(queries, items));
        Ok(Gathered {
            queries: of_queries.transpose()?,
            items: OwnedRows::of(self.items, items)?,
            apart: apart.transpose()?,
        })
    }
}

impl<T: Scalar> Gathered<T> {
    pub(crate) fn input(&self) -> Result<Input<'_, T>> {
        Ok(Input {
            queries: self.queries.as_ref().map(OwnedRows::rows).transpose()?,
            items: self.items.rows()?,
            apart: self
                .apart
                .as_ref()
                .map(|(queries, items)| Keys::new(items).queries(queries.as_deref())),
        })
    }
}
