//! The planner: which plan reaches a recall at the least cost, on these rows and this machine. Uses
//! [`ivf`](crate::ivf) and what is below it; begin with [`Planner::study`].
//!
//! Distances of sampled rows to all others tell where neighbours are and how far a random row is
//! (Slaney, Lifshits and He, "Optimal parameters for locality-sensitive hashing", 2012). What a
//! plan would find and compare is then counted on the sample, rather than modelled (Dong et al.,
//! "Modeling LSH for performance tuning", 2008, fit a model instead), and weighed by what the steps
//! take on the instruction set. The recall that is promised is that of rows which no choice was
//! made by.
//!
//! The candidates are all pairs and inverted lists. Tables of sign bits are no candidate: on AMX as
//! on AVX2, lists got there sooner in all but two of 168 joins, and there as soon.

mod contrast;
pub(crate) mod cost_model;
pub(crate) mod prediction;

use std::collections::VecDeque;

use lshjoin_kernels::Scalar;

use crate::{
    base::{
        check::check_recall,
        context::Context,
        error::Result,
        input::Input,
        metric::Metric,
        plan::{IvfPlan, JoinPlan, MOST_LISTS, lists_of_row},
        report::Estimate,
    },
    ivf::{
        centroids::ROUNDS,
        coarse_quantiser::{CoarseQuantiser, LEARNT_FROM},
        margins::{ProbeStats, Reach, ReachStudy, margin_for, probe_stats, recall_curve},
        state::{IvfState, PlannedJoin, learn},
        warm_start::WarmStart,
    },
    pairs::{by_sorting::are_most, top_k_join::are_few, top_k_lists::warm_start_rows},
    planner::{
        contrast::{contrast, furthest_lengths, is_hard, random_lengths},
        cost_model::{Costs, Workload},
        prediction::{PlanStudy, PredictedPlan, Prediction, Setting},
    },
    recall::{
        ground_truth::{self, GroundTruth, Split},
        others::Others,
    },
    vectors::{Sides, Vectors, duplicates::Distinct},
};

/// All pairs are compared without planning where there are fewer items than this, fewer pairs than
/// those of so many rows with themselves,
const SMALL: usize = 5000;
/// or fewer left rows than this: held-out ones would be most of them.
const FEW_ROWS: usize = 1000;

/// Lists are considered if, were they to compare only the share `LUCKY` of the pairs, they could
/// do with the share `SAVED` of the work of comparing all.
const SAVED: f64 = 0.9;
const LUCKY: f64 = 0.01;

/// The numbers of lists that are considered beside the usual one, as parts of it, and the share of the
/// join's time that the study of one may take. What does well mostly comes first.
const OTHER_LISTS: (&[f64], f64) = (&[2.0, 0.5], 0.005);
/// The same where rows probe more than the share `MANY` of the lists: fewer are as good then, and sooner gone
/// through.
const FEWER_LISTS: (&[f64], f64) = (&[0.35], 0.03);
const MANY: f64 = 0.25;

/// Recalls that the study of a number of lists predicts, beside the one that is asked for.
const CURVE: [f64; 6] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.99];

/// What is asked of the planner.
pub(crate) struct Planner<'a> {
    recall: f64,
    others: Others,
    seed: u64,
    costs: Costs,
    ctx: &'a Context,
}

/// The settings of one number of lists.
struct ListStudy {
    /// Lists that were asked for; there may be a few more or fewer.
    count: usize,
    quantiser: CoarseQuantiser,
    warm_start: WarmStart,
    /// The setting that reaches the recall asked for.
    setting: Setting,
    /// Its recall on the rows of the check.
    recall: Estimate,
    /// How far its rows probe.
    reach: Reach,
    /// What its rows probe.
    stats: ProbeStats,
    /// How long it would take with as few probes as probably reach the recall.
    likely_seconds: f64,
    /// Whether to hold out more rows pays.
    twice_pays: bool,
    /// That setting and those that reach other recalls.
    curve: Vec<Setting>,
}

impl<'a> Planner<'a> {
    /// # Errors
    /// When `recall` is not above 0 and at most 1.
    pub(crate) fn new(recall: f64, seed: u64, ctx: &'a Context) -> Result<Self> {
        check_recall("recall", recall)?;
        Ok(Self {
            recall,
            others: Others { k: None },
            seed,
            costs: Costs::of(ctx.isa()),
            ctx,
        })
    }

