//! The functions of the engine's own tables: random directions inside the leading principal axes of
//! the rows, orthogonal within a table, each cut where a sample falls into halves.

use lshjoin_kernels::{Rows, Scalar, memory};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{
    base::{context::Context, error::Result, random::gaussian},
    vectors::principal_axes::{AXES, PrincipalAxes, orthonormalise, project, sample_of, transpose},
};

/// The functions of one table: bit j of a row's key is `row · direction j ≥ threshold j`.
pub(crate) struct TableFunctions {
    /// (functions, dim), row-major.
    pub(crate) directions: Vec<f32>,
    pub(crate) thresholds: Vec<f32>,
}

impl PrincipalAxes {
    /// The functions of the table with this number: uniformly random orthogonal directions inside
    /// the axes, in groups of as many as there are axes, with thresholds from a sample of `rows`.
    ///
    /// Directions inside the axes are those of the most variance (PCA hashing, Wang, Kumar and
    /// Chang 2010); turned at random, all carry alike (Jégou et al. 2010) and tables differ.
    ///
    /// # Errors
    /// When the dimension of `rows` is not that of the axes, or the run is cancelled.
    pub(crate) fn table<T: Scalar>(
        &self,
        rows: Rows<'_, T>,
        functions: usize,
        seed: u64,
        table: u64,
        ctx: &Context,
    ) -> Result<TableFunctions> {
        let count = self.count();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(table);
        let weights = (0..functions * count).map(|_| gaussian(&mut rng));
        let mut weights: Vec<f64> = memory::collect(weights, AXES)?;
        for group in weights.chunks_mut(count * count) {
            orthonormalise(group, count, &mut rng);
        }
        let mut directions = memory::empty(functions * self.dim, AXES)?;
        for weights in weights.chunks(count) {
            let mut direction = vec![0.0; self.dim];
            for (&weight, axis) in weights.iter().zip(self.axes.chunks(self.dim)) {
                for (sum, &value) in direction.iter_mut().zip(axis) {
                    *sum += weight * f64::from(value);
                }
            }
            directions.extend(direction.iter().map(|&value| value as f32));
        }
        let sample = sample_of(rows)?;
        let projections = project(
            Rows::new(&sample, rows.dim())?,
            Rows::new(&directions, self.dim)?,
            ctx,
        )?;
        let height = sample.len() / rows.dim();
        let thresholds = match height {
            0 => vec![0.0; functions],
            _ => transpose(&projections, functions)?
                .chunks_mut(height)
                .map(even_cut)
                .collect(),
        };
        Ok(TableFunctions {
            directions,
            thresholds,
        })
    }
}

