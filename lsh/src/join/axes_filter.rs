//! A filter on pairs: rows reduced to a few values, which are never further apart than the rows are.
//!
//! For orthonormal axes a₁ … aₘ, and t(x) the length of what x has outside of them,
//!
//! ‖x − y‖² ≥ Σ (aᵢ·x − aᵢ·y)² + (t(x) − t(y))²,
//!
//! since two parts differ at least by as much as their lengths do (Hwang, Han and Ahn, "A fast
//! nearest neighbor search algorithm by nonlinear embedding", 2012). Along the principal axes of
//! ordinary data little is lost: pairs that are far apart are so by a part of their dimensions.
//!
//! That makes joins by a radius quicker, and those for the exact k nearest once most of these are
//! known: before that, the bounds of rows are too wide for it.

use lshjoin_kernels::{
    CommonScale, LeftPanel, Quantised, RightPanel, Rows, Scalar, dot_products, memory, near_pairs,
};
use rayon::prelude::*;

use crate::{
    base::{
        context::Context,
        error::{Error, Result},
        sampling::sample,
    },
    planner::cost_model::Costs,
    vectors::{Vectors, norms::sum_of_squares, principal_axes::PrincipalAxes},
};

/// Codes of both sides' rows, by internal id, reduced to the same few values.
pub(crate) struct AxesFilter {
    /// `None` in a self-join of the right side.
    left: Option<Quantised<'static>>,
    right: Quantised<'static>,
}

/// Numbers of values that are tried: as many as make a cache line of codes, up to so many lines,
/// and up to half of the dimension.
const STEP: usize = 64;
const STEPS: usize = 4;

/// Rows of the left and of the right side whose pairs tell how many pass.
pub(crate) const SAMPLE: (usize, usize) = (128, 2048);

/// Rows that are reduced at a time, and rows that a thread reduces at a time.
const PART: usize = 1 << 16;
const BLOCK: usize = 64;

/// How an out-of-memory error names them.
const REDUCED: &str = "rows reduced to a few values";

/// The share of the time of whole rows that the filter may take, to be worth the trouble.
pub(crate) const WORTH: f64 = 0.9;

/// Leading axes, and how many values of each row are made from them.
pub(crate) struct LeadingAxes {
    rotation: Rotation,
    values: usize,
    scale: CommonScale,
    /// The work of finding all pairs by them.
    pub(crate) work: f64,
}

/// What pairs are wanted: of some left rows, by internal id, those within a bound each.
pub(crate) struct Wanted<'a> {
    pub(crate) rows: &'a [u32],
    pub(crate) bounds: &'a [f32],
}

impl LeadingAxes {
    /// As many values as make it quickest to find, of so many pairs, all that are wanted, where `check`
    /// is the work of looking at one that passes; `None` where it would take more than `enough`.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn where_they_pay<T: Scalar>(
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        (pairs, check): (u64, f64),
        wanted: &Wanted<'_>,
        enough: f64,
        ctx: &Context,
    ) -> Result<Option<Self>> {
        let dim = right.rows.dim();
        let rows = right.rows.len() + left.map_or(0, |left| left.rows.len());
        let costs = Costs::of(ctx.isa());
        let filtered = |values, near: f64| {
            costs.axes_filter((rows, dim), pairs as f64, values) + near * pairs as f64 * check
        };
        let choices = (1..=STEPS).map(|steps| steps * STEP);
        let choices = choices.filter(|&values| 2 * values <= dim && filtered(values, 0.0) < enough);
        let choices: Vec<usize> = choices.collect();
        // The vectors of an index may be larger than memory.
        let at_hand = right.codes.is_some() && !right.is_kept();
        let Some(&most) = choices.last().filter(|_| at_hand) else {
            return Ok(None);
        };
        let rotation = Rotation::of_sample(right, most - 1, ctx)?;
        let mut best = (enough, None);
        for values in choices {
            let (near, scale) = rotation.near(left, right, values, wanted, ctx)?;
            let work = filtered(values, near);
            if work < best.0 {
                best = (work, Some((values, scale)));
            }
        }
        let (work, best) = best;
        Ok(best.map(|(values, scale)| Self {
            rotation,
            values,
            scale,
            work,
        }))
    }

    /// All rows reduced to these values.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn filter<T: Scalar>(
        &self,
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        ctx: &Context,
    ) -> Result<AxesFilter> {
        let codes = |side: &Vectors<'_, T>| {
            let ids = side.internal_ids()?;
            self.rotation
                .codes(side, &ids, self.values, self.scale, ctx)
        };
        Ok(AxesFilter {
            left: left.map(codes).transpose()?,
            right: codes(right)?,
        })
    }
}

