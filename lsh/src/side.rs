//! One side of a join: its rows, and what it takes to compare them.

use std::borrow::Cow;

use lshjoin_kernels::{
    BoundedRows, CommonScale, Isa, Measure, Quantised, Rows, Scalar, centre_of, check_finite,
    cosine_distances, distances_of, euclidean_distances, exact_dot_products, memory, norms,
    pairs_within,
};
use rayon::prelude::*;

use crate::{
    duplicates::Distinct, error::Result, held_out, index::Kept, magnitude, metric::Metric, run::Run,
};

/// Rows of a sample that codes are made for.
const SAMPLED: usize = 1000;

/// What memory is asked for.
pub(crate) const NUMBERS: &str = "row numbers";
const NORMS: &str = "norms of rows";

/// The rows of one side; for the cosine and the inner product their norms too.
///
/// Of inner products, rows are augmented (see [`Products`](crate::inner_product::Products)): those of
/// the right side all have the same norm.
pub(crate) struct Side<'a, T> {
    pub(crate) rows: Rows<'a, T>,
    pub(crate) metric: Metric,
    /// 8-bit codes of the rows (of their directions, for the cosine), where the metric has a
    /// filter that works on them.
    pub(crate) codes: Option<Quantised<'a>>,
    /// What codes are counted from, if not from zero; as codes are of directions, in single precision
    /// then. Both sides of a join have the same.
    centre: Option<Vec<T>>,
    pub(crate) norms: Cow<'a, [f64]>,
    /// Where rows are numbered by their place in another order: the row at each place, and the
    /// place of each row. Of a row that is a duplicate and takes no part, that of its twin which does.
    order: Option<(Vec<u32>, Vec<u32>)>,
    /// Where the rows are some of an index.
    kept: Option<Kept<'a>>,
}

impl<'a, T: Scalar> Side<'a, T> {
    /// # Errors
    /// When a row holds NaN or infinity; `name` tells the user which side it is on.
    pub(crate) fn new(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        run: &Run,
    ) -> Result<Self> {
        Self::with_codes(name, rows, metric, None, run)
    }

    /// The items of a join, without those that take no part for the sake of others that they are
    /// duplicates of; of inner products, augmented to norm 1.
    ///
    /// # Errors
    /// As [`Side::new`].
    pub(crate) fn of_items(
        rows: Rows<'a, T>,
        metric: Metric,
        distinct: Option<Distinct>,
        run: &Run,
    ) -> Result<Self> {
        let mut side = match distinct {
            None => Self::new("items", rows, metric, run)?,
            Some(distinct) => Self::distinct(rows, metric, distinct, run)?,
        };
        if metric == Metric::InnerProduct {
            side = side.with_norm(1.0)?;
        }
        Ok(side)
    }

    fn distinct(
        rows: Rows<'a, T>,
        metric: Metric,
        Distinct { kept, places }: Distinct,
        run: &Run,
    ) -> Result<Self> {
        // A million equal rows tell nothing of the others.
        let step = kept.len().div_ceil(SAMPLED).max(1);
        let sample: Vec<u32> = kept.iter().copied().step_by(step).collect();
        let sample = rows.gather(&sample)?;
        let grid = Grid::of(Rows::new(&sample, rows.dim())?, metric, run)?;
        let mut side = Self::with_grid("items", rows, metric, &grid, run)?;
        if let Some(codes) = &side.codes {
            side.codes = Some(codes.reordered(&kept)?);
        }
        side.order = Some((kept, places));
        Ok(side)
    }