    /// The same with recall counted as `others` does.
    pub(crate) fn for_others(self, others: Others) -> Self {
        Self { others, ..self }
    }

    /// A study of rows, prepared as the join prepares them.
    pub(crate) fn study_rows<T: Scalar>(
        &self,
        input: Input<'_, T>,
        k: usize,
        metric: Metric,
    ) -> Result<PlanStudy> {
        let ctx = self.ctx;
        ctx.begin_stage("plan");
        let distinct = Distinct::of_input(&input, None, k, ctx)?;
        let (left, right) = Vectors::of_input(input, metric, distinct, ctx)?;
        let studied = self.study((left.as_ref(), &right), k)?.1;
        ctx.foresee(0.0); // no join follows
        Ok(studied)
    }

    /// How to join these sides, and the plan with what is predicted of it.
    pub(crate) fn choose<T: Scalar>(
        &self,
        sides: Sides<'_, '_, T>,
        k: usize,
    ) -> Result<(PlannedJoin<T>, PredictedPlan)> {
        let (choice, study) = self.study(sides, k)?;
        Ok((choice, study.chosen))
    }

    /// How to join these sides, and how that was found.
    pub(crate) fn study<T: Scalar>(
        &self,
        sides: Sides<'_, '_, T>,
        k: usize,
    ) -> Result<(PlannedJoin<T>, PlanStudy)> {
        let ctx = self.ctx;
        ctx.begin_stage("plan");
        let (left, right) = sides;
        let recall = self.recall_of_all();
        let mut workload = Workload::of(sides, k);
        workload.held_out = ground_truth::count_at_first(workload.left, k, recall);
        let seconds = self.costs.seconds(self.costs.exact(&workload));
        let mut exact = Prediction::exact(&workload, seconds);
        let usual = workload.usual_lists().min(MOST_LISTS);
        let has_codes = right.codes.is_some();
        if let Some(why) = self.why_at_once(&workload, k, has_codes, usual) {
            exact.why = why.into();
            let study = PlanStudy {
                considered: vec![exact.setting(JoinPlan::Exact)],
                chosen: exact.of(JoinPlan::Exact),
                near: Vec::new(),
                random: Vec::new(),
            };
            return Ok((PlannedJoin::of(JoinPlan::Exact), study));
        }

        ctx.foresee(foreseen(&workload, usual));
        let mut ground_truth = GroundTruth::for_recall(left, right, k, recall, ctx)?;
        let near = furthest_lengths(sides, &ground_truth);
        let random = random_lengths(sides, &ground_truth, self.seed, ctx)?;
        exact.contrast = contrast(&near, &random.distances, right.metric);
        workload.ambiguous = random.ambiguous;
        exact.seconds = self.costs.seconds(self.costs.exact(&workload));
        let mut considered = vec![exact.setting(JoinPlan::Exact)];
        let mut best: Option<ListStudy> = None;
        let mut list_counts = VecDeque::from([(usual, f64::INFINITY)]);
        while let Some((count, most_planning)) = list_counts.pop_front() {
            let planning = self.costs.seconds(self.costs.study(&workload, count));
            let best_yet = best.as_ref().map(|best| best.setting.seconds);
            let least = best_yet.unwrap_or(f64::INFINITY).min(exact.seconds);
            if best.is_some() && planning > most_planning * least {
                continue;
            }
            let for_recall = (Some(self.recall), self.seed);
            let learnt = learn(count, for_recall, sides, workload.k, ctx)?;
            let reach = ReachStudy::of(&learnt.0, &learnt.1, sides, &ground_truth, recall, ctx)?;
            let study = self.lists(&workload, count, learnt, sides, (&ground_truth, reach))?;
            considered.extend_from_slice(&study.curve);
            if count == usual {
                let (parts, most) = match study.stats.share > MANY {
                    true => FEWER_LISTS,
                    false => OTHER_LISTS,
                };
                let counts = parts.iter().map(|part| (part * usual as f64) as usize);
                let counts = counts.map(|count| count.clamp(1, MOST_LISTS));
                let counts = counts.filter(|&count| count != usual);
                list_counts.extend(counts.map(|count| (count, most)));
            }
            if study.reach.margin.is_infinite() {
                continue; // some neighbours are out of reach
            }
            let quicker = |best: &ListStudy| study.setting.seconds < best.setting.seconds;
            if best.as_ref().is_none_or(quicker) {
                best = Some(study);
            }
        }
        let wants_more = |best: &mut ListStudy| {
            let is_chosen = best.setting.seconds < exact.seconds;
            let may_be_chosen = best.twice_pays && best.likely_seconds < exact.seconds;
            may_be_chosen || is_chosen && best.recall.falls_short(self.recall)
        };
        if let Some(unsure) = best.take_if(wants_more) {
            // Held-out rows join in the choice until it stands, as in the join by this plan.
            let (count, learnt) = (unsure.count, (unsure.quantiser, unsure.warm_start));
            let (reach, _) =
                margin_for(&learnt.0, &learnt.1, sides, &mut ground_truth, recall, ctx)?;
            workload.held_out = ground_truth.len();
            considered.retain(|setting| !unsure.curve.contains(setting));
            let study = self.lists(&workload, count, learnt, sides, (&ground_truth, reach))?;
            considered.extend_from_slice(&study.curve);
            best = Some(study);
        }
        let (join, chosen) = self.conclude(&workload, exact, best, ground_truth);
        let study = PlanStudy {
            chosen,
            considered,
            near,
            random: random.distances,
        };
        Ok((join, study))
    }

