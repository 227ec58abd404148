//! Joins against brute force, on every instruction set and number of threads.

// Tests may.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

mod binary;
mod calls;
mod digest;
mod fuzz_regressions;
mod index;
mod narrow;
mod near_lists;
mod offsets;
mod radius;
mod whole_lists;

use std::collections::BTreeSet;

use lshjoin::{
    BucketedRandomProjection, CauchyProjection, Context, Error, HashFamily, Isa, IvfPlan, JoinPlan,
    JoinedPairs, LshModel, LshPlan, Metric, RandomHyperplanes, Rows, Scalar,
};
use proptest::prelude::*;

use calls::{knn_join, radius_join, radius_join_batches};

/// Clustered rows of small integers and halves, with duplicates: many ties, exact in f32.
fn rows(count: usize, dim: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let centres: Vec<f64> = (0..6 * dim).map(|_| draw(21) as f64 - 10.0).collect();
    let mut values = Vec::new();
    for row in 0..count {
        if row > 0 && draw(10) == 0 {
            let copied = draw(row as u64) as usize * dim;
            values.extend_from_within(copied..copied + dim);
        } else {
            let centre = draw(6) as usize * dim;
            values.extend((0..dim).map(|at| centres[centre + at] + draw(7) as f64 / 2.0));
        }
    }
    values
}

fn exact(metric: Metric, x: &[f64], y: &[f64]) -> f64 {
    let pairs = || x.iter().zip(y);
    match metric {
        Metric::Euclidean => pairs().map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt(),
        Metric::Manhattan => pairs().map(|(x, y)| (x - y).abs()).sum(),
        _ => {
            let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
            let norms = dot(x, x).sqrt() * dot(y, y).sqrt();
            if norms == 0.0 {
                1.0
            } else {
                1.0 - dot(x, y) / norms
            }
        }
    }
}

fn family(metric: Metric, bucket_length: f64) -> Box<dyn HashFamily> {
    match metric {
        Metric::Euclidean => Box::new(BucketedRandomProjection { bucket_length }),
        Metric::Manhattan => Box::new(CauchyProjection {
            bucket_length: bucket_length * 20.0,
        }),
        _ => Box::new(RandomHyperplanes),
    }
}

const METRICS: [Metric; 3] = [Metric::Euclidean, Metric::Manhattan, Metric::Cosine];

/// The pairs that share a bucket of the model, by their hashes.
fn candidates<T: Scalar>(model: &LshModel, a: Rows<'_, T>, b: Rows<'_, T>) -> BTreeSet<(i64, i64)> {
    let ctx = Context::new().unwrap();
    let (a, b) = (model.hash(a, &ctx).unwrap(), model.hash(b, &ctx).unwrap());
    let (k, all) = (model.functions_per_table(), model.functions().len());
    let mut pairs = BTreeSet::new();
    for (x, of_x) in a.chunks(all).enumerate() {
        for (y, of_y) in b.chunks(all).enumerate() {
            if of_x.chunks(k).zip(of_y.chunks(k)).any(|(x, y)| x == y) {
                pairs.insert((x as i64, y as i64));
            }
        }
    }
    pairs
}

/// In a pool of so many threads.
fn on<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap()
        .install(work)
}

fn check_similarity_join(
    metric: Metric,
    a: &[f64],
    b: Option<&[f64]>,
    dim: usize,
    k: usize,
    tables: usize,
    threshold: f64,
) {
    let ctx = Context::new().unwrap();
    let left = Rows::new(a, dim).unwrap();
    let right = b.map(|b| Rows::new(b, dim).unwrap());
    let family = family(metric, 2.0);
    let model = LshModel::fit(&*family, left, k, tables, 5, &ctx).unwrap();
    let found = model.similarity_join(left, right, threshold, &ctx).unwrap();
    let other = right.unwrap_or(left);
    // At the threshold itself, rounding decides: such pairs may be in or out.
    let mut expected = BTreeSet::new();
    for (x, y) in candidates(&model, left, other) {
        let distance = exact(metric, &left.row(x as usize), &other.row(y as usize));
        if distance < threshold - 1e-9 {
            expected.insert((x, y));
        }
    }
    let mut got = BTreeSet::new();
    for ((&x, &y), &distance) in found.left.iter().zip(&found.right).zip(&found.distances) {
        let right_distance = exact(metric, &left.row(x as usize), &other.row(y as usize));
        assert!(
            (distance - right_distance).abs() < 1e-9,
            "{metric} {distance} {right_distance}"
        );
        assert!(distance < threshold);
        assert!(got.insert((x, y)), "{metric}: pair {x}, {y} twice");
        if right_distance >= threshold - 1e-9 {
            expected.insert((x, y));
        }
    }
    assert_eq!(got, expected, "{metric} k={k} L={tables}");
}

