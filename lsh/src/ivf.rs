//! Inverted lists over a coarse quantiser: which lists a row probes, and how far it has to. Uses
//! [`recall`](crate::recall) and what is below it; begin with [`coarse_quantiser`].

pub(crate) mod bisectors;
pub(crate) mod centroids;
pub(crate) mod coarse_quantiser;
pub(crate) mod list_distances;
pub(crate) mod list_offsets;
pub(crate) mod list_router;
mod list_router_bytes;
pub(crate) mod margins;
pub(crate) mod near_rows;
pub(crate) mod neighbor_pass;
pub(crate) mod probe_lists;
pub(crate) mod probes;
pub(crate) mod routing_space;
pub(crate) mod state;
pub(crate) mod warm_start;
