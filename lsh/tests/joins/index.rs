//! Indexes: built, saved, resumed, and joined chunk by chunk and batch by batch.

use std::ops::Range;

use lshjoin::{
    Context, Distance, Error, Index, IndexBuilder, JoinPlan, Keys, KnnJoin, Metric, NO_KEY,
    Neighbors, PartitionPlan, RadiusJoin, RadiusNeighbors, Rows,
};

use super::{on, rows, to_f32};

const DIM: usize = 8;
const ITEMS: usize = 6000;
const K: usize = 5;
const METRICS: [Metric; 3] = [Metric::Euclidean, Metric::Cosine, Metric::InnerProduct];

/// Clusters of uneven sizes, one of them of equal rows.
fn clustered(count: usize, seed: u64) -> Vec<f32> {
    let (centres, noise) = (rows(30, DIM, 3), rows(count, DIM, seed));
    let mut values = Vec::with_capacity(count * DIM);
    for row in 0..count {
        let cluster = (row * row / 7 + row) % 30;
        let width = if cluster == 4 { 0.0 } else { 0.3 };
        let of_row = noise[row * DIM..][..DIM].iter();
        let centre = &centres[cluster * DIM..][..DIM];
        values.extend(
            of_row
                .zip(centre)
                .map(|(near, centre)| width * near + 2.0 * centre),
        );
    }
    to_f32(&values)
}

fn probing(probes: f64) -> PartitionPlan {
    PartitionPlan::new(60, probes).seed(7)
}

fn plan() -> PartitionPlan {
    probing(1.0)
}

fn ids() -> Vec<i64> {
    (0..ITEMS as i64).map(|row| 3 * row - 40).collect()
}

fn build(values: &[f32], metric: Metric, ctx: &Context) -> Index {
    let items = Rows::new(values, DIM).unwrap();
    Index::build(items, &ids(), metric, Some(plan()), 0, ctx).unwrap()
}

/// Under row numbers, in an order of their own.
fn build_by_row(values: &[f32], metric: Metric, ctx: &Context) -> Index {
    let items = Rows::new(values, DIM).unwrap();
    let ids: Vec<i64> = (0..ITEMS as i64).collect();
    Index::build(items, &ids, metric, Some(plan()), 0, ctx).unwrap()
}

#[test]
fn items_kept_apart_find_no_item_of_their_key_in_chunks_of_any_size() {
    let values = clustered(ITEMS, 1);
    let items = Rows::new(&values, DIM).unwrap();
    let keys: Vec<u32> = (0..ITEMS)
        .map(|row| {
            if row % 50 == 0 {
                NO_KEY
            } else {
                (row % 3) as u32
            }
        })
        .collect();
    let differ = |row: usize, item: i64| keys[row] == NO_KEY || keys[row] != keys[item as usize];
    for metric in METRICS {
        let ctx = Context::new().unwrap();
        let apart = build_by_row(&values, metric, &ctx);
        // What is kept of a search without keys is not made use of by one with some.
        let without = by_chunks(&apart, ITEMS, &JoinPlan::Partitions(probing(4.0)), &ctx);
        let apart = apart.kept_apart(Keys::new(&keys), &ctx).unwrap();
        let until = JoinPlan::Partitions(plan().until_recall(0.9));
        let fixed = apart.fixed_plan(None, K, &until, &ctx).unwrap();
        let join = KnnJoin::new(items)
            .k(K)
            .metric(metric)
            .apart(Keys::new(&keys));
        for plan in [JoinPlan::Exact, fixed, JoinPlan::Partitions(probing(4.0))] {
            let whole = by_chunks(&apart, ITEMS, &plan, &ctx);
            assert!(
                by_chunks(&apart, 777, &plan, &ctx) == whole,
                "{metric}, {plan:?}"
            );
            assert!(whole != without);
            let in_memory = join.plan(plan).run(&ctx).unwrap().neighbors;
            for ((row, near), of_memory) in whole.iter().zip(in_memory.indices.chunks(K)) {
                let near: Vec<i64> = near.iter().map(|near| near.0).collect();
                assert!(
                    near.iter().all(|&item| differ(*row as usize, item)),
                    "{metric}, {row}"
                );
                assert_eq!(near, of_memory, "{metric}, {plan:?}, row {row}");
            }
        }
        // Queries with keys of their own, and a radius.
        let queries = items.slice(0..4500);
        let given = Keys::new(&keys).queries(&keys[..4500]);
        let index = apart.kept_apart(given, &ctx).unwrap();
        let found = index.knn(queries, K, &JoinPlan::Exact, &ctx).unwrap();
        let join = KnnJoin::new(items).queries(queries).k(K).metric(metric);
        let join = join.apart(given).plan(JoinPlan::Exact);
        assert_eq!(
            found.indices,
            join.run(&ctx).unwrap().neighbors.indices,
            "{metric}"
        );
        if let Ok(distance) = Distance::try_from(metric) {
            let radius = f64::from(found.distances[3 * K]);
            let join = RadiusJoin::new(items, radius)
                .queries(queries)
                .distance(distance);
            let near = join.apart(given).run(&ctx).unwrap();
            assert_eq!(
                index.radius(queries, radius, &ctx).unwrap().indices,
                near.indices
            );
        }
    }
}