impl AxesFilter {
    pub(crate) fn proto<T: Scalar>(
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        values: usize,
        ctx: &Context,
    ) -> Result<Self> {
        let rotation = Rotation::of_sample(right, values - 1, ctx)?;
        let reduced = rotation.rows(right, &sample(right.len(), SAMPLE.1), values, ctx)?;
        let scale = CommonScale::of(Rows::new(&reduced.0, values)?, None, ctx.isa());
        let axes = LeadingAxes {
            rotation,
            values,
            scale,
            work: 0.0,
        };
        axes.filter(left, right, ctx)
    }

    /// For the pairs of a radius join within `bound`; `None` where nothing is quicker than whole rows.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn where_it_pays<T: Scalar>(
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        pairs: u64,
        bound: f32,
        ctx: &Context,
    ) -> Result<Option<Self>> {
        let costs = Costs::of(ctx.isa());
        let dim = right.rows.dim();
        let rows = sample(left.unwrap_or(right).len(), SAMPLE.0);
        let wanted = Wanted {
            bounds: &vec![bound; rows.len()],
            rows: &rows,
        };
        let enough = WORTH * costs.compare(pairs as f64, dim);
        let pairs = (pairs, costs.measure(dim));
        let axes = LeadingAxes::where_they_pay(left, right, pairs, &wanted, enough, ctx)?;
        axes.map(|axes| axes.filter(left, right, ctx)).transpose()
    }

    pub(crate) fn left(&self) -> &Quantised<'static> {
        self.left.as_ref().unwrap_or(&self.right)
    }

    pub(crate) fn right(&self) -> &Quantised<'static> {
        &self.right
    }
}

/// A rotation of rows to principal axes, about the mean of a sample.
struct Rotation {
    axes: PrincipalAxes,
    mean: Vec<f64>,
}

impl Rotation {
    fn of_sample<T: Scalar>(side: &Vectors<'_, T>, axes: usize, ctx: &Context) -> Result<Self> {
        let some = sample(side.len(), SAMPLE.1);
        let mut mean = vec![0.0; side.rows.dim()];
        for &id in &some {
            let scale = side.direction_scale(side.row(id) as usize);
            let row = side.rows.row(side.row(id) as usize);
            for (mean, value) in mean.iter_mut().zip(&*row) {
                *mean += value.to_f64() * scale / some.len() as f64;
            }
        }
        Ok(Self {
            axes: PrincipalAxes::of_sample(side.rows, axes, ctx)?,
            mean,
        })
    }

    /// The share of a sample's pairs that pass by so many values, and the scale of codes for these.
    fn near<T: Scalar>(
        &self,
        left: Option<&Vectors<'_, T>>,
        right: &Vectors<'_, T>,
        values: usize,
        wanted: &Wanted<'_>,
        ctx: &Context,
    ) -> Result<(f64, CommonScale)> {
        let isa = ctx.isa();
        let some_right = sample(right.len(), SAMPLE.1);
        let some_left = wanted.rows;
        let reduced = self.rows(right, &some_right, values, ctx)?;
        let scale = CommonScale::of(Rows::new(&reduced.0, values)?, None, isa);
        let of_right = coded(&reduced, values, scale, ctx)?;
        let of_left = self.codes(left.unwrap_or(right), some_left, values, scale, ctx)?;
        let all = |codes: &Quantised<'_>| (0..codes.len() as u32).collect::<Vec<u32>>();
        let (mut lefts, mut rights) = (LeftPanel::new(isa), RightPanel::new(isa));
        lefts.gather(&of_left, &all(&of_left), wanted.bounds)?;
        rights.gather(&of_right, &all(&of_right), &vec![-1.0; of_right.len()])?;
        let mut near = Vec::new();
        near_pairs(&lefts, &rights, &mut near)?;
        if left.is_none() {
            near.retain(|pair| some_left[pair.left as usize] != some_right[pair.right as usize]);
        }
        let pairs = some_left.len() * some_right.len();
        Ok((near.len() as f64 / pairs.max(1) as f64, scale))
    }

