//! Joins within groups of rows: only rows of equal keys are compared.
//!
//! There may be one group, or a million. What a join costs beside its pairs is paid once, not once a
//! group:
//! - where most of a group is asked for, all its distances are computed and sorted, row by row;
//! - other small groups are compared in full, all by one tile join, as pairs of blocks;
//! - only large ones, for which there is something to save, are joined one after the other as any
//!   rows are, all by one plan: that of the largest, with lists in proportion.

use std::cmp::Reverse;

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{
        ROW_NUMBERS,
        check::positive,
        context::Context,
        error::{Error, Result},
        input::{Gathered, Input},
        keys::{Keys, NO_KEY},
        magnitude,
        metric::Metric,
        plan::JoinPlan,
        report::Estimate,
    },
    join::inner_product::Products,
    pairs::{
        by_sorting::{among_candidates, are_most},
        groups::{GROUPS, Group, Groups},
        results::{NEIGHBORS, Neighbors},
        top_k_join::{EXACT_BELOW, TopKJoin},
    },
    planner::{
        cost_model::{Costs, Workload},
        prediction::{PlanStudy, PredictedPlan, Prediction},
    },
    vectors::{Vectors, duplicates::Distinct},
};

/// What is asked of a join within groups.
#[derive(Clone, Copy)]
pub(crate) struct Within<'a, T> {
    pub(crate) input: Input<'a, T>,
    pub(crate) keys: Keys<'a>,
    pub(crate) k: usize,
    pub(crate) metric: Metric,
    pub(crate) ctx: &'a Context,
}

/// How the rows of a group are joined.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// All distances are computed and sorted.
    Sorted,
    /// All pairs are compared.
    Small,
    /// As a join of its own.
    Large,
}

impl Kind {
    fn of(group: &Group, k: usize) -> Self {
        if are_most(k, group.right.len()) {
            Self::Sorted
        } else if group.left.len().min(group.right.len()) < EXACT_BELOW {
            Self::Small
        } else {
            Self::Large
        }
    }
}

/// Some of the groups, as one join.
struct Part<T> {
    /// Copies of their rows, where these are few of all.
    gathered: Option<Gathered<T>>,
    /// The left and the right rows that take part, rising.
    rows: (Vec<u32>, Vec<u32>),
    /// The number of its group for each row that takes part or, without copies, for all.
    keys: (Option<Vec<u32>>, Vec<u32>),
}

