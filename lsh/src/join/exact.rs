//! The exact k nearest, by an approximate join first: most bounds are nearly final then, and all pairs
//! are compared by a few values along the leading principal axes. What is left is told apart by whole
//! codes.

use lshjoin_kernels::{Near, Quantised, Scalar, code_intervals, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS,
        context::Context,
        error::Result,
        metric::Metric,
        plan::{IvfPlan, lists_of_row},
        report::Estimate,
    },
    ivf::{margins::ProbeStats, probe_lists::ProbeLists, state::IvfState},
    join::axes_filter::{LeadingAxes, SAMPLE, WORTH, Wanted},
    pairs::{
        code_join::CodeJoin,
        results::{Neighbors, PAIRS},
        tile_join::PairSink,
        top_k::{Groups, TopKSink},
        top_k_join::{TopKJoin, pairs},
        top_k_lists::{Candidate, Merging},
    },
    planner::cost_model::{Costs, Workload},
    recall::ground_truth::{GroundTruth, Split},
    vectors::{Sides, Vectors, interval::filter_interval},
};

/// The recall of the approximate join: what it misses widens few bounds, and little.
const RECALL: f64 = 0.95;

/// Rows whose neighbours one task measures.
const ROWS: usize = 256;

/// The exact k nearest, where they are found quicker this way than by comparing all pairs at once. Rows
/// may have other internal ids then, in any case.
///
/// # Errors
/// When the run is cancelled, or there is no memory.
pub(crate) fn by_leading_axes<T: Scalar>(
    mut left: Option<&mut Vectors<'_, T>>,
    right: &mut Vectors<'_, T>,
    k: usize,
    ctx: &Context,
) -> Result<Option<Neighbors<T>>> {
    if !matches!(right.metric, Metric::Euclidean | Metric::Cosine) {
        return Ok(None);
    }
    let workload = Workload::of((left.as_deref(), right), k);
    let costs = Costs::of(ctx.isa());
    let lists = workload.usual_lists();
    let all = costs.exact(&workload);
    // Lists compare one pair in a hundred, if all goes well.
    let lucky = ProbeStats {
        lists: 0.01 * lists as f64,
        share: 0.01,
        warm_start: 0.0,
    };
    let counts = (lists, lists_of_row(lists));
    let beside = |stats| costs.lists(&workload, counts, stats, 0.0) - costs.always(&workload, 0.0);
    let enough = WORTH * all - beside(lucky);
    if enough <= 0.0 {
        return Ok(None);
    }

    ctx.begin_stage("plan");
    let sides = (left.as_deref(), &*right);
    let ground_truth = GroundTruth::of(sides.0, right, k, ctx)?;
    let Some(axes) = leading_axes(sides, &ground_truth, enough, ctx)? else {
        return Ok(None);
    };
    let plan = IvfPlan::new(lists, 1.0);
    let ground_truth = Some((RECALL, ground_truth));
    let IvfState {
        quantiser,
        warm_start,
        ground_truth,
        reach,
        stats,
    } = IvfState::with_ground_truth(&plan, ground_truth, sides, k, ctx)?;
    if beside(stats) + axes.work > WORTH * all {
        return Ok(None);
    }

    ctx.begin_stage("lists");
    ctx.foresee(workload.exact_pairs());
    let probe_lists = ProbeLists::new(
        &quantiser,
        warm_start,
        left.as_deref_mut(),
        right,
        reach,
        ctx,
    )?;
    let (left, right) = (left.as_deref(), &*right);
    let of_left = left.and_then(|left| left.codes.as_ref());
    let Some(of_right) = &right.codes else {
        return Ok(None);
    };
    let near = CodeJoin::new(left, right, (of_left, of_right), k, ctx)?;
    let lists = (&quantiser, &probe_lists);
    near.probe_up_to(reach, lists, ground_truth.as_ref())?;
    drop(probe_lists);
    let join = TopKJoin::new(left, right, k, ctx)?;
    fill(&join, &near)?;
    drop(near);

    ctx.begin_stage("all pairs");
    ctx.foresee(0.0);
    ctx.reached(Estimate::EXACT);
    compare_all(&join, (of_left.unwrap_or(of_right), of_right), &axes)?;
    Ok(Some(join.nearest.finish()?))
}

