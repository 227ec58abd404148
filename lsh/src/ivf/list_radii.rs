//! Which lists may hold rows within a radius: a list is a ball around its centroid.
//!
//! By the triangle inequality none of its rows is within a radius of a row that is further from the
//! centroid than the radius and the list's own (S. Omohundro, "Five balltree construction algorithms",
//! 1989). Distances are those that codes stand for.

use lshjoin_kernels::{LeftPanel, RightPanel, Scalar, memory, near_pairs};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result},
    ivf::{coarse_quantiser::CoarseQuantiser, list_distances::BLOCK, list_offsets::ListOffsets},
    vectors::Vectors,
};

/// Lists of a panel.
const OF_PANEL: usize = 2048;

/// By how much a computed distance may be below what it should be.
const ROUNDING: f64 = 1e-5;

/// How an out-of-memory error names them.
const NEAR_LISTS: &str = "lists within the radius of rows";

/// The distance of a row, by index, from the centroid of its list, or a little more; as large as can be
/// for a row without direction, which is at the same distance from all others.
pub(crate) fn radius_of<T: Scalar>(side: &Vectors<'_, T>, row: usize, centroid: &[f32]) -> f32 {
    if side.lacks_direction(row) {
        return f32::MAX;
    }
    let values = side.coded(row).zip(centroid);
    let squares: f64 = values.map(|(x, &y)| (x - f64::from(y)).powi(2)).sum();
    let radius = (squares.sqrt() * (1.0 + ROUNDING)) as f32;
    radius.next_up().min(f32::MAX)
}

/// Rows by list: those that may have neighbours within `bound` in it; `radii` are those of lists.
///
/// # Errors
/// When the run is cancelled, or there is no memory.
pub(crate) fn rows_near_lists<T: Scalar>(
    quantiser: &CoarseQuantiser,
    radii: &[f32],
    side: &Vectors<'_, T>,
    bound: f32,
    ctx: &Context,
) -> Result<(Vec<u32>, ListOffsets)> {
    let Some(codes) = &side.codes else {
        return Ok((Vec::new(), ListOffsets::of_starts(vec![0])));
    };
    let lists: Vec<u32> = (0..quantiser.len() as u32).collect();
    let panels = lists.par_chunks(OF_PANEL).map(|lists| {
        let mut panel = RightPanel::new(ctx.isa());
        let reach = lists.iter().map(|&list| radii[list as usize] + bound);
        let reach: Vec<f32> = reach.map(|reach| reach * (1.0 + ROUNDING as f32)).collect();
        panel.gather(quantiser.codes(), lists, &reach)?;
        Ok((lists[0], panel))
    });
    let panels: Vec<(u32, RightPanel)> = panels.collect::<Result<_>>()?;
    let rows = memory::collect(0..side.len() as u32, ROW_NUMBERS)?;
    ctx.expect(rows.len().div_ceil(BLOCK));
    let blocks = rows.par_chunks(BLOCK).map_init(
        || (LeftPanel::new(ctx.isa()), Vec::new()),
        |(left, near), rows| {
            ctx.check()?;
            left.gather(codes, rows, &vec![-1.0; rows.len()])?;
            let mut found = Vec::new();
            for (first, panel) in &panels {
                near.clear();
                near_pairs(left, panel, near)?;
                let of_panel = near
                    .iter()
                    .map(|pair| (first + pair.right, rows[pair.left as usize]));
                memory::extend(&mut found, of_panel, NEAR_LISTS)?;
            }
            ctx.advance(1);
            Ok(found)
        },
    );
    let blocks: Vec<Vec<(u32, u32)>> = blocks.collect::<Result<_>>()?;
    let found = blocks.iter().flatten();
    let offsets = ListOffsets::new(found.clone().map(|&(list, _)| list), lists.len());
    let (mut order, mut next) = (memory::zeroed(offsets.rows(), NEAR_LISTS)?, offsets.clone());
    for &(list, row) in found {
        order[next.take(list, 1)] = row;
    }
    Ok((order, offsets))
}