    /// Rows to join with those of this side.
    ///
    /// # Errors
    /// As [`Side::new`].
    pub(crate) fn to_meet<'b>(
        &self,
        name: &'static str,
        rows: Rows<'b, T>,
        run: &Run,
    ) -> Result<Side<'b, T>> {
        Side::with_codes(name, rows, self.metric, Some((self.centre(), None)), run)
    }

    /// With codes of the grid that was made for rows like these.
    ///
    /// # Errors
    /// As [`Side::new`].
    pub(crate) fn with_grid(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        grid: &Grid<T>,
        run: &Run,
    ) -> Result<Self> {
        let grid = (grid.centre.as_deref(), Some(grid.scale));
        Self::with_codes(name, rows, metric, Some(grid), run)
    }

    fn with_codes(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        grid: Option<(Option<&[T]>, Option<CommonScale>)>,
        run: &Run,
    ) -> Result<Self> {
        let mut side = Self::without_codes(name, rows, metric, run)?;
        side.quantise(grid, run)?;
        Ok(side)
    }

    /// Codes about a centre of its own, or a given one, which may be none, and of a scale of its own or
    /// a given one.
    fn quantise(
        &mut self,
        grid: Option<(Option<&[T]>, Option<CommonScale>)>,
        run: &Run,
    ) -> Result<()> {
        let (rows, isa) = (self.rows, run.isa());
        match self.metric {
            Metric::Euclidean | Metric::InnerProduct => {
                let (codes, centre) = quantised(rows, grid, isa)?;
                self.codes = Some(codes);
                self.centre = centre;
            }
            Metric::Manhattan => {}
            Metric::Cosine => {
                let directions = directions(rows, &self.norms)?;
                let directions = Rows::new(&directions, rows.dim())?;
                let centre = grid.map(|(centre, _)| centre.map(converted::<T, f32>));
                let grid = grid.zip(centre.as_ref());
                let grid = grid.map(|((_, scale), centre)| (centre.as_deref(), scale));
                let (mut codes, centre) = quantised(directions, grid, isa)?;
                // At distance 1 from all rows, as their codes are from none.
                let mut zeros = (0..rows.len()).filter(|&row| self.lacks_direction(row));
                zeros.try_for_each(|row| codes.inflate_error(row, f32::INFINITY))?;
                self.codes = Some(codes);
                self.centre = centre.map(|centre| converted(&centre));
            }
        }
        Ok(())
    }

    /// What codes are counted from, if not from zero.
    pub(crate) fn centre(&self) -> Option<&[T]> {
        self.centre.as_deref()
    }

    /// The values that the codes of a row are of, by its index.
    pub(crate) fn coded(&self, row: usize) -> impl Iterator<Item = f64> {
        let scale = self.direction_scale(row);
        let values = self.rows.row(row).iter().enumerate();
        values.map(move |(at, value)| {
            let middle = self.centre().map_or(0.0, |centre| centre[at].to_f64());
            value.to_f64() * scale - middle
        })
    }

    /// For the rows' place along axes alone.
    ///
    /// # Errors
    /// As [`Side::new`].
    pub(crate) fn without_codes(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        run: &Run,
    ) -> Result<Self> {
        match metric {
            // Augmented rows, of what was checked before.
            Metric::InnerProduct => {
                check_finite(rows, run.isa()).map_err(|error| (name, error))?;
            }
            _ => magnitude::check(name, rows, metric, run)?,
        }
        run.check()?;
        let norms = match metric {
            Metric::Cosine | Metric::InnerProduct => norms_of(rows, run)?,
            _ => Vec::new(),
        };
        Ok(Self {
            rows,
            metric,
            codes: None,
            centre: None,
            norms: norms.into(),
            order: None,
            kept: None,
        })
    }

    /// Of rows that were made ready before.
    pub(crate) fn of_index(
        rows: Rows<'a, T>,
        metric: Metric,
        (codes, centre): (Option<Quantised<'a>>, Option<&'a [T]>),
        norms: &'a [f64],
        kept: Kept<'a>,
    ) -> Self {
        Self {
            rows,
            metric,
            codes,
            centre: centre.map(<[T]>::to_vec),
            norms: norms.into(),
            order: None,
            kept: Some(kept),
        }
    }

    /// How many rows have numbers.
    pub(crate) fn len(&self) -> usize {
        self.order().map_or(self.rows.len(), <[u32]>::len)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies of the rows of every `step`th number.
    pub(crate) fn spread(&self, step: usize) -> Result<Vec<T>> {
        let numbers = (0..self.len() as u32).step_by(step);
        let rows: Vec<u32> = numbers.map(|number| self.row(number)).collect();
        Ok(self.rows.gather(&rows)?)
    }

    /// Some of these rows, by index.
    pub(crate) fn sample(&self, most: usize) -> Vec<u32> {
        let numbers = held_out::sample(self.len(), most).into_iter();
        numbers.map(|number| self.row(number)).collect()
    }

    /// What orders rows at the same distance: their index, or the user's id in an index.
    pub(crate) fn rank(&self, number: u32) -> i64 {
        match &self.kept {
            Some(kept) => kept.ids[number as usize],
            None => self.row(number).into(),
        }
    }

    /// Whether the row of this number may be a neighbour: of an index, not all need be.
    pub(crate) fn takes_part(&self, number: u32) -> bool {
        self.kept
            .as_ref()
            .is_none_or(|kept| kept.takes_part(number))
    }

    /// The numbers of the rows that may be neighbours.
    pub(crate) fn numbers(&self) -> Result<Vec<u32>> {
        let all = 0..self.len() as u32;
        let numbers = match self.kept {
            None => memory::collect(all, NUMBERS),
            Some(_) => memory::collect(all.filter(|&number| self.takes_part(number)), NUMBERS),
        };
        Ok(numbers?)
    }

    /// Asked before [`Side::rows`] are read at these indices: those of an index may be damaged.
    pub(crate) fn check(&self, rows: impl Iterator<Item = u32>) -> Result<()> {
        match &self.kept {
            Some(kept) => kept.check(rows, self.rows.dim()),
            None => Ok(()),
        }
    }

    /// Numbers the rows by the place of their numbers in `order` from here on, for all but
    /// [`Side::rows`]: rows that are used together then lie together in memory.
    pub(crate) fn reorder(&mut self, order: Vec<u32>) -> Result<()> {
        if let Some(codes) = &self.codes {
            self.codes = Some(codes.reordered(&order)?);
        }
        let mut places = memory::zeroed(order.len(), NUMBERS)?;
        for (place, &number) in (0..).zip(&order) {
            places[number as usize] = place;
        }
        self.order = Some(match self.order.take() {
            None => (order, places),
            Some((mut rows, mut before)) => {
                before
                    .iter_mut()
                    .for_each(|place| *place = places[*place as usize]);
                rows = order.iter().map(|&number| rows[number as usize]).collect();
                (rows, before)
            }
        });
        Ok(())
    }

    /// The index in [`Side::rows`] of the row of this number.
    pub(crate) fn row(&self, number: u32) -> u32 {
        self.order
            .as_ref()
            .map_or(number, |(rows, _)| rows[number as usize])
    }

    /// The row of each number, where that is not the same.
    pub(crate) fn order(&self) -> Option<&[u32]> {
        self.order.as_ref().map(|(rows, _)| rows.as_slice())
    }

    /// The number of each row, where that is not the same.
    pub(crate) fn places(&self) -> Option<&[u32]> {
        self.order.as_ref().map(|(_, places)| places.as_slice())
    }

    /// The number of the row at this index of [`Side::rows`].
    pub(crate) fn number(&self, row: u32) -> u32 {
        self.order
            .as_ref()
            .map_or(row, |(_, places)| places[row as usize])
    }

    /// Of augmented rows, all of which have this norm but for rounding.
    pub(crate) fn with_norm(mut self, norm: f64) -> Result<Self> {
        let error = norm * norm_error::<T>(self.rows.dim());
        if let Some(codes) = &mut self.codes {
            for row in 0..codes.len() {
                codes.inflate_error(row, (error as f32).next_up())?;
            }
        }
        self.norms = memory::filled(norm, self.rows.len(), NORMS)?.into();
        Ok(self)
    }

    /// What a row is multiplied by to make its direction, where the metric compares directions.
    pub(crate) fn direction_scale(&self, row: usize) -> f64 {
        match (self.metric, self.norms.get(row)) {
            (Metric::Cosine, Some(&norm)) => inverse(norm),
            _ => 1.0,
        }
    }

    /// How far a row is from its code, if what rounding takes from a value is like a random number.
    pub(crate) fn code_error(&self, number: u32) -> f32 {
        let codes = self.codes.as_ref();
        let scale = codes.and_then(|codes| codes.scale(number as usize));
        scale.unwrap_or(0.0) * (self.rows.dim() as f32 / 12.0).sqrt()
    }

    /// Whether the metric compares directions and the row has none that can be told.
    pub(crate) fn lacks_direction(&self, row: usize) -> bool {
        self.metric == Metric::Cosine && self.direction_scale(row) == 0.0
    }

    /// Whether the rows are some of an index.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Calls `found(i, j, score)` for pairs of the i-th of `rows` and the j-th of the other side's,
    /// by number: all whose distance may be within one of their bounds. For the Manhattan distance.
    pub(crate) fn within(
        &self,
        (rows, bounds): (&[u32], &[f32]),
        (other, other_rows, other_bounds): (&Self, &[u32], &[f32]),
        isa: Isa,
        found: &mut dyn FnMut(u32, u32, T),
    ) -> Result<()> {
        let widen = |bounds: &[f32]| -> Vec<T> {
            let dim = self.rows.dim();
            bounds.iter().map(|&bound| widened(bound, dim)).collect()
        };
        let (bounds, other_bounds) = (widen(bounds), widen(other_bounds));
        let indices: Vec<u32> = rows.iter().map(|&row| self.row(row)).collect();
        let other_indices: Vec<u32> = other_rows.iter().map(|&row| other.row(row)).collect();
        self.check(indices.iter().copied())?;
        other.check(other_indices.iter().copied())?;
        let left = BoundedRows {
            rows: self.rows,
            indices: &indices,
            bounds: &bounds,
        };
        let right = BoundedRows {
            rows: other.rows,
            indices: &other_indices,
            bounds: &other_bounds,
        };
        Ok(pairs_within(Measure::Manhattan, left, right, isa, found)?)
    }

    /// The distances of pairs of rows, by number, of this side and of `other`, in double precision.
    pub(crate) fn distances(
        &self,
        other: &Self,
        pairs: &[(u32, u32)],
        distances: &mut Vec<f64>,
        isa: Isa,
    ) -> Result<()> {
        let rows = |&(left, right): &(u32, u32)| (self.row(left), other.row(right));
        let pairs = memory::collect(pairs.iter().map(rows), "pairs to be compared")?;
        self.check(pairs.iter().map(|pair| pair.0))?;
        other.check(pairs.iter().map(|pair| pair.1))?;
        match self.metric {
            Metric::Euclidean => {
                euclidean_distances(self.rows, other.rows, &pairs, distances, isa)?;
            }
            Metric::Manhattan => {
                let mut sums = Vec::new();
                distances_of(
                    Measure::Manhattan,
                    self.rows,
                    other.rows,
                    &pairs,
                    &mut sums,
                    isa,
                )?;
                distances.clear();
                memory::extend(distances, sums.into_iter().map(Scalar::to_f64), "distances")?;
            }
            Metric::Cosine => {
                let left = (self.rows, &*self.norms);
                let right = (other.rows, &*other.norms);
                cosine_distances(left, right, &pairs, distances, isa)?;
            }
            Metric::InnerProduct => {
                exact_dot_products(self.rows, other.rows, &pairs, distances, isa)?;
                distances
                    .iter_mut()
                    .for_each(|product| *product = 0.0 - *product);
            }
        }
        Ok(())
    }

    fn norm(&self, number: u32) -> f64 {
        self.norms[self.row(number) as usize]
    }

    /// A distance of this row as one to draw and to compare: of inner products, that of augmented rows.
    pub(crate) fn length(&self, other: &Self, number: u32, distance: f64) -> f64 {
        match self.metric {
            Metric::InnerProduct => {
                let of_other = other.norms.first().copied().unwrap_or(0.0);
                let squares = self.norm(number).powi(2) + of_other * of_other;
                (squares + 2.0 * distance).max(0.0).sqrt()
            }
            _ => distance,
        }
    }

    /// Between what the Euclidean distance of the originals of two rows' codes lies when their
    /// distance is computed as `distance`; rows by number.
    pub(crate) fn filter_interval(
        &self,
        other: &Self,
        (left, right): (u32, u32),
        distance: f64,
    ) -> (f32, f32) {
        if self.metric != Metric::InnerProduct {
            return filter_interval::<T>(self.metric, distance, self.rows.dim());
        }
        let (of_left, of_right) = (self.norm(left), other.norm(right));
        let squares = of_left * of_left + of_right * of_right;
        let error = (self.rows.dim() + 8) as f64 * f64::EPSILON * squares;
        let length = |square: f64| square.max(0.0).sqrt();
        let square = squares + 2.0 * distance;
        outwards(length(square - error), length(square + error))
    }
}

