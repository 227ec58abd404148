//! AVX-512 without 8-bit dot products: codes as 16-bit words, two products a lane.

use std::arch::x86_64::*;

use crate::tile::{
    band::{BLOCK, SIDE},
    block::{Block, Product, Tile, UNROLLED},
    thresholds::DotThresholds,
};

/// Rows of left panel that are multiplied at once, with 32 of the right: 16 accumulators.
const ROWS: usize = 8;

/// Defines `multiply` for one way to add the products of a lane: `$add(sum, right, left)`.
macro_rules! zmm_multiply {
    ($features:literal, $add:expr) => {
        /// See [`Multiply`](crate::tile::block::Multiply).
        ///
        /// # Safety
        /// The machine must have the instruction set, and the block's pointers be in bounds.
        #[target_feature(enable = $features)]
        pub(in crate::tile) unsafe fn multiply(block: &Block, product: &mut Product) -> bool {
            let Product {
                tiles,
                thresholds,
                masks,
            } = product;
            // SAFETY: 32 numbers of 32 bits, aligned to 128 bytes.
            let columns: [_; 2] = unsafe {
                let columns = thresholds.starts.as_ptr().cast::<__m512i>();
                [
                    _mm512_load_si512(columns),
                    _mm512_load_si512(columns.add(1)),
                ]
            };
            *masks = [0; _];
            let mut found = false;
            for first in (0..block.left_band.rows).step_by(ROWS) {
                // Less what they are to reach, sums that do so are not negative: one look at the
                // largest of all tells whether there is any.
                let mut dots = [columns; ROWS];
                for (dots, &start) in dots.iter_mut().zip(&thresholds.row_starts[first..][..ROWS]) {
                    *dots = dots.map(|dot| _mm512_add_epi32(dot, _mm512_set1_epi32(start)));
                }
                let half = block.lines * SIDE;
                // SAFETY: the caller vouches for two halves of `half` lines on each side, of which
                // `units` units are looked at: those of the right lie side by side, those of a left
                // row in every 16th line.
                unsafe {
                    let at = first / SIDE * half + first % SIDE;
                    let mut rows = block.left.add(at).cast::<i32>();
                    for start in (0..block.units).step_by(UNROLLED) {
                        for unit in start..start + UNROLLED {
                            let right = [
                                _mm512_load_si512(block.right.add(unit).cast()),
                                _mm512_load_si512(block.right.add(half + unit).cast()),
                            ];
                            for (row, dots) in dots.iter_mut().enumerate() {
                                let left = rows.add(row * SIDE + unit - start);
                                let left = _mm512_set1_epi32(*left);
                                for (dot, right) in dots.iter_mut().zip(right) {
                                    *dot = $add(*dot, right, left);
                                }
                            }
                        }
                        let last = start % SIDE == SIDE - UNROLLED;
                        let next = if last { (SIDE - 1) * SIDE } else { 0 };
                        rows = rows.wrapping_add(next + UNROLLED);
                    }
                }
                let largest = dots.map(|[low, high]| _mm512_max_epi32(low, high));
                let largest = largest.into_iter().reduce(|a, b| _mm512_max_epi32(a, b));
                let largest = largest.unwrap_or(_mm512_setzero_si512());
                if _mm512_cmpge_epi32_mask(largest, _mm512_setzero_si512()) != 0 {
                    found = true;
                    // A copy, or else sums would be stored whether they are kept or not.
                    let kept = dots;
                    keep(&kept, first, thresholds, tiles, masks);
                }
            }
            found
        }

        /// Sets the tiles and masks of some rows, whose sums are less by what they are to reach.
        #[cold]
        #[inline(never)]
        #[target_feature(enable = $features)]
        fn keep(
            dots: &[[__m512i; 2]; ROWS],
            first: usize,
            thresholds: &DotThresholds,
            tiles: &mut [Tile; 4],
            masks: &mut [u32; BLOCK],
        ) {
            for (row, dots) in (first..).zip(dots) {
                let least = _mm512_set1_epi32(thresholds.least[row]);
                for (half, &dots) in dots.iter().enumerate() {
                    let near = _mm512_cmpge_epi32_mask(dots, _mm512_setzero_si512());
                    masks[row] |= u32::from(near) << (half * SIDE);
                    let dots = _mm512_add_epi32(dots, least);
                    let tile = &mut tiles[row / SIDE + 2 * half].0[row % SIDE];
                    // SAFETY: a row of a tile is 64 bytes, aligned to as many.
                    unsafe { _mm512_store_si512(tile.as_mut_ptr().cast(), dots) };
                }
            }
        }
    };
}
pub(super) use zmm_multiply;

zmm_multiply!("avx512f,avx512bw", |sum, right, left| {
    _mm512_add_epi32(sum, _mm512_madd_epi16(right, left))
});
