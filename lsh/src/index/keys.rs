//! The keys by which the rows of a search are kept apart.

use std::sync::Arc;

/// The keys of queries and of items.
#[derive(Clone, Debug)]
pub(crate) struct KeysApart {
    /// Of the queries; `None` where items are joined with themselves.
    pub(crate) queries: Option<Arc<Vec<u32>>>,
    /// Of the items, as they lie by list.
    pub(crate) items: Arc<Vec<u32>>,
}
