//! Joins of arrays of all kinds against brute force in double precision.

use std::{collections::BTreeSet, sync::OnceLock};

use lshjoin::{
    BucketedRandomProjection, CauchyProjection, Context, Distance, Error, HashFamily, Index, Isa,
    IvfPlan, JoinPlan, KnnJoin, LshModel, LshPlan, Metric, Neighbors, PartitionPlan, RadiusJoin,
    RandomHyperplanes, Result, Rows, Scalar,
};
use lshjoin_kernels::KernelError;
use rayon::ThreadPool;

use super::{
    input::{Input, Random, norm},
    saved::METRICS,
};

/// Rows from which on joins follow their plans.
const EXACT_BELOW: usize = 4096;

/// Of many queries so many are compared with brute force.
const COMPARED: usize = 100;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.flag() {
        false => join::<f32>(&mut input),
        true => join::<f64>(&mut input),
    }
}

fn join<T: Scalar>(input: &mut Input) {
    let metric = input.pick(&METRICS);
    match input.up_to(9) {
        0..=4 => nearest::<T>(metric, input),
        5 | 6 => within::<T>(metric, input),
        7 | 8 => similar::<T>(metric, input),
        _ => index(metric, input),
    }
}

/// Two sides, or one, of rows of one kind.
struct Sides<T> {
    queries: Option<Vec<T>>,
    items: Vec<T>,
    dim: usize,
}

impl<T: Scalar> Sides<T> {
    /// Of few rows, or of so many that plans are followed.
    fn new(metric: Metric, many: bool, input: &mut Input) -> Self {
        let dim = match many {
            // One dimension has two directions: by the cosine half of all pairs would tie, which
            // takes a minute under AddressSanitizer.
            true if metric == Metric::Cosine => 2 + input.up_to(4),
            true => 1 + input.up_to(5),
            false => 1 + input.up_to(70),
        };
        let side = |input: &mut Input| {
            let count = match (many, input.up_to(3)) {
                (true, _) => EXACT_BELOW - 2 + input.up_to(300),
                (_, 0) => input.up_to(3),
                (_, 3) => input.up_to(250),
                _ => input.up_to(40),
            };
            rows(count, dim, metric, input)
        };
        let items = side(input);
        let queries = input.flag().then(|| side(input));
        Self {
            queries,
            items,
            dim,
        }
    }

    fn items(&self) -> Rows<'_, T> {
        Rows::new(&self.items, self.dim).expect("whole rows")
    }

    fn queries(&self) -> Option<Rows<'_, T>> {
        let rows = |values| Rows::new(values, self.dim).expect("whole rows");
        self.queries.as_deref().map(rows)
    }

    fn left(&self) -> Rows<'_, T> {
        self.queries().unwrap_or(self.items())
    }
}