    /// Codes of the rows of these internal ids, reduced to so many values.
    fn codes<T: Scalar>(
        &self,
        side: &Vectors<'_, T>,
        ids: &[u32],
        values: usize,
        scale: CommonScale,
        ctx: &Context,
    ) -> Result<Quantised<'static>> {
        let mut codes = Quantised::empty(values)?;
        for ids in ids.chunks(PART) {
            let reduced = self.rows(side, ids, values, ctx)?;
            codes.append(&coded(&reduced, values, scale, ctx)?)?;
        }
        Ok(codes)
    }

    /// The rows of these internal ids, reduced to so many values: (rows, values), row-major, the
    /// last value being the length outside of the axes. And for each row, by how much rounding may break
    /// the inequality that the filter rests on.
    fn rows<T: Scalar>(
        &self,
        side: &Vectors<'_, T>,
        ids: &[u32],
        values: usize,
        ctx: &Context,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let dim = side.rows.dim();
        let axes = &self.axes.axes[..self.axes.count().min(values - 1) * dim];
        let axes = Rows::new(axes, dim)?;
        let precision = Precision::new(dim, axes.len());
        let mut rows = memory::zeroed(ids.len().saturating_mul(values), REDUCED)?;
        let mut errors = memory::zeroed(ids.len(), REDUCED)?;
        rows.par_chunks_mut(BLOCK * values)
            .zip(errors.par_chunks_mut(BLOCK))
            .zip(ids.par_chunks(BLOCK))
            .try_for_each_init(
                || (Vec::new(), Vec::new()),
                |(centred, products), ((rows, errors), ids)| {
                    ctx.check()?;
                    centred.clear();
                    for &id in ids {
                        let row = side.row(id) as usize;
                        let scale = side.direction_scale(row);
                        let values = side.rows.row(row);
                        let values = values.iter().zip(&self.mean);
                        centred.extend(
                            values.map(|(value, mean)| (value.to_f64() * scale - mean) as f32),
                        );
                    }
                    products.resize(ids.len() * axes.len(), 0.0);
                    let block = Rows::new(centred, dim)?;
                    dot_products(block, axes, products, ctx.isa())?;
                    let reduced = rows.chunks_exact_mut(values).zip(errors);
                    for (position, (reduced, error)) in reduced.enumerate() {
                        let inside = &products[position * axes.len()..][..axes.len()];
                        let (outside, of_row) = precision.outside(&block.row(position), inside);
                        let known = !side.lacks_direction(side.row(ids[position]) as usize);
                        *error = if known { of_row } else { f32::INFINITY };
                        if error.is_finite() {
                            reduced[..inside.len()].copy_from_slice(inside);
                            reduced[inside.len()] = outside;
                        }
                    }
                    Ok::<_, Error>(())
                },
            )?;
        Ok((rows, errors))
    }
}

/// Codes of rows that were reduced to so many values; their errors include those of the rows.
fn coded(
    (rows, errors): &(Vec<f32>, Vec<f32>),
    values: usize,
    scale: CommonScale,
    ctx: &Context,
) -> Result<Quantised<'static>> {
    let mut codes = Quantised::with_scale(Rows::new(rows, values)?, None, scale, ctx.isa())?;
    for (row, &error) in errors.iter().enumerate() {
        codes.inflate_error(row, error)?;
    }
    Ok(codes)
}

/// Rounding errors of rows of a dimension that are projected on some axes in single precision.
struct Precision {
    /// Relative error, at most, of what is inside of the axes: of the dot products, in any order of
    /// summation, and of axes that are orthonormal but for their rounding.
    inside: f64,
    /// Relative error of a distance that is computed from whole rows.
    distance: f64,
}

impl Precision {
    fn new(dim: usize, axes: usize) -> Self {
        let unit = f64::from(f32::EPSILON);
        Self {
            inside: (axes as f64).sqrt() * (dim + 24) as f64 * unit,
            distance: (dim + 24) as f64 * unit,
        }
    }