#[test]
fn keys_that_are_not_those_of_the_rows_are_refused() {
    let (values, ctx) = (clustered(ITEMS, 1), Context::new().unwrap());
    let keys = vec![1; ITEMS];
    let refused = |found: Result<_, Error>| match found.map(|_: Index| ()) {
        Err(Error::Parameter { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let with_ids = build(&values, Metric::Euclidean, &ctx);
    let by_row = build_by_row(&values, Metric::Euclidean, &ctx);
    let apart = |index: &Index, keys| index.kept_apart(Keys::new(keys), &ctx);
    assert_eq!(refused(apart(&with_ids, &keys)), "ids of items kept apart");
    assert_eq!(refused(apart(&by_row, &keys[1..])), "keys of items");
    let few = apart(&by_row, &keys).unwrap();
    let queries = Rows::new(&values[..2 * DIM], DIM).unwrap();
    let error = few.knn(queries, K, &JoinPlan::Exact, &ctx).unwrap_err();
    assert!(error.to_string().contains("0 for 2 rows"), "{error}");
    let mut changed = by_row.clone();
    changed
        .add(queries, &[ITEMS as i64, ITEMS as i64 + 1], &ctx)
        .unwrap();
    assert_eq!(
        refused(apart(&changed, &keys)),
        "an index whose items are kept apart"
    );
}

/// Squared distances, or products with the sign turned, in double precision.
fn brute_force(metric: Metric, query: &[f32], item: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        let products = x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y));
        products.sum()
    };
    match metric {
        Metric::Cosine => 1.0 - dot(query, item) / (dot(query, query) * dot(item, item)).sqrt(),
        Metric::InnerProduct => -dot(query, item),
        _ => dot(query, query) + dot(item, item) - 2.0 * dot(query, item),
    }
}

/// The share of the K nearest others that was found; as near as the last of them counts.
fn recall(metric: Metric, values: &[f32], found: &[(usize, Vec<i64>)]) -> f64 {
    let row = |at: usize| &values[at * DIM..][..DIM];
    let shares = found.iter().map(|(query, ids)| {
        let others = (0..values.len() / DIM).filter(|other| other != query);
        let mut all: Vec<f64> = others
            .map(|other| brute_force(metric, row(*query), row(other)))
            .collect();
        all.sort_unstable_by(f64::total_cmp);
        let last = all[K - 1] + 1e-6;
        let near = ids.iter().filter(|&&id| {
            let item = ((id + 40) / 3) as usize;
            item != *query && brute_force(metric, row(*query), row(item)) <= last
        });
        near.count() as f64 / K as f64
    });
    shares.sum::<f64>() / found.len() as f64
}