/// The largest distance for which [`filter_interval`] starts within `bound`, or a larger one; of the
/// metrics without codes.
fn widened<T: Scalar>(bound: f32, dim: usize) -> T {
    let error = (dim + 8) as f64 * T::UNIT_ROUNDOFF + f64::from(f32::EPSILON);
    let bound = f64::from(bound);
    T::from_f64(bound + bound.abs() * 4.0 * error + f64::from(f32::MIN_POSITIVE))
}

/// What the codes of rows have in common: where they are counted from, if not from zero, and what a
/// step is.
pub(crate) struct Grid<T> {
    pub(crate) centre: Option<Vec<T>>,
    pub(crate) scale: CommonScale,
}

impl<T: Scalar> Grid<T> {
    /// Of a side of rows like these.
    pub(crate) fn of(rows: Rows<'_, T>, metric: Metric, run: &Run) -> Result<Self> {
        if metric != Metric::Cosine {
            return Ok(Self::of_values(rows, run.isa()));
        }
        let directions = directions(rows, &norms_of(rows, run)?)?;
        let Grid { centre, scale } =
            Grid::of_values(Rows::new(&directions, rows.dim())?, run.isa());
        let centre = centre.map(|centre| converted(&centre));
        Ok(Self { centre, scale })
    }

    fn of_values(rows: Rows<'_, T>, isa: Isa) -> Self {
        let centre = centre_of(rows, isa);
        let scale = CommonScale::of(rows, centre.as_deref(), isa);
        Self { centre, scale }
    }
}

