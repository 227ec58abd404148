//! Dot thresholds: how large the dot product of a pair's codes has to be for the pair to be near.
//!
//! With x ≈ s·q and ‖x − s·q‖ ≤ e (see [`Quantised`](crate::Quantised)), a pair can only be at
//! distance τ or nearer if ‖s·q − s′·q′‖ ≤ ρ = τ + e + e′, which is
//!
//! q·q′ ≥ r/2·‖q‖² + 1/(2r)·‖q′‖² − ρ²/(2ss′), with r = s/s′:
//!
//! a term of the left row and a term of the right row, where all left rows have one s and all right
//! rows one s′, and one τ and e are taken for the left rows together. So the sums of products start
//! from minus the right row's term, and are compared, as integers, with the left row's.

use super::{
    band::{BLOCK, Band, Bounds},
    rounding::{LESS, MORE, larger},
};
use crate::codes::limits::LARGEST_DOT;

/// The terms of a block's thresholds, rounded to integers so that no near pair is lost.
#[repr(C, align(128))]
#[derive(Clone)]
pub(super) struct DotThresholds {
    /// What the dot products with each right row start from: minus its term.
    pub(super) starts: [i32; BLOCK],
    /// What they must reach then, for each left row; within ± [`LARGEST_DOT`], as the products are.
    pub(super) least: [i32; BLOCK],
    /// What they start from besides, for each left row, where they are to be compared with zero.
    pub(super) row_starts: [i32; BLOCK],
    /// The left band, and the scale of right ones, that those of rows are set for.
    set_for: Option<(usize, f64)>,
}

/// Starting from this, every dot product reaches every left term.
const ALL: i32 = 1 << 30;

/// Absolute room for the rounding of both terms to integers.
const UNITS: i32 = 2;

impl DotThresholds {
    pub(super) const fn new() -> Self {
        Self {
            starts: [0; BLOCK],
            // None passes.
            least: [i32::MAX; BLOCK],
            row_starts: [i32::MIN; BLOCK],
            set_for: None,
        }
    }

    /// For the rows of two bands, the left one the `at`-th of its panel: its terms stay for the next
    /// right band of the same scale. To be inlined where an instruction set is enabled.
    #[inline(always)]
    pub(super) fn set(
        &mut self,
        (at, left, of_left): (usize, &Band, &Bounds),
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
            // Scales too far apart for these integers: all pairs pass.
            self.starts = [ALL; BLOCK];
            self.set_rows(left, [0; BLOCK]);
            self.set_for = None;
            return;
        }
        if self.set_for != Some((at, t.value)) {
            let of_left = of_left as f32 * LESS;
            let least = |square| integer(square as f32 * of_left).min(LARGEST_DOT) - UNITS;
            self.set_rows(left, left.squares.map(least));
            self.set_for = Some((at, t.value));
        }
        let of_right = of_right as f32 * LESS;
        let unit = (s.root * t.root) as f32;
        for (column, start) in self.starts.iter_mut().enumerate() {
            let bound = larger(bounds[column], furthest);
            let reach = bound + (right.residuals[column] + left.widest_residual);
            // −∞ + ∞, of rows of which no pair is wanted, is not a number.
            let reach = larger(reach, 0.0) * unit;
            let start_from = reach * reach * MORE - right.squares[column] as f32 * of_right;
            *start = integer(start_from) + UNITS;
        }
    }

    #[inline(always)]
    fn set_rows(&mut self, left: &Band, least: [i32; BLOCK]) {
        self.least = least;
        for (row, start) in self.row_starts.iter_mut().enumerate() {
            *start = least[row].wrapping_add(left.excess[row]).wrapping_neg();
        }
    }
}

/// Rounds towards zero, from −[`LARGEST_DOT`] to [`ALL`]: so that not even products of padding, less
/// their thresholds, overflow.
#[inline(always)]
fn integer(value: f32) -> i32 {
    let (least, most) = (-LARGEST_DOT as f32, ALL as f32);
    let value = if value < most { value } else { most };
    let value = larger(value, least);
    // SAFETY: between two 32-bit integers.
    unsafe { value.to_int_unchecked() }
}
