//! Joins of packed bits against brute force.

use std::{collections::BTreeSet, fs};

use lshjoin::{
    BinaryIndex, BinaryKnnJoin, BinaryMetric, BinaryRadiusJoin, Context, Error, Index, Isa,
    IvfPlan, JoinPlan, Keys, LshPlan, Metric, NO_KEY, Neighbors, PartitionPlan, Rows,
};

const METRICS: [BinaryMetric; 2] = [BinaryMetric::Hamming, BinaryMetric::Jaccard];

/// Rows near some centres, of which some are equal, some empty and some full. A bit in `rare` is set.
fn rows(count: usize, width: usize, centres: usize, rare: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut byte = |rare: u64| (0..8).fold(0, |byte, bit| byte | u8::from(draw(rare) == 0) << bit);
    let centres: Vec<u8> = (0..centres * width).map(|_| byte(rare)).collect();
    let mut values = Vec::new();
    for row in 0..count {
        match row % 50 {
            0 => values.extend(vec![0; width]),
            1 => values.extend(vec![255; width]),
            2 if row > 50 => values.extend_from_within((row - 7) * width..(row - 6) * width),
            _ => {
                let at = byte(2) as usize * 251 % (centres.len() / width) * width;
                let centre = centres[at..at + width].to_vec();
                values.extend(centre.iter().map(|bits| bits ^ byte(16 * rare)));
            }
        }
    }
    values
}

/// Distances and rows of all items that a query may have, nearest first.
fn brute_force(
    queries: Option<Rows<'_, u8>>,
    items: Rows<'_, u8>,
    metric: BinaryMetric,
    let_in: impl Fn(usize, usize) -> bool,
) -> Vec<Vec<(f32, i64)>> {
    let left = queries.unwrap_or(items);
    let count = |bytes: &mut dyn Iterator<Item = u8>| -> u32 { bytes.map(u8::count_ones).sum() };
    let distance = |x: &[u8], y: &[u8]| {
        let both = || x.iter().zip(y);
        let union = count(&mut both().map(|(x, y)| x | y));
        let differing = count(&mut both().map(|(x, y)| x ^ y));
        match metric {
            BinaryMetric::Hamming => differing as f32,
            _ if union == 0 => 0.0,
            _ => (f64::from(differing) / f64::from(union)) as f32,
        }
    };
    let of_row = |row| {
        let others = (0..items.len()).filter(|&item| queries.is_some() || item != row);
        let others = others.filter(|&item| let_in(row, item));
        let others = others.map(|item| (distance(left.bits(row), items.bits(item)), item as i64));
        let mut others: Vec<_> = others.collect();
        others.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
        others
    };
    (0..left.len()).map(of_row).collect()
}

fn nearest(expected: &[Vec<(f32, i64)>], k: usize) -> Neighbors<f32> {
    let padded = expected.iter().flat_map(|row| {
        let nothing = std::iter::repeat((f32::INFINITY, -1));
        row.iter().copied().chain(nothing).take(k)
    });
    let (distances, indices) = padded.unzip();
    Neighbors {
        k,
        distances,
        indices,
    }
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(work)
}

#[test]
fn the_nearest_are_those_of_brute_force() {
    for (width, rare) in [(1, 2), (5, 8), (40, 16)] {
        let (of_items, of_queries) = (rows(230, width, 5, rare, 1), rows(70, width, 5, rare, 2));
        let items = Rows::new(&of_items, width).unwrap();
        let queries = Rows::new(&of_queries, width).unwrap();
        for (queries, metric) in [None, Some(queries)]
            .into_iter()
            .flat_map(|queries| METRICS.map(|metric| (queries, metric)))
        {
            let expected = brute_force(queries, items, metric, |_, _| true);
            for (at, k) in [1, 3, 10, 229, 300].into_iter().enumerate() {
                for &isa in Isa::available() {
                    let join = BinaryKnnJoin::new(items)
                        .queries(queries)
                        .metric(metric)
                        .k(k);
                    let found = on_threads(1 + at % 3, || join.run(&Context::on(isa)));
                    let found = found.unwrap();
                    assert_eq!(
                        found.neighbors,
                        nearest(&expected, k),
                        "{metric} {width} {k} {isa}"
                    );
                    assert_eq!(found.plan.plan, JoinPlan::Exact);
                }
            }
        }
    }
}