/// Between what the Euclidean distance of two rows' originals (of their directions, for the
/// cosine) lies when their distance by `metric` is computed as `distance`, or rounded to it from double
/// precision: the measure of the filter on codes.
pub(crate) fn filter_interval<T: Scalar>(metric: Metric, distance: f64, dim: usize) -> (f32, f32) {
    let of_sums = (dim + 8) as f64;
    let error = match metric {
        Metric::Manhattan => of_sums * T::UNIT_ROUNDOFF,
        _ => of_sums * f64::EPSILON + 2.0 * T::UNIT_ROUNDOFF,
    };
    // ‖x − y‖² = 2(1 − cos) on the unit sphere. Both directions are rounded to f32 on the way to
    // their codes.
    let (length, of_directions) = match metric {
        Metric::Cosine => ((2.0 * distance).sqrt(), 4.0 * f32::UNIT_ROUNDOFF),
        _ => (distance, 0.0),
    };
    outwards(
        length * (1.0 - error) - of_directions,
        length * (1.0 + error) + of_directions,
    )
}

/// In single precision, not narrower.
fn outwards(at_least: f64, at_most: f64) -> (f32, f32) {
    (
        (at_least as f32).next_down().max(0.0),
        (at_most as f32).next_up(),
    )
}

/// Rows whose norms a thread computes at a time.
const MEASURED: usize = 1024;