/// Rows around some centres or anywhere, with ties, copies, near copies, zeros and some far out, as
/// many of each as the bytes say.
fn rows<T: Scalar>(count: usize, dim: usize, metric: Metric, input: &mut Input) -> Vec<T> {
    let mut random = Random::new(input.any::<u16>().into());
    let centres = input.up_to(8);
    let spread = input.pick(&[1.0, 0.0, 0.1, 1e-3]);
    let scale = magnitude::<T>(metric, dim, input);
    let offset = input.pick(&[0.0, 0.0, 0.0, 10.0]);
    // Some are far out, or differ by that much: by any power of ten.
    let far = match input.up_to(3) {
        0 => (magnitude::<T>(metric, dim, input) / scale).min(1e300),
        _ => 30.0,
    };
    let on_grid = input.flag();
    // Of 64 rows so many are: copies, near copies, zero, far out, a multiple of another.
    let shares: [u8; 5] = input.any::<(u8, u8, u8, u8, u8)>().into();
    let shares = shares.map(|share| {
        if share < 128 {
            0
        } else {
            usize::from(share - 127) / 4
        }
    });
    let centres: Vec<f64> = (0..centres * dim).map(|_| 10.0 * random.unit()).collect();
    let mut values: Vec<f64> = Vec::with_capacity(count * dim);
    for row in 0..count {
        let mut kind = random.below(64);
        let mut is = |position: usize| {
            let share = shares[position];
            let is = kind < share;
            kind = kind.wrapping_sub(share);
            is
        };
        let other = random.below(row.max(1)) * dim;
        if row > 0 && is(0) {
            values.extend_from_within(other..other + dim);
        } else if row > 0 && is(1) {
            values.extend_from_within(other..other + dim);
            values[row * dim + random.below(dim)] *= 1.0 + 1e-6;
        } else if is(2) {
            values.extend((0..dim).map(|_| 0.0));
        } else if is(3) {
            values.extend((0..dim).map(|_| far * random.unit()));
        } else if row > 0 && is(4) {
            let by = 0.5 + random.below(4) as f64;
            let multiple: Vec<f64> = values[other..other + dim].iter().map(|x| by * x).collect();
            values.extend(multiple);
        } else {
            let centre = if centres.is_empty() {
                0
            } else {
                random.below(centres.len() / dim)
            };
            for at in 0..dim {
                let value = centres.get(centre * dim + at).unwrap_or(&0.0);
                let value = value + spread * random.unit();
                let value = if on_grid {
                    (value * 4.0).round() / 4.0
                } else {
                    value
                };
                values.push(value + offset);
            }
        }
    }
    // What is left of the bytes are some values as they are.
    for _ in 0..input.up_to(6) {
        if !values.is_empty() {
            let position = input.up_to(values.len() - 1);
            values[position] = f64::from(input.any::<i16>()) / 64.0;
        }
    }
    let most = largest::<T>(metric, dim) * (1.0 - 1e-6);
    let value = |value: f64| T::from_f64((value * scale).clamp(-most, most));
    values.into_iter().map(value).collect()
}

/// What values are multiplied by: mostly an ordinary number, seldom any power of ten that leaves
/// them in range.
fn magnitude<T: Scalar>(metric: Metric, dim: usize, input: &mut Input) -> f64 {
    if !input.once_in(4) {
        return input.pick(&[1.0, 0.01, 30.0]);
    }
    let (least, most) = match size_of::<T>() {
        4 => (-45, 38),
        _ => (-320, 308),
    };
    let power = least + input.up_to((most - least) as usize) as i32;
    // Not by `powi`, whose own powers are out of range earlier.
    let power: f64 = format!("1e{power}").parse().expect("a number");
    power.min(largest::<T>(metric, dim) / 64.0)
}

fn pool(threads: usize) -> &'static ThreadPool {
    static POOLS: [OnceLock<ThreadPool>; 2] = [OnceLock::new(), OnceLock::new()];
    POOLS[threads - 1].get_or_init(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().expect("threads")
    })
}

/// The distance in double precision, and how far from it what a join says may be: a few roundings of
/// the rows' own precision, and those of both ways to compute it in double precision.
fn apart<T: Scalar>(metric: Metric, x: &[T], y: &[T]) -> (f64, f64) {
    let wide = |row: &[T]| row.iter().map(|value| value.to_f64()).collect::<Vec<_>>();
    let (x, y) = (wide(x), wide(y));
    let differences = x.iter().zip(&y).map(|(x, y)| x - y);
    let rounding = (2 * x.len() + 16) as f64 * f64::UNIT_ROUNDOFF;
    // Of distances so small that they have no more digits.
    let least = match size_of::<T>() {
        4 => f64::from(f32::from_bits(1)),
        _ => x.len() as f64 * f64::from_bits(1),
    };
    let (distance, off) = match metric {
        Metric::Euclidean => (norm(differences), 0.0),
        Metric::Manhattan => {
            let sum: f64 = differences.map(f64::abs).sum();
            // Of 32 sums, each of every 32nd term, added up by halves.
            let roundings = (x.len().div_ceil(32) + 6) as f64;
            (sum, sum * roundings * T::UNIT_ROUNDOFF)
        }
        Metric::InnerProduct => {
            let product = x.iter().zip(&y).map(|(x, y)| x * y).sum::<f64>();
            let norms = norm(x.iter().copied()) * norm(y.iter().copied());
            (-product, norms * rounding)
        }
        _ => {
            let (directions, zero) = directions(x, y);
            let far = norm(directions.iter().copied());
            if zero {
                (1.0, 0.0)
            } else {
                // Each direction has a rounding of its own.
                let off = rounding * (far + rounding);
                (far * far / 2.0, off)
            }
        }
    };
    let of_distance = distance.abs() * (2.0 * T::UNIT_ROUNDOFF + rounding);
    (distance, of_distance + off + least)
}