#[test]
fn pairs_within_a_radius_are_those_of_brute_force() {
    for (width, rare) in [(1, 2), (33, 2), (40, 16)] {
        let (of_items, of_queries) = (rows(1200, width, 5, rare, 1), rows(70, width, 5, rare, 2));
        let items = Rows::new(&of_items, width).unwrap();
        let queries = Rows::new(&of_queries, width).unwrap();
        for queries in [None, Some(queries)] {
            for (metric, radii) in [
                (METRICS[0], [0.0, 1.0, 4.5, 60.0]),
                (METRICS[1], [0.0, 0.2, 0.5, f64::INFINITY]),
            ] {
                let expected = brute_force(queries, items, metric, |_, _| true);
                for radius in radii {
                    let join = BinaryRadiusJoin::new(items, radius)
                        .queries(queries)
                        .metric(metric);
                    let found = on_threads(2, || join.run(&Context::new().unwrap())).unwrap();
                    let of_row = |row: usize| {
                        let near = found.lims[row] as usize..found.lims[row + 1] as usize;
                        let distances = found.distances[near.clone()].iter().copied();
                        distances
                            .zip(found.indices[near].iter().copied())
                            .collect::<Vec<_>>()
                    };
                    for (row, expected) in expected.iter().enumerate() {
                        let near = expected.iter().copied();
                        let near = near.take_while(|pair| f64::from(pair.0) < radius);
                        assert_eq!(of_row(row), near.collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}

#[test]
fn batches_are_the_same_everywhere_and_hold_the_pairs_of_the_join() {
    let (of_items, of_queries) = (rows(5000, 12, 5, 4, 1), rows(2200, 12, 5, 4, 2));
    let items = Rows::new(&of_items, 12).unwrap();
    let queries = Rows::new(&of_queries, 12).unwrap();
    let keys = |rows: u32, large: u32| -> Vec<u32> {
        let key = |row| match row % 5 {
            0 => NO_KEY,
            1 => large,
            _ => row / 9,
        };
        (0..rows).map(key).collect()
    };
    let (of_right, of_left) = (keys(5000, 7), keys(2200, 7));
    for queries in [None, Some(queries)] {
        let within = Keys::new(&of_right).queries(queries.map(|_| &of_left[..]));
        for (metric, radius) in [(METRICS[0], 9.0), (METRICS[1], 0.4)] {
            for within in [None, Some(within)] {
                let join = BinaryRadiusJoin::new(items, radius).queries(queries);
                let join = join.metric(metric).within(within);
                let mut runs = Vec::new();
                for (threads, isa) in [(1, Isa::SCALAR), (2, Isa::best()), (4, Isa::best())] {
                    let mut batches = Vec::new();
                    let deliver = |batch| batches.push(batch);
                    let run = || join.run_batches(700, &Context::on(isa), deliver);
                    on_threads(threads, run).unwrap();
                    runs.push(batches);
                }
                assert!(runs[0] == runs[1] && runs[0] == runs[2]);
                let full = &runs[0][..runs[0].len() - 1];
                assert!(full.len() > 2 && full.iter().all(|batch| batch.left.len() == 700));
                let pairs = runs[0].iter().flat_map(|batch| {
                    let rows = batch.left.iter().zip(&batch.right);
                    rows.zip(&batch.distances)
                        .map(|((&left, &right), &distance)| (left, distance.to_bits(), right))
                });
                let mut pairs: Vec<_> = pairs.collect();
                pairs.sort_unstable();
                let found = join.run(&Context::new().unwrap()).unwrap();
                let of_row = |row: usize| found.lims[row] as usize..found.lims[row + 1] as usize;
                let all = (0..found.lims.len() - 1)
                    .flat_map(|row| of_row(row).map(move |at| (row as i64, at)));
                let all =
                    all.map(|(row, at)| (row, found.distances[at].to_bits(), found.indices[at]));
                assert_eq!(pairs, all.collect::<Vec<_>>());
            }
        }
    }
    let join = BinaryRadiusJoin::new(items, 3.0);
    assert!(
        join.run_batches(0, &Context::new().unwrap(), |_| {})
            .is_err()
    );
    let ctx = Context::new().unwrap();
    let mut delivered = 0;
    let error = join.run_batches(5, &ctx, |_| {
        delivered += 1;
        ctx.cancel();
    });
    assert_eq!((error.unwrap_err(), delivered), (Error::Cancelled, 1));
}

#[test]
fn keys_say_which_rows_are_compared() {
    let (of_items, of_queries) = (rows(300, 8, 3, 2, 1), rows(90, 8, 3, 2, 2));
    let items = Rows::new(&of_items, 8).unwrap();
    let keys = |rows: usize, step: usize| -> Vec<u32> {
        let key = |row| match row % 11 {
            0 => NO_KEY,
            _ => (row * row / step) as u32 % 9,
        };
        (0..rows).map(key).collect()
    };
    let (of_right, of_left) = (keys(300, 3), keys(90, 5));
    for queries in [None, Some(Rows::new(&of_queries, 8).unwrap())] {
        let left = queries.map_or(&of_right, |_| &of_left);
        let given = Keys::new(&of_right).queries(queries.map(|_| &of_left[..]));
        let equal = |x: usize, y: usize| left[x] != NO_KEY && left[x] == of_right[y];
        let ctx = Context::new().unwrap();
        for metric in METRICS {
            let knn = BinaryKnnJoin::new(items)
                .queries(queries)
                .metric(metric)
                .k(6);
            let radius = BinaryRadiusJoin::new(items, f64::INFINITY);
            let radius = radius.queries(queries).metric(metric);
            let within = brute_force(queries, items, metric, equal);
            let found = knn.within(given).run(&ctx).unwrap();
            assert_eq!(found.neighbors, nearest(&within, 6));
            let found = radius.within(given).run(&ctx).unwrap();
            assert_eq!(
                found.indices.len(),
                within.iter().map(Vec::len).sum::<usize>()
            );
            let apart = brute_force(queries, items, metric, |x, y| !equal(x, y));
            let found = knn.apart(given).run(&ctx).unwrap();
            assert_eq!(found.neighbors, nearest(&apart, 6));
            let found = radius.apart(given).run(&ctx).unwrap();
            assert_eq!(
                found.indices.len(),
                apart.iter().map(Vec::len).sum::<usize>()
            );
        }
    }
}

#[test]
fn lists_reach_the_recall_and_are_the_same_everywhere() {
    let all = rows(10_500, 16, 300, 3, 1);
    let items = Rows::new(&all[..6000 * 16], 16).unwrap();
    for queries in [None, Some(Rows::new(&all[6000 * 16..], 16).unwrap())] {
        for metric in METRICS {
            let join = BinaryKnnJoin::new(items).queries(queries).metric(metric);
            let plan = JoinPlan::Ivf(IvfPlan::new(90, 1.0).seed(3).until_recall(0.9));
            let exact = join
                .plan(JoinPlan::Exact)
                .run(&Context::new().unwrap())
                .unwrap();
            let mut found = Vec::new();
            for (threads, isa) in [(1, Isa::SCALAR), (2, Isa::best())] {
                let ctx = Context::on(isa);
                let join = join.plan(plan);
                found.push(on_threads(threads, || join.run(&ctx)).unwrap());
                let report = ctx.report();
                let near = found[0].neighbors.distances.chunks(10);
                let known = exact.neighbors.distances.chunks(10);
                let share = near.zip(known).map(|(near, known)| {
                    near.iter()
                        .filter(|&&distance| distance <= known[9])
                        .count() as f64
                        / 10.0
                });
                let recall = share.sum::<f64>() / (found[0].neighbors.indices.len() / 10) as f64;
                assert!(recall > 0.89, "{recall}");
                // By 84 rows, of which most find all or nothing.
                let told = report.recall.unwrap();
                assert!((told.value - recall).abs() < 0.05, "{told:?} {recall}");
                assert!(report.pairs < (6000 * 6000) as u64);
            }
            assert_eq!(found[0], found[1]);
            // The plan that is told does the same, and so does that many probes, nearly.
            let JoinPlan::Ivf(told) = found[0].plan.plan else {
                panic!("{:?}", found[0].plan)
            };
            let again = join
                .plan(found[0].plan.plan)
                .run(&Context::new().unwrap())
                .unwrap();
            assert_eq!(found[0], again);
            let study = join.plan(plan).study(&Context::new().unwrap()).unwrap();
            assert_eq!(study.chosen, found[0].plan);
            let probes = JoinPlan::Ivf(told.until_recall(None));
            let probing = join.plan(probes).run(&Context::new().unwrap()).unwrap();
            assert_eq!(probing.plan.plan, probes);
            // Whatever a query finds is at the distance that it is said to be.
            let some: Vec<u32> = (0..4500).step_by(97).collect();
            let bytes = queries.unwrap_or(items).gather_bits(&some).unwrap();
            let of_some = Rows::new(&bytes, 16).unwrap();
            let expected = brute_force(Some(of_some), items, metric, |_, _| true);
            for (expected, &row) in expected.iter().zip(&some) {
                let slots = row as usize * 10..(row as usize + 1) * 10;
                let distances = probing.neighbors.distances[slots.clone()].iter().copied();
                let found = distances.zip(probing.neighbors.indices[slots].iter().copied());
                found.for_each(|pair| assert!(expected.contains(&pair)));
            }
        }
    }
}

#[test]
fn rows_that_are_alike_are_neighbours_by_number() {
    let ctx = Context::new().unwrap();
    let same = vec![7_u8; 5000 * 4];
    let same = Rows::new(&same, 4).unwrap();
    for plan in [JoinPlan::Exact, JoinPlan::Ivf(IvfPlan::new(40, 3.0))] {
        for metric in METRICS {
            let join = BinaryKnnJoin::new(same).k(2).metric(metric).plan(plan);
            let found = join.run(&ctx).unwrap().neighbors;
            assert_eq!(found.indices[..6], [1, 2, 0, 2, 0, 1]);
            assert_eq!(found.indices[9998..], [0, 1]);
            assert!(found.distances.iter().all(|&distance| distance == 0.0));
        }
    }
}

#[test]
fn nothing_to_join_and_what_is_refused() {
    let ctx = Context::new().unwrap();
    let (none, two) = (
        Rows::new(&[], 2).unwrap(),
        Rows::new(&[1, 2, 3, 4], 2).unwrap(),
    );
    let found = BinaryKnnJoin::new(none)
        .queries(two)
        .k(2)
        .run(&ctx)
        .unwrap()
        .neighbors;
    assert_eq!(found.indices, [-1; 4]);
    let found = BinaryKnnJoin::new(two)
        .queries(none)
        .k(2)
        .run(&ctx)
        .unwrap()
        .neighbors;
    assert!(found.indices.is_empty());
    let found = BinaryKnnJoin::new(none).run(&ctx).unwrap().neighbors;
    assert!(found.indices.is_empty());
    let found = BinaryRadiusJoin::new(none, 9.0)
        .queries(two)
        .run(&ctx)
        .unwrap();
    assert_eq!((found.lims, found.indices), (vec![0; 3], vec![]));

    let join = BinaryKnnJoin::new(two);
    let refused = |error: Result<_, Error>| match error.map(|_: lshjoin::KnnJoined<f32>| ()) {
        Err(Error::Parameter { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(join.k(0).run(&ctx)), "k");
    assert_eq!(refused(join.recall(0.0).run(&ctx)), "recall");
    assert_eq!(
        refused(join.within(Keys::new(&[1])).run(&ctx)),
        "keys of items"
    );
    let lsh = JoinPlan::Lsh(LshPlan::new(1, 1, 1));
    assert_eq!(refused(join.plan(lsh).run(&ctx)), "plan");
    let rounds = JoinPlan::Ivf(IvfPlan::new(1, 1.0).rounds(1));
    assert_eq!(refused(join.plan(rounds).run(&ctx)), "plan");
    let other = Rows::new(&[1, 2, 3], 3).unwrap();
    let error = join.queries(other).run(&ctx).unwrap_err();
    assert!(matches!(
        error,
        Error::Dimension {
            got: 3,
            expected: 2,
            ..
        }
    ));
    for radius in [-1.0, f64::NAN] {
        assert!(BinaryRadiusJoin::new(two, radius).run(&ctx).is_err());
    }
    ctx.cancel();
    assert_eq!(join.run(&ctx).unwrap_err(), Error::Cancelled);
    assert_eq!(
        BinaryRadiusJoin::new(two, 1.0).run(&ctx).unwrap_err(),
        Error::Cancelled
    );
}

/// Ids that are not in the order of rows.
fn id(row: usize) -> i64 {
    (row * 7919 % 10_007) as i64 - 5000
}

#[test]
fn an_index_finds_what_brute_force_does_whatever_was_added_and_removed() {
    let (width, k, radius) = (5, 7, [9.0, 0.4]);
    let (of_items, of_queries) = (rows(1200, width, 5, 8, 1), rows(70, width, 5, 8, 2));
    let items = Rows::new(&of_items, width).unwrap();
    let queries = Rows::new(&of_queries, width).unwrap();
    let ids: Vec<i64> = (0..items.len()).map(id).collect();
    let ctx = Context::new().unwrap();
    for (metric, radius) in METRICS.into_iter().zip(radius) {
        let mut index = BinaryIndex::build(items.slice(0..900), &ids[..900], metric, &ctx).unwrap();
        let check = |index: &BinaryIndex, there: &dyn Fn(usize) -> bool| {
            let mut expected = brute_force(Some(queries), items, metric, |_, item| there(item));
            for of_query in &mut expected {
                of_query
                    .iter_mut()
                    .for_each(|pair| pair.1 = id(pair.1 as usize));
                of_query.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
            }
            let found = index.knn(queries, k, &JoinPlan::Exact, &ctx).unwrap();
            assert_eq!(found, nearest(&expected, k), "{metric}");
            assert_eq!(ctx.report().recall.unwrap().value, 1.0);
            let near = index.radius(queries, radius, &ctx).unwrap();
            let pairs = near
                .distances
                .iter()
                .copied()
                .zip(near.indices.iter().copied());
            let pairs: Vec<(f32, i64)> = pairs.collect();
            for (ends, of_query) in near.lims.windows(2).zip(&expected) {
                let within = of_query
                    .iter()
                    .take_while(|pair| f64::from(pair.0) < radius);
                let within: Vec<(f32, i64)> = within.copied().collect();
                assert_eq!(
                    pairs[ends[0] as usize..ends[1] as usize],
                    within,
                    "{metric}"
                );
            }
        };
        check(&index, &|row| row < 900);
        let before = index.clone();
        index
            .add(items.slice(900..1200), &ids[900..], &ctx)
            .unwrap();
        check(&index, &|_| true);
        let removed: BTreeSet<usize> = (0..1200).step_by(7).collect();
        let of_removed: Vec<i64> = removed.iter().map(|&row| id(row)).collect();
        index.remove(&of_removed, &ctx).unwrap();
        let there = |row: usize| !removed.contains(&row);
        check(&index, &there);
        assert_eq!(index.len(), 1200 - removed.len());
        check(&before, &|row| row < 900);

        let directory = tempfile::tempdir().unwrap();
        before.save(directory.path(), &ctx).unwrap();
        let old = BinaryIndex::open(directory.path(), true, &ctx).unwrap();
        index.save(directory.path(), &ctx).unwrap();
        // Who has the old files mapped keeps them.
        check(&old, &|row| row < 900);
        assert!(BinaryIndex::is_saved_in(directory.path()).unwrap());
        for mapped in [true, false] {
            let mut opened = BinaryIndex::open(directory.path(), mapped, &ctx).unwrap();
            let info = opened.info();
            let counts = (info.items, info.removed, info.added);
            assert_eq!(counts, (index.len(), 0, 0));
            assert_eq!((info.dim, info.metric), (width, metric));
            opened.verify(&ctx).unwrap();
            check(&opened, &there);
            // What was removed may come back.
            opened.add(items.slice(0..1), &ids[..1], &ctx).unwrap();
            check(&opened, &|row| row == 0 || there(row));
        }
        // One file each of ids, rows and the manifest.
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }
}

#[test]
fn an_index_of_no_items_finds_none() {
    let ctx = Context::new().unwrap();
    let (none, query) = (Rows::new(&[], 2).unwrap(), Rows::new(&[1, 2], 2).unwrap());
    let mut index = BinaryIndex::build(none, &[], BinaryMetric::Hamming, &ctx).unwrap();
    let near = index.knn(query, 2, &JoinPlan::Exact, &ctx).unwrap();
    assert_eq!(near.indices, [-1, -1]);
    assert!(index.radius(query, 9.0, &ctx).unwrap().indices.is_empty());
    index.add(query, &[4], &ctx).unwrap();
    let near = index.knn(query, 2, &JoinPlan::Exact, &ctx).unwrap();
    assert_eq!((near.indices, index.is_empty()), (vec![4, -1], false));
    index.remove(&[4], &ctx).unwrap();
    let directory = tempfile::tempdir().unwrap();
    index.save(directory.path(), &ctx).unwrap();
    let index = BinaryIndex::open(directory.path(), true, &ctx).unwrap();
    assert!(index.is_empty());
    assert_eq!(index.knn(none, 3, &JoinPlan::Exact, &ctx).unwrap().k, 3);
}

#[test]
fn very_many_queries_of_an_index_go_by_lists() {
    let ctx = Context::new().unwrap();
    let of_items = rows(6000, 8, 40, 2, 3);
    let items = Rows::new(&of_items, 8).unwrap();
    let ids: Vec<i64> = (0..6000).collect();
    let index = BinaryIndex::build(items, &ids, BinaryMetric::Hamming, &ctx).unwrap();
    assert_eq!(index.plan(0.9, 6000).unwrap(), JoinPlan::Exact);
    assert_eq!(index.plan(1.0, usize::MAX).unwrap(), JoinPlan::Exact);
    let JoinPlan::Ivf(_) = index.plan(0.9, 1 << 40).unwrap() else {
        panic!("not by lists");
    };
    let plan = JoinPlan::Ivf(IvfPlan::new(40, 3.0));
    let found = index.knn(items, 5, &plan, &ctx).unwrap();
    let joined = BinaryKnnJoin::new(items).queries(items).k(5).plan(plan);
    assert_eq!(found, joined.run(&ctx).unwrap().neighbors);
}

#[test]
fn what_no_index_of_bits_can_be_is_refused() {
    let ctx = Context::new().unwrap();
    let items = Rows::new(&[1_u8, 2, 3, 4], 2).unwrap();
    let metric = BinaryMetric::Jaccard;
    let build = |items, ids: &[i64]| BinaryIndex::build(items, ids, metric, &ctx);
    assert!(matches!(
        build(items, &[5, 5]),
        Err(Error::Id { id: 5, .. })
    ));
    assert!(build(items, &[5]).is_err());
    let wide = vec![0; 1 << 21];
    assert!(build(Rows::new(&wide, 1 << 21).unwrap(), &[5]).is_err());
    let mut index = build(items, &[5, 3]).unwrap();
    let other = Rows::new(&[1_u8, 2, 3], 3).unwrap();
    let dimension = |got: Result<(), Error>| {
        assert!(matches!(
            got,
            Err(Error::Dimension {
                got: 3,
                expected: 2,
                ..
            })
        ));
    };
    dimension(index.knn(other, 1, &JoinPlan::Exact, &ctx).map(|_| ()));
    dimension(index.radius(other, 1.0, &ctx).map(|_| ()));
    dimension(index.add(other, &[7], &ctx));
    assert!(matches!(
        index.add(items, &[7, 3], &ctx),
        Err(Error::Id { id: 3, .. })
    ));
    assert!(matches!(
        index.remove(&[3, 8], &ctx),
        Err(Error::Id { id: 8, .. })
    ));
    assert_eq!(index.len(), 2);
    assert!(index.knn(items, 0, &JoinPlan::Exact, &ctx).is_err());
    let plan = JoinPlan::Partitions(PartitionPlan::new(4, 1.0));
    assert!(index.knn(items, 1, &plan, &ctx).is_err());
    assert!(index.radius(items, f64::NAN, &ctx).is_err());
    assert!(index.plan(1.5, 3).is_err());
}

#[test]
fn files_that_are_not_what_was_saved_are_damaged() {
    let ctx = Context::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let damaged = |found: Result<BinaryIndex, Error>| {
        assert!(matches!(found, Err(Error::Damaged { .. })), "{found:?}");
    };
    let vectors = Rows::new(&[1.0_f32, 2.0], 1).unwrap();
    let of_vectors = Index::build(vectors, &[1, 2], Metric::Euclidean, None, 0, &ctx).unwrap();
    of_vectors.save(path, &ctx).unwrap();
    assert!(!BinaryIndex::is_saved_in(path).unwrap());
    damaged(BinaryIndex::open(path, true, &ctx));
    let values = rows(300, 6, 4, 2, 1);
    let items = Rows::new(&values, 6).unwrap();
    let ids: Vec<i64> = (0..300).map(id).collect();
    let index = BinaryIndex::build(items, &ids, BinaryMetric::Hamming, &ctx).unwrap();
    index.save(path, &ctx).unwrap();
    assert!(matches!(
        Index::open(path, true, &ctx),
        Err(Error::Damaged { .. })
    ));
    for entry in fs::read_dir(path).unwrap() {
        let file = entry.unwrap().path();
        let sound = fs::read(&file).unwrap();
        for at in [0, sound.len() / 2, sound.len() - 1] {
            let mut altered = sound.clone();
            altered[at] ^= 4;
            fs::write(&file, altered).unwrap();
            damaged(BinaryIndex::open(path, false, &ctx));
            damaged(BinaryIndex::open(path, true, &ctx).and_then(|index| {
                index.knn(items, 1, &JoinPlan::Exact, &ctx)?;
                Ok(index)
            }));
        }
        fs::write(&file, &sound[..sound.len() - 1]).unwrap();
        damaged(BinaryIndex::open(path, true, &ctx));
        fs::write(&file, sound).unwrap();
    }
    BinaryIndex::open(path, false, &ctx).unwrap();
}