#[test]
fn similarity_join_finds_the_candidates_below_the_threshold() {
    for metric in METRICS {
        let threshold = if metric == Metric::Cosine { 0.1 } else { 4.0 };
        for (k, tables) in [(1, 1), (1, 5), (3, 2), (12, 4)] {
            let (a, b) = (rows(300, 12, 1), rows(200, 12, 2));
            check_similarity_join(metric, &a, Some(&b), 12, k, tables, threshold);
            check_similarity_join(metric, &a, None, 12, k, tables, threshold);
        }
    }
}

#[test]
fn rehashed_tables_join_like_packed_ones() {
    // 20 functions of very narrow buckets need more than 128 bits; near-duplicates still collide.
    let ctx = Context::new().unwrap();
    let mut values = rows(500, 8, 3);
    values.iter_mut().for_each(|value| *value *= 1e4);
    let all = Rows::new(&values, 8).unwrap();
    let family = BucketedRandomProjection { bucket_length: 1.0 };
    let model = LshModel::fit(&family, all, 20, 2, 9, &ctx).unwrap();
    assert!(model.key_modes().iter().all(|mode| mode.name() == "rehash"));
    let pairs = model.similarity_join(all, None, 1.0, &ctx).unwrap();
    let found: BTreeSet<_> = pairs.left.into_iter().zip(pairs.right).collect();
    let near = |(x, y): &(i64, i64)| all.row(*x as usize) == all.row(*y as usize);
    let expected: BTreeSet<_> = candidates(&model, all, all)
        .into_iter()
        .filter(near)
        .collect();
    assert!(expected.len() > all.len(), "there are duplicates to find");
    assert_eq!(found, expected);
}

#[test]
fn rows_outside_the_fitted_range_are_joined_like_others() {
    let ctx = Context::new().unwrap();
    let fitted = rows(100, 4, 1);
    let far: Vec<f64> = rows(150, 4, 2)
        .iter()
        .map(|value| value * 50.0 + 1e4)
        .collect();
    let family = BucketedRandomProjection {
        bucket_length: 30.0,
    };
    let model = LshModel::fit(&family, Rows::new(&fitted, 4).unwrap(), 2, 3, 9, &ctx).unwrap();
    let far = Rows::new(&far, 4).unwrap();
    let pairs = model.similarity_join(far, Some(far), 1e9, &ctx).unwrap();
    let found: BTreeSet<_> = pairs.left.into_iter().zip(pairs.right).collect();
    assert_eq!(found, candidates(&model, far, far));
    let none = model
        .similarity_join(far, Some(Rows::new(&fitted, 4).unwrap()), 1e9, &ctx)
        .unwrap();
    assert_eq!(
        none.left.len(),
        candidates(&model, far, Rows::new(&fitted, 4).unwrap()).len()
    );
}

