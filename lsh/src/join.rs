//! Joins, each a recipe of the layers below: exact, by inverted lists, by tables, by a radius.
//! Begin with [`knn`].

pub(crate) mod axes_filter;
pub(crate) mod by_lists;
pub(crate) mod by_tables;
pub(crate) mod inner_product;
pub(crate) mod knn;
pub(crate) mod radius;
