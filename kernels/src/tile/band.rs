//! 32 rows of one scale: what is known of them besides their codes, and how far their pairs may be.

use crate::codes::quantised::Quantised;

/// Rows of a tile's side, and units of a line.
pub(super) const SIDE: usize = 16;
/// Rows of a block's side: two tiles.
pub(super) const BLOCK: usize = 2 * SIDE;

/// The index of rows that only fill a block up.
const PADDING: u32 = u32::MAX;

/// One cache line of codes, as 16 units of 4 bytes: as many codes of 8 bits, or 2 of 16 bits.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line(pub(super) [u32; SIDE]);

/// What a code of 1 stands for, and what else is needed of that.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) value: f64,
    pub(super) inverse: f64,
    /// 1/√(√2·s), so that the product of those of two scales is 1/√(2ss′).
    pub(super) root: f64,
}

impl Scale {
    /// What so large a square of codes stands for.
    #[inline(always)]
    pub(super) fn square(self, of_codes: i32) -> f32 {
        square(self.value, of_codes)
    }
}

/// What so large a square of codes stands for, where a code of 1 stands for `scale`.
#[inline(always)]
pub(super) fn square(scale: f64, of_codes: i32) -> f32 {
    (scale * scale) as f32 * of_codes as f32
}

/// What is known of 32 rows besides their codes.
#[repr(C, align(64))]
#[derive(Clone)]
pub(super) struct Band {
    /// Σ q².
    pub(super) squares: [i32; BLOCK],
    /// How much too large sums of products with each row are, for what codes of right rows are packed
    /// plus.
    pub(super) excess: [i32; BLOCK],
    pub(super) residuals: [f32; BLOCK],
    /// The rows' positions in what was gathered.
    indices: [u32; BLOCK],
    /// The scale of all of them.
    pub(super) scale: Scale,
    pub(super) largest_square: i32,
    pub(super) widest_residual: f32,
    /// How many are not padding.
    pub(super) rows: usize,
}

/// The largest distance of the pairs that are wanted of each row of a band, with room for the rounding
/// of computed ones; −∞ where none is wanted.
#[repr(C, align(64))]
#[derive(Clone)]
pub(super) struct Bounds {
    pub(super) each: [f32; BLOCK],
    /// The largest of them.
    pub(super) furthest: f32,
}

impl Bounds {
    /// For no pair.
    pub(super) const NONE: Self = Self {
        each: [f32::NEG_INFINITY; BLOCK],
        furthest: f32::NEG_INFINITY,
    };

    /// For all pairs.
    pub(super) const ALL: Self = Self {
        each: [f32::INFINITY; BLOCK],
        furthest: f32::INFINITY,
    };

    /// Those of a band's rows, by their positions in what was gathered.
    #[inline(always)]
    pub(super) fn set(&mut self, band: &Band, widen: f32, bound: impl Fn(u32) -> f32) {
        self.furthest = f32::NEG_INFINITY;
        for (to, &index) in self.each.iter_mut().zip(band.indices()) {
            let bound = bound(index);
            *to = if bound < 0.0 {
                f32::NEG_INFINITY
            } else if bound.is_nan() {
                f32::INFINITY
            } else {
                bound * widen
            };
            self.furthest = self.furthest.max(*to);
        }
        self.each[band.rows..].fill(f32::NEG_INFINITY);
    }
}

impl Band {
    /// A band of no rows yet.
    pub(super) fn new(scale: f32) -> Self {
        let value = f64::from(scale);
        let scale = Scale {
            value,
            inverse: value.recip(),
            root: (std::f64::consts::SQRT_2 * value).sqrt().recip(),
        };
        Self {
            // No product with padding is large enough.
            squares: [i32::MAX; BLOCK],
            excess: [0; BLOCK],
            residuals: [0.0; BLOCK],
            indices: [PADDING; BLOCK],
            scale,
            largest_square: 0,
            widest_residual: 0.0,
            rows: 0,
        }
    }

    /// The positions in what was gathered of all rows that are not padding.
    pub(super) fn indices(&self) -> &[u32] {
        &self.indices[..self.rows]
    }

    /// The position of a row in what was gathered, if it is not padding.
    pub(super) fn index(&self, row: usize) -> Option<u32> {
        (row < self.rows).then(|| self.indices[row])
    }

    /// Adds row `row` of `from`, which is at position `index` in what was gathered; codes of right rows
    /// are packed plus `shift`.
    pub(super) fn push(&mut self, from: &Quantised, row: usize, index: u32, shift: i32) {
        let known = from.row(row);
        let at = self.rows;
        self.squares[at] = known.square;
        self.excess[at] = known.sum.wrapping_mul(shift);
        self.residuals[at] = known.residual;
        self.indices[at] = index;
        self.largest_square = self.largest_square.max(known.square);
        self.widest_residual = self.widest_residual.max(known.residual);
        self.rows += 1;
    }
}
