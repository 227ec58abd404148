//! All pairs of packed bits within a radius.

use std::sync::{Mutex, PoisonError};

use lshjoin_kernels::{LeftBits, memory, near_bits};
use rayon::prelude::*;

use crate::{
    base::{
        check::not_negative,
        context::Context,
        error::{Error, Result},
        per_thread::PerThread,
    },
    binary::sides::{BinarySides, OF_GROUP, Whole},
    pairs::results::{PAIRS, Pair, RadiusNeighbors},
};

/// All pairs nearer than a radius, by query. In a self-join each pair is compared once.
///
/// # Errors
/// As [`BinaryRadiusJoin::run`](crate::BinaryRadiusJoin::run).
pub(crate) fn radius_join(
    sides: &BinarySides<'_>,
    radius: f64,
    ctx: &Context,
) -> Result<RadiusNeighbors<f32>> {
    not_negative("radius", radius)?;
    sides.check()?;
    ctx.begin_stage("all pairs");
    let whole = Whole::new(sides)?;
    let found = Mutex::new(Vec::new());
    let size = sides.block_rows();
    let threads = PerThread::new(Scratch::default);
    ctx.expect(whole.left().len().div_ceil(size));
    let blocks = whole.left().par_chunks(size).enumerate();
    blocks.try_for_each(|(block, rows)| {
        let mut own = threads.own();
        own.join(sides, &whole, block * size, rows, radius, ctx)?;
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        memory::extend(&mut *found, own.pairs.drain(..), PAIRS)?;
        ctx.advance(1);
        Ok::<_, Error>(())
    })?;
    ctx.check()?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    RadiusNeighbors::sorted(found, sides.left().len())
}

/// A thread's buffers.
#[derive(Default)]
struct Scratch {
    left: LeftBits,
    near: Vec<lshjoin_kernels::NearBits>,
    pairs: Vec<Pair<f32>>,
}

impl Scratch {
    /// Finds the pairs of a block of left rows, of which the first is at `start` in the left order.
    fn join(
        &mut self,
        sides: &BinarySides<'_>,
        whole: &Whole,
        start: usize,
        rows: &[u32],
        radius: f64,
        ctx: &Context,
    ) -> Result<()> {
        let (metric, right) = (sides.metric, &whole.right);
        self.left.gather(sides.left(), rows)?;
        let populations = self.left.populations();
        // No less than the radius, whose distances are told from others at the end.
        let bound = (radius as f32).next_up();
        let limits = populations.iter().map(|&set| metric.within(bound, set));
        let limits: Vec<_> = limits.collect();
        let mut compared = 0;
        for (list, places) in whole.lists(start..start + rows.len()) {
            let chosen: Vec<u32> = places.collect();
            let limits = &limits[chosen[0] as usize..][..chosen.len()];
            let groups = right.groups(list);
            // Both sides of a self-join have one order: those before the first have met it.
            let met = match sides.queries {
                Some(_) => 0,
                None => (start + chosen[0] as usize - whole.first_place(list)) / OF_GROUP,
            };
            for first in (groups.start + met..groups.end).step_by(sides.most_groups()) {
                ctx.check()?;
                let some = first..groups.end.min(first + sides.most_groups());
                compared += (chosen.len() * some.len() * OF_GROUP) as u64;
                self.near.clear();
                near_bits(
                    &self.left,
                    &chosen,
                    limits,
                    right,
                    some,
                    ctx.isa(),
                    &mut self.near,
                )?;
                for pair in &self.near {
                    let place = chosen[pair.left as usize] as usize;
                    let (row, other) = (rows[place], right.row(pair.slot));
                    let set = right.population(pair.slot);
                    let distance = metric.distance(pair.differing, populations[place], set);
                    let once = sides.queries.is_some() || row < other;
                    if once && f64::from(distance) < radius && sides.let_in(row, other) {
                        memory::push(&mut self.pairs, (row, other, distance), PAIRS)?;
                        if sides.queries.is_none() {
                            memory::push(&mut self.pairs, (other, row, distance), PAIRS)?;
                        }
                    }
                }
            }
        }
        ctx.count_pairs(compared);
        Ok(())
    }
}
