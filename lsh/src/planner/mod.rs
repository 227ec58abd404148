//! Which recipe reaches a recall at the least cost, by a sample and a cost model. Uses
//! [`ivf`](crate::ivf) and what is below it; begin with [`planner`].

pub(crate) mod cost_model;
pub(crate) mod planner;
pub(crate) mod prediction;