/// The difference of two rows' directions, and whether one has none.
fn directions(mut x: Vec<f64>, mut y: Vec<f64>) -> (Vec<f64>, bool) {
    let mut zero = false;
    for row in [&mut x, &mut y] {
        // First to ordinary numbers, which all have their digits.
        for _ in 0..2 {
            let largest = row
                .iter()
                .fold(0.0_f64, |most, value| most.max(value.abs()));
            zero |= largest == 0.0;
            row.iter_mut().for_each(|value| *value /= largest);
        }
        let length = norm(row.iter().copied());
        row.iter_mut().for_each(|value| *value /= length);
    }
    (x.iter().zip(&y).map(|(x, y)| x - y).collect(), zero)
}

/// Up to which magnitude of values a metric is said to have distances.
fn largest<T: Scalar>(metric: Metric, dim: usize) -> f64 {
    let dim = dim as f64;
    match metric {
        Metric::Euclidean => T::LARGEST / 2.0 / dim.sqrt(),
        Metric::Manhattan => T::LARGEST / 2.0 / dim,
        Metric::InnerProduct => (T::LARGEST / dim).sqrt(),
        _ => T::LARGEST / dim.sqrt(),
    }
}

fn plan(input: &mut Input) -> JoinPlan {
    let seed = input.any::<u8>().into();
    let until_recall = input.pick(&[None, Some(0.5), Some(0.95), Some(1.0)]);
    let (rounds, probes) = (input.up_to(2), 1 + input.up_to(5));
    match input.up_to(3) {
        0 => JoinPlan::Exact,
        1 => {
            let [axes, functions, tables] = [9, 63, 2].map(|most| 1 + input.up_to(most));
            let plan = LshPlan::new(axes, functions, tables).seed(seed);
            let plan = plan.probes(probes).rounds(rounds);
            JoinPlan::Lsh(plan.until_recall(until_recall))
        }
        2 => {
            let plan = IvfPlan::new(1 + input.up_to(100), probes as f64).seed(seed);
            JoinPlan::Ivf(plan.rounds(rounds).until_recall(until_recall))
        }
        _ => {
            let plan = PartitionPlan::new(1 + input.up_to(100), probes as f64).seed(seed);
            JoinPlan::Partitions(plan.until_recall(until_recall))
        }
    }
}

fn nearest<T: Scalar>(metric: Metric, input: &mut Input) {
    // By the Manhattan distance there is one plan only.
    let many = input.once_in(16) && metric != Metric::Manhattan;
    let (plan, recall) = (
        plan(input),
        input.pick(&[None, None, Some(0.5), Some(0.9), Some(1.0)]),
    );
    let k = match input.up_to(7) {
        // Seldom, and not by default: long lists of many rows take a minute under AddressSanitizer.
        7 if !many => 300,
        _ => 1 + input.up_to(11),
    };
    // The scalar instruction set takes too long for many rows.
    let isas = &Isa::available()[usize::from(many && Isa::available().len() > 1)..];
    let (isa, other_isa) = (input.pick(isas), isas[0]);
    let sides = Sides::<T>::new(metric, many, input);
    let (left, items) = (sides.left(), sides.items());
    let knn = || {
        KnnJoin::new(items)
            .queries(sides.queries())
            .k(k)
            .metric(metric)
    };
    let join = |threads: usize, isa: Isa| -> Result<(Neighbors<T>, JoinPlan)> {
        let ctx = Context::on(isa);
        pool(threads).install(|| match recall {
            None => Ok((knn().plan(plan).run(&ctx)?.neighbors, plan)),
            Some(recall) => {
                let joined = knn().recall(recall).seed(1).run(&ctx)?;
                Ok((joined.neighbors, joined.plan.plan))
            }
        })
    };
    let joined = join(2, isa);
    if size_of::<T>() == 8 && matches!((recall, plan), (None, JoinPlan::Partitions(_))) {
        assert!(joined.is_err(), "an index holds 32 bits a value");
        return;
    }
    let (found, followed) = joined.expect("finite rows, and a plan in range");
    let other = join(1, other_isa).expect("finite rows, and a plan in range");
    assert!(
        (&found, followed) == (&other.0, other.1),
        "{isa} is not {other_isa}: {plan:?}"
    );

    let own = sides.queries.is_none();
    let exact = followed == JoinPlan::Exact || !many;
    let is_other = |query: usize, item: usize| !(own && query == item);
    check_nearest(metric, left, items, is_other, k, exact, &found);
}

