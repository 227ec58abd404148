//! Rows of 8 and 16 bits: joined as the same rows in single precision, and integers exactly.

use half::{bf16, f16};
use lshjoin::{
    BucketedRandomProjection, Context, Error, IvfPlan, JoinPlan, Keys, KnnJoin, LshModel, LshPlan,
    Metric, Narrow, Rows,
};

use super::calls::{knn_join, radius_join};

const DIM: usize = 13;
const METRICS: [Metric; 4] = [
    Metric::Euclidean,
    Metric::Manhattan,
    Metric::Cosine,
    Metric::InnerProduct,
];

/// Rows around some centres, of all values of 8 bits, with duplicates.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as u8
    };
    let centres: Vec<u8> = (0..9 * DIM).map(|_| draw()).collect();
    let mut values = Vec::new();
    for row in 0..count {
        if row % 20 == 19 {
            let copied = row / 2 * DIM;
            values.extend_from_within(copied..copied + DIM);
            continue;
        }
        let centre = &centres[row % 9 * DIM..][..DIM];
        values.extend(
            centre
                .iter()
                .map(|&value| value.saturating_add(draw() % 64)),
        );
    }
    values
}

/// The same rows as each kind of narrow values, and widened.
fn each_kind(count: usize, test: impl Fn(Rows<'_, f32>, Rows<'_, f32>)) {
    let bytes = bytes(count);
    let signed: Vec<i8> = bytes.iter().map(|&value| value.cast_signed()).collect();
    let halves: Vec<f16> = bytes
        .iter()
        .map(|&value| f16::from_f32(f32::from(value) / 7.0 - 9.0))
        .collect();
    let brains: Vec<bf16> = bytes
        .iter()
        .map(|&value| bf16::from_f32(f32::from(value) / 7.0 - 9.0))
        .collect();
    for narrow in [
        Narrow::U8(&bytes),
        Narrow::I8(&signed),
        Narrow::F16(&halves),
        Narrow::Bf16(&brains),
    ] {
        let narrow = Rows::narrow(narrow, DIM).unwrap();
        let values = narrow.values().unwrap();
        test(narrow, Rows::new(&values, DIM).unwrap());
    }
}

#[test]
fn all_are_joined_as_the_same_rows_in_single_precision() {
    let ctx = Context::new().unwrap();
    each_kind(700, |narrow, wide| {
        let (queries, wide_queries) = (narrow.slice(0..90), wide.slice(0..90));
        for metric in METRICS {
            for (sides, wide_sides) in [
                ((None, narrow), (None, wide)),
                ((Some(queries), narrow), (Some(wide_queries), wide)),
                // Of two kinds.
                ((Some(wide_queries), narrow), (Some(wide_queries), wide)),
                ((Some(queries), wide), (Some(wide_queries), wide)),
            ] {
                let join = |(queries, items)| {
                    knn_join(queries, items, 7, metric, &JoinPlan::Exact, &ctx).unwrap()
                };
                assert_eq!(join(sides), join(wide_sides), "{metric}");
                if metric == Metric::InnerProduct {
                    continue;
                }
                let radius = join(wide_sides).distances[6].into();
                let join =
                    |(queries, items)| radius_join(queries, items, radius, metric, &ctx).unwrap();
                assert!(!join(sides).indices.is_empty());
                assert_eq!(join(sides), join(wide_sides), "{metric}");
            }
        }
    });
}

#[test]
fn groups_are_joined_as_the_same_rows_in_single_precision() {
    let ctx = Context::new().unwrap();
    // A large group, a small one, and some of two rows.
    let keys: Vec<u32> = (0..4600)
        .map(|row| match row % 23 {
            0 => 1,
            1 => 2 + row / 46,
            _ => 0,
        })
        .collect();
    each_kind(keys.len(), |narrow, wide| {
        for metric in METRICS {
            let join = |rows| {
                let join = KnnJoin::new(rows).k(4).metric(metric);
                let join = join.within(Keys::new(&keys)).plan(JoinPlan::Exact);
                join.run(&ctx).unwrap().neighbors
            };
            assert_eq!(join(narrow), join(wide), "{metric}");
        }
    });
}