/// Compares all pairs by leading axes, and those that pass by these codes.
fn compare_all<T: Scalar>(
    join: &TopKJoin<'_, T>,
    (of_left, of_right): (&Quantised, &Quantised),
    axes: &LeadingAxes,
) -> Result<()> {
    let TopKJoin {
        left, right, ctx, ..
    } = *join;
    ctx.count_pairs(pairs(left, right));
    let filter = axes.filter(left, right, ctx)?;
    let sink = WholeCodes {
        nearest: join.nearest.symmetric(),
        left: of_left,
        right: of_right,
        ctx,
    };
    join.join_all(Some((filter.left(), filter.right())), &sink)
}

/// The leading axes by which the neighbours of held-out rows are quickly told from other rows, if it
/// takes no more than `enough`.
fn leading_axes<T: Scalar>(
    (left, right): Sides<'_, '_, T>,
    ground_truth: &GroundTruth<T>,
    enough: f64,
    ctx: &Context,
) -> Result<Option<LeadingAxes>> {
    let side = left.unwrap_or(right);
    let known = ground_truth.some(Split::All).take(SAMPLE.0);
    let known = known.map(|known| {
        let row = side.internal_id(known.row);
        let distance = known.furthest.to_f64();
        let interval = filter_interval::<T>(side.metric, distance, side.rows.dim());
        (row, interval.1)
    });
    let (rows, bounds): (Vec<u32>, Vec<f32>) = known.unzip();
    let wanted = Wanted {
        rows: &rows,
        bounds: &bounds,
    };
    // In a self-join a pair passes for either row.
    let ways = if left.is_none() { 2.0 } else { 1.0 };
    let check = ways * Costs::of(ctx.isa()).check(side.rows.dim());
    let pairs = (pairs(left, right), check);
    LeadingAxes::where_they_pay(left, right, pairs, &wanted, enough, ctx)
}

/// Adds what the lists of a join by codes hold, measured, to the top-k of another of the same sides.
fn fill<T: Scalar>(join: &TopKJoin<'_, T>, near: &CodeJoin<'_, T>) -> Result<()> {
    let (left, right) = near.sides();
    let rows = memory::collect(0..left.len() as u32, ROW_NUMBERS)?;
    rows.par_chunks(ROWS)
        .try_for_each_init(Merging::default, |merging, rows| {
            join.ctx.check()?;
            for &row in rows {
                let measured = near.lists.measured(row, (left, right), join.ctx)?;
                let candidates = measured.into_iter().map(|(distance, index)| {
                    let (lower, upper) = left.filter_interval(right, (row, index), distance);
                    Candidate {
                        index,
                        lower,
                        upper,
                    }
                });
                let candidates: Vec<Candidate> = candidates.collect();
                let lists = &join.nearest.lists;
                lists.insert(row, &candidates, merging, join.ctx)?;
            }
            Ok(())
        })
}

/// Looks at pairs that were found by a few values once more, by whole codes.
struct WholeCodes<'a, T> {
    nearest: TopKSink<'a, T>,
    left: &'a Quantised<'a>,
    right: &'a Quantised<'a>,
    ctx: &'a Context,
}

/// A thread's buffers.
#[derive(Default)]
struct Scratch {
    groups: Groups,
    pairs: Vec<(u32, u32)>,
    intervals: Vec<(f32, f32)>,
}