    /// Why all pairs are compared without studying the rows, if they are.
    fn why_at_once(
        &self,
        workload: &Workload,
        k: usize,
        has_codes: bool,
        fewest_lists: usize,
    ) -> Option<&'static str> {
        if !has_codes {
            Some("this distance has no other plan")
        } else if self.recall == 1.0 {
            Some("all neighbours are asked for")
        } else if are_few(workload.left, workload.right, SMALL) || workload.left < FEW_ROWS {
            Some("a side is small")
        } else if are_most(k, workload.right) {
            Some("most of the items are asked for")
        } else if self.least(workload, fewest_lists) > SAVED * self.costs.exact(workload) {
            Some("planning would take as long as it saves")
        } else {
            None
        }
    }

    /// The quicker of all pairs and the best lists.
    fn conclude<T>(
        &self,
        workload: &Workload,
        mut exact: Prediction,
        best: Option<ListStudy>,
        ground_truth: GroundTruth<T>,
    ) -> (PlannedJoin<T>, PredictedPlan) {
        match best {
            Some(best)
                if best.setting.seconds < exact.seconds
                    && !best.stats.are_too_many(workload.left) =>
            {
                let predicted = Prediction {
                    recall: best.recall,
                    share: best.setting.share,
                    seconds: best.setting.seconds,
                    bytes: workload.bytes(best.quantiser.len(), best.stats.lists),
                    contrast: exact.contrast,
                    why: format!("to compare all pairs would take {:.1} s", exact.seconds),
                };
                let join = PlannedJoin {
                    plan: best.setting.plan,
                    prepared: Some(IvfState {
                        quantiser: best.quantiser,
                        warm_start: best.warm_start,
                        ground_truth: Some((self.recall_of_all(), ground_truth)),
                        reach: best.reach,
                        stats: best.stats,
                    }),
                };
                (join, predicted.of(best.setting.plan))
            }
            best => {
                let best = best.map(|best| best.setting);
                let hard = exact.contrast.filter(|_| is_hard(&exact));
                exact.why = why_exact(workload.k, hard, best);
                (PlannedJoin::of(JoinPlan::Exact), exact.of(JoinPlan::Exact))
            }
        }
    }

    /// The recall asked for, counted on all that rows find, themselves included.
    fn recall_of_all(&self) -> f64 {
        self.others.of_all(self.recall)
    }

    /// The work of a join by so many lists if all goes well.
    fn least(&self, workload: &Workload, lists: usize) -> f64 {
        let stats = ProbeStats {
            lists: LUCKY * lists as f64,
            share: LUCKY,
            warm_start: warm_start_rows(workload.k, workload.right, false) as f64
                / workload.right as f64,
        };
        let counts = (lists, lists_of_row(lists));
        self.costs.lists(workload, counts, stats, 0.0)
    }

    /// What these lists would compare and find, whose rows probe as far as a study says.
    fn lists<T: Scalar>(
        &self,
        workload: &Workload,
        count: usize,
        (quantiser, warm_start): (CoarseQuantiser, WarmStart),
        (left, right): Sides<'_, '_, T>,
        (ground_truth, study): (&GroundTruth<T>, ReachStudy),
    ) -> Result<ListStudy> {
        let ctx = self.ctx;
        let ReachStudy {
            curve,
            reach,
            stats,
            likely,
            twice_pays,
        } = study;
        let known = ground_truth.known(Split::Check);
        let check = recall_curve(&quantiser, &warm_start, left, right, &known, ctx)?;
        let of_held_out = ground_truth.len() as f64 / workload.left as f64;
        let found = |margin| self.others.found(Estimate::of(check.found(margin)));
        let soon = found(0.0).value;
        let of_row = quantiser.lists_of_row();
        let setting = |wanted: f64, margin: f32, stats: ProbeStats| {
            // As if no neighbour pass left the last probes out: whether it will is not known yet.
            let recall = found(margin).value;
            let work = self
                .costs
                .lists(workload, (quantiser.len(), of_row), stats, recall - soon);
            let plan = IvfPlan::new(count, 1.0).seed(self.seed);
            Setting {
                plan: JoinPlan::Ivf(plan.until_recall(wanted)),
                recall,
                share: (stats.share + stats.warm_start + of_held_out).min(1.0),
                seconds: self.costs.seconds(work),
            }
        };
        let margins = CURVE.map(|recall| curve.threshold_for(self.others.of_all(recall)));
        let probing = left.unwrap_or(right);
        let of_margins = probe_stats(&quantiser, &warm_start, probing, margins, ctx)?;
        let others = CURVE.into_iter().zip(margins).zip(of_margins);
        let others = others.map(|((wanted, margin), stats)| setting(wanted, margin, stats));
        let asked_for = setting(self.recall, reach.margin, stats);
        let likely_seconds = setting(self.recall, reach.margin, likely).seconds;
        Ok(ListStudy {
            count,
            setting: asked_for.clone(),
            recall: found(reach.margin),
            curve: std::iter::once(asked_for).chain(others).collect(),
            quantiser,
            warm_start,
            reach,
            stats,
            likely_seconds,
            twice_pays,
        })
    }
}

