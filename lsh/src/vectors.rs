//! Rows made ready to be compared: 8-bit codes, norms, duplicates, principal axes, and what reduces
//! inner products to distances. Uses [`base`](crate::base).

pub(crate) mod augment;
pub(crate) mod duplicates;
pub(crate) mod grid;
pub(crate) mod interval;
pub(crate) mod norms;
pub(crate) mod principal_axes;
pub(crate) mod row_source;

use std::borrow::Cow;

use lshjoin_kernels::{
    BoundedRows, CommonScale, Isa, Measure, Quantised, Rows, Scalar, check_finite,
    cosine_distances, distances_of, euclidean_distances, exact_dot_products, memory, pairs_within,
};

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, magnitude, metric::Metric, sampling},
    vectors::{
        duplicates::Distinct,
        grid::{Grid, converted, quantised},
        interval::{filter_interval, outwards, widened},
        norms::{NORMS, directions, inverse, norm_error, norms_of},
        row_source::RowSource,
    },
};

/// Rows of a sample that codes are made for.
const SAMPLED: usize = 1000;

/// The rows of one side; for the cosine and the inner product their norms too.
///
/// Of inner products, rows are augmented (see [`Products`](crate::join::inner_product::Products)):
/// those of the right side all have the same norm.
pub(crate) struct Vectors<'a, T> {
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
    /// place of each row. Of a row that is a duplicate and takes no part, that of its duplicate
    /// which does.
    order: Option<(Vec<u32>, Vec<u32>)>,
    /// Where the rows are some of an index.
    source: Option<Box<dyn RowSource + 'a>>,
}

impl<'a, T: Scalar> Vectors<'a, T> {
    /// # Errors
    /// When a row holds NaN or infinity; `name` tells the user which side it is on.
    pub(crate) fn new(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        ctx: &Context,
    ) -> Result<Self> {
        Self::with_codes(name, rows, metric, None, ctx)
    }