    /// The length of what `row` has outside of the axes, given its products with them; and how far
    /// all of the reduced row may be off, infinite where that is unknown.
    fn outside(&self, row: &[f32], inside: &[f32]) -> (f32, f32) {
        let square = |values: &[f32]| sum_of_squares(values.iter().copied().map(f64::from));
        let of_row = square(row);
        let length = of_row.sqrt();
        let of_inside = length * self.inside + f64::from(f32::MIN_POSITIVE) * row.len() as f64;
        let of_square = 3.0 * length * of_inside;
        let outside2 = (of_row - square(inside)).max(0.0);
        let outside = outside2.sqrt();
        let of_outside = ((outside2 + of_square).sqrt() - outside)
            .max(outside - (outside2 - of_square).max(0.0).sqrt());
        let error = of_inside.hypot(of_outside) + length * self.distance;
        let error = (error * (1.0 + f64::from(f32::EPSILON))) as f32;
        if error.is_finite() && outside.is_finite() {
            (outside as f32, error.next_up())
        } else {
            (0.0, f32::INFINITY)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lshjoin_kernels::Isa;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::{
        base::{keys::PairKeys, metric::Metric, random::gaussian},
        join::radius::stream_sides,
        pairs::top_k_join::pairs,
    };

    const DIM: usize = 130;

    fn gaussians(count: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| gaussian(&mut rng)).collect()
    }

    /// Rows in clusters of ten, most of whose variance is in twenty dimensions.
    fn clustered(count: usize) -> Vec<f64> {
        let basis = gaussians(20 * DIM, 1);
        let mut values = gaussians(count * DIM, 2);
        for (index, row) in values.chunks_mut(DIM).enumerate() {
            let centre = gaussians(20, 1000 + index as u64 / 10);
            for (at, value) in row.iter_mut().enumerate() {
                let weights = centre.iter().zip(basis.chunks(DIM));
                *value = 0.1 * *value + weights.map(|(z, axis)| z * axis[at]).sum::<f64>();
            }
        }
        values
    }

    fn hostile() -> Vec<f64> {
        let mut values = clustered(60);
        let scales = [0.0, 1e-40, 1e-20, 1e-3, 1e6, 1e18, 1e30, 1e200];
        for (row, scale) in values.chunks_mut(DIM).zip(scales) {
            row.iter_mut().for_each(|value| *value *= scale);
        }
        values.extend_from_within(8 * DIM..20 * DIM);
        values.chunks_mut(DIM).skip(60).step_by(2).for_each(|row| {
            row.iter_mut().for_each(|value| *value += 1000.0);
        });
        values
    }

    /// The Euclidean distance of rows or, for the cosine, their directions, in double precision.
    /// Infinite where it overflows, not a number for directions of zeros.
    fn distance(metric: Metric, x: &[f64], y: &[f64]) -> f64 {
        let length = |row: &[f64]| match metric {
            Metric::Cosine => {
                let largest = row
                    .iter()
                    .fold(0.0_f64, |largest, value| largest.max(value.abs()));
                largest * sum_of_squares(row.iter().map(|value| value / largest)).sqrt()
            }
            _ => 1.0,
        };
        let (of_x, of_y) = (length(x), length(y));
        let differences = x.iter().zip(y).map(|(x, y)| x / of_x - y / of_y);
        sum_of_squares(differences).sqrt()
    }

    #[test]
    fn reduced_rows_are_never_further_apart() {
        let values = hostile();
        let rows = Rows::new(&values, DIM).unwrap();
        let ctx = Context::new().unwrap();
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let side = Vectors::new("rows", rows, metric, &ctx).unwrap();
            let rotation = Rotation {
                // Axes of ordinary rows: the huge ones would have them all to themselves.
                axes: PrincipalAxes::of_sample(Rows::new(&clustered(60), DIM).unwrap(), 63, &ctx)
                    .unwrap(),
                mean: vec![0.3; DIM],
            };
            let ids = side.internal_ids().unwrap();
            let (reduced, errors) = rotation.rows(&side, &ids, 64, &ctx).unwrap();
            let reduced: Vec<f64> = reduced.into_iter().map(f64::from).collect();
            let reduced = Rows::new(&reduced, 64).unwrap();
            for x in 0..rows.len() {
                for y in 0..rows.len() {
                    let error = f64::from(errors[x]) + f64::from(errors[y]);
                    let by_reduced = distance(Metric::Euclidean, &reduced.row(x), &reduced.row(y));
                    let whole = distance(metric, &rows.row(x), &rows.row(y));
                    let known = !whole.is_nan(); // zeros have no direction
                    assert!(!known || by_reduced - error <= whole, "{metric} {x} {y}");
                    if (20..60).contains(&x) && (20..60).contains(&y) {
                        // Far less than the error of codes.
                        let length = distance(metric, &rows.row(x), &[1e-9; DIM]);
                        assert!(error < 0.01 * length, "{error} of {length}");
                    }
                }
            }
            assert_eq!(errors[0].is_infinite(), metric == Metric::Cosine);
        }
    }

