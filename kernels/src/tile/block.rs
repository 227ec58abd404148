//! A block: two bands of 32 rows each, and the products of all their pairs.

use super::{
    band::{BLOCK, Band, Line, SIDE},
    thresholds::DotThresholds,
};

/// Units that kernels may take together: those of a row come as a multiple of it.
pub(super) const UNROLLED: usize = 4;

/// The dot products of 16 left rows (one a row) with 16 right rows, each plus what its column
/// starts from.
#[repr(C, align(64))]
#[derive(Clone)]
pub(super) struct Tile(pub(super) [[i32; SIDE]; SIDE]);

/// Two bands, and pointers to all lines of both.
pub(super) struct Block<'a> {
    pub(super) left_band: &'a Band,
    pub(super) right_band: &'a Band,
    pub(super) left: *const Line,
    pub(super) right: *const Line,
    /// Lines of a row.
    pub(super) lines: usize,
    /// Units of a row that are not padding, and such padding as makes them a multiple of [`UNROLLED`].
    pub(super) units: usize,
}

/// The products of a block, and which of them reach their thresholds.
#[repr(C, align(128))]
pub(super) struct Product {
    /// Tile (i, j), of left rows 16·i and right rows 16·j on, is at i + 2·j. Undefined where all
    /// masks of a row are 0.
    pub(super) tiles: [Tile; 4],
    pub(super) thresholds: DotThresholds,
    /// Bit c of mask r is set if the pair (left row r, right row c) may be near; those of padding
    /// may be anything.
    pub(super) masks: [u32; BLOCK],
}

/// Sets a block's tiles and masks, by the thresholds that are set, and says whether any mask is not 0.
///
/// Unsafe to call on a machine without the instruction set, or with pointers out of bounds.
pub(super) type Multiply = unsafe fn(&Block, &mut Product) -> bool;

impl Product {
    pub(super) const fn new() -> Self {
        Self {
            tiles: [const { Tile([[0; SIDE]; SIDE]) }; 4],
            thresholds: DotThresholds::new(),
            masks: [0; BLOCK],
        }
    }

    /// The dot product of the codes of a pair. Its tile must be defined.
    #[inline(always)]
    pub(super) fn dot(&self, row: usize, column: usize) -> i32 {
        let tile = &self.tiles[row / SIDE + 2 * (column / SIDE)];
        tile.0[row % SIDE][column % SIDE].wrapping_sub(self.thresholds.starts[column])
    }
}
