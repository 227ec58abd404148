//! The nearest rows of one file for each row of another, by the planner's plan.
//!
//!     cargo run --release --example join_two_files -- queries.safetensors items.safetensors
//!
//! Each file holds one float32 tensor of two dimensions; without arguments, two small ones are made.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use lshjoin::{Context, KnnJoin, Metric, Rows};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let made = tempfile::tempdir()?;
    let (queries, items) = match paths.as_slice() {
        [queries, items] => (queries.clone(), items.clone()),
        _ => {
            let [queries, items] = ["queries", "items"].map(|name| made.path().join(name));
            write(&queries, 500, 1)?;
            write(&items, 20_000, 2)?;
            (queries, items)
        }
    };
    let (queries, items) = (read(&queries)?, read(&items)?);
    let items = Rows::new(&items.0, items.1)?;
    let queries = Rows::new(&queries.0, queries.1)?;

    let ctx = Context::new()?;
    let join = KnnJoin::new(items)
        .queries(queries)
        .k(3)
        .metric(Metric::Cosine);
    let found = join.recall(0.95).run(&ctx)?;
    for (query, near) in found.neighbors.indices.chunks(3).take(5).enumerate() {
        println!("query {query}: items {near:?}");
    }
    let report = ctx.report();
    println!(
        "plan {:?}, {} pairs compared",
        found.plan.plan, report.pairs
    );
    Ok(())
}

/// Values, row-major, and how many a row has.
fn read(path: &Path) -> Result<(Vec<f32>, usize), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let (_, tensor) = tensors.tensors().pop().ok_or("the file holds no tensor")?;
    let (Dtype::F32, &[_, dim]) = (tensor.dtype(), tensor.shape()) else {
        return Err("the tensor is not float32 of two dimensions".into());
    };
    let values = tensor.data().chunks_exact(4);
    let values = values.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    Ok((values.collect(), dim))
}

/// Rows of 16 values around 50 centres.
fn write(path: &Path, rows: usize, seed: u64) -> Result<(), Box<dyn Error>> {
    let mut state = seed;
    let mut draw = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let values = (0..rows * 16).map(|at| (at / 16 % 50 * 7 * (at % 16 + 1) % 11) as f32 + draw());
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let tensor = TensorView::new(Dtype::F32, vec![rows, 16], &bytes)?;
    safetensors::serialize_to_file([("embeddings", tensor)], None, path)?;
    Ok(())
}
