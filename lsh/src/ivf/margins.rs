//! How far rows probe: the lists whose centroids are further than the nearest one by no more than a
//! margin, in squares. The margin is learnt from rows whose neighbours are known.

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{
        context::Context,
        error::Result,
        plan::{as_probes, margin_of_probes},
        report::Estimate,
    },
    ivf::{
        coarse_quantiser::CoarseQuantiser,
        list_distances::{CentroidDistances, Margins},
        warm_start::WarmStart,
    },
    recall::{
        ground_truth::{GroundTruth, Known, Split},
        recall_curve::RecallCurve,
    },
    vectors::{Sides, Vectors},
};

/// How often a margin is chosen, at most, until held-out rows do not find it too narrow.
const ATTEMPTS: usize = 4;

/// Rows that tell how many lists are probed with a margin.
const SAMPLED: usize = 2048;

/// The margins with which rows find their known neighbours; 0 for those that the warm start finds.
/// In a self-join, the smaller of the margins with which either row finds the other.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn recall_curve<T: Scalar>(
    quantiser: &CoarseQuantiser,
    warm_start: &WarmStart,
    left: Option<&Vectors<'_, T>>,
    right: &Vectors<'_, T>,
    known: &[Known],
    ctx: &Context,
) -> Result<RecallCurve> {
    let rows: Vec<u32> = known.iter().map(|(row, _)| *row).collect();
    let of_row =
        |_: usize, distances: &CentroidDistances| Ok((distances.nearest(), distances.margins()?));
    let of_rows = quantiser.each_row_of(left.unwrap_or(right), &rows, of_row, ctx)?;
    let pairs = known.iter().zip(&of_rows);
    let pairs: Vec<(u32, &(u32, Margins))> = pairs
        .flat_map(|((_, others), of_row)| others.iter().map(move |&other| (other, of_row)))
        .collect();
    let others: Vec<u32> = pairs.iter().map(|&(other, _)| other).collect();
    let margin = |position: usize, distances: &CentroidDistances| {
        let (list, margins) = pairs[position].1;
        let other = distances.nearest();
        let straight = margins.binary_search_by_key(&other, |&(list, _)| list);
        let straight = straight.map_or(f32::INFINITY, |at| margins[at].1);
        Ok(match left {
            _ if warm_start.is_from(*list, other) => 0.0,
            Some(_) => straight,
            None => straight.min(distances.margin(*list)),
        })
    };
    let mut margins = quantiser
        .each_row_of(right, &others, margin, ctx)?
        .into_iter();
    let of_row = |(_, others): &Known| margins.by_ref().take(others.len()).collect();
    Ok(RecallCurve(known.iter().map(of_row).collect()))
}

/// How far rows probe to reach a recall.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    /// The margin with which they find as many of their neighbours as are asked for.
    pub(crate) margin: f32,
    /// One with which they find so many that a neighbour pass probably finds the others, where that
    /// is worth a try.
    pub(crate) before_pass: Option<f32>,
    /// How many lists they probe with the margin before a pass, or else all in all, on average.
    pub(crate) lists: f64,
    /// One with which they find half of those that they miss with `margin`, should these be more than was
    /// reckoned.
    pub(crate) wider: f32,
}

/// A neighbour pass may be tried where at least this share of so many neighbours is asked for: it finds
/// few that are near a row with few neighbours.
const PASS_FROM: (f64, usize) = (0.85, 5);

/// By how much the share of neighbours that are missed may be larger before a pass, which mostly finds
/// half of them, or more. Where more are missed than `FEW_MISSED`, so do the rows that it goes by, and
/// it finds fewer: the factor falls by so much for each share that is missed beyond that.
const PASS_FINDS: f64 = 1.8;
const FEW_MISSED: f64 = 0.05;
const PASS_FINDS_LESS: f64 = 6.0;

/// Pairs that could be probed while a pass compares a row with one of the neighbours of its neighbours.
const PROBES_OF_CANDIDATE: f64 = 8.0;

/// What of the probes by which rows make sure of a recall is saved by holding out twice as many, whose
/// mean has an error that is less by the square root of two; and how much longer a pair takes that is
/// probed than one with a held-out row.
const SAVED_BY_TWICE: f64 = 0.29 * 1.7;

impl Reach {
    /// As far as this, whatever is found.
    pub(crate) const fn without_pass(margin: f32, lists: f64) -> Self {
        Self {
            margin,
            before_pass: None,
            lists,
            wider: margin,
        }
    }

    /// The margin before a pass, if one is tried, or else the only one.
    pub(crate) fn first(&self) -> f32 {
        self.before_pass.unwrap_or(self.margin)
    }
}

/// How far rows probe to reach a recall, and what comes of it.
pub(crate) struct ReachStudy {
    /// The margins with which the rows of the calibration find their neighbours.
    pub(crate) curve: RecallCurve,
    pub(crate) reach: Reach,
    /// What rows probe with its margin.
    pub(crate) stats: ProbeStats,
    /// What they would probe with the margin that will do as likely as not: to hold out more rows brings it
    /// nearer to that.
    pub(crate) likely: ProbeStats,
    /// Whether it saves more than it takes to hold out as many rows again.
    pub(crate) twice_pays: bool,
}