    /// The items of a join, without those that take no part for the sake of others that they are
    /// duplicates of; of inner products, augmented to norm 1.
    ///
    /// # Errors
    /// As [`Vectors::new`].
    pub(crate) fn of_items(
        rows: Rows<'a, T>,
        metric: Metric,
        distinct: Option<Distinct>,
        ctx: &Context,
    ) -> Result<Self> {
        let mut side = match distinct {
            None => Self::new("items", rows, metric, ctx)?,
            Some(distinct) => Self::distinct(rows, metric, distinct, ctx)?,
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
        ctx: &Context,
    ) -> Result<Self> {
        // A million equal rows tell nothing of the others.
        let step = kept.len().div_ceil(SAMPLED).max(1);
        let sample: Vec<u32> = kept.iter().copied().step_by(step).collect();
        let sample = rows.gather(&sample)?;
        let grid = Grid::of(Rows::new(&sample, rows.dim())?, metric, ctx)?;
        let mut side = Self::with_grid("items", rows, metric, &grid, ctx)?;
        if let Some(codes) = &side.codes {
            side.codes = Some(codes.reordered(&kept)?);
        }
        side.order = Some((kept, places));
        Ok(side)
    }

    /// Rows to join with those of this side.
    ///
    /// # Errors
    /// As [`Vectors::new`].
    pub(crate) fn prepare_other<'b>(
        &self,
        name: &'static str,
        rows: Rows<'b, T>,
        ctx: &Context,
    ) -> Result<Vectors<'b, T>> {
        Vectors::with_codes(name, rows, self.metric, Some((self.centre(), None)), ctx)
    }

    /// With codes of the grid that was made for rows like these.
    ///
    /// # Errors
    /// As [`Vectors::new`].
    pub(crate) fn with_grid(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        grid: &Grid<T>,
        ctx: &Context,
    ) -> Result<Self> {
        let grid = (grid.centre.as_deref(), Some(grid.scale));
        Self::with_codes(name, rows, metric, Some(grid), ctx)
    }

    fn with_codes(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        grid: Option<(Option<&[T]>, Option<CommonScale>)>,
        ctx: &Context,
    ) -> Result<Self> {
        let mut side = Self::without_codes(name, rows, metric, ctx)?;
        side.quantise(grid, ctx)?;
        Ok(side)
    }

    /// Codes about a centre of its own, or a given one, which may be none, and of a scale of its
    /// own or a given one.
    fn quantise(
        &mut self,
        grid: Option<(Option<&[T]>, Option<CommonScale>)>,
        ctx: &Context,
    ) -> Result<()> {
        let (rows, isa) = (self.rows, ctx.isa());
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
    /// As [`Vectors::new`].
    pub(crate) fn without_codes(
        name: &'static str,
        rows: Rows<'a, T>,
        metric: Metric,
        ctx: &Context,
    ) -> Result<Self> {
        match metric {
            // Augmented rows, of what was checked before.
            Metric::InnerProduct => {
                check_finite(rows, ctx.isa()).map_err(|error| (name, error))?;
            }
            _ => magnitude::check(name, rows, metric, ctx)?,
        }
        ctx.check()?;
        let norms = match metric {
            Metric::Cosine | Metric::InnerProduct => norms_of(rows, ctx)?,
            _ => Vec::new(),
        };
        Ok(Self {
            rows,
            metric,
            codes: None,
            centre: None,
            norms: norms.into(),
            order: None,
            source: None,
        })
    }

    /// Of rows that were made ready before.
    pub(crate) fn of_index(
        rows: Rows<'a, T>,
        metric: Metric,
        (codes, centre): (Option<Quantised<'a>>, Option<&'a [T]>),
        norms: &'a [f64],
        source: impl RowSource + 'a,
    ) -> Self {
        Self {
            rows,
            metric,
            codes,
            centre: centre.map(<[T]>::to_vec),
            norms: norms.into(),
            order: None,
            source: Some(Box::new(source)),
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
        let numbers = sampling::sample(self.len(), most).into_iter();
        numbers.map(|number| self.row(number)).collect()
    }

    /// What orders rows at the same distance: their index, or the user's id in an index.
    pub(crate) fn rank(&self, number: u32) -> i64 {
        match &self.source {
            Some(source) => source.id(number),
            None => self.row(number).into(),
        }
    }

    /// Whether the row of this number may be a neighbour: of an index, not all need be.
    pub(crate) fn takes_part(&self, number: u32) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| source.takes_part(number))
    }

    /// The numbers of the rows that may be neighbours.
    pub(crate) fn internal_ids(&self) -> Result<Vec<u32>> {
        let all = 0..self.len() as u32;
        let numbers = match self.source {
            None => memory::collect(all, ROW_NUMBERS),
            Some(_) => memory::collect(all.filter(|&number| self.takes_part(number)), ROW_NUMBERS),
        };
        Ok(numbers?)
    }

    /// Asked before [`Vectors::rows`] are read at these indices: those of an index may be damaged.
    pub(crate) fn check(&self, rows: impl Iterator<Item = u32>) -> Result<()> {
        match &self.source {
            Some(source) => {
                let mut rows = rows;
                rows.try_for_each(|row| source.check(row, self.rows.dim()))
            }
            None => Ok(()),
        }
    }

    /// Numbers the rows by the place of their numbers in `order` from here on, for all but
    /// [`Vectors::rows`]: rows that are used together then lie together in memory.
    pub(crate) fn reorder(&mut self, order: Vec<u32>) -> Result<()> {
        if let Some(codes) = &self.codes {
            self.codes = Some(codes.reordered(&order)?);
        }
        let mut places = memory::zeroed(order.len(), ROW_NUMBERS)?;
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

    /// The index in [`Vectors::rows`] of the row of this number.
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
    pub(crate) fn positions(&self) -> Option<&[u32]> {
        self.order.as_ref().map(|(_, places)| places.as_slice())
    }

    /// The number of the row at this index of [`Vectors::rows`].
    pub(crate) fn internal_id(&self, row: u32) -> u32 {
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
        self.source.is_some()
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

    /// A distance of this row as one to draw and to compare: of inner products, that of augmented
    /// rows.
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

/// The left side of a join, if it is not the right one, and the right one.
pub(crate) type Sides<'s, 'a, T> = (Option<&'s Vectors<'a, T>>, &'s Vectors<'a, T>);
