//! Digests of joins, pinned: the same bits on every instruction set, architecture and number of
//! threads. `make test-neon` runs this on arm64.

use std::fmt::Write;

use lshjoin::{
    BucketedRandomProjection, Context, Isa, IvfPlan, JoinPlan, JoinedPairs, LshModel, LshPlan,
    Metric, Neighbors, PartitionPlan, RadiusNeighbors, Rows, Scalar,
};

use super::{
    calls::{knn_join, radius_join},
    on,
};

/// What each join must give. Those of plans with tables or lists change when the engine compares other pairs;
/// when they should, take the lines that the failed test prints.
const PINNED: &str = "\
e61bf983a157afe1  82000 k-NN exact
0c5d3942dd62cc49  10000 k-NN exact, two sides
e4b2a6334b901579  10000 k-NN exact, cosine
2b1cf34ee4fbeecb  10000 k-NN exact, Manhattan
518cbf0edc35d6a1  10000 k-NN exact, inner product
96b3403d91500b49  82000 k-NN tables, two sides
218a07c7dfb8bf20  82000 k-NN tables, until recall
e7950f8dda23a4bd  82000 k-NN lists, two sides
79018815402ed190  82000 k-NN lists, until recall
af6b9e433e42c239  82000 k-NN lists in groups, a pass before the last probes
8d4c58a349aa63e2  82000 k-NN lists of an index
4f9f258faeaa0839   8205 radius
5beafbb22e2e269e   9093 radius, two sides
62a0ec70b638c903   2517 radius, cosine
04152cac2882dbac  16041 radius, Manhattan
277f0af96e4404a1  12018 similarity
a5d12f15b75965c7  11850 similarity, two sides
d9fa200000067e79   9780 similarity, three functions a table
9847276932b9ebb5   5000 neighbors of a model
54d060a79754ef87   2500 hashes
";

const DIM: usize = 20;
/// Rows of a side that is large enough for tables, and for more than one chunk.
const MANY: usize = 4100;
const FEW: usize = 500;

/// Overlapping clusters, all values exact in f32, sums of them not; every fiftieth row is a
/// duplicate. Only integers are drawn, so that the rows are the same everywhere.
fn clustered(count: usize) -> Vec<f32> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut draw = |bits: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> (64 - bits)) as i64 - (1 << (bits - 1))
    };
    let centres: Vec<i64> = (0..32 * DIM).map(|_| draw(20)).collect();
    let mut values: Vec<f32> = Vec::with_capacity(count * DIM);
    for row in 0..count {
        if row % 50 == 49 {
            let original = (row / 2) * DIM;
            values.extend_from_within(original..original + DIM);
            continue;
        }
        let centre = &centres[(row * 7 % 32) * DIM..][..DIM];
        let near = |&centre: &i64| (centre + draw(20) + draw(20)) as f32 / (1 << 18) as f32;
        values.extend(centre.iter().map(near));
    }
    values
}

/// How many numbers a join gave, and their digest: FNV-1a (Fowler, Noll and Vo).
struct Digest {
    count: usize,
    hash: u64,
}