/// The k nearest of `candidates`, by (distance, row), in the arithmetic of the engine: ties count.
fn check_neighbors<T: Scalar>(
    metric: Metric,
    queries: Rows<'_, T>,
    items: Rows<'_, T>,
    is_candidate: impl Fn(usize, usize) -> bool,
    found: &lshjoin::Neighbors<T>,
) {
    let wide = |row: &[T]| row.iter().map(|value| value.to_f64()).collect::<Vec<_>>();
    let tolerance = 1e-4_f64.min(T::UNIT_ROUNDOFF * 1e3);
    for query in 0..queries.len() {
        let mut expected: Vec<(f64, usize)> = (0..items.len())
            .filter(|&item| is_candidate(query, item))
            .map(|item| {
                (
                    exact(metric, &wide(&queries.row(query)), &wide(&items.row(item))),
                    item,
                )
            })
            .collect();
        expected.sort_by(|x, y| x.0.total_cmp(&y.0));
        let range = query * found.k..(query + 1) * found.k;
        let (distances, indices) = (&found.distances[range.clone()], &found.indices[range]);
        assert!(distances.is_sorted_by(|x, y| x <= y));
        let filled = indices.iter().filter(|&&index| index >= 0).count();
        assert_eq!(filled, expected.len().min(found.k));
        assert_eq!(
            indices.iter().collect::<BTreeSet<_>>().len(),
            (filled + 1).min(found.k)
        );
        for (place, (&distance, &index)) in distances.iter().zip(indices).enumerate() {
            if index < 0 {
                assert!(!distance.is_finite() && place >= filled);
                continue;
            }
            assert!(is_candidate(query, index as usize));
            let (at_place, _) = expected[place];
            let own = exact(
                metric,
                &wide(&queries.row(query)),
                &wide(&items.row(index as usize)),
            );
            for other in [at_place, own] {
                let off = (distance.to_f64() - other).abs();
                assert!(
                    off <= tolerance * (1.0 + other),
                    "{metric} {query} {place}: {off}"
                );
            }
        }
    }
}