impl ReachStudy {
    /// By the rows that are held out.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn of<T: Scalar>(
        quantiser: &CoarseQuantiser,
        warm_start: &WarmStart,
        (left, right): Sides<'_, '_, T>,
        ground_truth: &GroundTruth<T>,
        recall: f64,
        ctx: &Context,
    ) -> Result<Self> {
        let known = ground_truth.known(Split::Calibration);
        let curve = recall_curve(quantiser, warm_start, left, right, &known, ctx)?;
        let missed = 1.0 - recall;
        let pass_finds = PASS_FINDS - PASS_FINDS_LESS * (missed - FEW_MISSED).max(0.0);
        let recall_before = 1.0 - pass_finds.max(1.0) * missed;
        let margin = curve.threshold_for(recall);
        let before_pass = curve.threshold_for(recall_before);
        let margins = [
            margin,
            curve.likely_threshold_for(recall),
            before_pass,
            curve.likely_threshold_for(recall_before),
        ];
        let probing = left.unwrap_or(right);
        let [stats, likely, stats_before, likely_before] =
            probe_stats(quantiser, warm_start, probing, margins, ctx)?;
        let k = ground_truth.k();
        let candidates = k as f64 * k as f64;
        let saved = (stats.share - stats_before.share) * right.len() as f64;
        let has_pass = left.is_none()
            && recall >= PASS_FROM.0
            && k >= PASS_FROM.1
            && saved > PROBES_OF_CANDIDATE * candidates;
        let (first, likely_first) = match has_pass {
            true => (stats_before, likely_before),
            false => (stats, likely),
        };
        let saved = SAVED_BY_TWICE * (first.share - likely_first.share) * probing.len() as f64;
        let reach = Reach {
            margin,
            before_pass: has_pass.then_some(before_pass),
            lists: first.lists,
            wider: curve.threshold_for(0.5 + 0.5 * recall),
        };
        Ok(Self {
            curve,
            reach,
            stats,
            likely,
            twice_pays: saved > ground_truth.len() as f64,
        })
    }
}

/// How far rows probe to find `recall` of their neighbours, and the recall of rows that it was not
/// chosen by. More rows are held out as long as that pays. Where the recall falls short, the choice is
/// made anew by these rows as well, and its recall measured on others.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn margin_for<T: Scalar>(
    quantiser: &CoarseQuantiser,
    warm_start: &WarmStart,
    (left, right): Sides<'_, '_, T>,
    ground_truth: &mut GroundTruth<T>,
    recall: f64,
    ctx: &Context,
) -> Result<(ReachStudy, Estimate)> {
    let mut attempts = 1..ATTEMPTS;
    loop {
        let sides = (left, right);
        let study = ReachStudy::of(quantiser, warm_start, sides, ground_truth, recall, ctx)?;
        if study.twice_pays && ground_truth.double(sides, ctx)? {
            continue;
        }
        let known = ground_truth.known(Split::Check);
        let check = recall_curve(quantiser, warm_start, left, right, &known, ctx)?;
        let found = Estimate::of(check.found(study.reach.margin));
        let again = found.falls_short(recall) && attempts.next().is_some();
        if !again || !ground_truth.redraw_check(sides, ctx)? {
            return Ok((study, found));
        }
    }
}

/// The margin with which rows probe so many lists on average, by a sample.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn margin_of<T: Scalar>(
    quantiser: &CoarseQuantiser,
    side: &Vectors<'_, T>,
    probes: f64,
    ctx: &Context,
) -> Result<f32> {
    let rows = side.sample(SAMPLED);
    let margins = quantiser.each_row_of(side, &rows, |_, distances| distances.margins(), ctx)?;
    let margins = margins.into_iter().flatten().map(|(_, margin)| margin);
    let mut margins = memory::collect(margins, "margins")?;
    Ok(margin_of_probes(&mut margins, rows.len(), probes))
}

/// How many lists rows probe with a margin, on average, by a sample: with so many, [`margin_of`] is no
/// less.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn probes_within<T: Scalar>(
    quantiser: &CoarseQuantiser,
    side: &Vectors<'_, T>,
    margin: f32,
    ctx: &Context,
) -> Result<f64> {
    let rows = side.sample(SAMPLED);
    let of_row = |_: usize, distances: &CentroidDistances| {
        let mut lists = 0;
        distances.within(margin, |_, _| lists += 1);
        Ok(lists)
    };
    let lists: usize = quantiser
        .each_row_of(side, &rows, of_row, ctx)?
        .into_iter()
        .sum();
    // One more, since the margin lies between that of the last list and the next.
    Ok(as_probes((lists + 1) as f64 / rows.len().max(1) as f64))
}

