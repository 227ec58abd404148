//! Largest inner products as nearest neighbours, whatever the norms.
//!
//! With M the norm of the longest item, an item x becomes (x, √(M² − ‖x‖²)) and a query q becomes
//! (q, 0): then ‖q′ − x′‖² = ‖q‖² + M² − 2 q·x, and the nearest item has the largest inner product
//! (Y. Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation
//! for inner-product spaces", 2014). But where some items are much longer than others, all
//! distances are about M, and nothing is near. So items are joined in groups of similar norms, the
//! longest first, and a query takes part only in groups in which ‖q‖ times the longest norm exceeds
//! what it has found (C. Teflioudi, R. Gemulla and O. Mykytiuk, "LEMP: fast retrieval of large
//! entries in a matrix product", 2015; X. Yan et al., "Norm-ranging LSH for maximum inner product
//! search", 2018).
//!
//! Inner products are computed in double precision from the rows as given.

use lshjoin_kernels::{Rows, Scalar, exact_dot_products, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS, context::Context, error::Result, input::Input, keys::Keys, magnitude,
        metric::Metric, report::Estimate,
    },
    pairs::results::{NEIGHBORS, Neighbors},
    planner::{Planner, prediction::PlanStudy},
    recall::others::Others,
    vectors::{
        augment::{Augmented, augmented, exponent_of},
        norms::{norms_of, sum_of_squares},
    },
};

/// How many times as long as the shortest the longest item of a group may be.
const SPREAD: f64 = 4.0;

/// Fewer items than this go with longer ones: a group of their own would cost more than it saves.
const LEAST_GROUP: usize = 1024;

/// The relative rounding error of a bound from norms.
const ROUNDING: f64 = 1e-9;

/// Queries and items to be joined by inner product. Without queries the items are joined with
/// themselves, a row then not being its own neighbour.
pub(crate) struct Products<'a, T> {
    with_itself: bool,
    /// Keys of queries and items, where those of equal keys are kept apart.
    apart: Option<Keys<'a>>,
    queries: Rows<'a, T>,
    items: Rows<'a, T>,
    /// The norms of the queries.
    of_queries: Vec<f64>,
    groups: Vec<Group>,
}

/// Items of similar norms.
struct Group {
    longest: f64,
    items: Vec<u32>,
}

impl<'a, T: Scalar> Products<'a, T> {
    /// # Errors
    /// When a row holds NaN, infinity, or a number whose products could exceed the largest one.
    pub(crate) fn new(input: Input<'a, T>, ctx: &Context) -> Result<Self> {
        let Input { queries, items, .. } = input;
        magnitude::check("items", items, Metric::InnerProduct, ctx)?;
        if let Some(queries) = queries {
            magnitude::check("queries", queries, Metric::InnerProduct, ctx)?;
        }
        let of_items = norms_of(items, ctx)?;
        let groups = groups(&of_items)?;
        Self::in_groups(input, of_items, groups, ctx)
    }

    /// The same with all items in one group, whatever their norms: for joins that compare all pairs.
    ///
    /// # Errors
    /// As [`Products::new`].
    pub(crate) fn in_one_group(input: Input<'a, T>, ctx: &Context) -> Result<Self> {
        let of_items = norms_of(input.items, ctx)?;
        let all = Group {
            longest: of_items.iter().copied().fold(0.0, f64::max),
            items: memory::collect(0..input.items.len() as u32, ROW_NUMBERS)?,
        };
        Self::in_groups(input, of_items, vec![all], ctx)
    }

