//! Rows made ready to be compared: 8-bit codes, norms, duplicates, principal axes, and what reduces
//! inner products to distances. Uses [`base`](crate::base); begin with [`Vectors`].

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
    base::{
        ROW_NUMBERS,
        context::Context,
        error::{Error, Result},
        input::Input,
        magnitude,
        metric::Metric,
        sampling,
    },
    vectors::{
        duplicates::Distinct,
        grid::{Grid, converted},
        interval::{filter_interval, outwards, widened},
        norms::{NORMS, direction, inverse, norm_error, norms_of},
        row_source::RowSource,
    },
};

/// Distinct rows, at most, that the grid of the items' codes is made for.
const SAMPLED: usize = 1000;

/// The rows of one side of a join, prepared.
///
/// A row has an index in [`Vectors::rows`], which never changes, and an *internal id*, by which its
/// code is stored and by which comparisons and top-k lists name it. The two are the same until
/// duplicates are left out or rows are reordered, so that rows which are used together have codes
/// that lie together.
///
/// For inner products rows are augmented (see [`Products`](crate::join::inner_product::Products)):
/// those of the right side all have the same norm.
pub(crate) struct Vectors<'a, T> {
    pub(crate) rows: Rows<'a, T>,
    pub(crate) metric: Metric,
    /// 8-bit codes of the rows (of their directions, for the cosine), by internal id; `None` where
    /// the metric has no filter on codes.
    pub(crate) codes: Option<Quantised<'a>>,
    /// What is subtracted from rows before they are coded, if anything; both sides of a join have
    /// the same. For the cosine, values of single precision, as directions have.
    centre: Option<Vec<T>>,
    /// The norm of each row, for the cosine and the inner product; empty for other metrics.
    pub(crate) norms: Cow<'a, [f64]>,
    /// The row of each internal id, and the internal id of each row, where these are not the same.
    /// A duplicate that is left out has the internal id of one that has the same neighbours.
    order: Option<(Vec<u32>, Vec<u32>)>,
    /// A key a row, where rows of equal keys are not each other's neighbours.
    apart: Option<Cow<'a, [u32]>>,
    /// What the index knows of the rows, where they are of one.
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

    /// The items of a join, without the duplicates that `distinct` leaves out. Augmented rows, for
    /// inner products, are taken to have norm 1.
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

    /// Both sides of a join, the left one `None` where the items are joined with themselves.
    ///
    /// # Errors
    /// As [`Vectors::new`].
    pub(crate) fn of_input(
        input: Input<'a, T>,
        metric: Metric,
        distinct: Option<Distinct>,
        ctx: &Context,
    ) -> Result<(Option<Self>, Self)> {
        let (of_queries, of_items) = input.keys_apart();
        let right = Self::of_items(input.items, metric, distinct, ctx)?.kept_apart(of_items);
        let left = input.queries.map(|queries| {
            let left = right.prepare_other("queries", queries, ctx)?;
            Ok::<_, Error>(left.kept_apart(of_queries))
        });
        Ok((left.transpose()?, right))
    }

    fn distinct(
        rows: Rows<'a, T>,
        metric: Metric,
        Distinct { kept, positions }: Distinct,
        ctx: &Context,
    ) -> Result<Self> {
        let grid = match rows.are_integers() {
            // The same for all of them.
            true => Grid::of(rows.slice(0..rows.len().min(SAMPLED)), metric, ctx)?,
            // Of the rows that take part: a million equal ones would outweigh all others.
            false => {
                let step = kept.len().div_ceil(SAMPLED).max(1);
                let sample: Vec<u32> = kept.iter().copied().step_by(step).collect();
                let sample = rows.gather(&sample)?;
                Grid::of(Rows::new(&sample, rows.dim())?, metric, ctx)?
            }
        };
        let mut side = Self::without_codes("items", rows, metric, ctx)?;
        side.order = Some((kept, positions));
        side.quantise(Some((grid.centre.as_deref(), Some(grid.scale))), ctx)?;
        Ok(side)
    }

    /// Prepares rows to be joined with these: by the same metric, with codes about the same centre.
    ///
    /// # Errors
    /// As [`Vectors::new`].
    pub(crate) fn prepare_other<'b>(
        &self,
        name: &'static str,
        rows: Rows<'b, T>,
        ctx: &Context,
    ) -> Result<Vectors<'b, T>> {
        self.prepare_batch(name, rows, None, ctx)
    }

    /// The same with a scale, if there is one, that does not depend on the rows: batches of rows then have codes as if
    /// they had come at once.
    ///
    /// # Errors
    /// As [`Vectors::new`].
    pub(crate) fn prepare_batch<'b>(
        &self,
        name: &'static str,
        rows: Rows<'b, T>,
        scale: Option<CommonScale>,
        ctx: &Context,
    ) -> Result<Vectors<'b, T>> {
        Vectors::with_codes(name, rows, self.metric, Some((self.centre(), scale)), ctx)
    }

    /// With codes on a given grid, made for rows like these: batches of rows then have codes as if
    /// they had come at once.
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

    /// Makes the codes, on `grid`: a centre, which may be none, and a scale, or else that of the
    /// rows themselves. Without it, on a grid of the rows' own.
    fn quantise(
        &mut self,
        grid: Option<(Option<&[T]>, Option<CommonScale>)>,
        ctx: &Context,
    ) -> Result<()> {
        let (rows, isa) = (self.rows, ctx.isa());
        let shape = (self.len(), rows.dim());
        match self.metric {
            Metric::Euclidean | Metric::InnerProduct => {
                let Grid { centre, scale } = Grid::or_of(grid, rows, isa);
                let fill = |id: usize, values: &mut Vec<T>| {
                    rows.append_row(self.row(id as u32) as usize, values);
                };
                let codes = Quantised::of_each(shape, fill, centre.as_deref(), scale, isa)?;
                self.codes = Some(codes);
                self.centre = centre;
            }
            Metric::Manhattan => {}
            Metric::Cosine => {
                let centre = grid.map(|(centre, _)| centre.map(converted::<T, f32>));
                let grid = grid.zip(centre.as_ref());
                let grid = grid.map(|((_, scale), centre)| (centre.as_deref(), scale));
                let sample = self.sampled_directions();
                let Grid { centre, scale } =
                    Grid::or_of(grid, Rows::new(&sample, rows.dim())?, isa);
                // As the codes need them: all directions would take as much memory as the rows.
                let fill = |id: usize, values: &mut Vec<f32>| {
                    let row = self.row(id as u32) as usize;
                    values.extend(direction(&rows.row(row), self.norms[row]));
                };
                let mut codes = Quantised::of_each(shape, fill, centre.as_deref(), scale, isa)?;
                // A row without direction is at distance 1 from all rows, which its code does not
                // say: let its pairs pass every filter.
                let mut zeros =
                    (0..shape.0).filter(|&id| self.lacks_direction(self.row(id as u32) as usize));
                zeros.try_for_each(|id| codes.inflate_error(id, f32::INFINITY))?;
                self.codes = Some(codes);
                self.centre = centre.map(|centre| converted(&centre));
            }
        }
        Ok(())
    }

    /// The directions of some rows, row-major, for the grid of all.
    fn sampled_directions(&self) -> Vec<f32> {
        let step = self.len().div_ceil(SAMPLED).max(1);
        let mut directions = Vec::new();
        for id in (0..self.len() as u32).step_by(step) {
            let row = self.row(id) as usize;
            directions.extend(direction(&self.rows.row(row), self.norms[row]));
        }
        directions
    }

    /// What is subtracted from rows before they are coded, if anything.
    pub(crate) fn centre(&self) -> Option<&[T]> {
        self.centre.as_deref()
    }

    /// Without codes: for rows that are only projected on axes.
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
            // The rows that these were augmented from were checked before.
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
            apart: None,
            source: None,
        })
    }

    /// Rows of an index, which were prepared when it was built.
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
            apart: None,
            source: Some(Box::new(source)),
        }
    }

    /// With a key a row, if there are some: those of equal keys are not each other's neighbours.
    pub(crate) fn kept_apart(mut self, keys: Option<impl Into<Cow<'a, [u32]>>>) -> Self {
        self.apart = keys.map(Into::into);
        self
    }

    /// The keys by which rows are kept apart, by the index of the row.
    pub(crate) fn apart(&self) -> Option<&[u32]> {
        self.apart.as_deref()
    }

    /// The number of internal ids: of rows without the duplicates that are left out.
    pub(crate) fn len(&self) -> usize {
        self.rows_by_id().map_or(self.rows.len(), <[u32]>::len)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies of every `step`th row in order of internal ids, row-major.
    pub(crate) fn strided_sample(&self, step: usize) -> Result<Vec<T>> {
        let ids = (0..self.len() as u32).step_by(step);
        let rows: Vec<u32> = ids.map(|id| self.row(id)).collect();
        Ok(self.rows.gather(&rows)?)
    }

    /// At most `most` of the rows, by index.
    pub(crate) fn sample(&self, most: usize) -> Vec<u32> {
        let ids = sampling::sample(self.len(), most).into_iter();
        ids.map(|id| self.row(id)).collect()
    }

    /// What orders rows at the same distance: their index or, in an index, the user's id.
    pub(crate) fn rank(&self, id: u32) -> i64 {
        match &self.source {
            Some(source) => source.user_id(id),
            None => self.row(id).into(),
        }
    }

    /// Whether this row may be a neighbour. In an index, removed rows and surplus duplicates may
    /// not.
    pub(crate) fn takes_part(&self, id: u32) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| source.takes_part(id))
    }

    /// The internal ids of the rows that may be neighbours.
    pub(crate) fn internal_ids(&self) -> Result<Vec<u32>> {
        let all = 0..self.len() as u32;
        let ids = match self.source {
            None => memory::collect(all, ROW_NUMBERS),
            Some(_) => memory::collect(all.filter(|&id| self.takes_part(id)), ROW_NUMBERS),
        };
        Ok(ids?)
    }

    /// To be called before [`Vectors::rows`] are read at these indices: the file of an index may be
    /// damaged.
    pub(crate) fn check(&self, rows: impl Iterator<Item = u32>) -> Result<()> {
        match &self.source {
            Some(source) => {
                let mut rows = rows;
                rows.try_for_each(|row| source.check(row, self.rows.dim()))
            }
            None => Ok(()),
        }
    }

    /// Gives the rows new internal ids: `order` has the present ones in the order of the new. Codes
    /// are reordered, [`Vectors::rows`] stays as it is.
    pub(crate) fn reorder(&mut self, order: Vec<u32>) -> Result<()> {
        if let Some(codes) = &mut self.codes {
            codes.reorder(&order)?;
        }
        let mut ids = memory::zeroed(order.len(), ROW_NUMBERS)?;
        for (new, &id) in (0..).zip(&order) {
            ids[id as usize] = new;
        }
        self.order = Some(match self.order.take() {
            None => (order, ids),
            Some((mut rows, mut before)) => {
                before.iter_mut().for_each(|id| *id = ids[*id as usize]);
                rows = order.iter().map(|&id| rows[id as usize]).collect();
                (rows, before)
            }
        });
        Ok(())
    }

    /// The index in [`Vectors::rows`] of the row of this internal id.
    pub(crate) fn row(&self, id: u32) -> u32 {
        self.order
            .as_ref()
            .map_or(id, |(rows, _)| rows[id as usize])
    }

    /// The row of each internal id, where that is not the same.
    pub(crate) fn rows_by_id(&self) -> Option<&[u32]> {
        self.order.as_ref().map(|(rows, _)| rows.as_slice())
    }

    /// The internal id of each row, where that is not the same.
    pub(crate) fn ids_by_row(&self) -> Option<&[u32]> {
        self.order.as_ref().map(|(_, ids)| ids.as_slice())
    }

    /// The internal id of the row at this index of [`Vectors::rows`].
    pub(crate) fn internal_id(&self, row: u32) -> u32 {
        self.order
            .as_ref()
            .map_or(row, |(_, ids)| ids[row as usize])
    }

    /// Takes augmented rows to have this norm, which they all have but for rounding; their codes'
    /// errors grow by that much.
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

    /// What a row is multiplied by to make its direction, where the metric compares directions; 1
    /// elsewhere.
    pub(crate) fn direction_scale(&self, row: usize) -> f64 {
        match (self.metric, self.norms.get(row)) {
            (Metric::Cosine, Some(&norm)) => inverse(norm),
            _ => 1.0,
        }
    }

    /// About how far a row is from its code, taking the rounding errors of its values to be
    /// independent and uniform.
    pub(crate) fn code_error(&self, id: u32) -> f32 {
        let codes = self.codes.as_ref();
        let scale = codes.and_then(|codes| codes.scale(id as usize));
        scale.unwrap_or(0.0) * (self.rows.dim() as f32 / 12.0).sqrt()
    }

    /// Whether the metric compares directions and the row has none: it is zero, or too short to
    /// tell.
    pub(crate) fn lacks_direction(&self, row: usize) -> bool {
        self.metric == Metric::Cosine && self.direction_scale(row) == 0.0
    }

    /// Whether the rows are those of an index.
    pub(crate) fn is_kept(&self) -> bool {
        self.source.is_some()
    }

    /// Calls `found(i, j, distance)` for the i-th of `rows` and the j-th of `other_rows` (both
    /// internal ids), for all pairs whose distance may be within one of their bounds. For the
    /// Manhattan distance, which has no filter on codes.
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

    /// The distances of pairs of rows of this side and of `other`, by internal id, in double
    /// precision.
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

    fn norm(&self, id: u32) -> f64 {
        self.norms[self.row(id) as usize]
    }

    /// A distance of this row as a length, for plots and contrasts. Inner products may be negative;
    /// for them it is the Euclidean distance of the augmented rows.
    pub(crate) fn length(&self, other: &Self, id: u32, distance: f64) -> f64 {
        match self.metric {
            Metric::InnerProduct => {
                let of_other = other.norms.first().copied().unwrap_or(0.0);
                let squares = self.norm(id).powi(2) + of_other * of_other;
                (squares + 2.0 * distance).max(0.0).sqrt()
            }
            _ => distance,
        }
    }

    /// Bounds on the Euclidean distance that the codes of two rows stand for, given their distance
    /// by the metric; rows by internal id.
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

/// The left side of a join, `None` in a self-join, and the right side.
pub(crate) type Sides<'s, 'a, T> = (Option<&'s Vectors<'a, T>>, &'s Vectors<'a, T>);
