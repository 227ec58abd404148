//! Distance bounds: between what two numbers the distance of a pair lies, by the product of its codes.
//!
//! By the triangle inequality: with x ≈ s·q and ‖x − s·q‖ ≤ e (see [`Quantised`](crate::Quantised)),
//! the distance is within e + e′ of ‖s·q − s′·q′‖.

use super::{
    band::Band,
    rounding::{MORE, at_most_infinite, larger, not_negative},
};

/// The distances of a left row to the rows of a band, between bounds.
pub(super) struct DistanceBounds<'a> {
    square: f32,
    residual: f32,
    /// What a square of right codes, and twice a product of codes, stand for.
    of_right: f32,
    of_products: f32,
    right: &'a Band,
    rounding: f32,
}

/// Relative room for the roundings of these bounds themselves.
const ROUNDING: f32 = 1.0 / (1 << 20) as f32;

impl<'a> DistanceBounds<'a> {
    /// `rounding` is the relative error of the distances that are meant.
    #[inline(always)]
    pub(super) fn new((left, row): (&Band, usize), right: &'a Band, rounding: f64) -> Self {
        let (s, t) = (left.scale.value, right.scale.value);
        Self {
            square: left.scale.square(left.squares[row]),
            residual: left.residuals[row],
            of_right: (t * t) as f32,
            of_products: (2.0 * s * t) as f32,
            right,
            rounding: with_rounding(rounding),
        }
    }

    /// The squared distance to a right row as the codes have it, given their product.
    #[inline(always)]
    pub(super) fn distance2(&self, column: usize, dot: i32) -> f32 {
        self.squares(column) - self.of_products * dot as f32
    }

    #[inline(always)]
    fn squares(&self, column: usize) -> f32 {
        self.square + self.of_right * self.right.squares[column] as f32
    }

    /// The bounds on the distance to a right row, computed in single precision or better, given
    /// [`DistanceBounds::distance2`].
    #[inline(always)]
    pub(super) fn interval(&self, column: usize, distance2: f32) -> (f32, f32) {
        let residuals = self.residual + self.right.residuals[column];
        interval(self.squares(column), distance2, residuals, self.rounding)
    }
}

/// The bounds on the distance of a pair whose codes have this sum of squares, this squared distance and
/// these residuals, and whose distances have this relative error.
#[inline(always)]
pub(super) fn interval(squares: f32, distance2: f32, residuals: f32, rounding: f32) -> (f32, f32) {
    let error = squares * ROUNDING;
    let nearest = larger(distance2 - error, 0.0).sqrt() - residuals;
    let furthest = not_negative(distance2 + error).sqrt() + residuals;
    let upper = furthest * (1.0 + rounding);
    (
        larger(nearest * (1.0 - rounding), 0.0),
        at_most_infinite(upper),
    )
}

/// The relative error of a distance over `dim` values, with room for that of bounds on it.
pub(super) fn with_rounding(of_distances: f64) -> f32 {
    of_distances as f32 + ROUNDING
}

/// [`DistanceBounds`] for all right rows of a scale at once: by the largest of their squares and
/// residuals.
pub(super) struct Widest {
    square: f32,
    residual: f32,
    rounding: f32,
}

impl Widest {
    /// `rounding` is as in [`DistanceBounds::new`].
    pub(super) fn of(right: &[Band], rounding: f64) -> Self {
        let squares = right
            .iter()
            .map(|band| band.scale.square(band.largest_square));
        let residuals = right.iter().map(|band| band.widest_residual);
        Self {
            square: squares.fold(0.0, f32::max),
            residual: residuals.fold(0.0, f32::max),
            rounding: with_rounding(rounding),
        }
    }

    /// At most how far from a left row others are computed to be whose squared distance is up to
    /// `square`, as codes have it.
    #[inline(always)]
    pub(super) fn furthest(&self, left: (&Band, usize), square: f32) -> f32 {
        let error = self.squares(left) * (2.0 * ROUNDING);
        let furthest = not_negative(square + error).sqrt() + self.residuals(left);
        furthest * (1.0 + self.rounding) * MORE
    }

    /// Squared distances of a left row above this, as codes have them, are of rows that are beyond
    /// `bound`.
    #[inline(always)]
    pub(super) fn limit(&self, left: (&Band, usize), bound: f32) -> f32 {
        let bound = bound / (1.0 - self.rounding);
        let reach = (bound + self.residuals(left)) * MORE;
        larger(reach, 0.0) * reach * MORE + self.squares(left) * (2.0 * ROUNDING)
    }

    #[inline(always)]
    fn squares(&self, (left, row): (&Band, usize)) -> f32 {
        left.scale.square(left.squares[row]) + self.square
    }

    #[inline(always)]
    fn residuals(&self, (left, row): (&Band, usize)) -> f32 {
        left.residuals[row] + self.residual
    }
}
