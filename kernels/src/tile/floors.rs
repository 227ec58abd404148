//! How large the dot product of a pair's codes has to be for the pair to be near.
//!
//! With x ≈ s·q and ‖x − s·q‖ ≤ e (see [`Quantised`](crate::Quantised)), a pair can only be at
//! distance τ or nearer if ‖s·q − s′·q′‖ ≤ ρ = τ + e + e′, which is
//!
//! q·q′ ≥ r/2·‖q‖² + 1/(2r)·‖q′‖² − ρ²/(2ss′), with r = s/s′:
//!
//! a number of the left row and a number of the right row, where all left rows have one s and all
//! right rows one s′, and one τ and e are taken for the left rows together. So the products start
//! from what the right row takes, and are compared, as integers, with what the left row asks.

use super::panel::{BLOCK, Band, Bounds};

/// The terms of a block's floors, as integers that never ask too much.
#[repr(C, align(128))]
#[derive(Clone)]
pub(super) struct Floors {
    /// What the dot products with each right row start from: minus its term.
    pub(super) columns: [i32; BLOCK],
    /// What they must reach then, for each left row.
    pub(super) rows: [i32; BLOCK],
}

/// Dot products of codes stay within ± this, and so do the floors' terms of squares.
pub(crate) const LARGEST_DOT: i32 = 1 << 29;
/// Starting from this every dot product reaches every left term.
const ALL: i32 = 1 << 30;

/// Relative room for roundings in single precision, and absolute room for those to integers.
const LESS: f32 = 1.0 - 1.0 / (1 << 20) as f32;
const MORE: f32 = 1.0 + 1.0 / (1 << 18) as f32;
const UNITS: i32 = 2;

impl Floors {
    pub(super) const fn new() -> Self {
        Self {
            columns: [0; BLOCK],
            // None passes.
            rows: [i32::MAX; BLOCK],
        }
    }

    /// For the rows of two bands. To be inlined where an instruction set is enabled.
    #[inline(always)]
    pub(super) fn set(
        &mut self,
        (left, of_left): (&Band, &Bounds),
        (right, of_right): (&Band, &Bounds),
    ) {
        let furthest = of_left.furthest;
        let bounds = &of_right.each;
        let (s, t) = (left.scale, right.scale);
        let of_left = 0.5 * s.value * t.inverse;
        let of_right = 0.5 * t.value * s.inverse;
        let limit = f64::from(LARGEST_DOT);
        // Of rows of zeros too the factor itself has to fit: 0 times what overflows is no number.
        if of_left * f64::from(left.largest_square.max(1)) > limit
            || of_right * f64::from(right.largest_square.max(1)) > limit
        {
            // Scales too far apart for these integers: each pair is looked at by itself.
            self.rows = [0; BLOCK];
            self.columns = [ALL; BLOCK];
            return;
        }
        let of_left = of_left as f32 * LESS;
        for (floor, &square) in self.rows.iter_mut().zip(&left.squares) {
            *floor = integer(square as f32 * of_left).min(LARGEST_DOT) - UNITS;
        }
        let of_right = of_right as f32 * LESS;
        let unit = (s.root * t.root) as f32;
        for (column, start) in self.columns.iter_mut().enumerate() {
            let bound = larger(bounds[column], furthest);
            let reach = bound + (right.residuals[column] + left.widest_residual);
            // −∞ + ∞, of rows that ask nothing, is nothing.
            let reach = larger(reach, 0.0) * unit;
            let start_from = reach * reach * MORE - right.squares[column] as f32 * of_right;
            *start = integer(start_from) + UNITS;
        }
    }
}

/// The second number if the first is not one.
#[inline(always)]
pub(super) fn larger(first: f32, second: f32) -> f32 {
    if first > second { first } else { second }
}

/// 0 if the number is below it. What is not a number stays so: where single precision overflows, it says
/// nothing.
#[inline(always)]
fn not_negative(number: f32) -> f32 {
    if number < 0.0 { 0.0 } else { number }
}

/// Rounds towards zero, from −[`LARGEST_DOT`] to [`ALL`]: so that not even products of padding, less
/// their floors, overflow.
#[inline(always)]
fn integer(value: f32) -> i32 {
    let (least, most) = (-LARGEST_DOT as f32, ALL as f32);
    let value = if value < most { value } else { most };
    let value = larger(value, least);
    // SAFETY: between two 32-bit integers.
    unsafe { value.to_int_unchecked() }
}

/// What the distances of a left row to right rows are reckoned from.
pub(super) struct Reckoning<'a> {
    square: f32,
    residual: f32,
    /// What squares, and twice the products, of codes stand for.
    of_right: f32,
    of_products: f32,
    right: &'a Band,
    rounding: f32,
}

/// Relative room for the roundings of a reckoning.
const ROUNDING: f32 = 1.0 / (1 << 20) as f32;

impl<'a> Reckoning<'a> {
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
            rounding: rounding as f32 + ROUNDING,
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

    /// Between what the distance to a right row lies, computed in single precision or better, given
    /// [`Reckoning::distance2`].
    #[inline(always)]
    pub(super) fn interval(&self, column: usize, distance2: f32) -> (f32, f32) {
        let error = self.squares(column) * ROUNDING;
        let residuals = self.residual + self.right.residuals[column];
        let nearest = larger(distance2 - error, 0.0).sqrt() - residuals;
        let furthest = not_negative(distance2 + error).sqrt() + residuals;
        let at_most = furthest * (1.0 + self.rounding);
        (
            larger(nearest * (1.0 - self.rounding), 0.0),
            // Not a number, where single precision overflows.
            if at_most < f32::INFINITY {
                at_most
            } else {
                f32::INFINITY
            },
        )
    }
}

/// The largest of right rows' squares and residuals.
pub(super) struct Widest {
    square: f32,
    residual: f32,
    rounding: f32,
}

impl Widest {
    /// `rounding` is as in [`Reckoning::new`].
    pub(super) fn of(right: &[Band], rounding: f64) -> Self {
        let squares = right
            .iter()
            .map(|band| band.scale.square(band.largest_square));
        let residuals = right.iter().map(|band| band.widest_residual);
        Self {
            square: squares.fold(0.0, f32::max),
            residual: residuals.fold(0.0, f32::max),
            rounding: rounding as f32 + ROUNDING,
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