fn to_f32(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

#[test]
fn exact_knn_join_is_brute_force() {
    let ctx = Context::new().unwrap();
    for metric in METRICS {
        for (n, m, dim, k) in [
            (1, 1, 1, 1),
            (70, 3, 5, 4),
            (500, 900, 17, 10),
            (40, 300, 64, 100),
        ] {
            let (queries, items) = (to_f32(&rows(n, dim, 4)), to_f32(&rows(m, dim, 5)));
            let queries = Rows::new(&queries, dim).unwrap();
            let items = Rows::new(&items, dim).unwrap();
            let found = knn_join(Some(queries), items, k, metric, &JoinPlan::Exact, &ctx).unwrap();
            check_neighbors(metric, queries, items, |_, _| true, &found);
            let found = knn_join(None, items, k, metric, &JoinPlan::Exact, &ctx).unwrap();
            check_neighbors(metric, items, items, |query, item| query != item, &found);
        }
    }
}

#[test]
fn a_models_neighbors_are_the_nearest_of_its_candidates() {
    let ctx = Context::new().unwrap();
    for metric in METRICS {
        let (queries, items) = (rows(120, 12, 6), rows(400, 12, 7));
        let queries = Rows::new(&queries, 12).unwrap();
        let items = Rows::new(&items, 12).unwrap();
        let model = LshModel::fit(&*family(metric, 2.0), items, 2, 3, 1, &ctx).unwrap();
        let pairs = candidates(&model, queries, items);
        let found = model.nearest_neighbors(queries, items, 7, &ctx).unwrap();
        let shares = |query: usize, item: usize| pairs.contains(&(query as i64, item as i64));
        check_neighbors(metric, queries, items, shares, &found);
    }
}

/// Within which some, but not many, of the `rows` of nine dimensions are.
fn radius(metric: Metric) -> f64 {
    match metric {
        Metric::Euclidean => 3.25,
        Metric::Manhattan => 7.25,
        _ => 0.05,
    }
}

#[test]
fn radius_join_is_brute_force() {
    let ctx = Context::new().unwrap();
    for metric in METRICS {
        let radius = radius(metric);
        let all = rows(850, 9, 9);
        let (queries, items) = all.split_at(150 * 9);
        let queries = Rows::new(queries, 9).unwrap();
        let items = Rows::new(items, 9).unwrap();
        for own in [true, false] {
            let left = if own { items } else { queries };
            let found =
                radius_join((!own).then_some(queries), items, radius, metric, &ctx).unwrap();
            assert_eq!(found.lims.len(), left.len() + 1);
            let mut near = 0;
            for row in 0..left.len() {
                let range = found.lims[row] as usize..found.lims[row + 1] as usize;
                assert!(found.distances[range.clone()].is_sorted());
                let got: BTreeSet<i64> = found.indices[range].iter().copied().collect();
                let is_near = |&item: &usize| {
                    !(own && item == row)
                        && exact(metric, &left.row(row), &items.row(item)) < radius
                };
                let expected: BTreeSet<i64> = (0..items.len())
                    .filter(is_near)
                    .map(|item| item as i64)
                    .collect();
                assert_eq!(got, expected, "{metric} row {row}");
                near += got.len();
            }
            assert!(near > 100, "a test of nothing");
            assert_eq!(*found.lims.last().unwrap() as usize, found.indices.len());
        }
    }
}

/// All pairs of some batches, in their order.
fn concatenated<T: Scalar>(batches: &[JoinedPairs<T>]) -> Vec<(i64, i64, f64)> {
    let pairs = |batch: &JoinedPairs<T>| {
        let rows = batch.left.iter().copied().zip(batch.right.iter().copied());
        let distances = batch.distances.iter().map(|distance| distance.to_f64());
        rows.zip(distances)
            .map(|((left, right), distance)| (left, right, distance))
            .collect::<Vec<_>>()
    };
    batches.iter().flat_map(pairs).collect()
}

/// The pairs by row, after a check of the batches' lengths.
fn batched_pairs(batches: &[JoinedPairs<f64>], size: usize) -> Vec<(i64, i64, f64)> {
    if let Some((last, full)) = batches.split_last() {
        assert!(full.iter().all(|batch| batch.left.len() == size));
        assert!((1..=size).contains(&last.left.len()));
    }
    let mut pairs = concatenated(batches);
    pairs.sort_by_key(|&(left, right, _)| (left, right));
    pairs
}

#[test]
fn batches_hold_the_pairs_of_the_join() {
    let ctx = Context::new().unwrap();
    for metric in METRICS {
        let radius = radius(metric);
        let all = rows(2700, 9, 9);
        let (queries, items) = all.split_at(600 * 9);
        let (queries, items) = (Rows::new(queries, 9).unwrap(), Rows::new(items, 9).unwrap());
        let model = LshModel::fit(&*family(metric, 2.0), items, 2, 3, 1, &ctx).unwrap();
        for queries in [None, Some(queries)] {
            let near = radius_join(queries, items, radius, metric, &ctx).unwrap();
            let mut of_radius = Vec::new();
            for (query, lims) in near.lims.windows(2).enumerate() {
                of_radius.extend(
                    (lims[0] as usize..lims[1] as usize)
                        .map(|at| (query as i64, near.indices[at], near.distances[at])),
                );
            }
            of_radius.sort_by_key(|&(query, item, _)| (query, item));
            let (a, b) = (queries.unwrap_or(items), queries.map(|_| items));
            let similar = model.similarity_join(a, b, radius, &ctx).unwrap();
            let similar = concatenated(&[similar]);
            assert!(similar.len() > 1000, "a test of nothing");
            for size in [1, 100, of_radius.len(), similar.len(), usize::MAX] {
                let mut batches = Vec::new();
                let deliver = |batch| batches.push(batch);
                radius_join_batches(queries, items, radius, metric, size, &ctx, deliver).unwrap();
                assert!(
                    batched_pairs(&batches, size) == of_radius,
                    "{metric} {size}"
                );
                let mut batches = Vec::new();
                let deliver = |batch| batches.push(batch);
                model
                    .similarity_join_batches(a, b, radius, size, &ctx, deliver)
                    .unwrap();
                assert!(batched_pairs(&batches, size) == similar, "{metric} {size}");
            }
        }
    }
}

#[test]
fn a_models_pairs_are_those_of_the_radius_join_among_its_candidates() {
    let ctx = Context::new().unwrap();
    let all = to_f32(&rows(1000, 12, 41));
    let (a, b) = all.split_at(300 * 12);
    let (a, b) = (Rows::new(a, 12).unwrap(), Rows::new(b, 12).unwrap());
    for (metric, radius) in [(Metric::Euclidean, 5.0), (Metric::Cosine, 0.1)] {
        let model = LshModel::fit(&*family(metric, 2.0), b, 4, 2, 1, &ctx).unwrap();
        let mut batches = Vec::new();
        let deliver = |batch| batches.push(batch);
        radius_join_batches(Some(a), b, radius, metric, 1000, &ctx, deliver).unwrap();
        let mut expected = concatenated(&batches);
        let near = expected.len();
        let candidates = candidates(&model, a, b);
        expected.retain(|&(left, right, _)| candidates.contains(&(left, right)));
        assert!(100 < expected.len() && expected.len() < near && near < 300 * 700);
        expected.sort_by_key(|&(left, right, _)| (left, right));
        // The same bits of each distance, not only about the same.
        let found = model.similarity_join(a, Some(b), radius, &ctx).unwrap();
        assert!(concatenated(&[found]) == expected, "{metric}");
    }
}

#[test]
fn batches_are_the_same_on_every_isa_and_number_of_threads() {
    let items = to_f32(&rows(5000, 8, 11));
    let items = Rows::new(&items, 8).unwrap();
    let queries = items.slice(0..1300);
    let mut all = Vec::new();
    for &isa in Isa::available() {
        for threads in [1, 2, 5] {
            all.push(on(threads, || {
                let ctx = Context::on(isa);
                let family = family(Metric::Euclidean, 3.0);
                let model = LshModel::fit(&*family, items, 2, 4, 1, &ctx).unwrap();
                let mut batches = Vec::new();
                for queries in [None, Some(queries)] {
                    let deliver = |batch| batches.push(batch);
                    let metric = Metric::Euclidean;
                    radius_join_batches(queries, items, 2.5, metric, 999, &ctx, deliver).unwrap();
                }
                model
                    .similarity_join_batches(items, None, 4.0, 999, &ctx, |batch| {
                        batches.push(batch);
                    })
                    .unwrap();
                batches
            }));
        }
    }
    assert!(all[0].len() > 100, "a test of nothing");
    assert!(all.windows(2).all(|two| two[0] == two[1]));
}

#[test]
fn equal_rows_stream_until_the_run_is_cancelled() {
    // 4 · 10¹⁰ pairs at distance 0, or a quarter of that.
    let equal = vec![1.0_f32; 200_000 * 4];
    let mut half = equal.clone();
    for (row, values) in half.chunks_mut(8).enumerate() {
        values[..4].fill(row as f32);
    }
    for values in [&equal, &half] {
        let items = Rows::new(values, 4).unwrap();
        let family = BucketedRandomProjection { bucket_length: 1.0 };
        let model = LshModel::fit(&family, items, 1, 1, 0, &Context::new().unwrap()).unwrap();
        let join = |exact: bool| {
            on(2, || {
                let ctx = Context::new().unwrap();
                let mut batches = 0;
                let deliver = |batch: JoinedPairs<f32>| {
                    assert_eq!(batch.left.len(), 100_000);
                    assert!(batch.distances.iter().all(|&distance| distance < 0.5));
                    batches += 1;
                    if batches == 50 {
                        ctx.cancel();
                    }
                };
                let result = if exact {
                    radius_join_batches(None, items, 0.5, Metric::Euclidean, 100_000, &ctx, deliver)
                } else {
                    model.similarity_join_batches(items, None, 0.5, 100_000, &ctx, deliver)
                };
                (result, batches)
            })
        };
        for exact in [true, false] {
            assert_eq!(join(exact), (Err(Error::Cancelled), 50));
        }
    }
}

#[test]
fn a_slow_receiver_makes_the_join_wait() {
    let items = Rows::new(&[1.0_f32; 20_000], 1).unwrap();
    let ctx = Context::new().unwrap();
    let mut steps = 0;
    let result = on(2, || {
        radius_join_batches(None, items, 1.0, Metric::Euclidean, 1000, &ctx, |_| {
            // Long enough for everything else that may be done meanwhile.
            std::thread::sleep(std::time::Duration::from_secs(1));
            steps = ctx.progress().0;
            ctx.cancel();
        })
    });
    assert_eq!(result, Err(Error::Cancelled));
    // Of 400 pairs of panels, threads get no further than one each and what there is room for.
    assert!(steps < 10 * 512 * 2048, "{steps}");
}

#[test]
fn bad_input_is_refused_by_name() {
    let ctx = Context::new().unwrap();
    let good = Rows::new(&[1.0_f32, 2.0, 3.0, 4.0], 2).unwrap();
    let nan = Rows::new(&[1.0_f32, 2.0, f32::NAN, 4.0], 2).unwrap();
    let other = Rows::new(&[1.0_f32, 2.0, 3.0], 3).unwrap();
    let family = BucketedRandomProjection { bucket_length: 1.0 };
    let model = LshModel::fit(&family, good, 1, 1, 0, &ctx).unwrap();

    let error = knn_join(
        Some(nan),
        good,
        1,
        Metric::Euclidean,
        &JoinPlan::Exact,
        &ctx,
    )
    .unwrap_err();
    assert!(matches!(
        error,
        Error::NotFinite {
            side: "queries",
            row: 1,
            dimension: 0,
            ..
        }
    ));
    assert!(matches!(
        knn_join(None, good, 0, Metric::Euclidean, &JoinPlan::Exact, &ctx),
        Err(Error::Parameter { name: "k", .. })
    ));
    assert!(matches!(
        knn_join(Some(other), good, 1, Metric::Cosine, &JoinPlan::Exact, &ctx),
        Err(Error::Dimension { .. })
    ));
    for radius in [-1.0, f64::NAN] {
        assert!(matches!(
            radius_join(None, good, radius, Metric::Cosine, &ctx),
            Err(Error::Parameter { .. })
        ));
        assert!(matches!(
            model.similarity_join(good, None, radius, &ctx),
            Err(Error::Parameter { .. })
        ));
    }
    let none = |_: JoinedPairs<f32>| panic!("there is no batch");
    for result in [
        radius_join_batches(None, good, 1.0, Metric::Euclidean, 0, &ctx, none),
        model.similarity_join_batches(good, None, 1.0, 0, &ctx, none),
    ] {
        let error = result.unwrap_err().to_string();
        assert_eq!(error, "batch_size must be at least 1, not 0");
    }
    let far = radius_join_batches(None, good, 0.1, Metric::Euclidean, 1, &ctx, none);
    assert_eq!(far, Ok(()));
    assert!(matches!(
        model.hash(other, &ctx),
        Err(Error::Dimension {
            got: 3,
            expected: 2,
            ..
        })
    ));
    assert!(LshModel::fit(&family, nan, 1, 1, 0, &ctx).is_err());
    assert!(LshModel::fit(&family, good, 0, 1, 0, &ctx).is_err());
    assert!(LshModel::fit(&family, good, 1, 0, 0, &ctx).is_err());
    for bucket_length in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let family = BucketedRandomProjection { bucket_length };
        assert!(matches!(
            LshModel::fit(&family, good, 1, 1, 0, &ctx),
            Err(Error::Parameter {
                name: "bucket_length",
                ..
            })
        ));
    }
}