/// That neighbours are distinct, at their distances and the nearest, or as many as there are and
/// in their order at least.
fn check_nearest<T: Scalar>(
    metric: Metric,
    queries: Rows<'_, T>,
    items: Rows<'_, T>,
    is_candidate: impl Fn(usize, usize) -> bool,
    k: usize,
    exact: bool,
    found: &Neighbors<T>,
) {
    assert_eq!(found.k, k);
    assert_eq!(found.indices.len(), queries.len() * k);
    let step = if queries.len() < EXACT_BELOW / 2 {
        1
    } else {
        queries.len() / COMPARED
    };
    for query in 0..queries.len() {
        let (indices, distances) = (&found.indices[query * k..], &found.distances[query * k..]);
        let (indices, distances) = (&indices[..k], &distances[..k]);
        let of = |item: usize| apart(metric, &queries.row(query), &items.row(item));
        let filled = indices.iter().take_while(|&&index| index >= 0).count();
        assert!(
            distances.is_sorted(),
            "{metric}, query {query}: {distances:?}"
        );
        let distinct: BTreeSet<i64> = indices[..filled].iter().copied().collect();
        assert_eq!(
            distinct.len(),
            filled,
            "{metric}, query {query}: {indices:?}"
        );
        for (&index, &distance) in indices[..filled].iter().zip(distances) {
            assert!(
                is_candidate(query, index as usize),
                "{metric}, query {query}: {index}"
            );
            let (right, off) = of(index as usize);
            let distance = distance.to_f64();
            let is_right = (distance - right).abs() <= off;
            assert!(
                is_right,
                "{metric}, {query} and {index}: {distance}, not {right}"
            );
        }
        assert!(
            indices[filled..].iter().all(|&index| index == -1),
            "{indices:?}"
        );
        assert!(
            distances[filled..]
                .iter()
                .all(|distance| distance.to_f64() == f64::INFINITY)
        );
        if query % step != 0 {
            let upper = items.len() - usize::from(!is_candidate(query, query));
            assert_eq!(filled, k.min(upper), "{metric}, query {query}");
            continue;
        }
        let candidates = (0..items.len()).filter(|&item| is_candidate(query, item));
        let mut expected: Vec<(f64, f64)> = candidates.map(of).collect();
        expected.sort_by(|x, y| x.0.total_cmp(&y.0));
        assert_eq!(filled, k.min(expected.len()), "{metric}, query {query}");
        let most_off = expected.iter().fold(0.0_f64, |most, of| most.max(of.1));
        for (&distance, &(right, off)) in distances.iter().zip(&expected).filter(|_| exact) {
            let off = match metric {
                // The order is by what other items may be off, too.
                Metric::InnerProduct => 2.0 * most_off,
                _ => 2.0 * off,
            };
            let distance = distance.to_f64();
            let is_right = (distance - right).abs() <= off;
            assert!(is_right, "{metric}, query {query}: {distance}, not {right}");
        }
    }
}

/// A radius at which there is something to decide.
fn radius<T: Scalar>(
    metric: Metric,
    left: Rows<'_, T>,
    right: Rows<'_, T>,
    input: &mut Input,
) -> f64 {
    let (i, j) = (input.any::<u16>().into(), input.any::<u16>().into());
    let (i, j): (usize, usize) = (i, j);
    match input.up_to(7) {
        0 => 0.0,
        1 => f64::INFINITY,
        2 => f64::from(input.any::<u16>()) / 256.0,
        _ if left.is_empty() || right.is_empty() => 1.0,
        more => {
            let (i, j) = (i % left.len(), j % right.len());
            let (distance, _) = apart(metric, &left.row(i), &right.row(j));
            distance.max(0.0) * [1.0, 1.0 + 1e-6, 1.0 - 1e-6, 1.5, 0.5][more - 3]
        }
    }
}