impl Digest {
    fn of<T: Scalar>(distances: &[T], indices: &[&[i64]]) -> Self {
        let distances = distances.iter().map(|distance| distance.to_f64().to_bits());
        let indices = indices.iter().copied().flatten();
        let mut digest = Self {
            count: 0,
            hash: 0xcbf2_9ce4_8422_2325,
        };
        for number in distances.chain(indices.map(|&index| index as u64)) {
            digest.count += 1;
            for byte in number.to_le_bytes() {
                digest.hash = (digest.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        digest
    }
}

impl<T: Scalar> From<Neighbors<T>> for Digest {
    fn from(found: Neighbors<T>) -> Self {
        Self::of(&found.distances, &[&found.indices])
    }
}

impl<T: Scalar> From<RadiusNeighbors<T>> for Digest {
    fn from(found: RadiusNeighbors<T>) -> Self {
        Self::of(&found.distances, &[&found.lims, &found.indices])
    }
}

impl<T: Scalar> From<JoinedPairs<T>> for Digest {
    fn from(found: JoinedPairs<T>) -> Self {
        Self::of(&found.distances, &[&found.left, &found.right])
    }
}

/// One line a join: the digest, how many numbers it is of, and the name.
fn digests(values: &[f32], ctx: &Context) -> String {
    let (items, queries) = values.split_at(MANY * DIM);
    let wide: Vec<f64> = values[..2 * FEW * DIM]
        .iter()
        .map(|&v| f64::from(v))
        .collect();
    let rows = |values| Rows::new(values, DIM).unwrap();
    let (items, queries) = (rows(items), rows(queries));
    let (few, others) = (items.slice(0..FEW), queries.slice(0..FEW));
    let (wide, wide_others) = wide.split_at(FEW * DIM);
    let wide = Rows::new(wide, DIM).unwrap();
    let wide_others = Rows::new(wide_others, DIM).unwrap();
    let tables = LshPlan::new(12, 7, 2).seed(3).probes(2).rounds(1);
    let tables = |until: Option<f64>| JoinPlan::Lsh(tables.until_recall(until));
    let lists = IvfPlan::new(60, 2.0).seed(3).rounds(1);
    let lists = |until: Option<f64>| JoinPlan::Ivf(lists.until_recall(until));
    let in_groups = JoinPlan::Ivf(IvfPlan::new(4100, 1.0).seed(3).until_recall(Some(0.95)));
    let partitions = JoinPlan::Partitions(PartitionPlan::new(60, 1.0).until_recall(Some(0.8)));
    let knn = |queries, items, metric, plan: JoinPlan| {
        Digest::from(knn_join(queries, items, 10, metric, &plan, ctx).unwrap())
    };
    let radius = |queries, metric, radius| {
        Digest::from(radius_join(queries, few, radius, metric, ctx).unwrap())
    };
    let spark = BucketedRandomProjection { bucket_length: 2.0 };
    let model = |functions, tables| LshModel::fit(&spark, wide, functions, tables, 5, ctx).unwrap();
    let similar = |functions, tables, others| {
        let model = model(functions, tables);
        Digest::from(model.similarity_join(wide, others, 8.5, ctx).unwrap())
    };
    use Metric::{Cosine, Euclidean, InnerProduct, Manhattan};
    let exact = JoinPlan::Exact;
    let all = [
        ("k-NN exact", knn(None, items, Euclidean, exact)),
        (
            "k-NN exact, two sides",
            knn(Some(few), queries, Euclidean, exact),
        ),
        ("k-NN exact, cosine", knn(Some(few), others, Cosine, exact)),
        (
            "k-NN exact, Manhattan",
            knn(Some(few), others, Manhattan, exact),
        ),
        (
            "k-NN exact, inner product",
            knn(Some(few), others, InnerProduct, exact),
        ),
        (
            "k-NN tables, two sides",
            knn(Some(queries), items, Euclidean, tables(None)),
        ),
        (
            "k-NN tables, until recall",
            knn(None, items, Euclidean, tables(Some(0.9))),
        ),
        (
            "k-NN lists, two sides",
            knn(Some(queries), items, Euclidean, lists(None)),
        ),
        (
            "k-NN lists, until recall",
            knn(None, items, Euclidean, lists(Some(0.6))),
        ),
        (
            "k-NN lists in groups, a pass before the last probes",
            knn(None, items, Euclidean, in_groups),
        ),
        (
            "k-NN lists of an index",
            knn(None, items, Euclidean, partitions),
        ),
        ("radius", radius(None, Euclidean, 8.5)),
        ("radius, two sides", radius(Some(others), Euclidean, 8.5)),
        ("radius, cosine", radius(None, Cosine, 0.4)),
        ("radius, Manhattan", radius(None, Manhattan, 32.0)),
        ("similarity", similar(1, 5, None)),
        ("similarity, two sides", similar(1, 5, Some(wide_others))),
        ("similarity, three functions a table", similar(3, 20, None)),
        (
            "neighbors of a model",
            model(1, 3)
                .nearest_neighbors(wide_others, wide, 5, ctx)
                .unwrap()
                .into(),
        ),
        ("hashes", {
            let hashes = model(1, 5).hash(wide, ctx).unwrap();
            let hashes: Vec<i64> = hashes.into_iter().map(i64::from).collect();
            Digest::of::<f64>(&[], &[&hashes])
        }),
    ];
    let mut lines = String::new();
    for (name, digest) in all {
        writeln!(lines, "{:016x} {:6} {name}", digest.hash, digest.count).unwrap();
    }
    lines
}

#[test]
fn joins_give_the_same_bits_everywhere() {
    let values = clustered(2 * MANY);
    for &isa in Isa::available() {
        for threads in [1, 2] {
            let found = on(threads, || digests(&values, &Context::on(isa)));
            assert!(found == PINNED, "on {isa} and {threads} threads:\n{found}");
        }
    }
}
