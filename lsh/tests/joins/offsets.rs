//! What all rows have in common changes nothing: neither what is near nor what it takes to find it.

use lshjoin::{Context, Index, IvfPlan, JoinPlan, Metric, PartitionPlan, Rows, Scalar};

use super::{
    calls::{knn_join, plan_knn_join, radius_join},
    on,
};

const DIM: usize = 24;
const ROWS: usize = 9000;

/// Clusters of multiples of 2⁻⁸, that single precision holds about 2¹⁴ too.
fn clustered(offset: f64) -> Vec<f32> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut draw = |bits: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> (64 - bits)) as f64 / 256.0
    };
    let centres: Vec<f64> = (0..60 * DIM).map(|_| draw(12)).collect();
    let value = |at: usize| {
        let (row, at) = (at / DIM, at % DIM);
        (centres[row * 7 % 60 * DIM + at] + draw(9) + draw(9) - 8.0 + offset) as f32
    };
    (0..ROWS * DIM).map(value).collect()
}

const OFFSETS: [f64; 3] = [0.0, 300.0, -16_000.0];

fn share(pairs: u64) -> f64 {
    pairs as f64 / (ROWS as f64 * ROWS as f64)
}

#[test]
fn exact_joins_find_the_same() {
    let same = |offset| {
        let (values, ctx) = (clustered(offset), Context::new().unwrap());
        let rows = Rows::new(&values, DIM).unwrap();
        let (queries, items) = (rows.slice(0..700), rows.slice(500..6000));
        let near = knn_join(
            Some(queries),
            items,
            7,
            Metric::Euclidean,
            &JoinPlan::Exact,
            &ctx,
        );
        let own = knn_join(None, items, 7, Metric::Euclidean, &JoinPlan::Exact, &ctx);
        let within = radius_join(Some(queries), items, 9.0, Metric::Euclidean, &ctx);
        assert!(within.as_ref().unwrap().indices.len() > 1000);
        (near.unwrap(), own.unwrap(), within.unwrap())
    };
    let expected = same(0.0);
    for offset in OFFSETS {
        assert!(same(offset) == expected, "{offset}");
    }
}

fn is_planned_alike<T: Scalar>(metric: Metric, offset: T, offsets: &[f64], bars: (f64, f64)) {
    let mut least = f64::INFINITY;
    for &more in offsets {
        let values: Vec<T> = clustered(0.0)
            .iter()
            .map(|&value| T::from_f64(f64::from(value) + more) + offset)
            .collect();
        let rows = Rows::new(&values, DIM).unwrap();
        let ctx = Context::on(lshjoin::Isa::SCALAR);
        let study = plan_knn_join(rows, 10, metric, 0.9, &ctx).unwrap();
        let predicted = study.chosen.predicted.unwrap();
        assert!(
            matches!(study.chosen.plan, JoinPlan::Ivf(_)),
            "{metric} {more} {predicted:?}"
        );
        least = least.min(predicted.share);
        assert!(
            predicted.share <= bars.0 * least + 0.005,
            "{metric} {more} {}",
            predicted.share
        );
        let ctx = Context::on(lshjoin::Isa::best());
        knn_join(None, rows, 10, metric, &study.chosen.plan, &ctx).unwrap();
        let (report, share) = (ctx.report(), share(ctx.report().pairs));
        assert!(
            report.recall.unwrap().high >= 0.9 && share <= bars.1,
            "{metric} {more} {share}"
        );
    }
}

#[test]
fn offset_rows_are_planned_as_those_without() {
    is_planned_alike(Metric::Euclidean, 0.0_f32, &OFFSETS, (1.25, 0.3));
    is_planned_alike(Metric::Euclidean, 0.0_f64, &[0.0, 1e9], (1.25, 0.3));
    is_planned_alike(Metric::InnerProduct, 0.0_f64, &[0.0, 300.0], (1.5, 0.4));
}

#[test]
fn lists_of_offset_rows_are_the_same_everywhere() {
    let values = clustered(300.0);
    let rows = Rows::new(&values, DIM).unwrap();
    let plan = IvfPlan::new(60, 2.0).seed(1);
    let join = |isa, threads| {
        on(threads, || {
            let ctx = Context::on(isa);
            let plan = JoinPlan::Ivf(plan);
            let found = knn_join(None, rows, 10, Metric::Euclidean, &plan, &ctx).unwrap();
            (found, ctx.report().pairs)
        })
    };
    let expected = join(lshjoin::Isa::SCALAR, 1);
    for &isa in lshjoin::Isa::available() {
        assert!(join(isa, 2) == expected, "{isa}");
    }
}

#[test]
fn an_index_of_offset_rows_knows_its_centre() {
    let directory = tempfile::tempdir().unwrap();
    let plan = PartitionPlan::new(60, 1.0).until_recall(0.9);
    let answers = |offset| {
        let (values, ctx) = (clustered(offset), Context::new().unwrap());
        let rows = Rows::new(&values, DIM).unwrap();
        let ids: Vec<i64> = (0..ROWS as i64).collect();
        let path = directory.path().join(offset.to_string());
        let index = Index::build(rows, &ids, Metric::Euclidean, Some(plan), 0, &ctx).unwrap();
        index.save(&path, &ctx).unwrap();
        let index = Index::open(&path, true, &ctx).unwrap();
        let queries = Some((rows.slice(0..500), ROWS));
        let plan = index
            .fixed_plan(queries, 10, &JoinPlan::Partitions(plan), &ctx)
            .unwrap();
        let JoinPlan::Partitions(fixed) = plan else {
            panic!("all pairs are compared at offset {offset}");
        };
        let exact = index
            .knn(rows.slice(0..500), 10, &JoinPlan::Exact, &ctx)
            .unwrap();
        let within = index.radius(rows.slice(0..500), 9.0, &ctx).unwrap();
        (fixed.probes, exact, within)
    };
    let expected = answers(0.0);
    for offset in OFFSETS {
        let (probes, exact, within) = answers(offset);
        assert!(
            (exact, within) == (expected.1.clone(), expected.2.clone()),
            "{offset}"
        );
        assert!(
            probes <= expected.0 + 2.0,
            "{offset}: {probes} probes, {} without",
            expected.0
        );
    }
}