impl<T: Scalar> Within<'_, T> {
    /// The k nearest of each query among the items of its key, by `plan` or else by one that `join`
    /// makes. It joins a large group, by a plan if there is one.
    ///
    /// # Errors
    /// Those of `join`, and when a row holds NaN or infinity, `k` is 0, there is no memory, or the run is cancelled.
    pub(crate) fn knn(
        &self,
        plan: Option<JoinPlan>,
        join: impl Fn(Input<'_, T>, Option<JoinPlan>) -> Result<(Neighbors<T>, PredictedPlan)>,
    ) -> Result<(Neighbors<T>, PredictedPlan)> {
        let Self { input, k, ctx, .. } = *self;
        let groups = self.groups()?;
        if let [group] = groups.groups.as_slice()
            && group.is_all(input.left(), input.items.len())
        {
            return join(input, plan);
        }
        let mut all = Found::new(&input, k)?;
        for kind in [Kind::Sorted, Kind::Small] {
            let Some(part) = self.part(&groups, kind)? else {
                continue;
            };
            let of_part = Within {
                input: part.input(input)?,
                keys: part.keys(),
                ..*self
            };
            let found = match kind {
                Kind::Sorted => of_part.sorted(),
                _ => of_part.small(),
            }?;
            let rows = (part.rows.0.as_slice(), part.rows.1.as_slice());
            all.add(found, part.gathered.is_some(), rows, Some(Estimate::EXACT));
        }
        let large = largest_first(&groups, k);
        let mut planned: Option<PredictedPlan> = None;
        for group in &large {
            let rows = groups.rows(group);
            let part = input.gather(rows.0, rows.1)?;
            let share = group.right.len() as f64 / large[0].right.len() as f64;
            let plan = plan.or(planned.as_ref().map(|planned| planned.plan));
            // Until this join has measured its own.
            ctx.reached_unknown();
            let (found, by) = join(part.input()?, plan.map(|plan| plan.for_fewer(share)))?;
            drop(part);
            all.add(found, true, rows, ctx.recall());
            planned.get_or_insert(by);
        }
        let planned = match (planned, plan) {
            (Some(planned), Some(_)) => planned,
            (Some(planned), None) => self.predicted(planned, &groups),
            (None, Some(plan)) => PredictedPlan {
                plan,
                predicted: None,
            },
            (None, None) => self.exact(&groups),
        };
        match all.recall() {
            Some(recall) => ctx.reached(recall),
            None => ctx.reached_unknown(),
        }
        Ok((all.neighbors, planned))
    }

    /// The plan of [`Within::knn`], with what `study` considers for the largest group.
    ///
    /// # Errors
    /// Those of `study`, and as [`Within::knn`].
    pub(crate) fn study(
        &self,
        study: impl Fn(Input<'_, T>) -> Result<PlanStudy>,
    ) -> Result<PlanStudy> {
        let input = self.input;
        let groups = self.groups()?;
        if let [group] = groups.groups.as_slice()
            && group.is_all(input.left(), input.items.len())
        {
            return study(input);
        }
        let large = largest_first(&groups, self.k);
        let Some(largest) = large.first() else {
            let chosen = self.exact(&groups);
            return Ok(PlanStudy {
                considered: Vec::new(),
                chosen,
                near: Vec::new(),
                random: Vec::new(),
            });
        };
        let (left, right) = groups.rows(largest);
        let of_largest = study(input.gather(left, right)?.input()?)?;
        Ok(PlanStudy {
            chosen: self.predicted(of_largest.chosen, &groups),
            ..of_largest
        })
    }

    fn groups(&self) -> Result<Groups> {
        let Self { input, keys, .. } = *self;
        let queries = input.queries;
        positive("k", self.k)?;
        // Before rows are copied, so that an error has the number that they have here.
        magnitude::check("items", input.items, self.metric, self.ctx)?;
        if let Some(queries) = queries {
            magnitude::check("queries", queries, self.metric, self.ctx)?;
        }
        self.ctx.begin_stage("groups");
        Groups::new(keys.queries, keys.items)
    }

    /// The rows of the groups of a kind; `None` where there is no such group.
    fn part(&self, groups: &Groups, kind: Kind) -> Result<Option<Part<T>>> {
        let Self { input, k, .. } = *self;
        let of_kind = groups.groups.iter().zip(0..);
        let of_kind = of_kind.filter(|(group, _)| Kind::of(group, k) == kind);
        if of_kind.clone().next().is_none() {
            return Ok(None);
        }
        let mut right = memory::filled(NO_KEY, input.items.len(), GROUPS)?;
        let mut left = match input.queries {
            Some(queries) => Some(memory::filled(NO_KEY, queries.len(), GROUPS)?),
            None => None,
        };
        for (group, key) in of_kind {
            let (of_left, of_right) = groups.rows(group);
            of_right.iter().for_each(|&row| right[row as usize] = key);
            if let Some(left) = &mut left {
                of_left.iter().for_each(|&row| left[row as usize] = key);
            }
        }
        let rows = |keys: &[u32]| {
            let rows = (0..).zip(keys).filter(|&(_, &key)| key != NO_KEY);
            memory::collect(rows.map(|(row, _)| row), ROW_NUMBERS)
        };
        let rows = (rows(left.as_ref().unwrap_or(&right))?, rows(&right)?);
        let mut part = Part {
            gathered: None,
            rows,
            keys: (left, right),
        };
        let (left, right) = &part.rows;
        if left.len() + right.len() <= (input.left() + input.items.len()) / 2 {
            part.gathered = Some(input.gather(left, right)?);
            let (left, right) = &mut part.keys;
            right.retain(|&key| key != NO_KEY);
            if let Some(left) = left {
                left.retain(|&key| key != NO_KEY);
            }
        }
        Ok(Some(part))
    }

    /// All distances, sorted.
    fn sorted(&self) -> Result<Neighbors<T>> {
        let Self {
            input,
            keys,
            k,
            metric,
            ctx,
        } = *self;
        ctx.begin_stage("all pairs");
        let (of_queries, of_items) = input.keys_apart();
        let right = Vectors::without_codes("items", input.items, metric, ctx)?;
        let right = right.kept_apart(of_items);
        let left = input.queries.map(|queries| {
            let left = Vectors::without_codes("queries", queries, metric, ctx)?;
            Ok::<_, Error>(left.kept_apart(of_queries))
        });
        let left = left.transpose()?;
        let groups = Groups::new(keys.queries, keys.items)?;
        let mut items_of: Vec<&[u32]> = memory::filled([].as_slice(), input.left(), GROUPS)?;
        for group in &groups.groups {
            let (left, right) = groups.rows(group);
            left.iter().for_each(|&row| items_of[row as usize] = right);
        }
        ctx.count_pairs(groups.pairs());
        among_candidates(left.as_ref(), &right, k, |row| items_of[row as usize], ctx)
    }

    /// All pairs, as tiles.
    fn small(&self) -> Result<Neighbors<T>> {
        let Self { input, keys, .. } = *self;
        if self.metric != Metric::InnerProduct {
            return self.tiles();
        }
        let products = Products::in_one_group(input, self.ctx)?;
        let keys = keys.two_sided();
        products.knn(self.k, self.ctx, |input, k| {
            let augmented = Within {
                input,
                keys,
                k,
                ..*self
            };
            augmented.tiles()
        })
    }

    /// The same for rows that are ready for their metric: for inner products, augmented.
    fn tiles(&self) -> Result<Neighbors<T>> {
        let Self {
            input,
            keys,
            k,
            metric,
            ctx,
        } = *self;
        ctx.begin_stage("duplicates");
        let distinct = Distinct::of_input(&input, Some(keys.items), k, ctx)?;
        ctx.begin_stage("codes");
        let (left, right) = Vectors::of_input(input, metric, distinct, ctx)?;
        ctx.begin_stage("all pairs");
        ctx.reached(Estimate::EXACT);
        let of_ids = right.rows_by_id().map(|rows| {
            let keys = rows.iter().map(|&row| keys.items[row as usize]);
            memory::collect(keys, GROUPS)
        });
        let of_ids = of_ids.transpose()?;
        let groups = Groups::new(keys.queries, of_ids.as_deref().unwrap_or(keys.items))?;
        TopKJoin::new(left.as_ref(), &right, k, ctx)?.in_groups(&groups)
    }

    /// The plan where no group is large.
    fn exact(&self, groups: &Groups) -> PredictedPlan {
        let workload = self.workload(self.input.left(), self.input.items.len());
        let costs = Costs::of(self.ctx.isa());
        let pairs = groups.pairs() as f64;
        let others = costs.compare(workload.exact_pairs() - pairs, workload.dim);
        let work = (costs.exact(&workload) - others).max(0.0);
        let mut exact = Prediction::exact(&workload, costs.seconds(work));
        exact.share = pairs / workload.pairs().max(1.0);
        exact.why = "groups are small".into();
        exact.of(JoinPlan::Exact)
    }

    /// The plan of the largest group, with what is predicted of all.
    fn predicted(&self, largest: PredictedPlan, groups: &Groups) -> PredictedPlan {
        let plan = largest.plan;
        let large = largest_first(groups, self.k);
        let (Some(first), Some(mut predicted)) = (large.first(), largest.predicted) else {
            return PredictedPlan {
                plan,
                predicted: None,
            };
        };
        let of_largest = self.workload(first.left.len(), first.right.len());
        // Lists are as large in all groups: a row is compared with as many items.
        let of_row = predicted.share * first.right.len() as f64;
        let pairs = |group: &Group| match (plan, Kind::of(group, self.k)) {
            (JoinPlan::Ivf(_), Kind::Large) => group.left.len() as f64 * of_row,
            _ => groups.pairs_of(group) as f64,
        };
        let all: f64 = groups.groups.iter().map(pairs).sum();
        let workload = self.workload(self.input.left(), self.input.items.len());
        predicted.seconds *= all / (predicted.share * of_largest.pairs()).max(1.0);
        predicted.share = all / workload.pairs().max(1.0);
        predicted.why = format!(
            "the largest of {} groups has {} rows: {}",
            groups.groups.len(),
            first.right.len(),
            predicted.why
        );
        predicted.of(plan)
    }

    fn workload(&self, left: usize, right: usize) -> Workload {
        Workload {
            left,
            right,
            with_itself: self.input.queries.is_none(),
            dim: self.input.items.dim(),
            k: self.k.min(right),
            width: size_of::<T>(),
            metric: self.metric,
            ambiguous: 0.0,
            held_out: 0,
        }
    }
}

/// The groups that are joined one by one. Of several as large the first comes first.
fn largest_first(groups: &Groups, k: usize) -> Vec<Group> {
    let large = groups.groups.iter();
    let large = large.filter(|group| Kind::of(group, k) == Kind::Large);
    let mut large: Vec<Group> = large.cloned().collect();
    large.sort_by_key(|group| Reverse(group.left.len() as u64 * group.right.len() as u64));
    large
}

impl<T: Scalar> Part<T> {
    fn input<'a>(&'a self, all: Input<'a, T>) -> Result<Input<'a, T>> {
        self.gathered.as_ref().map_or(Ok(all), Gathered::input)
    }

    fn keys(&self) -> Keys<'_> {
        Keys {
            queries: self.keys.0.as_deref(),
            items: &self.keys.1,
        }
    }
}