#[test]
fn no_rows_join_to_nothing() {
    let ctx = Context::new().unwrap();
    let (none, some) = (
        Rows::new(&[], 2).unwrap(),
        Rows::new(&[1.0, 2.0], 2).unwrap(),
    );
    let family = BucketedRandomProjection { bucket_length: 1.0 };
    let model = LshModel::fit(&family, none, 2, 2, 0, &ctx).unwrap();
    for (a, b) in [(none, some), (some, none), (none, none)] {
        assert!(
            model
                .similarity_join(a, Some(b), 9.0, &ctx)
                .unwrap()
                .left
                .is_empty()
        );
        let near = model.nearest_neighbors(a, b, 2, &ctx).unwrap();
        assert_eq!(near.indices, vec![-1; a.len() * 2]);
        let near = knn_join(Some(a), b, 2, Metric::Euclidean, &JoinPlan::Exact, &ctx).unwrap();
        assert_eq!(near.indices, vec![-1; a.len() * 2]);
        assert_eq!(
            radius_join(Some(a), b, 2.0, Metric::Cosine, &ctx)
                .unwrap()
                .lims,
            vec![0; a.len() + 1]
        );
    }
    assert_eq!(
        knn_join(None, some, 3, Metric::Euclidean, &JoinPlan::Exact, &ctx)
            .unwrap()
            .indices,
        [-1, -1, -1]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    #[test]
    fn hostile_rows_have_the_neighbors_of_brute_force(
        scales in prop::collection::vec(prop_oneof![Just(0.0), Just(1e-30), Just(1e-6), Just(1.0), Just(1e6), Just(1e15)], 2..120),
        k in 1_usize..6,
        seed: u64,
    ) {
        let mut values = rows(scales.len(), 6, seed);
        for (row, scale) in values.chunks_mut(6).zip(&scales) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
        let items = Rows::new(&values, 6).unwrap();
        let ctx = Context::new().unwrap();
        let found = knn_join(None, items, k, Metric::Euclidean, &JoinPlan::Exact, &ctx).unwrap();
        for row in 0..items.len() {
            let mut expected: Vec<f64> = (0..items.len())
                .filter(|&item| item != row)
                .map(|item| exact(Metric::Euclidean, &items.row(row), &items.row(item)))
                .collect();
            expected.sort_by(f64::total_cmp);
            expected.resize(k, f64::INFINITY);
            for (got, expected) in found.distances[row * k..][..k].iter().zip(expected) {
                prop_assert!(*got == expected || (got - expected).abs() <= 1e-12 * expected, "{} {}", got, expected);
            }
        }
    }
}

#[test]
fn inner_products_are_found_by_size() {
    let ctx = Context::new().unwrap();
    let (queries, items) = (rows(60, 7, 21), rows(300, 7, 22));
    let (queries, items) = (
        Rows::new(&queries, 7).unwrap(),
        Rows::new(&items, 7).unwrap(),
    );
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    for own in [false, true] {
        let left = if own { items } else { queries };
        let others = (!own).then_some(queries);
        let found = knn_join(
            others,
            items,
            5,
            Metric::InnerProduct,
            &JoinPlan::Exact,
            &ctx,
        )
        .unwrap();
        for row in 0..left.len() {
            let mut expected: Vec<f64> = (0..items.len())
                .filter(|&item| !(own && item == row))
                .map(|item| -dot(&left.row(row), &items.row(item)))
                .collect();
            expected.sort_by(f64::total_cmp);
            for (place, expected) in expected.iter().take(5).enumerate() {
                let item = found.indices[row * 5 + place] as usize;
                assert!(!(own && item == row));
                assert_eq!(found.distances[row * 5 + place], *expected);
                assert_eq!(-dot(&left.row(row), &items.row(item)), *expected);
            }
        }
    }
    assert!(radius_join(None, items, 1.0, Metric::InnerProduct, &ctx).is_err());
}

/// The share of rows' k nearest that `found` has, by distance.
fn recall(
    items: Rows<'_, f32>,
    found: &lshjoin::Neighbors<f32>,
    exact: &lshjoin::Neighbors<f32>,
) -> f64 {
    let k = found.k;
    let hits = (0..items.len()).map(|row| {
        let furthest = exact.distances[(row + 1) * k - 1];
        found.distances[row * k..][..k]
            .iter()
            .filter(|&&distance| distance <= furthest)
            .count()
    });
    hits.sum::<usize>() as f64 / (items.len() * k) as f64
}

fn lsh_plan(until_recall: Option<f64>) -> JoinPlan {
    let plan = LshPlan::new(16, 8, 1).seed(3).probes(2);
    JoinPlan::Lsh(plan.until_recall(until_recall))
}

fn ivf_plan(until_recall: Option<f64>) -> JoinPlan {
    let plan = IvfPlan::new(80, 3.0).seed(3);
    JoinPlan::Ivf(plan.until_recall(until_recall))
}

const APPROXIMATE: [fn(Option<f64>) -> JoinPlan; 2] = [lsh_plan, ivf_plan];

#[test]
fn approximate_plans_give_the_same_on_every_isa_and_reach_their_recall() {
    let items = to_f32(&rows(5000, 24, 31));
    let items = Rows::new(&items, 24).unwrap();
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let join = |plan: JoinPlan, isa: Isa, threads: usize| {
            on(threads, || {
                knn_join(None, items, 10, metric, &plan, &Context::on(isa)).unwrap()
            })
        };
        let exact = join(JoinPlan::Exact, Isa::best(), 2);
        assert!(
            join(
                JoinPlan::Exact,
                Isa::available()[1 % Isa::available().len()],
                3
            ) == exact
        );
        for plan in APPROXIMATE {
            let expected = join(plan(None), Isa::best(), 1);
            for &isa in Isa::available() {
                assert!(join(plan(None), isa, 2) == expected, "{metric} {isa}");
            }
            let fixed = recall(items, &expected, &exact);
            assert!(
                metric == Metric::Cosine || fixed < 0.95,
                "too little is left to find: {fixed}"
            );
            let reached = recall(items, &join(plan(Some(0.95)), Isa::best(), 2), &exact);
            assert!(reached >= 0.94, "{metric} {reached}");
        }
    }
}

