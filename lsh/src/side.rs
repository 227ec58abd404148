//! One side of a join: its rows, and what it takes to compare them.

use std::borrow::Cow;

use lshjoin_kernels::{
    Asking, CommonScale, Isa, Measure, Quantised, Rows, Scalar, centre_of, check_finite,
    distances_of, pairs_within,
};
use rayon::prelude::*;

use crate::{
    duplicates::Distinct,
    error::{Error, Result},
    held_out,
    index::Kept,
    metric::Metric,
    run::Run,
};

/// Rows of a sample that codes are made for.
const SAMPLED: usize = 1000;

/// The rows of one side; for the cosine their squared norms too.
pub(crate) struct Side<'a, T> {
    pub(crate) rows: Rows<'a, T>,
    pub(crate) metric: Metric,
    /// 8-bit codes of the rows (of their directions, for the cosine), where the metric has a
    /// filter that works on them.
    pub(crate) codes: Option<Quantised<'a>>,
    /// What codes are counted from, if not from zero; as codes are of directions, in single precision
    /// then. Both sides of a join have the same.
    centre: Option<Vec<T>>,
    pub(crate) squares: Cow<'a, [f64]>,
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
        let mut side = Self::without_codes(name, rows, metric, run)?;
        side.quantise(None, run)?;
        Ok(side)
    }

    /// Without the rows that take no part, for the sake of others that they are duplicates of.
    ///
    /// # Errors
    /// As [`Side::new`].
    pub(crate) fn distinct(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        distinct: Option<Distinct>,
        run: &Run,
    ) -> Result<Self> {
        let Some(Distinct { kept, places }) = distinct else {
            return Self::new(name, rows, metric, run);
        };
        // A million equal rows tell nothing of the others.
        let step = kept.len().div_ceil(SAMPLED).max(1);
        let sample: Vec<u32> = kept.iter().copied().step_by(step).collect();
        let sample = rows.gather(&sample);
        let grid = Grid::of(Rows::new(&sample, rows.dim())?, metric, run)?;
        let mut side = Self::with_grid(name, rows, metric, &grid, run)?;
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
        let mut side = Side::without_codes(name, rows, self.metric, run)?;
        side.quantise(Some((self.centre(), None)), run)?;
        Ok(side)
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
        let mut side = Self::without_codes(name, rows, metric, run)?;
        side.quantise(Some((grid.centre.as_deref(), Some(grid.scale))), run)?;
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
            Metric::Euclidean => {
                let (codes, centre) = quantised(rows, grid, isa)?;
                self.codes = Some(codes);
                self.centre = centre;
            }
            Metric::Manhattan | Metric::InnerProduct => {}
            Metric::Cosine => {
                let directions = directions(rows, &self.squares);
                let directions = Rows::new(&directions, rows.dim())?;
                let centre = grid.map(|(centre, _)| centre.map(converted::<T, f32>));
                let grid = grid.zip(centre.as_ref());
                let grid = grid.map(|((_, scale), centre)| (centre.as_deref(), scale));
                let (mut codes, centre) = quantised(directions, grid, isa)?;
                // At distance 1 from all rows, as their codes are from none.
                let mut zeros = (0..rows.len()).filter(|&row| self.lacks_direction(row));
                zeros.try_for_each(|row| codes.doubt(row, f32::INFINITY))?;
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
        let scale = f64::from(self.direction_scale(row));
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
        if metric == Metric::InnerProduct {
            return Err(Error::Parameter {
                name: "metric",
                must_be: "a distance; inner products have none but in knn_join",
                value: metric.to_string(),
            });
        }
        check_finite(rows, run.isa()).map_err(|error| (name, error))?;
        run.check()?;
        let squares = match metric {
            Metric::Cosine => squares(rows),
            _ => Vec::new(),
        };
        Ok(Self {
            rows,
            metric,
            codes: None,
            centre: None,
            squares: squares.into(),
            order: None,
            kept: None,
        })
    }

    /// Of rows that were made ready before.
    pub(crate) fn of_index(
        rows: Rows<'a, T>,
        metric: Metric,
        (codes, centre): (Option<Quantised<'a>>, Option<&'a [T]>),
        squares: &'a [f64],
        kept: Kept<'a>,
    ) -> Self {
        Self {
            rows,
            metric,
            codes,
            centre: centre.map(<[T]>::to_vec),
            squares: squares.into(),
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

    /// Copies of every so manieth of these rows.
    pub(crate) fn spread(&self, step: usize) -> Vec<T> {
        let numbers = (0..self.len() as u32).step_by(step);
        let rows: Vec<u32> = numbers.map(|number| self.row(number)).collect();
        self.rows.gather(&rows)
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
    pub(crate) fn numbers(&self) -> Vec<u32> {
        let numbers = 0..self.len() as u32;
        numbers.filter(|&number| self.takes_part(number)).collect()
    }

    /// Asked before [`Side::rows`] are read at these indices: those of an index may be damaged.
    pub(crate) fn check(&self, rows: impl Iterator<Item = u32>) -> Result<()> {
        match &self.kept {
            Some(kept) => kept.check(rows, self.rows.dim()),
            None => Ok(()),
        }
    }

    /// Numbers the rows by the place of their numbers in `order` from here on, for all but [`Side::rows`]: rows
    /// that are used together then lie together in memory.
    pub(crate) fn reorder(&mut self, order: Vec<u32>) -> Result<()> {
        if let Some(codes) = &self.codes {
            self.codes = Some(codes.reordered(&order)?);
        }
        let mut places = vec![0; order.len()];
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

    /// What a row is multiplied by to make its direction, where the metric compares directions.
    pub(crate) fn direction_scale(&self, row: usize) -> f32 {
        match self.squares.get(row) {
            Some(&square) if square > 0.0 => square.sqrt().recip() as f32,
            _ => 1.0,
        }
    }

    /// How far a row is from its code, if what rounding takes from a value is like a random number.
    pub(crate) fn code_error(&self, number: u32) -> f32 {
        let codes = self.codes.as_ref();
        let scale = codes.and_then(|codes| codes.scale(number as usize));
        scale.unwrap_or(0.0) * (self.rows.dim() as f32 / 12.0).sqrt()
    }

    /// Whether the metric compares directions and the row has none.
    pub(crate) fn lacks_direction(&self, row: usize) -> bool {
        self.squares.get(row) == Some(&0.0)
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
        let left = Asking {
            rows: self.rows,
            indices: &indices,
            bounds: &bounds,
        };
        let right = Asking {
            rows: other.rows,
            indices: &other_indices,
            bounds: &other_bounds,
        };
        Ok(pairs_within(Measure::Manhattan, left, right, isa, found)?)
    }

    /// Exact scores of pairs of rows, by number, of this side and of `other`: what [`distance`] makes a
    /// distance of, and in the same order.
    pub(crate) fn scores(
        &self,
        other: &Self,
        pairs: &[(u32, u32)],
        scores: &mut Vec<T>,
        isa: Isa,
    ) -> Result<()> {
        let measure = match self.metric {
            Metric::Euclidean => Measure::SquaredEuclidean,
            Metric::Manhattan => Measure::Manhattan,
            Metric::Cosine | Metric::InnerProduct => Measure::Dot,
        };
        let rows = |&(left, right): &(u32, u32)| (self.row(left), other.row(right));
        let pairs: Vec<(u32, u32)> = pairs.iter().map(rows).collect();
        self.check(pairs.iter().map(|pair| pair.0))?;
        other.check(pairs.iter().map(|pair| pair.1))?;
        distances_of(measure, self.rows, other.rows, &pairs, scores, isa)?;
        if self.metric == Metric::Cosine {
            for (score, &(left, right)) in scores.iter_mut().zip(&pairs) {
                let (left, right) = (left as usize, right as usize);
                let (x, y) = (self.squares[left], other.squares[right]);
                let product = if safe_to_multiply(x) && safe_to_multiply(y) {
                    score.to_f64()
                } else {
                    dot(self.rows.row(left), other.rows.row(right))
                };
                *score = T::from_f64(cosine_distance(product, x, y));
            }
        }
        Ok(())
    }
}

/// The largest score for which [`filter_interval`] starts within `bound`, or a larger one; of the
/// metrics without codes, whose scores are distances.
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
        let directions = directions(rows, &squares(rows));
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

/// The distance that a score stands for.
pub(crate) fn distance<T: Scalar>(metric: Metric, score: T) -> T {
    match metric {
        Metric::Euclidean => score.sqrt(),
        Metric::Manhattan | Metric::Cosine | Metric::InnerProduct => score,
    }
}

/// Between what the Euclidean distance of two rows' originals (of their directions, for the
/// cosine) lies when their distance by `metric` is computed as `distance`: the measure of the
/// filter on codes.
pub(crate) fn filter_interval<T: Scalar>(metric: Metric, distance: f64, dim: usize) -> (f32, f32) {
    let error = (dim + 8) as f64 * T::UNIT_ROUNDOFF;
    let (at_least, at_most) = match metric {
        Metric::Euclidean | Metric::Manhattan | Metric::InnerProduct => {
            (distance * (1.0 - error), distance * (1.0 + error))
        }
        Metric::Cosine => {
            // ‖x − y‖² = 2(1 − cos) on the unit sphere; the dot product and the two directions
            // are each off by some roundings.
            let length = |cosine_distance: f64| (2.0 * cosine_distance).max(0.0).sqrt();
            // Directions are kept in f32.
            let of_directions = (dim + 8) as f64 * f32::UNIT_ROUNDOFF;
            let error = error.max(of_directions);
            (
                length(distance - 2.0 * error) - error,
                length(distance + 2.0 * error) + error,
            )
        }
    };
    (
        (at_least as f32).next_down().max(0.0),
        (at_most as f32).next_up(),
    )
}

/// Whether rows of this squared norm have dot products that neither overflow nor vanish in f32.
fn safe_to_multiply(square: f64) -> bool {
    (1e-24..1e24).contains(&square)
}

fn cosine_distance(product: f64, x: f64, y: f64) -> f64 {
    if x == 0.0 || y == 0.0 {
        return 1.0;
    }
    // √(x·x) is exactly x, so equal rows are at distance 0.
    let both = if x == y { x } else { x.sqrt() * y.sqrt() };
    (1.0 - product / both).clamp(0.0, 2.0)
}

/// In double precision and one order, for the rare row that is too long or too short for f32.
fn dot<T: Scalar>(left: &[T], right: &[T]) -> f64 {
    left.iter()
        .zip(right)
        .map(|(x, y)| x.to_f64() * y.to_f64())
        .sum()
}

fn squares<T: Scalar>(rows: Rows<'_, T>) -> Vec<f64> {
    (0..rows.len())
        .into_par_iter()
        .map(|row| dot(rows.row(row), rows.row(row)))
        .collect()
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

/// Rows scaled to length 1, zero rows left as they are.
fn directions<T: Scalar>(rows: Rows<'_, T>, squares: &[f64]) -> Vec<f32> {
    let mut directions = vec![0.0; rows.values().len()];
    directions
        .par_chunks_mut(rows.dim())
        .zip(rows.values().par_chunks(rows.dim()))
        .zip(squares)
        .for_each(|((direction, row), &square)| {
            let inverse = if square > 0.0 {
                square.sqrt().recip()
            } else {
                0.0
            };
            for (to, value) in direction.iter_mut().zip(row) {
                *to = (value.to_f64() * inverse) as f32;
            }
        });
    directions
}
