//! All pairs of packed bits within a radius, collected or in batches.

use std::ops::Range;

use lshjoin_kernels::{LeftBits, NearBits, memory, near_bits};
use rayon::prelude::*;

use crate::{
    base::{
        check::{not_negative, positive},
        context::Context,
        error::{Error, Result},
        per_thread::PerThread,
    },
    binary::sides::{BinarySides, OF_GROUP, Whole},
    pairs::{
        batches::Batches,
        ordered::InOrder,
        results::{JoinedPairs, PAIRS, Pair, RadiusNeighbors},
    },
};

/// Groups of right rows that a task compares with its block of left ones: all its pairs may be near.
const GROUPS_OF_TASK: usize = 2048 / OF_GROUP;

/// Pairs that are kept, at most, until those before them are handed over.
const CAPACITY: usize = 1 << 20;

/// All pairs nearer than a radius, by query. In a self-join each pair is compared once.
///
/// # Errors
/// As [`BinaryRadiusJoin::run`](crate::BinaryRadiusJoin::run).
pub(crate) fn radius_join(
    sides: &BinarySides<'_>,
    radius: f64,
    ctx: &Context,
) -> Result<RadiusNeighbors<f32>> {
    let mut pairs = Vec::new();
    stream(sides, radius, ctx, |found| {
        Ok(memory::extend(&mut pairs, found, PAIRS)?)
    })?;
    ctx.check()?;
    RadiusNeighbors::sorted(pairs, sides.left().len())
}

/// The same pairs in batches.
///
/// # Errors
/// As [`BinaryRadiusJoin::run_batches`](crate::BinaryRadiusJoin::run_batches).
pub(crate) fn radius_join_batches(
    sides: &BinarySides<'_>,
    radius: f64,
    batch_size: usize,
    ctx: &Context,
    deliver: impl FnMut(JoinedPairs<f32>) + Send,
) -> Result<()> {
    positive("batch_size", batch_size)?;
    let mut batches = Batches::new(batch_size, deliver, ctx);
    stream(sides, radius, ctx, |found| batches.add(&found))?;
    batches.finish()
}

/// Hands over the pairs of each task, in the order of tasks.
fn stream(
    sides: &BinarySides<'_>,
    radius: f64,
    ctx: &Context,
    hand_over: impl FnMut(Vec<Pair<f32>>) -> Result<()> + Send,
) -> Result<()> {
    not_negative("radius", radius)?;
    sides.check()?;
    ctx.begin_stage("all pairs");
    let whole = Whole::new(sides)?;
    ctx.expect(tasks(sides, &whole).count());
    let threads = PerThread::new(Scratch::default);
    let order = InOrder::new(CAPACITY, hand_over);
    // A bridge takes tasks up one by one, as their order asks for.
    let tasks = tasks(sides, &whole).enumerate().par_bridge();
    tasks.try_for_each(|(index, task)| {
        let ticket = order.ticket(index);
        ctx.check()?;
        let found = threads.own().join(sides, &whole, &task, radius, ctx)?;
        ticket.finish(found)?;
        ctx.advance(1);
        Ok::<_, Error>(())
    })
}

/// A block of left rows, at these places, and the groups of right rows that it is compared with.
struct Task {
    left: Range<usize>,
    groups: Range<usize>,
}

fn tasks(sides: &BinarySides<'_>, whole: &Whole) -> impl Iterator<Item = Task> {
    let (rows, size) = (whole.left().len(), sides.block_rows());
    let blocks = (0..rows).step_by(size);
    blocks.flat_map(move |start| {
        let left = start..rows.min(start + size);
        let mut of_lists = compared(sides, whole, left.clone()).map(|(_, groups)| groups);
        let first = of_lists.next().unwrap_or_default();
        let end = of_lists.last().map_or(first.end, |last| last.end);
        let starts = (first.start..end).step_by(GROUPS_OF_TASK);
        starts.map(move |start| Task {
            left: left.clone(),
            groups: start..end.min(start + GROUPS_OF_TASK),
        })
    })
}

/// For each list that left rows at these places are compared with: which of the rows, and the groups
/// of the list that they have not met yet.
fn compared(
    sides: &BinarySides<'_>,
    whole: &Whole,
    places: Range<usize>,
) -> impl Iterator<Item = (Range<u32>, Range<usize>)> {
    let (start, with_itself) = (places.start, sides.queries.is_none());
    whole.lists(places).map(move |(list, rows)| {
        let groups = whole.right.groups(list);
        // Both sides of a self-join have one order: those before the first have met it.
        let met = match with_itself {
            true => (start + rows.start as usize - whole.first_place(list)) / OF_GROUP,
            false => 0,
        };
        (rows, groups.start + met..groups.end)
    })
}

/// A thread's buffers.
#[derive(Default)]
struct Scratch {
    left: LeftBits,
    near: Vec<NearBits>,
}

impl Scratch {
    /// The pairs of a task, by row.
    fn join(
        &mut self,
        sides: &BinarySides<'_>,
        whole: &Whole,
        task: &Task,
        radius: f64,
        ctx: &Context,
    ) -> Result<Vec<Pair<f32>>> {
        let (metric, right) = (sides.metric, &whole.right);
        let rows = &whole.left()[task.left.clone()];
        self.left.gather(sides.left(), rows)?;
        let populations = self.left.populations();
        // No less than the radius, whose distances are told from others at the end.
        let bound = (radius as f32).next_up();
        let limits = populations.iter().map(|&set| metric.within(bound, set));
        let limits: Vec<_> = limits.collect();
        let (mut found, mut pairs) = (Vec::new(), 0);
        for (places, groups) in compared(sides, whole, task.left.clone()) {
            let groups = groups.start.max(task.groups.start)..groups.end.min(task.groups.end);
            if groups.is_empty() {
                continue;
            }
            let chosen: Vec<u32> = places.collect();
            let limits = &limits[chosen[0] as usize..][..chosen.len()];
            for first in groups.clone().step_by(sides.most_groups()) {
                ctx.check()?;
                let some = first..groups.end.min(first + sides.most_groups());
                pairs += (chosen.len() * some.len() * OF_GROUP) as u64;
                self.near.clear();
                let near = &mut self.near;
                near_bits(&self.left, &chosen, limits, right, some, ctx.isa(), near)?;
                for pair in near {
                    let place = chosen[pair.left as usize] as usize;
                    let (row, other) = (rows[place], right.row(pair.slot));
                    let set = right.population(pair.slot);
                    let distance = metric.distance(pair.differing, populations[place], set);
                    let once = sides.queries.is_some() || row < other;
                    if once && f64::from(distance) < radius && sides.let_in(row, other) {
                        memory::push(&mut found, (row, other, distance), PAIRS)?;
                        if sides.queries.is_none() {
                            memory::push(&mut found, (other, row, distance), PAIRS)?;
                        }
                    }
                }
            }
        }
        ctx.count_pairs(pairs);
        found.sort_unstable_by_key(|&(left, right, _)| u64::from(left) << 32 | u64::from(right));
        Ok(found)
    }
}
