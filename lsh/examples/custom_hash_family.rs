//! A hash family of one's own: sparse directions of −1, 0 and 1 (D. Achlioptas, "Database-friendly
//! random projections", 2003), which preserve Euclidean distances as Gaussian ones do.
//!
//!     cargo run --release --example custom_hash_family

use lshjoin::{Bucketing, Context, Distance, HashFamily, HashFunctions, LshModel, Result, Rows};

struct SparseSigns {
    bucket_length: f64,
}

impl HashFamily for SparseSigns {
    fn distance(&self) -> Distance {
        Distance::Euclidean
    }

    fn draw(&self, functions: usize, dim: usize, seed: i64) -> Result<HashFunctions> {
        let mut state = seed as u64 | 1;
        let mut draw = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // √3 times −1 with probability 1/6, 1 with probability 1/6, and 0 otherwise.
            match (state >> 33) % 6 {
                0 => -(3_f64.sqrt()),
                1 => 3_f64.sqrt(),
                _ => 0.0,
            }
        };
        let directions = (0..functions * dim).map(|_| draw()).collect();
        let bucketing = Bucketing::Width(self.bucket_length);
        Ok(HashFunctions::new(
            dim,
            directions,
            vec![0.0; functions],
            bucketing,
        )?)
    }
}

fn main() -> Result<()> {
    let values: Vec<f32> = (0..8 * 1000)
        .map(|at| (at / 8 % 40 * (at % 8 + 3) % 23) as f32)
        .collect();
    let rows = Rows::new(&values, 8)?;
    let ctx = Context::new()?;
    let family = SparseSigns {
        bucket_length: 30.0,
    };
    let model = LshModel::fit(&family, rows, 2, 4, 12345, &ctx)?;
    let pairs = model.similarity_join(rows, None, 5.0, &ctx)?;
    println!(
        "{} pairs share a bucket and are nearer than 5",
        pairs.distances.len()
    );
    Ok(())
}
