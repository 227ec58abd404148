//! Every row gets as many neighbours as there are items, by whatever plan and wherever it lies.

use lshjoin::{
    Context, Index, IvfPlan, JoinPlan, LshPlan, Metric, Neighbors, PartitionPlan, Rows, Scalar,
};

use super::calls::knn_join;

const DIM: usize = 6;
/// A crowd, a smaller one, and outliers by themselves or with a few others.
const SIZES: [usize; 12] = [4000, 1500, 1, 1, 1, 2, 2, 3, 5, 5, 8, 9];

fn rows() -> Vec<f64> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / (1 << 24) as f64 - 0.5
    };
    let mut values = Vec::new();
    for (group, size) in SIZES.into_iter().enumerate() {
        let far = if group < 2 { 10.0 } else { 1000.0 };
        let centre: Vec<f64> = (0..DIM).map(|_| far * draw()).collect();
        values.extend((0..size * DIM).map(|at| centre[at % DIM] + draw()));
    }
    values
}

fn ivf(lists: usize, until_recall: Option<f64>) -> JoinPlan {
    let plan = IvfPlan::new(lists, 1.0).seed(2);
    JoinPlan::Ivf(plan.until_recall(until_recall))
}

fn tables(until_recall: Option<f64>) -> JoinPlan {
    let plan = LshPlan::new(DIM, 12, 1).seed(2);
    JoinPlan::Lsh(plan.until_recall(until_recall))
}

fn partitions(lists: usize) -> PartitionPlan {
    PartitionPlan::new(lists, 1.0).seed(2)
}

/// Checks that all lists have as many different neighbours, rising, as there are others.
fn check<T: Scalar>(found: &Neighbors<T>, others: usize, own: bool, of: &str) {
    let k = found.k.min(others);
    let lists = found
        .indices
        .chunks(found.k)
        .zip(found.distances.chunks(found.k));
    for (row, (indices, distances)) in lists.enumerate() {
        let short = indices
            .iter()
            .position(|&index| index < 0)
            .unwrap_or(found.k);
        assert_eq!(short, k, "row {row} of {of}");
        assert!(distances[..k].iter().all(|far| far.is_finite()));
        assert!(distances[..k].is_sorted_by(|x, y| x <= y));
        let mut different = indices[..k].to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), k, "row {row} of {of}");
        assert!(!own || !different.contains(&(row as i64)));
    }
}

fn check_joins<T: Scalar>(values: &[T], k: usize, metric: Metric, plans: &[JoinPlan]) {
    let rows = Rows::new(values, DIM).unwrap();
    for plan in plans {
        let of = format!("{metric} {plan:?} k={k}");
        let ctx = Context::new().unwrap();
        let own = knn_join(None, rows, k, metric, plan, &ctx).unwrap();
        check(&own, rows.len() - 1, true, &of);
        // The outliers come last, so that they are among the queries or the items alone.
        let (first, last) = (
            rows.slice(0..4200),
            rows.slice(rows.len() - 4200..rows.len()),
        );
        for (queries, items) in [(last, first), (first, last)] {
            let found = knn_join(Some(queries), items, k, metric, plan, &ctx).unwrap();
            check(&found, items.len(), false, &of);
        }
    }
}

#[test]
fn every_row_has_all_its_neighbors() {
    let wide = rows();
    let values: Vec<f32> = wide.iter().map(|&value| value as f32).collect();
    let in_memory = [
        ivf(3, None),
        ivf(3, Some(0.3)),
        ivf(74, None),
        tables(Some(0.3)),
    ];
    let by_index = [3, 74].map(|lists| JoinPlan::Partitions(partitions(lists)));
    for metric in [Metric::Euclidean, Metric::Cosine, Metric::InnerProduct] {
        check_joins(&values, 10, metric, &in_memory[..2]);
        check_joins(&values, 10, metric, &by_index);
    }
    check_joins(&wide, 10, Metric::Euclidean, &in_memory);
}

#[test]
fn many_neighbors_are_all_found() {
    let values: Vec<f32> = rows().iter().map(|&value| value as f32).collect();
    check_joins(&values, 520, Metric::Euclidean, &[tables(None)]);
}

#[test]
fn what_was_removed_counts_for_nothing() {
    let values: Vec<f32> = rows().iter().map(|&value| value as f32).collect();
    let rows = Rows::new(&values, DIM).unwrap();
    let ctx = Context::new().unwrap();
    let ids: Vec<i64> = (0..rows.len() as i64).collect();
    let build = |lists| {
        let plan = Some(partitions(lists));
        Index::build(rows, &ids, Metric::Euclidean, plan, 0, &ctx).unwrap()
    };
    let (plan, mut index) = (JoinPlan::Partitions(partitions(74)), build(74));
    // All of a crowd but three.
    index.remove(&ids[3..4000], &ctx).unwrap();
    let found = index.knn(rows.slice(0..4200), 10, &plan, &ctx).unwrap();
    check(
        &found,
        rows.len() - 3997,
        false,
        "an index of which much was removed",
    );
    assert!(found.indices.iter().all(|id| !(3..4000).contains(id)));
    // More than the lists that are listed near one hold.
    let (plan, index) = (JoinPlan::Partitions(partitions(4000)), build(4000));
    let found = index.knn(rows.slice(0..100), 3000, &plan, &ctx).unwrap();
    check(&found, rows.len(), false, "an index of many lists");
}