    fn in_groups(
        Input {
            queries,
            items,
            apart,
        }: Input<'a, T>,
        of_items: Vec<f64>,
        groups: Vec<Group>,
        ctx: &Context,
    ) -> Result<Self> {
        Ok(Self {
            with_itself: queries.is_none(),
            apart: apart.map(Keys::two_sided),
            queries: queries.unwrap_or(items),
            items,
            of_queries: match queries {
                Some(queries) => norms_of(queries, ctx)?,
                None => of_items,
            },
            groups,
        })
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Items of the largest group, which a plan is made for.
    pub(crate) fn most(&self) -> usize {
        self.groups[self.largest()].items.len()
    }

    /// The group of most items; of several, the one of the longest.
    fn largest(&self) -> usize {
        let longest_first = (0..self.groups.len()).rev();
        longest_first
            .max_by_key(|&group| self.groups[group].items.len())
            .unwrap_or(0)
    }

    /// Neighbours that a query needs of each group: one more where it may find itself.
    pub(crate) fn k_of_group(&self, k: usize) -> usize {
        k.saturating_add(usize::from(self.with_itself && k > 0))
    }

    /// How the recall of k neighbours is counted.
    pub(crate) fn others(&self, k: usize) -> Others {
        let k = (self.with_itself && k > 0).then_some(k);
        Others { k }
    }

    /// The keys by which these queries and the items of a group are kept apart.
    fn keys_of(&self, group: &Group, queries: &[u32]) -> Result<OfBoth> {
        let keys = self.apart.map(|keys| keys.gather(queries, &group.items));
        keys.transpose()
    }

    /// These queries and the items of a group, augmented.
    fn augmented(&self, group: &Group, queries: &[u32]) -> Result<Augmented<T>> {
        let dim = self.items.dim();
        let exponent = exponent_of(group.longest);
        let of_query = |query: u32| exponent_of(self.of_queries[query as usize]);
        Ok(Augmented {
            queries: augmented(self.queries, queries, of_query, |_| 0.0)?,
            items: augmented(
                self.items,
                &group.items,
                |_| exponent,
                |row: &[T]| {
                    let square = sum_of_squares(row.iter().map(|value| value.to_f64()));
                    (1.0 - square).max(0.0).sqrt()
                },
            )?,
            dim: dim + 1,
        })
    }

    /// For each query the `k` items of the largest inner product, at the distance −q·x, among those
    /// that `join` finds. It is called for one group after the other, with [`Augmented`] queries
    /// (those that may still gain), the augmented items of the group, and how many neighbours are
    /// needed.
    ///
    /// # Errors
    /// Those of `join`, and when the run is cancelled.
    pub(crate) fn knn(
        &self,
        k: usize,
        ctx: &Context,
        mut join: impl FnMut(Input<'_, T>, usize) -> Result<Neighbors<T>>,
    ) -> Result<Neighbors<T>> {
        let mut best = Best::new(self.queries.len(), k)?;
        let mut recalls = Vec::new();
        for group in &self.groups {
            ctx.check()?;
            let queries = (0..self.queries.len() as u32).filter(|&query| {
                best.may_gain(query, self.of_queries[query as usize] * group.longest)
            });
            let queries = memory::collect(queries, ROW_NUMBERS)?;
            if queries.is_empty() && !recalls.is_empty() {
                continue;
            }
            let augmented = self.augmented(group, &queries)?;
            let (left, right) = augmented.sides()?;
            let keys = self.keys_of(group, &queries)?;
            let found = join(input_of((left, right), &keys), self.k_of_group(k))?;
            drop(augmented);
            recalls.push(ctx.recall().map(|recall| self.others(k).found(recall)));
            self.merge(&mut best, group, recalls.len(), &queries, &found, ctx)?;
        }
        if let Some(recall) = best.recall(&recalls) {
            ctx.reached(recall);
        }
        best.neighbors()
    }

    /// Adds what was found in a group; `joined` counts the groups that were joined, with this one.
    fn merge(
        &self,
        best: &mut Best,
        group: &Group,
        joined: usize,
        queries: &[u32],
        found: &Neighbors<T>,
        ctx: &Context,
    ) -> Result<()> {
        let lists = best.lists_of(queries)?;
        let own = |query: u32, item: u32| self.with_itself && query == item;
        lists.into_par_iter().enumerate().try_for_each_init(
            || (Vec::new(), Vec::new(), Vec::new()),
            |(pairs, products, all), (position, (query, list))| {
                ctx.check()?;
                let items = found
                    .of(position as u32)
                    .map(|item| group.items[item as usize]);
                let others = items.filter(|&item| !own(query, item));
                pairs.clear();
                memory::extend(pairs, others.map(|item| (query, item)), NEIGHBORS)?;
                exact_dot_products(self.queries, self.items, pairs, products, ctx.isa())?;
                let new = pairs
                    .iter()
                    .zip(products.iter())
                    .map(|(pair, product)| Hit {
                        distance: 0.0 - product,
                        item: pair.1,
                        group: joined as u32,
                    });
                all.clear();
                memory::extend(all, list.iter().copied().chain(new), NEIGHBORS)?;
                all.sort_unstable_by(|x, y| {
                    let by_distance = x.distance.total_cmp(&y.distance);
                    by_distance.then(x.item.cmp(&y.item))
                });
                list.copy_from_slice(&all[..list.len()]);
                Ok::<_, crate::Error>(())
            },
        )
    }
}

/// Keys of queries and items, if there are some.
type OfBoth = Option<(Option<Vec<u32>>, Vec<u32>)>;

/// The join of two sides with these keys.
fn input_of<'a, T>((queries, items): (Rows<'a, T>, Rows<'a, T>), keys: &'a OfBoth) -> Input<'a, T> {
    let apart = keys.as_ref();
    Input {
        queries: Some(queries),
        items,
        apart: apart.map(|(queries, items)| Keys::new(items).queries(queries.as_deref())),
    }
}

