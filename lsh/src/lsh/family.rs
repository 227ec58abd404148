//! Hash families: where a table's functions `h` come from.

use lshjoin_kernels::{Bucketing, HashFunctions, memory};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    base::{
        error::{Error, Result},
        metric::Distance,
        random::{cauchy, gaussian, uniform},
    },
    lsh::spark::java_random::JavaRandom,
};

/// A family of locality-sensitive hash functions by projection.
///
/// Implement it to bring a family of your own: any that projects a row on a direction and cuts
/// the line into buckets, with directions drawn however it likes.
///
/// ```
/// use lshjoin::{Bucketing, Distance, HashFamily, HashFunctions, Result};
///
/// /// Directions of −1, 0 and 1 (Achlioptas 2003), from a counter instead of a generator.
/// struct SparseSigns;
///
/// impl HashFamily for SparseSigns {
///     fn distance(&self) -> Distance {
///         Distance::Euclidean
///     }
///     fn draw(&self, functions: usize, dim: usize, seed: i64) -> Result<HashFunctions> {
///         let value = |at: usize| [1.0, 0.0, 0.0, -1.0, 0.0, 0.0][(at + seed as usize) % 6];
///         let directions = (0..functions * dim).map(value).collect();
///         Ok(HashFunctions::new(dim, directions, vec![0.0; functions], Bucketing::Width(2.0))?)
///     }
/// }
/// assert_eq!(SparseSigns.draw(3, 10, 7)?.len(), 3);
/// # Ok::<(), lshjoin::Error>(())
/// ```
pub trait HashFamily {
    /// The distance for which near rows collide more often than far ones.
    fn distance(&self) -> Distance;

    /// Draws `functions` independent functions for rows of `dim` values; the same seed gives the
    /// same functions on every machine.
    ///
    /// # Errors
    /// When the family's own parameters make no functions.
    fn draw(&self, functions: usize, dim: usize, seed: i64) -> Result<HashFunctions>;
}

/// Euclidean distance: Gaussian directions of length 1, `⌊r·x / bucket_length⌋`.
///
/// Spark's `BucketedRandomProjectionLSH` to the bit: directions from java.util.Random, all drawn
/// before any is normalised, and no offset, unlike Datar et al. 2004.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BucketedRandomProjection {
    /// Width of a bucket, in the rows' units; above 0.
    pub bucket_length: f64,
}

impl HashFamily for BucketedRandomProjection {
    fn distance(&self) -> Distance {
        Distance::Euclidean
    }

    fn draw(&self, functions: usize, dim: usize, seed: i64) -> Result<HashFunctions> {
        let mut rng = JavaRandom::new(seed);
        let mut directions = drawn(functions.saturating_mul(dim), || rng.gaussian())?;
        for direction in directions.chunks_mut(dim.max(1)) {
            normalise(direction);
        }
        build(
            dim,
            directions,
            drawn(functions, || 0.0)?,
            Bucketing::Width(self.bucket_length),
        )
    }
}

/// Manhattan distance: Cauchy directions, `⌊(r·x + b) / bucket_length⌋` with b uniform in
/// [0, bucket_length) (Datar et al. 2004; the Cauchy distribution is 1-stable).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CauchyProjection {
    /// Width of a bucket, in the rows' units; above 0.
    pub bucket_length: f64,
}

impl HashFamily for CauchyProjection {
    fn distance(&self) -> Distance {
        Distance::Manhattan
    }

    fn draw(&self, functions: usize, dim: usize, seed: i64) -> Result<HashFunctions> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
        let directions = drawn(functions.saturating_mul(dim), || cauchy(&mut rng))?;
        let offsets = drawn(functions, || uniform(&mut rng) * self.bucket_length)?;
        build(
            dim,
            directions,
            offsets,
            Bucketing::Width(self.bucket_length),
        )
    }
}

/// Cosine distance: the side of a random hyperplane through the origin (Charikar 2002).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RandomHyperplanes;

impl HashFamily for RandomHyperplanes {
    fn distance(&self) -> Distance {
        Distance::Cosine
    }

    fn draw(&self, functions: usize, dim: usize, seed: i64) -> Result<HashFunctions> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed as u64);
        let mut directions = drawn(functions.saturating_mul(dim), || gaussian(&mut rng))?;
        for direction in directions.chunks_mut(dim.max(1)) {
            normalise(direction);
        }
        build(dim, directions, drawn(functions, || 0.0)?, Bucketing::Sign)
    }
}

fn drawn(count: usize, mut draw: impl FnMut() -> f64) -> Result<Vec<f64>> {
    Ok(memory::collect(
        (0..count).map(|_| draw()),
        "hash functions",
    )?)
}

fn build(
    dim: usize,
    directions: Vec<f64>,
    offsets: Vec<f64>,
    bucketing: Bucketing,
) -> Result<HashFunctions> {
    if let Bucketing::Width(width) = bucketing
        && !(width > 0.0 && width.is_finite())
    {
        return Err(Error::parameter(
            "bucket_length",
            "a positive, finite number",
            width,
        ));
    }
    Ok(HashFunctions::new(dim, directions, offsets, bucketing)?)
}

/// Multiplies by 1 / ‖·‖, as Spark does, unless that is infinite.
fn normalise(direction: &mut [f64]) {
    let norm = nrm2(direction);
    if norm != 0.0 {
        let inverse = 1.0 / norm;
        direction.iter_mut().for_each(|value| *value *= inverse);
    }
}

/// BLAS `dnrm2` as Spark 4 has it on a JVM with vectors of eight doubles: netlib's `VectorBLAS`
/// keeps a fused sum in each lane, adds the lanes in order, then what is left over. (With shorter
/// vectors Spark's own last bits are others.)
fn nrm2(values: &[f64]) -> f64 {
    let (blocks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0_f64; 8];
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = value.mul_add(*value, *lane);
        }
    }
    let sum: f64 = lanes.iter().sum();
    rest.iter()
        .fold(sum, |sum, value| sum + value * value)
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `randUnitVectors` of models that Spark 4.3.0 saved (Java 17, a machine with AVX-512).
    #[test]
    fn directions_are_sparks_to_the_bit() {
        let family = BucketedRandomProjection { bucket_length: 1.0 };
        for (seed, dim, tables, golden) in [
            (
                12345,
                20,
                2,
                [
                    -0.04731323028432625,
                    -0.15533082257879435,
                    0.14268169228929212,
                ],
            ),
            (
                -1,
                100,
                1,
                [0.17654495919481988, 0.05003591272181528, 0.0637263776141878],
            ),
        ] {
            let functions = family.draw(tables, dim, seed).unwrap();
            assert_eq!([0, 19, 38].map(|at| functions.directions()[at]), golden);
        }
    }
}