impl<T: Scalar> PairSink<T> for WholeCodes<'_, T> {
    type Scratch = Scratch;

    fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    fn left_bound(&self, row: u32) -> f32 {
        self.nearest.left_bound(row)
    }

    fn right_bound(&self, row: u32) -> f32 {
        self.nearest.right_bound(row)
    }

    fn consume(
        &self,
        left: &[u32],
        right: &[u32],
        near: &mut Vec<Near>,
        Scratch {
            groups,
            pairs,
            intervals,
        }: &mut Scratch,
    ) -> Result<()> {
        let rows = |pair: &Near| (left[pair.left as usize], right[pair.right as usize]);
        pairs.clear();
        memory::extend(pairs, near.iter().map(rows), PAIRS)?;
        code_intervals(self.left, self.right, pairs, intervals, self.ctx.isa())?;
        let mut intervals = intervals.iter();
        near.retain_mut(|pair| {
            let Some(&(lower, upper)) = intervals.next() else {
                return false;
            };
            (pair.lower, pair.upper) = (lower, upper);
            let (of_left, of_right) = rows(pair);
            lower <= self.left_bound(of_left).max(self.right_bound(of_right))
        });
        self.nearest.consume(left, right, near, groups)
    }
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::{Isa, Rows};
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::{
        base::random::{gaussian, gaussians},
        pairs::top_k_join::all_pairs,
    };

    const DIM: usize = 130;

    /// Rows in so many groups, with most of their variance in twenty dimensions, and some twice.
    fn rows(count: usize, groups: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut gaussians =
            |count: usize| -> Vec<f64> { (0..count).map(|_| gaussian(&mut rng)).collect() };
        let basis = gaussians(20 * DIM);
        let centres = gaussians(groups * 20);
        let noise = gaussians(count * (20 + DIM));
        let rows = noise.chunks(20 + DIM).enumerate().flat_map(|(row, noise)| {
            let centre = &centres[row * 7919 % groups * 20..][..20];
            (0..DIM)
                .map(|at| {
                    let leading = centre.iter().zip(noise).zip(basis.chunks(DIM));
                    let leading =
                        leading.map(|((of_centre, own), axis)| (of_centre + 0.5 * own) * axis[at]);
                    (leading.sum::<f64>() + 0.2 * noise[20 + at]) as f32
                })
                .collect::<Vec<f32>>()
        });
        let mut values: Vec<f32> = rows.collect();
        values.copy_within(0..30 * DIM, 100 * DIM);
        values
    }

    #[test]
    fn the_nearest_are_those_of_all_pairs() {
        let values = rows(7000, 200);
        let (queries, items) = values.split_at(2500 * DIM);
        // On which there is most to be gained.
        let ctx = Context::on(Isa::SCALAR);
        let best = Context::on(Isa::best());
        let side = |name, values, metric, step: u32| {
            let rows = Rows::new(values, DIM).unwrap();
            let keys: Vec<u32> = (0..rows.len() as u32).map(|row| row / step).collect();
            let side = Vectors::new(name, rows, metric, &ctx).unwrap();
            side.kept_apart((step > 1).then_some(keys))
        };
        for (metric, k, two_sided, step) in [
            (Metric::Euclidean, 10, false, 1),
            (Metric::Cosine, 1, true, 1),
            (Metric::Cosine, 30, false, 1),
            (Metric::Euclidean, 5, true, 3),
        ] {
            let mut right = side("items", items, metric, step);
            let mut left = two_sided.then(|| side("queries", queries, metric, step));
            let expected = all_pairs(left.as_ref(), &right, k, &best).unwrap();
            let found = by_leading_axes(left.as_mut(), &mut right, k, &ctx).unwrap();
            assert!(found.expect("is worth it") == expected, "{metric} {k}");
        }
    }

    #[test]
    fn rows_without_leading_axes_are_compared_at_once() {
        let values = gaussians(5000 * DIM, 8);
        let ctx = Context::on(Isa::SCALAR);
        let rows = Rows::new(&values, DIM).unwrap();
        let mut right = Vectors::new("items", rows, Metric::Euclidean, &ctx).unwrap();
        assert!(
            by_leading_axes(None, &mut right, 10, &ctx)
                .unwrap()
                .is_none()
        );
    }
}
