//! All pairs within a radius, in batches: for results that need not fit in memory.
//!
//!     cargo run --release --example radius_join_streamed

use lshjoin::{Context, Distance, RadiusJoin, Result, Rows};

fn main() -> Result<()> {
    let values: Vec<f32> = (0..4 * 5000)
        .map(|at| (at / 4 % 700 * (at % 4 + 5) % 101) as f32)
        .collect();
    let rows = Rows::new(&values, 4)?;
    let ctx = Context::new()?;
    let (mut batches, mut pairs) = (0, 0);
    RadiusJoin::new(rows, 12.0)
        .distance(Distance::Manhattan)
        .run_batches(10_000, &ctx, |batch| {
            batches += 1;
            pairs += batch.distances.len();
        })?;
    println!("{pairs} pairs in {batches} batches");
    Ok(())
}