/// Cuts items into groups, the longest first.
fn groups(norms: &[f64]) -> Result<Vec<Group>> {
    let mut order = memory::collect(0..norms.len() as u32, ROW_NUMBERS)?;
    let norm = |row: u32| norms[row as usize];
    order.par_sort_unstable_by(|&x, &y| norm(y).total_cmp(&norm(x)).then(x.cmp(&y)));
    let mut groups = Vec::new();
    let mut rest = order.as_slice();
    loop {
        let longest = rest.first().map_or(0.0, |&row| norm(row));
        let similar = rest.partition_point(|&row| norm(row) * SPREAD >= longest);
        let end = if rest.len() - similar < LEAST_GROUP {
            rest.len()
        } else {
            similar
        };
        let mut items = memory::copied(&rest[..end], ROW_NUMBERS)?;
        items.sort_unstable();
        groups.push(Group { longest, items });
        rest = &rest[end..];
        if rest.is_empty() {
            return Ok(groups);
        }
    }
}

/// The items of the largest inner products so far.
struct Best {
    k: usize,
    hits: Vec<Hit>,
}

#[derive(Clone, Copy)]
struct Hit {
    distance: f64,
    item: u32,
    /// In which of the groups that were joined it was found, counted from 1; 0 where there is none.
    group: u32,
}

impl Best {
    fn new(queries: usize, k: usize) -> Result<Self> {
        let none = Hit {
            distance: f64::INFINITY,
            item: u32::MAX,
            group: 0,
        };
        Ok(Self {
            k,
            hits: memory::filled(none, queries.saturating_mul(k), NEIGHBORS)?,
        })
    }

    /// Whether an inner product of at most this may be one of the query's largest.
    fn may_gain(&self, query: u32, most: f64) -> bool {
        let list = &self.hits[query as usize * self.k..][..self.k];
        list.last()
            .is_none_or(|last| -last.distance <= most + most.abs() * ROUNDING)
    }

    /// The lists of some queries, given in rising order.
    fn lists_of(&mut self, queries: &[u32]) -> Result<Vec<(u32, &mut [Hit])>> {
        let mut queries = queries.iter().copied().peekable();
        let lists = (0..).zip(self.hits.chunks_mut(self.k.max(1)));
        let lists = lists.filter(|&(query, _)| queries.next_if_eq(&query).is_some());
        Ok(memory::collect(lists, NEIGHBORS)?)
    }

    /// The recall of all, from that of each group: the mean over neighbours.
    fn recall(&self, recalls: &[Option<Estimate>]) -> Option<Estimate> {
        let recalls = recalls.iter().copied().collect::<Option<Vec<Estimate>>>()?;
        let mut found = vec![0_usize; recalls.len() + 1];
        for hit in &self.hits {
            found[hit.group as usize] += 1;
        }
        let all: usize = found[1..].iter().sum();
        if recalls.len() < 2 || all == 0 {
            return recalls.first().copied();
        }
        Some(Estimate::of_parts(found[1..].iter().copied().zip(recalls)))
    }

    fn neighbors<T: Scalar>(&self) -> Result<Neighbors<T>> {
        let index = |hit: &Hit| match hit.group {
            0 => -1,
            _ => i64::from(hit.item),
        };
        let distances = self.hits.iter().map(|hit| T::from_f64(hit.distance));
        Ok(Neighbors {
            k: self.k,
            distances: memory::collect(distances, NEIGHBORS)?,
            indices: memory::collect(self.hits.iter().map(index), NEIGHBORS)?,
        })
    }
}

/// A plan for inner products: that of the largest group.
pub(crate) fn study<T: Scalar>(
    planner: Planner<'_>,
    products: &Products<'_, T>,
    k: usize,
) -> Result<PlanStudy> {
    let largest = &products.groups[products.largest()];
    let queries = memory::collect(0..products.queries.len() as u32, ROW_NUMBERS)?;
    let augmented = products.augmented(largest, &queries)?;
    let keys = products.keys_of(largest, &queries)?;
    let planner = planner.for_others(products.others(k));
    planner.study_rows(
        input_of(augmented.sides()?, &keys),
        products.k_of_group(k),
        Metric::InnerProduct,
    )
}
