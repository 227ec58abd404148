//! AVX2: codes as 16-bit words, two products a lane.
//!
//! Not as bytes: `vpmaddubsw` takes one unsigned side and saturates, and the ways around it cost
//! as many instructions a product.

use std::arch::x86_64::*;

use crate::tile::{
    band::{BLOCK, SIDE},
    block::{Block, Product, Tile, UNROLLED},
    thresholds::DotThresholds,
};

/// Rows of left panel that are multiplied at once, with 16 of the right: 8 accumulators of 16.
const ROWS: usize = 4;

/// Defines `multiply` for one way to add the products of a lane: `$add(sum, right, left)`.
macro_rules! ymm_multiply {
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
            *masks = [0; _];
            let mut found = false;
            let half = block.lines * SIDE;
            for right_half in 0..block.right_band.rows.div_ceil(SIDE) {
                // SAFETY: 16 of 32 numbers of 32 bits, aligned to 64 bytes.
                let columns: [_; 2] = unsafe {
                    let columns = thresholds.starts.as_ptr().add(right_half * SIDE);
                    let columns = columns.cast::<__m256i>();
                    [
                        _mm256_load_si256(columns),
                        _mm256_load_si256(columns.add(1)),
                    ]
                };
                for first in (0..block.left_band.rows).step_by(ROWS) {
                    // Less what they are to reach, sums that do so are not negative: one look at
                    // the largest of all tells whether there is any.
                    let mut dots = [columns; ROWS];
                    for (dots, &start) in
                        dots.iter_mut().zip(&thresholds.row_starts[first..][..ROWS])
                    {
                        *dots = dots.map(|dot| _mm256_add_epi32(dot, _mm256_set1_epi32(start)));
                    }
                    // SAFETY: the caller vouches for two halves of `half` lines on each side, of which
                    // `units` units are looked at: those of the right lie side by side, those of a
                    // left row in every 16th line.
                    unsafe {
                        let at = first / SIDE * half + first % SIDE;
                        let mut rows = block.left.add(at).cast::<i32>();
                        let right = block.right.add(right_half * half);
                        for start in (0..block.units).step_by(UNROLLED) {
                            for unit in start..start + UNROLLED {
                                let right = right.add(unit).cast::<__m256i>();
                                let right =
                                    [_mm256_load_si256(right), _mm256_load_si256(right.add(1))];
                                for (row, dots) in dots.iter_mut().enumerate() {
                                    let left = rows.add(row * SIDE + unit - start);
                                    let left = _mm256_set1_epi32(*left);
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
                    let largest = dots.map(|[low, high]| _mm256_max_epi32(low, high));
                    let largest = largest.into_iter().reduce(|a, b| _mm256_max_epi32(a, b));
                    let largest = largest.unwrap_or(_mm256_setzero_si256());
                    if reached(largest) != 0 {
                        found = true;
                        // A copy, or else sums would be stored whether they are kept or not.
                        let kept = dots;
                        keep(&kept, (first, right_half), thresholds, tiles, masks);
                    }
                }
            }
            found
        }

        /// A bit for each sum that is not negative.
        #[inline]
        #[target_feature(enable = $features)]
        fn reached(sums: __m256i) -> u32 {
            !_mm256_movemask_ps(_mm256_castsi256_ps(sums)) as u32 & 0xff
        }

        /// Sets the tiles and masks of some rows, whose sums are less by what they are to reach.
        #[cold]
        #[inline(never)]
        #[target_feature(enable = $features)]
        fn keep(
            dots: &[[__m256i; 2]; ROWS],
            (first, half): (usize, usize),
            thresholds: &DotThresholds,
            tiles: &mut [Tile; 4],
            masks: &mut [u32; BLOCK],
        ) {
            for (row, dots) in (first..).zip(dots) {
                let near = reached(dots[0]) | reached(dots[1]) << (SIDE / 2);
                masks[row] |= near << (half * SIDE);
                let least = _mm256_set1_epi32(thresholds.least[row]);
                let [low, high] = dots.map(|dots| _mm256_add_epi32(dots, least));
                let tile = tiles[row / SIDE + 2 * half].0[row % SIDE].as_mut_ptr();
                // SAFETY: a row of a tile is 64 bytes, aligned to as many.
                unsafe {
                    _mm256_store_si256(tile.cast(), low);
                    _mm256_store_si256(tile.cast::<__m256i>().add(1), high);
                }
            }
        }
    };
}
pub(super) use ymm_multiply;

ymm_multiply!("avx2", |sum, right, left| {
    _mm256_add_epi32(sum, _mm256_madd_epi16(right, left))
});