/// The norm of each row.
pub(crate) fn norms_of<T: Scalar>(rows: Rows<'_, T>, run: &Run) -> Result<Vec<f64>> {
    let mut of_rows = memory::zeroed(rows.len(), NORMS)?;
    let blocks = of_rows.par_chunks_mut(MEASURED).enumerate();
    blocks.for_each(|(block, of_rows)| {
        let first = block * MEASURED;
        let rows = rows.slice(first..first + of_rows.len());
        of_rows.copy_from_slice(&norms(rows, run.isa()));
    });
    Ok(of_rows)
}

/// By what share of it the norms of augmented rows of so many values may differ.
pub(crate) fn norm_error<T: Scalar>(dim: usize) -> f64 {
    let rounding = (dim + 8) as f64 * f64::EPSILON;
    2.0 * T::UNIT_ROUNDOFF + rounding.sqrt()
}

/// What a row of this norm is multiplied by to make its direction; 0 where that is no number.
fn inverse(norm: f64) -> f64 {
    let inverse = norm.recip();
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Codes about a given centre or one of their own, which is returned, and of a given scale or one of
/// their own.
fn quantised<T: Scalar>(
    rows: Rows<'_, T>,
    grid: Option<(Option<&[T]>, Option<CommonScale>)>,
    isa: Isa,
) -> Result<(Quantised<'static>, Option<Vec<T>>)> {
    let Grid { centre, scale } = match grid {
        None => Grid::of_values(rows, isa),
        Some((centre, scale)) => Grid {
            centre: centre.map(<[T]>::to_vec),
            scale: scale.unwrap_or_else(|| CommonScale::of(rows, centre, isa)),
        },
    };
    let codes = Quantised::with_scale(rows, centre.as_deref(), scale, isa)?;
    Ok((codes, centre))
}

/// The same numbers, which single precision holds, as others.
fn converted<T: Scalar, U: Scalar>(values: &[T]) -> Vec<U> {
    let values = values.iter().map(|value| U::from_f64(value.to_f64()));
    values.collect()
}

/// Rows scaled to length 1; those that have no direction are zeros.
pub(crate) fn directions<T: Scalar>(rows: Rows<'_, T>, norms: &[f64]) -> Result<Vec<f32>> {
    let mut directions = memory::zeroed(rows.values().len(), "directions of rows")?;
    directions
        .par_chunks_mut(rows.dim())
        .zip(rows.values().par_chunks(rows.dim()))
        .zip(norms)
        .for_each(|((direction, row), &norm)| {
            let inverse = inverse(norm);
            for (to, value) in direction.iter_mut().zip(row) {
                *to = (value.to_f64() * inverse) as f32;
            }
        });
    Ok(directions)
}
