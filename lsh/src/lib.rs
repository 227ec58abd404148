//! LSH joins.