#[test]
fn approximate_plans_join_two_sides() {
    let all = to_f32(&rows(11_000, 24, 32));
    let (queries, items) = all.split_at(5000 * 24);
    let (queries, items) = (
        Rows::new(queries, 24).unwrap(),
        Rows::new(items, 24).unwrap(),
    );
    let ctx = Context::new().unwrap();
    let join = |plan| knn_join(Some(queries), items, 10, Metric::Euclidean, &plan, &ctx).unwrap();
    let exact = join(JoinPlan::Exact);
    for plan in APPROXIMATE {
        let reached = recall(queries, &join(plan(Some(0.95))), &exact);
        assert!((0.94..1.0).contains(&reached), "{reached}");
    }
}

#[test]
fn equal_rows_do_not_make_a_join_quadratic() {
    // 10¹⁰ pairs at distance 0, if they were compared.
    let mut items = vec![1.0_f32; 100_000 * 8];
    items.extend([2.0; 8]);
    let items = Rows::new(&items, 8).unwrap();
    let ctx = Context::new().unwrap();
    for plan in [JoinPlan::Exact, lsh_plan(None), ivf_plan(None)] {
        let found = knn_join(None, items, 3, Metric::Euclidean, &plan, &ctx).unwrap();
        assert_eq!(found.indices[..6], [1, 2, 3, 0, 2, 3]);
        assert_eq!(found.indices[300_000..], [0, 1, 2]);
        assert!(
            found.distances[..300_000]
                .iter()
                .all(|&distance| distance == 0.0)
        );
    }
}

#[test]
fn plans_out_of_range_are_refused() {
    let ctx = Context::new().unwrap();
    let items = Rows::new(&[1.0_f32, 2.0], 1).unwrap();
    let good = LshPlan::new(16, 8, 1);
    for bad in [
        LshPlan::new(0, 8, 1),
        LshPlan::new(16, 0, 1),
        LshPlan::new(16, 65, 1),
        LshPlan::new(16, 8, 0),
        good.probes(0),
        good.until_recall(0.0),
        good.until_recall(f64::NAN),
    ] {
        let refused = knn_join(None, items, 1, Metric::Euclidean, &JoinPlan::Lsh(bad), &ctx);
        assert!(matches!(refused, Err(Error::Parameter { .. })), "{bad:?}");
    }
    for bad in [
        IvfPlan::new(0, 3.0),
        IvfPlan::new((1 << 20) + 1, 3.0),
        IvfPlan::new(80, 0.0),
        IvfPlan::new(80, 3.0).until_recall(1.5),
    ] {
        let refused = knn_join(None, items, 1, Metric::Euclidean, &JoinPlan::Ivf(bad), &ctx);
        assert!(matches!(refused, Err(Error::Parameter { .. })), "{bad:?}");
    }
}
