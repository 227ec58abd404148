//! Near-duplicates and nearest neighbours of generated embeddings.
//!
//! `cargo run --release -p lshjoin --example join`

use lshjoin::{BucketedRandomProjection, JoinPlan, LshModel, Metric, Rows, Run, knn_join};

fn main() -> lshjoin::Result<()> {
    let (count, dim) = (5_000, 64);
    let mut state = 1_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut values: Vec<f32> = (0..count * dim).map(|_| uniform()).collect();
    // Row 1 is nearly row 0.
    for at in 0..dim {
        values[dim + at] = values[at] + 0.01 * uniform();
    }
    let rows = Rows::new(&values, dim)?;
    let run = Run::new()?;

    let family = BucketedRandomProjection { bucket_length: 0.2 };
    let model = LshModel::fit(&family, rows, 2, 4, 42, &run)?;
    let pairs = model.similarity_join(rows, None, 0.5, &run)?;
    let duplicates = pairs
        .left
        .iter()
        .zip(&pairs.right)
        .filter(|(a, b)| a < b)
        .count();
    println!("{duplicates} pair nearer than 0.5, of {count} rows");

    let nearest = knn_join(None, rows, 1, Metric::Euclidean, &JoinPlan::Exact, &run)?;
    println!(
        "row 0's nearest is row {} at {:.3}",
        nearest.indices[0], nearest.distances[0]
    );
    Ok(())
}