/// Pairs by row, and that they are those nearer than the radius of some candidates.
fn check_pairs<T: Scalar>(
    metric: Metric,
    (left, right): (Rows<'_, T>, Rows<'_, T>),
    is_candidate: impl Fn(usize, usize) -> bool,
    radius: f64,
    pairs: &[(i64, i64, T)],
) {
    let mut found = BTreeSet::new();
    for &(i, j, distance) in pairs {
        assert!(found.insert((i, j)), "{metric}: ({i}, {j}) twice");
        let (expected, off) = apart(metric, &left.row(i as usize), &right.row(j as usize));
        let distance = distance.to_f64();
        assert!(
            (distance - expected).abs() <= off,
            "{metric}, {i} and {j}: {distance}, not {expected}"
        );
        assert!(
            distance < radius,
            "{metric}, {i} and {j}: {distance}, not below {radius}"
        );
    }
    for i in 0..left.len() {
        for j in 0..right.len() {
            let (distance, off) = apart(metric, &left.row(i), &right.row(j));
            let is = found.contains(&(i as i64, j as i64));
            assert!(
                is_candidate(i, j) || !is,
                "{metric}: ({i}, {j}) is no candidate"
            );
            let must = is_candidate(i, j) && distance + off < radius;
            assert!(
                is || !must,
                "{metric} lost ({i}, {j}) at {distance} below {radius}"
            );
        }
    }
}

fn within<T: Scalar>(metric: Metric, input: &mut Input) {
    let (isa, batch) = (input.isa(), 1 + input.up_to(100));
    let sides = Sides::<T>::new(metric, false, input);
    let (left, items) = (sides.left(), sides.items());
    let radius = radius(metric, left, items, input);
    let ctx = Context::on(isa);
    let Ok(distance) = Distance::try_from(metric) else {
        return; // inner products have no radius
    };
    let join = RadiusJoin::new(items, radius).queries(sides.queries());
    let join = join.distance(distance);
    let found = join.run(&ctx).expect("finite rows");
    assert_eq!(found.lims.len(), left.len() + 1);
    let mut pairs = Vec::new();
    for (query, ends) in found.lims.windows(2).enumerate() {
        let indices = ends[0] as usize..ends[1] as usize;
        assert!(
            found.distances[indices.clone()].is_sorted(),
            "{metric}, query {query}"
        );
        for at in indices {
            pairs.push((query as i64, found.indices[at], found.distances[at]));
        }
    }
    let own = sides.queries.is_none();
    let is_other = |query: usize, item: usize| !(own && query == item);
    check_pairs(metric, (left, items), is_other, radius, &pairs);

    pairs.sort_by_key(|pair| (pair.0, pair.1));
    let mut batched = Vec::new();
    let mut sizes = Vec::new();
    let deliver = |batch: lshjoin::JoinedPairs<T>| {
        sizes.push(batch.left.len());
        let rows = batch.left.into_iter().zip(batch.right);
        batched.extend(
            rows.zip(batch.distances)
                .map(|((i, j), distance)| (i, j, distance)),
        );
    };
    join.run_batches(batch, &Context::on(Isa::SCALAR), deliver)
        .expect("finite rows");
    batched.sort_by_key(|pair| (pair.0, pair.1));
    assert!(batched == pairs, "{metric}: batches hold other pairs");
    assert!(
        sizes.iter().rev().skip(1).all(|&size| size == batch),
        "{sizes:?}"
    );
}