/// The join of the items with themselves in chunks of so many: ids and neighbours, by rising id.
fn by_chunks(
    index: &Index,
    size: usize,
    plan: &JoinPlan,
    ctx: &Context,
) -> Vec<(i64, Vec<(i64, u32)>)> {
    let chunk = |start| start..ITEMS.min(start + size);
    let join = |chunk: Range<usize>| {
        let (ids, found) = index.knn_of_chunk(chunk, K, plan, ctx).unwrap();
        let of_rows = found.indices.chunks(K).zip(found.distances.chunks(K));
        let of_rows = of_rows.map(|(indices, distances)| {
            let distances = distances.iter().map(|far| far.to_bits());
            indices.iter().copied().zip(distances).collect()
        });
        ids.into_iter().zip(of_rows).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = (0..ITEMS)
        .step_by(size)
        .flat_map(|start| join(chunk(start)))
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn chunks_of_any_size_make_up_the_join_in_memory() {
    for metric in METRICS {
        let values = clustered(ITEMS, 1);
        let ctx = Context::new().unwrap();
        let index = build(&values, metric, &ctx);
        let until = JoinPlan::Partitions(plan().until_recall(0.9));
        let fixed = index.fixed_plan(None, K, &until, &ctx).unwrap();
        assert!(
            matches!(fixed, JoinPlan::Partitions(_)),
            "{metric}: {fixed:?}"
        );
        let whole = by_chunks(&index, ITEMS, &fixed, &ctx);
        for size in [4000, 777] {
            assert!(
                by_chunks(&index, size, &fixed, &ctx) == whole,
                "{metric}, chunks of {size}"
            );
        }
        let sampled = whole.iter().step_by(9);
        let sampled = sampled.map(|(id, near)| {
            (
                ((id + 40) / 3) as usize,
                near.iter().map(|near| near.0).collect(),
            )
        });
        let reached = recall(metric, &values, &sampled.collect::<Vec<_>>());
        assert!(reached > 0.87, "{metric}: {reached}");

        let items = Rows::new(&values, DIM).unwrap();
        let join = KnnJoin::new(items).k(K).metric(metric).plan(fixed);
        let in_memory = join.run(&ctx).unwrap().neighbors;
        for (row, (of_index, of_memory)) in
            whole.iter().zip(in_memory.indices.chunks(K)).enumerate()
        {
            let of_index: Vec<i64> = of_index.1.iter().map(|near| (near.0 + 40) / 3).collect();
            assert_eq!(of_index, of_memory, "{metric}, row {row}");
        }
    }
}

#[test]
fn queries_find_the_same_whichever_others_come_with_them() {
    for metric in METRICS {
        let (values, ctx) = (clustered(ITEMS, 1), Context::new().unwrap());
        let queries = clustered(4500, 2);
        let queries = Rows::new(&queries, DIM).unwrap();
        let index = build(&values, metric, &ctx);
        let fixed = JoinPlan::Partitions(probing(3.0));
        let all = index.knn(queries, K, &fixed, &ctx).unwrap();
        for range in [0..1, 700..703, 1000..4500] {
            let some = index
                .knn(queries.slice(range.clone()), K, &fixed, &ctx)
                .unwrap();
            let of_all = range.start * K..range.end * K;
            assert!(
                some.indices == all.indices[of_all.clone()],
                "{metric}, {range:?}"
            );
            assert!(
                some.distances == all.distances[of_all],
                "{metric}, {range:?}"
            );
        }
    }
}

#[test]
fn a_recall_is_reached_by_few_queries_and_by_many() {
    let (values, ctx) = (clustered(ITEMS, 1), Context::new().unwrap());
    let index = build(&values, Metric::Euclidean, &ctx);
    let items = Rows::new(&values, DIM).unwrap();
    let until = JoinPlan::Partitions(plan().until_recall(0.9));
    // Queries are items, so that each finds itself first, and then others.
    for queries in [60, ITEMS] {
        let step = ITEMS / queries;
        let some: Vec<u32> = (0..ITEMS as u32).step_by(step).collect();
        let some = items.gather(&some).unwrap();
        let some = Rows::new(&some, DIM).unwrap();
        let found = index.knn(some, K + 1, &until, &ctx).unwrap();
        let exact = index.knn(some, K + 1, &JoinPlan::Exact, &ctx).unwrap();
        let both = found
            .distances
            .chunks(K + 1)
            .zip(exact.distances.chunks(K + 1));
        let near = both.map(|(found, exact)| found.iter().filter(|&&far| far <= exact[K]).count());
        let reached = near.sum::<usize>() as f64 / exact.distances.len() as f64;
        assert!(reached > 0.87 && found != exact, "{queries}: {reached}");
    }
}

#[test]
fn every_isa_and_any_number_of_threads_find_the_same() {
    let values = clustered(ITEMS, 1);
    let answers = |isa, threads| {
        on(threads, || {
            let ctx = Context::on(isa);
            let index = build(&values, Metric::Euclidean, &ctx);
            let until = JoinPlan::Partitions(plan().until_recall(0.8));
            let fixed = index.fixed_plan(None, K, &until, &ctx).unwrap();
            let items = Rows::new(&values, DIM).unwrap();
            let found = index.knn(items.slice(0..4200), K, &until, &ctx).unwrap();
            (fixed, by_chunks(&index, 2500, &fixed, &ctx), found)
        })
    };
    let expected = answers(lshjoin::Isa::SCALAR, 1);
    for &isa in lshjoin::Isa::available() {
        assert!(answers(isa, 2) == expected, "{isa}");
    }
}

#[test]
fn builders_come_to_the_same_in_memory_on_disk_and_after_a_stop() {
    let (values, ctx) = (clustered(ITEMS, 1), Context::new().unwrap());
    let (items, ids) = (Rows::new(&values, DIM).unwrap(), ids());
    let fixed = JoinPlan::Partitions(probing(2.0));
    let expected = build(&values, Metric::Cosine, &ctx);
    let expected = by_chunks(&expected, ITEMS, &fixed, &ctx);
    let directory = tempfile::tempdir().unwrap();
    let begin = || {
        let path = directory.path();
        IndexBuilder::resume(ITEMS, DIM, Metric::Cosine, Some(plan()), 0, path).unwrap()
    };
    // Each builder is given so many batches, of a size of its own, and dropped.
    for (batch, batches) in [(1000, 8), (640, 3), (500, 2)] {
        let mut builder = begin();
        for _ in 0..batches {
            let (_, first) = builder.position();
            let range = first..ITEMS.min(first + batch);
            builder
                .push(items.slice(range.clone()), &ids[range], &ctx)
                .unwrap();
        }
    }
    let mut builder = begin();
    while builder.position().0 < builder.passes() {
        let (_, first) = builder.position();
        let range = first..ITEMS.min(first + 900);
        builder
            .push(items.slice(range.clone()), &ids[range], &ctx)
            .unwrap();
    }
    let built = builder.finish(&ctx).unwrap();
    built.verify(&ctx).unwrap();
    assert!(by_chunks(&built, 1999, &fixed, &ctx) == expected);
    for mapped in [false, true] {
        let opened = Index::open(directory.path(), mapped, &ctx).unwrap();
        assert!(by_chunks(&opened, ITEMS, &fixed, &ctx) == expected);
    }
}

#[test]
fn what_was_added_and_removed_is_as_if_built_of_what_is_left() {
    let (values, ctx) = (clustered(ITEMS, 1), Context::new().unwrap());
    let items = Rows::new(&values, DIM).unwrap();
    let mut index = build(&values, Metric::Euclidean, &ctx);
    let gone: Vec<i64> = ids().into_iter().step_by(3).collect();
    index.remove(&gone, &ctx).unwrap();
    index.add(items.slice(0..1), &gone[..1], &ctx).unwrap();
    let plan = JoinPlan::Partitions(probing(4.0));
    let found: Neighbors<f32> = index.knn(items.slice(0..3000), K, &plan, &ctx).unwrap();
    let back = |id: &i64| gone[1..].binary_search(id).is_err();
    assert!(found.indices.iter().all(back));
    assert_eq!(found.indices[0], gone[0]);
    let directory = tempfile::tempdir().unwrap();
    index.save(directory.path(), &ctx).unwrap();
    let saved = Index::open(directory.path(), true, &ctx).unwrap();
    assert_eq!(saved.len(), ITEMS - gone.len() + 1);
    let exact = |index: &Index| index.knn(items, K, &JoinPlan::Exact, &ctx).unwrap();
    // Items at the same distance in single precision may come in another order.
    assert_eq!(exact(&saved).distances, exact(&index).distances);
}

#[test]
fn all_items_within_a_radius_are_found_among_those_of_the_lists() {
    // Dimensions enough that near pairs are few, of which some are equal.
    let (values, others) = (clustered(ITEMS, 1), clustered(5000, 1));
    let (items, ctx) = (Rows::new(&values, DIM).unwrap(), Context::new().unwrap());
    let queries = Rows::new(&others, DIM).unwrap();
    for (metric, radius) in [(Distance::Euclidean, 0.4), (Distance::Cosine, 1e-4)] {
        let mut index = build(&values, metric.into(), &ctx);
        let check = |index: &Index, kept: &dyn Fn(i64) -> bool| {
            let expected = RadiusJoin::new(items, radius).distance(metric);
            let expected = expected.queries(queries).run(&ctx).unwrap();
            let ctx = Context::new().unwrap();
            let found = index.radius(queries, radius, &ctx).unwrap();
            // Not all pairs were compared.
            assert!(ctx.report().seconds.iter().any(|stage| stage.0 == "radius"));
            for query in 0..queries.len() {
                let of = |found: &RadiusNeighbors<f32>| {
                    found.indices[found.lims[query] as usize..found.lims[query + 1] as usize]
                        .to_vec()
                };
                let ids = of(&expected).into_iter().map(|row| 3 * row - 40);
                let mut ids: Vec<i64> = ids.filter(|&id| kept(id)).collect();
                let mut found = of(&found);
                ids.sort_unstable();
                found.sort_unstable();
                assert_eq!(found, ids, "{metric:?}, query {query}");
            }
            found.indices.len()
        };
        let all = check(&index, &|_| true);
        assert!((5000..500_000).contains(&all), "{metric:?}: {all} pairs");
        let gone: Vec<i64> = ids().into_iter().step_by(4).collect();
        index.remove(&gone, &ctx).unwrap();
        assert!(check(&index, &|id| gone.binary_search(&id).is_err()) < all);
    }
}

#[test]
fn many_added_items_are_found_by_their_lists() {
    const QUERIES: usize = 300;
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let ctx = Context::new().unwrap();
        let values = clustered(2 * ITEMS, 1);
        let (first, later) = values.split_at(ITEMS * DIM);
        let mut index = build(first, metric, &ctx);
        let added: Vec<i64> = (0..ITEMS as i64).map(|row| 100_000 - row).collect();
        index
            .add(Rows::new(later, DIM).unwrap(), &added, &ctx)
            .unwrap();
        let queries = clustered(QUERIES, 9);
        let queries = Rows::new(&queries, DIM).unwrap();
        let until = JoinPlan::Partitions(plan().until_recall(0.9));
        let search = |index: &Index, plan| {
            let ctx = Context::new().unwrap();
            let found = index.knn(queries, K, plan, &ctx).unwrap();
            (found, ctx.report().pairs)
        };
        let (exact, _) = search(&index, &JoinPlan::Exact);
        search(&index, &until); // learns how far to probe, and makes the lists
        let (found, pairs) = search(&index, &until);
        // Less than what comparing all added items would take.
        assert!(
            pairs < (QUERIES * ITEMS) as u64 / 2,
            "{metric}: {pairs} pairs"
        );
        // As well as the others are, of which the plan knows.
        let recall = |is_of: fn(i64) -> bool| {
            let lists = exact.indices.chunks(K).zip(found.indices.chunks(K));
            let wanted = lists.flat_map(|(near, found)| {
                let near = near.iter().filter(|&&id| is_of(id));
                near.map(|id| f64::from(u8::from(found.contains(id))))
            });
            let wanted: Vec<f64> = wanted.collect();
            wanted.iter().sum::<f64>() / wanted.len() as f64
        };
        let (of_added, of_items) = (recall(|id| id > 50_000), recall(|id| id <= 50_000));
        assert!(
            of_added > of_items - 0.05 && of_added > 0.75,
            "{metric}: {of_added} of those added, {of_items} of the others"
        );

        // What changes, changes the lists.
        let (gone, kept) = added.split_at(ITEMS / 10);
        index.remove(gone, &ctx).unwrap();
        let (found, _) = search(&index, &until);
        assert!(found.indices.iter().all(|id| !gone.contains(id)));
        assert!(found.indices.iter().any(|id| kept.contains(id)));
    }
}
