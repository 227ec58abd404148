//! Joins of two arrays, each a recipe of the layers below: exact, by inverted lists, by tables, by
//! a radius. Uses [`planner`](crate::planner) and what is below it; begin with [`knn`].

pub(crate) mod axes_filter;
pub(crate) mod by_lists;
pub(crate) mod by_tables;
pub(crate) mod exact;
pub(crate) mod inner_product;
pub(crate) mod knn;
pub(crate) mod near_lists;
pub(crate) mod radius;
pub(crate) mod radius_blocks;
pub(crate) mod within;