/// The value v for which `value ≥ v` and `value < v` come nearest to halves: the median, or the
/// next larger value where most of those equal to the median are needed below.
fn even_cut(values: &mut [f32]) -> f32 {
    let half = values.len() / 2;
    let (below, &mut median, above) = values.select_nth_unstable_by(half, f32::total_cmp);
    let smaller = below.iter().filter(|&&value| value < median).count();
    let larger = above.iter().filter(|&&value| value > median);
    let not_larger = below.len() + 1 + above.len() - larger.clone().count();
    if half - smaller > not_larger - half {
        larger.fold(f32::INFINITY, |next, &value| next.min(value))
    } else {
        median
    }
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::Isa;
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::base::random::gaussians;

    const DIM: usize = 40;
    const LATENT: usize = 5;

    fn context() -> Context {
        Context::new().unwrap()
    }

    /// Rows 3 + Σ zⱼ bⱼ of `LATENT` random bⱼ, and noise a hundredth as large.
    fn flat_rows(count: usize) -> (Vec<f32>, Vec<f32>) {
        let basis = gaussians(LATENT * DIM, 1);
        let latent = gaussians(count * LATENT, 2);
        let mut values = gaussians(count * DIM, 3);
        for (row, latent) in values.chunks_mut(DIM).zip(latent.chunks(LATENT)) {
            for (at, value) in row.iter_mut().enumerate() {
                let weights = latent.iter().zip(basis.chunks(DIM));
                *value = 3.0 + 0.01 * *value + weights.map(|(z, b)| z * b[at]).sum::<f32>();
            }
        }
        (values, basis)
    }

    fn product(left: &[f32], right: &[f32]) -> f64 {
        let products = left.iter().zip(right);
        products.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    }

    fn assert_orthonormal(vectors: &[f32], dim: usize) {
        for (i, left) in vectors.chunks(dim).enumerate() {
            for (j, right) in vectors.chunks(dim).enumerate() {
                let expected = f64::from(u8::from(i == j));
                let got = product(left, right);
                assert!((got - expected).abs() < 1e-5, "{i} · {j} = {got}");
            }
        }
    }

    /// The share of the squared length of `vector` that lies inside orthonormal `axes`.
    fn share_inside(vector: &[f32], axes: &[f32]) -> f64 {
        let along = axes
            .chunks(vector.len())
            .map(|axis| product(vector, axis).powi(2));
        along.sum::<f64>() / product(vector, vector)
    }

    #[test]
    fn the_axes_hold_the_variance() {
        let (values, basis) = flat_rows(9000);
        let rows = Rows::new(&values, DIM).unwrap();
        let axes = PrincipalAxes::of_sample(rows, LATENT, &context()).unwrap();
        assert_orthonormal(&axes.axes, DIM);
        for vector in basis.chunks(DIM) {
            assert!(share_inside(vector, &axes.axes) > 0.9999);
        }
        let doubles: Vec<f64> = values.iter().copied().map(f64::from).collect();
        let rows = Rows::new(&doubles, DIM).unwrap();
        let of_doubles = PrincipalAxes::of_sample(rows, LATENT, &context()).unwrap();
        assert_eq!(of_doubles.axes, axes.axes);
    }

    #[test]
    fn directions_are_orthogonal_in_groups_and_inside_the_axes() {
        let (values, _) = flat_rows(500);
        let rows = Rows::new(&values, DIM).unwrap();
        let axes = PrincipalAxes::of_sample(rows, 8, &context()).unwrap();
        let table = |seed, table| axes.table(rows, 20, seed, table, &context()).unwrap();
        let functions = table(7, 0);
        assert_eq!(functions.thresholds.len(), 20);
        for group in functions.directions.chunks(8 * DIM) {
            assert_orthonormal(group, DIM);
        }
        for direction in functions.directions.chunks(DIM) {
            assert!((share_inside(direction, &axes.axes) - 1.0).abs() < 1e-5);
        }
        assert_eq!(functions.directions, table(7, 0).directions);
        assert_ne!(functions.directions, table(7, 1).directions);
        assert_ne!(functions.directions, table(8, 0).directions);
        let none = axes.table(rows, 0, 7, 0, &context()).unwrap();
        assert!(none.directions.is_empty() && none.thresholds.is_empty());
    }

    #[test]
    fn thresholds_split_the_sample_in_halves() {
        let (values, _) = flat_rows(1001);
        let rows = Rows::new(&values, DIM).unwrap();
        let axes = PrincipalAxes::of_sample(rows, LATENT, &context()).unwrap();
        let table = axes.table(rows, 12, 1, 2, &context()).unwrap();
        let directions = Rows::new(&table.directions, DIM).unwrap();
        let projections = project(rows, directions, &context()).unwrap();
        for (function, &threshold) in table.thresholds.iter().enumerate() {
            let column = projections.iter().skip(function).step_by(12);
            let above = column.filter(|&&projection| projection >= threshold);
            assert_eq!(above.count(), 501);
        }
    }

    #[test]
    fn cuts_between_ties_are_as_even_as_they_can_be() {
        let cut = |values: &[f32]| even_cut(&mut values.to_vec());
        assert_eq!(cut(&[4.0]), 4.0);
        assert_eq!(cut(&[3.0, 1.0, 2.0, 4.0]), 3.0);
        assert_eq!(cut(&[5.0; 7]), 5.0);
        // Three of five below 1, or none below 0.
        assert_eq!(cut(&[0.0, 1.0, 0.0, 1.0, 0.0]), 1.0);
        assert_eq!(cut(&[0.0, -0.0, 0.0, -0.0, 2.0, 1.0]), 1.0);
        assert_eq!(cut(&[-1.0, -2.0, 0.0, 0.0, 0.0, 0.0, 1.0]), 0.0);
    }

    /// Orthonormal axes, finite functions and finite projections, whatever the rows.
    fn assert_usable<T: Scalar>(values: &[T], dim: usize) {
        let rows = Rows::new(values, dim).unwrap();
        let axes = PrincipalAxes::of_sample(rows, 10, &context()).unwrap();
        assert_eq!(
            axes.axes.len() / dim,
            10.min(dim).min(rows.len()).max(1),
            "{} rows of {dim}",
            rows.len()
        );
        assert_orthonormal(&axes.axes, dim);
        let table = axes.table(rows, 12, 3, 4, &context()).unwrap();
        let directions = Rows::new(&table.directions, dim).unwrap();
        assert!((product(&directions.row(11), &directions.row(11)) - 1.0).abs() < 1e-5);
        let projections = project(rows, directions, &context()).unwrap();
        assert_eq!(projections.len(), 12 * rows.len());
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        assert!(finite(&projections) && finite(&table.thresholds));
    }

    #[test]
    fn degenerate_rows_have_usable_functions() {
        let noise = gaussians(300 * 20, 5);
        for dim in [1, 2, 20] {
            for height in [0, 1, 2, 9, 10, 300] {
                assert_usable(&noise[..height * dim], dim);
                assert_usable(&vec![0.0_f32; height * dim], dim);
                assert_usable(&vec![-7.1_f64; height * dim], dim);
                assert_usable(&vec![f32::MAX; height * dim], dim);
                assert_usable(&vec![f64::MAX; height * dim], dim);
                assert_usable(&vec![f64::from_bits(1); height * dim], dim);
            }
        }
        // Only three dimensions vary.
        let few = noise
            .iter()
            .enumerate()
            .map(|(at, &value)| if at % 20 < 3 { value } else { 1.0 });
        assert_usable(&few.collect::<Vec<_>>(), 20);
    }

    #[test]
    fn huge_rows_among_ordinary_ones_have_usable_functions() {
        let mut values = gaussians(300 * 20, 6);
        values[40] = 1e30;
        values[61] = f32::MAX;
        values[62] = -f32::MAX;
        assert_usable(&values, 20);
        let mut values: Vec<f64> = values.into_iter().map(f64::from).collect();
        values[100..120].fill(f64::MAX);
        values[200..220].fill(f64::MIN);
        assert_usable(&values, 20);
    }

    #[test]
    fn overflowing_projections_keep_their_sign() {
        let directions = [0.6_f32, 0.8, 0.8, -0.6, 0.0, 1.0];
        let directions = Rows::new(&directions, 2).unwrap();
        let row = [f64::MAX, 1e39, -1.0, f64::MIN, 3.0, 4.0];
        let got = project(Rows::new(&row, 2).unwrap(), directions, &context()).unwrap();
        let max = f32::MAX;
        assert_eq!(got[..3], [max, (0.8 - 0.6) * max, max]);
        assert_eq!(got[3..6], [-0.8 * max, 0.6 * max, -max]);
        assert_eq!(got[6..], [5.0, 3.0 * 0.8 - 4.0 * 0.6, 4.0]);
    }

    #[test]
    fn bits_are_the_same_on_every_isa_and_number_of_threads() {
        let (values, _) = flat_rows(5000);
        let rows = Rows::new(&values, DIM).unwrap();
        let bits = |isa: Isa, threads: usize| {
            let ctx = Context::on(isa);
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| {
                let axes = PrincipalAxes::of_sample(rows, 16, &ctx).unwrap();
                let table = axes.table(rows, 20, 5, 6, &ctx).unwrap();
                let directions = Rows::new(&table.directions, DIM).unwrap();
                let projections = project(rows, directions, &ctx).unwrap();
                let all = [axes.axes, table.directions, table.thresholds, projections];
                all.map(|values| values.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            })
        };
        let expected = bits(Isa::SCALAR, 1);
        for &isa in Isa::available() {
            for threads in [1, 2, 5] {
                assert!(bits(isa, threads) == expected, "{isa}, {threads} threads");
            }
        }
        // The same on every machine: what this test computed where it was written.
        let sum = expected.iter().flatten().fold(0_u64, |sum, &bits| {
            sum.rotate_left(5).wrapping_add(u64::from(bits))
        });
        assert_eq!(sum, 8_550_190_325_622_299_703);
    }

    #[test]
    fn a_cancelled_run_and_rows_of_another_dimension_are_refused() {
        let values = gaussians(100 * DIM, 7);
        let rows = Rows::new(&values, DIM).unwrap();
        let axes = PrincipalAxes::of_sample(rows, 3, &context()).unwrap();
        let other = Rows::new(&values, DIM / 2).unwrap();
        assert!(axes.table(other, 3, 0, 0, &context()).is_err());
        let cancelled = context();
        cancelled.cancel();
        assert!(PrincipalAxes::of_sample(rows, 3, &cancelled).is_err());
    }
}
