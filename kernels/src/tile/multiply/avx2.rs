//! AVX2: codes as 16-bit words, two products a lane.
//!
//! Not as bytes: `vpmaddubsw` takes one unsigned side and saturates, and the ways around it cost
//! as many instructions a product.

use std::arch::x86_64::*;

use crate::tile::{
    band::SIDE,
    block::{Block, Product},
};

/// Rows of left panel that are multiplied at once, with 16 of the right: 8 accumulators of 16.
const ROWS: usize = 4;
/// Lanes of each of the two vectors that 16 rows take.
const LANES: usize = SIDE / 2;

/// See [`Multiply`](crate::tile::block::Multiply).
///
/// # Safety
/// The machine must have AVX2, and the block's pointers be in bounds.
#[target_feature(enable = "avx2")]
pub(in crate::tile) unsafe fn multiply(block: &Block, product: &mut Product) -> bool {
    let Product {
        tiles,
        thresholds,
        masks,
    } = product;
    *masks = [0; _];
    let mut found = false;
    let tile = block.lines * SIDE;
    for half in 0..block.right_band.rows.div_ceil(SIDE) {
        // SAFETY: 16 of 32 numbers of 32 bits, aligned to 64 bytes.
        let columns: [_; 2] = unsafe {
            let columns = thresholds
                .starts
                .as_ptr()
                .add(half * SIDE)
                .cast::<__m256i>();
            [
                _mm256_load_si256(columns),
                _mm256_load_si256(columns.add(1)),
            ]
        };
        for first in (0..block.left_band.rows).step_by(ROWS) {
            let mut dots = [columns; ROWS];
            for line in 0..block.lines {
                let units = block.units.saturating_sub(line * SIDE).min(SIDE);
                // SAFETY: the caller vouches for two halves of `tile` lines on each side.
                unsafe {
                    let at = first / SIDE * tile + line * SIDE + first % SIDE;
                    let rows = block.left.add(at).cast::<i32>();
                    let columns = block.right.add(half * tile + line * SIDE);
                    for unit in 0..units {
                        let right = columns.add(unit).cast::<__m256i>();
                        let right = [_mm256_load_si256(right), _mm256_load_si256(right.add(1))];
                        for (row, dots) in dots.iter_mut().enumerate() {
                            let left = _mm256_set1_epi32(*rows.add(row * SIDE + unit));
                            for (dot, right) in dots.iter_mut().zip(right) {
                                *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(right, left));
                            }
                        }
                    }
                }
            }
            for (row, dots) in dots.iter().enumerate() {
                let row = first + row;
                let least = _mm256_set1_epi32(thresholds.least[row]);
                let [low, high] = dots.map(|dot| {
                    let below = _mm256_castsi256_ps(_mm256_cmpgt_epi32(least, dot));
                    !_mm256_movemask_ps(below) as u32 & 0xff
                });
                if low | high == 0 {
                    continue;
                }
                found = true;
                masks[row] |= (low | high << LANES) << (half * SIDE);
                let tile = &mut tiles[row / SIDE + 2 * half].0[row % SIDE];
                // SAFETY: a row of a tile is 64 bytes, aligned to as many.
                unsafe {
                    _mm256_store_si256(tile.as_mut_ptr().cast(), dots[0]);
                    _mm256_store_si256(tile.as_mut_ptr().add(LANES).cast(), dots[1]);
                }
            }
        }
    }
    found
}