/// How many pairs will probably be compared, if so many lists do well: before it is known what rows
/// probe, held-out rows and lists are much of it.
fn foreseen(workload: &Workload, lists: usize) -> f64 {
    let of_held_out = workload.held_out * workload.right;
    let of_sample = ROUNDS * LEARNT_FROM * lists * lists;
    let of_row = lists as f64 + LUCKY * workload.right as f64;
    (of_held_out + of_sample) as f64 + workload.left as f64 * of_row
}

/// Why all pairs are compared rather than lists probed.
fn why_exact(k: usize, hard: Option<f64>, lists: Option<Setting>) -> String {
    let hard = hard.map(|contrast| {
        format!(
            "distances barely differ: a random item is only {contrast:.2} times as far as neighbour {k}"
        )
    });
    let lists = lists.map(|lists| {
        let share = 100.0 * lists.share;
        format!(
            "lists would compare {share:.0} % of the pairs and take {:.1} s",
            lists.seconds
        )
    });
    let reasons: Vec<String> = hard.into_iter().chain(lists).collect();
    reasons.join(", and ")
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::{Isa, Rows};
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::{
        base::random::gaussian,
        join::knn::{by_plan, by_recall, study},
    };

    const DIM: usize = 48;

    /// Random rows, around so many centres or none.
    fn rows(count: usize, centres: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let of_centres: Vec<f64> = (0..centres * DIM)
            .map(|_| 3.0 * gaussian(&mut rng))
            .collect();
        (0..count * DIM)
            .map(|at| {
                let (row, value) = (at / DIM, at % DIM);
                let centre = match centres {
                    0 => 0.0,
                    _ => of_centres[row % centres * DIM + value],
                };
                (centre + gaussian(&mut rng)) as f32
            })
            .collect()
    }

    #[test]
    fn few_pairs_are_compared_where_that_takes_long() {
        let values = rows(15_000, 100);
        let rows = Rows::new(&values, DIM).unwrap();
        let join = |isa| {
            let ctx = Context::on(isa);
            let (found, planned) =
                by_recall(Input::new(None, rows), 5, Metric::Euclidean, 0.9, 3, &ctx).unwrap();
            (found, planned, ctx.report())
        };
        let (found, planned, report) = join(Isa::SCALAR);
        let predicted = planned.predicted.unwrap();
        let JoinPlan::Ivf(plan) = planned.plan else {
            panic!("{predicted:?}")
        };
        assert_eq!((plan.seed, plan.until_recall), (3, Some(0.9)));
        assert!(predicted.recall.value >= 0.88 && predicted.share < 0.4 && predicted.seconds > 0.0);
        assert!(predicted.contrast.unwrap() > 1.5);
        let recall = report.recall.unwrap();
        assert!(recall.high >= 0.9 && recall.rows == 152);
        // What the planner made is what the join would have made.
        let ctx = Context::on(Isa::best());
        let again = by_plan(
            Input::new(None, rows),
            5,
            Metric::Euclidean,
            &planned.plan,
            &ctx,
        )
        .unwrap();
        assert!(again == found);
        assert_eq!(ctx.report().recall, Some(recall));
        let truth = by_plan(
            Input::new(None, rows),
            5,
            Metric::Euclidean,
            &JoinPlan::Exact,
            &ctx,
        )
        .unwrap();
        let lists = truth.distances.chunks(5).zip(found.distances.chunks(5));
        let hits = lists.map(|(near, found)| found.iter().filter(|&&far| far <= near[4]).count());
        assert!(hits.sum::<usize>() as f64 / truth.distances.len() as f64 > 0.88);
    }

    #[test]
    fn a_study_has_the_settings_that_it_chose_from() {
        let values = rows(24_000, 100);
        let rows = Rows::new(&values, DIM).unwrap();
        let (queries, items) = (rows.slice(0..8000), rows.slice(8000..24_000));
        let ctx = Context::on(Isa::SCALAR);
        for queries in [None, Some(queries)] {
            for metric in [Metric::Cosine, Metric::InnerProduct] {
                let study = study(Input::new(queries, items), 10, metric, 0.9, 0, &ctx).unwrap();
                assert_eq!(study.near.len(), study.random.len());
                let settings = study.considered.iter();
                let chosen = settings.clone().find(|one| one.plan == study.chosen.plan);
                let least = settings.filter(|one| match one.plan {
                    JoinPlan::Ivf(plan) => plan.until_recall == Some(0.9),
                    _ => true,
                });
                let least = least.map(|one| one.seconds).fold(f64::INFINITY, f64::min);
                assert_eq!(chosen.unwrap().seconds, least);
                for one in &study.considered {
                    assert!((0.0..=1.0).contains(&one.recall) && one.share > 0.0);
                }
            }
        }
    }

    #[test]
    fn hard_data_is_compared_in_full_and_said_to_be_hard() {
        let values = rows(9000, 0);
        let rows = Rows::new(&values, DIM).unwrap();
        let ctx = Context::on(Isa::SCALAR);
        let study = study(
            Input::new(None, rows),
            100,
            Metric::Euclidean,
            0.999,
            0,
            &ctx,
        )
        .unwrap();
        assert_eq!(study.chosen.plan, JoinPlan::Exact);
        let predicted = study.chosen.predicted.unwrap();
        assert!(
            predicted.why.contains("lists would compare"),
            "{}",
            predicted.why
        );
    }

    #[test]
    fn duplicates_do_not_count_as_rows() {
        let values = rows(9000, 0);
        let same: Vec<f32> = values[..DIM]
            .iter()
            .copied()
            .cycle()
            .take(9000 * DIM)
            .collect();
        let rows = Rows::new(&same, DIM).unwrap();
        let ctx = Context::on(Isa::SCALAR);
        let study = study(Input::new(None, rows), 3, Metric::Euclidean, 0.9, 0, &ctx).unwrap();
        assert_eq!(study.chosen.predicted.unwrap().why, "a side is small");
    }

    #[test]
    fn plans_are_read_as_they_are_written() {
        let values = rows(15_000, 100);
        let rows = Rows::new(&values, DIM).unwrap();
        let ctx = Context::on(Isa::SCALAR);
        let study = study(Input::new(None, rows), 3, Metric::Euclidean, 0.9, 0, &ctx).unwrap();
        let text = serde_json::to_string(&study.chosen).unwrap();
        let read: PredictedPlan = serde_json::from_str(&text).unwrap();
        assert_eq!(read, study.chosen);
        let bare = serde_json::to_string(&study.chosen.plan).unwrap();
        let read: PredictedPlan = serde_json::from_str(&bare).unwrap();
        assert_eq!((read.plan, read.predicted), (study.chosen.plan, None));
        let unknown = bare.replace('}', ", \"width\": 3}");
        assert!(serde_json::from_str::<PredictedPlan>(&unknown).is_err());
    }
}