/// What has been found so far.
struct Found<T> {
    neighbors: Neighbors<T>,
    /// The rows of each part, and their recall.
    recalls: Vec<(usize, Option<Estimate>)>,
}

impl<T: Scalar> Found<T> {
    fn new(input: &Input<'_, T>, k: usize) -> Result<Self> {
        let values = input.left().saturating_mul(k);
        let neighbors = Neighbors {
            k,
            distances: memory::filled(T::INFINITY, values, NEIGHBORS)?,
            indices: memory::filled(-1, values, NEIGHBORS)?,
        };
        Ok(Self {
            neighbors,
            recalls: Vec::new(),
        })
    }

    /// Adds what was found of these left rows, among these right rows. If copies of them were
    /// joined, its lists are theirs in turn, and it has their positions as indices.
    fn add(
        &mut self,
        found: Neighbors<T>,
        of_copies: bool,
        (left, right): (&[u32], &[u32]),
        recall: Option<Estimate>,
    ) {
        let all = &mut self.neighbors;
        for (position, &row) in left.iter().enumerate() {
            let from = if of_copies { position } else { row as usize };
            let (from, to) = (from * all.k, row as usize * all.k);
            let (from, to) = (from..from + all.k, to..to + all.k);
            all.distances[to.clone()].copy_from_slice(&found.distances[from.clone()]);
            for (to, &index) in all.indices[to].iter_mut().zip(&found.indices[from]) {
                *to = match usize::try_from(index) {
                    Ok(position) if of_copies => right[position].into(),
                    _ => index,
                };
            }
        }
        self.recalls.push((left.len(), recall));
    }

    /// The recall of all; `None` where that of a part is unknown.
    fn recall(&self) -> Option<Estimate> {
        let parts = self.recalls.iter();
        let parts = parts.map(|&(rows, recall)| Some((rows, recall?)));
        let parts = parts.collect::<Option<Vec<_>>>()?;
        match parts.as_slice() {
            [] => Some(Estimate::EXACT),
            parts => Some(Estimate::of_parts(parts.iter().copied())),
        }
    }
}