/// What rows probe with a margin, on average, by a sample.
#[derive(Clone, Copy, Default)]
pub(crate) struct ProbeStats {
    /// Lists that a row probes after the warm start.
    pub(crate) lists: f64,
    /// The share of the right rows that are in them.
    pub(crate) share: f64,
    /// The share of the right rows that a row is compared with in the warm start.
    pub(crate) warm_start: f64,
}

/// Probes, at most, of rows that probe more than this share of the others: more take long to find.
const MOST_PROBES: f64 = (1_u64 << 28) as f64;
const MANY: f64 = 0.5;

impl ProbeStats {
    /// Whether so many rows would probe most of the lists, and that be much to find: to compare all
    /// pairs takes about as long, and finds all.
    pub(crate) fn are_too_many(&self, rows: usize) -> bool {
        self.share > MANY && self.lists * rows as f64 > MOST_PROBES
    }
}

/// What left rows probe with each of these margins, after the warm start.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn probe_stats<T: Scalar, const N: usize>(
    quantiser: &CoarseQuantiser,
    warm_start: &WarmStart,
    left: &Vectors<'_, T>,
    margins: [f32; N],
    ctx: &Context,
) -> Result<[ProbeStats; N]> {
    let rows = left.sample(SAMPLED);
    let most = margins.into_iter().fold(0.0, f32::max);
    let of_row = |_: usize, distances: &CentroidDistances| {
        let own = distances.nearest();
        let none = ProbeStats {
            warm_start: warm_start.of(own),
            ..ProbeStats::default()
        };
        let mut stats = [none; N];
        distances.within(most, |list, further| {
            if warm_start.covers(own, list) {
                return;
            }
            for (stats, margin) in stats.iter_mut().zip(margins) {
                if further <= margin {
                    stats.lists += 1.0;
                    stats.share += warm_start.share(list);
                }
            }
        });
        Ok(stats)
    };
    let of_rows = quantiser.each_row_of(left, &rows, of_row, ctx)?;
    let count = (of_rows.len() as f64).max(1.0);
    let mean = |position: usize| {
        let of_rows = of_rows.iter().map(|stats| stats[position]);
        of_rows.fold(ProbeStats::default(), |sum, stats| ProbeStats {
            lists: sum.lists + stats.lists / count,
            share: sum.share + stats.share / count,
            warm_start: sum.warm_start + stats.warm_start / count,
        })
    };
    Ok(std::array::from_fn(mean))
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::Rows;

    use super::*;
    use crate::{
        base::{metric::Metric, random::gaussians},
        pairs::top_k_lists::warm_start_rows,
    };

    #[test]
    fn as_many_probes_as_a_margin_has_give_no_less_and_hardly_more() -> Result<()> {
        const DIM: usize = 8;
        let ctx = Context::new()?;
        let values = gaussians(4000 * DIM, 2);
        let side = Vectors::new("rows", Rows::new(&values, DIM)?, Metric::Euclidean, &ctx)?;
        let quantiser = CoarseQuantiser::of_side(&side, 40, None, 0, &ctx)?;
        for margin in [0.0, 0.1, 0.5, 2.0, 50.0] {
            let probes = probes_within(&quantiser, &side, margin, &ctx)?;
            let again = margin_of(&quantiser, &side, probes, &ctx)?;
            let more = probes_within(&quantiser, &side, again, &ctx)?;
            let all = quantiser.len() as f64;
            assert!(again >= margin || probes > all, "{margin}: {again}");
            assert!(more - probes <= 0.02, "{margin}: {probes} and {more}");
        }
        Ok(())
    }

    #[test]
    fn a_pass_is_tried_where_it_saves_more_pairs_than_it_takes() -> Result<()> {
        const DIM: usize = 8;
        let ctx = Context::new()?;
        let values = gaussians(16_000 * DIM, 1);
        let side = Vectors::new("rows", Rows::new(&values, DIM)?, Metric::Euclidean, &ctx)?;
        let sides = (None, &side);
        // Lists of 1000 rows: to probe one more costs as much as some hundred candidates of a pass.
        for (k, recall, has_pass) in [
            (5, 0.95, true),
            (5, 0.9, true),
            (5, 0.8, false),
            (4, 0.95, false),
            (40, 0.95, false),
        ] {
            let quantiser = CoarseQuantiser::of_side(&side, 16, None, 0, &ctx)?;
            let near = warm_start_rows(k, side.len(), false);
            let warm_start = WarmStart::new(&quantiser, &side, true, near, &ctx)?;
            let mut ground_truth = GroundTruth::for_recall(None, &side, k, recall, &ctx)?;
            let (ReachStudy { reach, .. }, found) = margin_for(
                &quantiser,
                &warm_start,
                sides,
                &mut ground_truth,
                recall,
                &ctx,
            )?;
            assert_eq!(reach.before_pass.is_some(), has_pass, "{k} {recall}");
            assert!(reach.before_pass.is_none_or(|before| before < reach.margin));
            assert!(reach.wider >= reach.margin && found.high >= recall);
        }
        Ok(())
    }
}