/// A model's joins, against all pairs that have a bucket in common.
fn similar<T: Scalar>(metric: Metric, input: &mut Input) {
    let (isa, k) = (input.isa(), 1 + input.up_to(11));
    let bucket_length = input.pick(&[1.0, 0.25, 4.0, 50.0]);
    let (per_table, tables) = (1 + input.up_to(20), 1 + input.up_to(4));
    let sides = Sides::<T>::new(metric, false, input);
    let (left, right) = (sides.left(), sides.items());
    let family: Box<dyn HashFamily> = match metric {
        Metric::Euclidean => Box::new(BucketedRandomProjection { bucket_length }),
        Metric::Manhattan => Box::new(CauchyProjection { bucket_length }),
        _ => Box::new(RandomHyperplanes),
    };
    let metric = Metric::from(family.distance());
    let ctx = Context::on(isa);
    let fitted = if input.flag() { left } else { right };
    let joined = LshModel::fit(&*family, fitted, per_table, tables, 3, &ctx)
        .and_then(|model| Ok((model.hash(left, &ctx)?, model.hash(right, &ctx)?, model)));
    let (of_left, of_right, model) = match joined {
        // Cauchy directions may be of any length.
        Err(Error::Kernel(KernelError::BucketOverflow { .. })) => return,
        joined => joined.expect("finite rows"),
    };
    let ids = |ids: &[i32], row: usize| -> Vec<Vec<i32>> {
        let ids = &ids[row * per_table * tables..][..per_table * tables];
        ids.chunks(per_table).map(<[i32]>::to_vec).collect()
    };
    let of_left: Vec<_> = (0..left.len()).map(|row| ids(&of_left, row)).collect();
    let of_right: Vec<_> = (0..right.len()).map(|row| ids(&of_right, row)).collect();
    let shares = |i: usize, j: usize| of_left[i].iter().zip(&of_right[j]).any(|(x, y)| x == y);

    let radius = radius(metric, left, right, input);
    let two = sides.queries.is_some().then_some(right);
    let pairs = model
        .similarity_join(left, two, radius, &ctx)
        .expect("finite rows");
    let rows = pairs.left.iter().copied().zip(pairs.right.iter().copied());
    let pairs = rows
        .zip(&pairs.distances)
        .map(|((i, j), &distance)| (i, j, distance));
    check_pairs(
        metric,
        (left, right),
        shares,
        radius,
        &pairs.collect::<Vec<_>>(),
    );

    let found = model
        .nearest_neighbors(left, right, k, &ctx)
        .expect("finite rows");
    check_nearest(metric, left, right, shares, k, true, &found);
}

/// An index of the items, some of them added and removed later, under ids that are not their rows.
fn index(metric: Metric, input: &mut Input) {
    let (isa, k) = (input.isa(), 1 + input.up_to(11));
    let seed = input.any::<u8>().into();
    let plan = PartitionPlan::new(1 + input.up_to(20), 1.0).seed(seed);
    let plan = input.flag().then_some(plan);
    let sides = Sides::<f32>::new(metric, false, input);
    let (left, items, ctx) = (sides.left(), sides.items(), Context::on(isa));
    let id = |row: usize| 3 * row as i64 - 40;
    let ids: Vec<i64> = (0..items.len()).map(id).collect();
    let built = input.up_to(items.len());
    let index = Index::build(items.slice(0..built), &ids[..built], metric, plan, 1, &ctx);
    let mut index = index.expect("finite rows, and a plan in range");
    let added = index.add(items.slice(built..items.len()), &ids[built..], &ctx);
    added.expect("new ids");
    let removed: BTreeSet<usize> = (0..input.up_to(items.len() / 2))
        .map(|_| input.up_to(items.len() - 1))
        .collect();
    let ids: Vec<i64> = removed.iter().map(|&row| id(row)).collect();
    index.remove(&ids, &ctx).expect("ids that are there");
    assert_eq!(index.len(), items.len() - removed.len());
    let is_there = |_: usize, item: usize| !removed.contains(&item);

    let mut found = index
        .knn(left, k, &JoinPlan::Exact, &ctx)
        .expect("finite rows");
    let row_of = |id: i64| (id + 40) / 3;
    for (index, distance) in found.indices.iter_mut().zip(&found.distances) {
        let is_padding = *distance == f32::INFINITY;
        *index = if is_padding { -1 } else { row_of(*index) };
    }
    check_nearest(metric, left, items, is_there, k, true, &found);
    if metric != Metric::InnerProduct {
        let radius = radius(metric, left, items, input);
        let near = index.radius(left, radius, &ctx).expect("finite rows");
        let mut pairs = Vec::new();
        for (query, ends) in near.lims.windows(2).enumerate() {
            for at in ends[0] as usize..ends[1] as usize {
                pairs.push((query as i64, row_of(near.indices[at]), near.distances[at]));
            }
        }
        check_pairs(metric, (left, items), is_there, radius, &pairs);
    }
}