#[test]
fn plans_find_nearly_all() {
    let ctx = Context::new().unwrap();
    let plans = [
        JoinPlan::Ivf(IvfPlan::new(40, 4.0).until_recall(0.95)),
        JoinPlan::Lsh(LshPlan::new(6, 8, 6).until_recall(0.95)),
    ];
    each_kind(4200, |narrow, wide| {
        let join = |rows, metric, plan| knn_join(None, rows, 5, metric, plan, &ctx).unwrap();
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let exact = join(wide, metric, &JoinPlan::Exact);
            for plan in &plans {
                let found = join(narrow, metric, plan);
                let same = found.indices.iter().zip(&exact.indices);
                let same = same.filter(|(x, y)| x == y).count();
                assert!(
                    same * 10 > exact.indices.len() * 8,
                    "{metric} {plan:?} {same}"
                );
            }
        }
    });
}

#[test]
fn integers_have_the_distances_of_integers() {
    let ctx = Context::new().unwrap();
    let (bytes, k) = (bytes(300), 5);
    let rows = Rows::<f32>::narrow(Narrow::U8(&bytes), DIM).unwrap();
    let row = |row: i64| {
        let row = &bytes[row as usize * DIM..][..DIM];
        row.iter().map(|&value| i64::from(value))
    };
    for metric in [Metric::Euclidean, Metric::Manhattan, Metric::InnerProduct] {
        let distance = |x: i64, y: i64| {
            let pairs = row(x).zip(row(y));
            match metric {
                Metric::Euclidean => {
                    (pairs.map(|(x, y)| (x - y).pow(2)).sum::<i64>() as f64).sqrt() as f32
                }
                Metric::Manhattan => pairs.map(|(x, y)| (x - y).abs()).sum::<i64>() as f32,
                _ => -pairs.map(|(x, y)| x * y).sum::<i64>() as f32,
            }
        };
        let found = knn_join(None, rows, k, metric, &JoinPlan::Exact, &ctx).unwrap();
        for query in 0..300 {
            let others = (0..300).filter(|&other| other != query);
            let mut expected: Vec<(f32, i64)> = others
                .map(|other| (distance(query, other), other))
                .collect();
            expected.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
            let of_query = query as usize * k..(query as usize + 1) * k;
            let found = found.distances[of_query.clone()]
                .iter()
                .copied()
                .zip(found.indices[of_query].iter().copied());
            assert_eq!(found.collect::<Vec<_>>(), expected[..k], "{metric} {query}");
        }
    }
}

#[test]
fn models_hash_them_as_the_same_rows_in_single_precision() {
    let ctx = Context::new().unwrap();
    each_kind(400, |narrow, wide| {
        let family = BucketedRandomProjection {
            bucket_length: 30.0,
        };
        let model = LshModel::fit(&family, narrow, 2, 3, 1, &ctx).unwrap();
        assert_eq!(
            model.hash(narrow, &ctx).unwrap(),
            model.hash(wide, &ctx).unwrap()
        );
        let join = |rows| model.similarity_join(rows, None, 40.0, &ctx).unwrap();
        assert!(!join(wide).left.is_empty());
        assert_eq!(join(narrow), join(wide));
    });
}

#[test]
fn what_is_not_finite_is_refused_with_its_row() {
    let ctx = Context::new().unwrap();
    for at in [0, 5, 4 * 70_000 - 1] {
        for bad in [f16::INFINITY, f16::NEG_INFINITY, f16::NAN] {
            let mut values = vec![f16::MIN_POSITIVE_SUBNORMAL; 4 * 70_000];
            values[at] = bad;
            let rows = Rows::<f32>::narrow(Narrow::F16(&values), 4).unwrap();
            let found = knn_join(None, rows, 1, Metric::Euclidean, &JoinPlan::Exact, &ctx);
            assert!(matches!(
                found,
                Err(Error::NotFinite { row, dimension, .. }) if (row, dimension) == (at / 4, at % 4)
            ));
        }
    }
    // The largest of all are too large for distances in single precision.
    let values = [bf16::MAX; 8];
    let rows = Rows::<f32>::narrow(Narrow::Bf16(&values), 4).unwrap();
    let found = knn_join(None, rows, 1, Metric::Euclidean, &JoinPlan::Exact, &ctx);
    assert!(matches!(
        found,
        Err(Error::TooLarge {
            row: 0,
            dimension: 0,
            ..
        })
    ));
}