    /// Checks a join, of two sides or of one with itself, against all distances.
    fn check(metric: Metric, radius: f64, queries: Option<&[f64]>, items: &[f64]) {
        let ctx = Context::on(Isa::SCALAR); // on which there is most to be gained
        let side = |name, values| Vectors::new(name, Rows::new(values, DIM).unwrap(), metric, &ctx);
        let right = side("items", items).unwrap();
        let left = queries.map(|queries| side("queries", queries).unwrap());
        // The Euclidean distance of unit vectors at that cosine distance.
        let bound = match metric {
            Metric::Cosine => (2.0 * radius).sqrt(),
            _ => radius,
        };
        let pairs = pairs(left.as_ref(), &right);
        let filter =
            AxesFilter::where_it_pays(left.as_ref(), &right, pairs, bound as f32, &ctx).unwrap();
        assert!(filter.is_some(), "{metric}");
        let mut found = BTreeSet::new();
        let hand_over = |pairs: Vec<(u32, u32, f64)>| {
            found.extend(pairs.into_iter().map(|(left, right, _)| (left, right)));
            Ok(())
        };
        stream_sides(
            left.as_ref(),
            &right,
            PairKeys::default(),
            radius,
            &ctx,
            hand_over,
        )
        .unwrap();
        let comparable = |values: &[f64]| {
            let mut values = values.to_vec();
            if metric == Metric::Cosine {
                for row in values.chunks_mut(DIM) {
                    let length = distance(Metric::Euclidean, row, &[0.0; DIM]);
                    row.iter_mut().for_each(|value| *value /= length);
                }
            }
            values
        };
        let (of_left, of_right) = (comparable(queries.unwrap_or(items)), comparable(items));
        let mut expected = BTreeSet::new();
        for (x, row) in (0..).zip(of_left.chunks(DIM)) {
            for (y, other) in (0..).zip(of_right.chunks(DIM)) {
                if distance(Metric::Euclidean, row, other) < bound && (queries.is_some() || x != y)
                {
                    expected.insert((x, y));
                }
            }
        }
        assert!(
            expected.len() > 1000,
            "a test of nothing: {}",
            expected.len()
        );
        assert_eq!(found, expected, "{metric}");
    }

    #[test]
    fn the_pairs_are_those_of_whole_rows() {
        let values = clustered(3500);
        let (queries, items) = (&values[..1000 * DIM], &values[500 * DIM..]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        pool.unwrap().install(|| {
            for (metric, radius) in [(Metric::Euclidean, 2.0), (Metric::Cosine, 0.001)] {
                check(metric, radius, None, items);
                check(metric, radius, Some(queries), items);
            }
        });
    }

    #[test]
    fn wide_radii_and_manhattan_distances_have_whole_rows() {
        let values = clustered(4000);
        let rows = Rows::new(&values, DIM).unwrap();
        let ctx = Context::on(Isa::SCALAR);
        for (metric, bound) in [(Metric::Euclidean, 1e3), (Metric::Manhattan, 1.0)] {
            let side = Vectors::new("items", rows, metric, &ctx).unwrap();
            let filter =
                AxesFilter::where_it_pays(None, &side, pairs(None, &side), bound, &ctx).unwrap();
            assert!(filter.is_none(), "{metric}");
        }
    }
}
