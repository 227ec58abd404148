//! AVX-512 without 8-bit dot products: codes as 16-bit words, two products a lane.

use std::arch::x86_64::*;

use super::{Block, Product, SIDE};

/// Rows of left panel that are multiplied at once, with 32 of the right: 16 accumulators.
const ROWS: usize = 8;

/// Defines `multiply` for one way to add the products of a lane: `$add(sum, right, left)`, on sums
/// that start from `$start(sum of the left row's codes)`.
macro_rules! zmm_multiply {
    ($features:literal, $start:expr, $add:expr) => {
        /// See [`Multiply`](super::Multiply).
        ///
        /// # Safety
        /// The machine must have the instruction set, and the block's pointers be in bounds.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn multiply(block: &Block, product: &mut Product) -> bool {
            let Product {
                tiles,
                floors,
                masks,
            } = product;
            // SAFETY: 32 numbers of 32 bits, aligned to 128 bytes.
            let columns: [_; 2] = unsafe {
                let columns = floors.columns.as_ptr().cast::<__m512i>();
                [
                    _mm512_load_si512(columns),
                    _mm512_load_si512(columns.add(1)),
                ]
            };
            *masks = [0; _];
            let mut found = false;
            for first in (0..block.left_band.rows).step_by(ROWS) {
                // Less their floors, the sums that reach them are not negative: one look at the
                // largest of all tells whether there is any.
                let floors = &floors.rows[first..][..ROWS];
                let mut dots = [columns; ROWS];
                let sums = &block.left_band.sums[first..];
                for ((dots, &sum), &floor) in dots.iter_mut().zip(sums).zip(floors) {
                    let start: i32 = $start(sum);
                    let start = _mm512_set1_epi32(start.wrapping_sub(floor));
                    *dots = dots.map(|dot| _mm512_add_epi32(dot, start));
                }
                let half = block.lines * SIDE;
                for line in 0..block.lines {
                    let units = block.units.saturating_sub(line * SIDE).min(SIDE);
                    // SAFETY: the caller vouches for two halves of `half` lines on each side.
                    unsafe {
                        let at = first / SIDE * half + line * SIDE + first % SIDE;
                        let rows = block.left.add(at).cast::<i32>();
                        let columns = block.right.add(line * SIDE);
                        for unit in 0..units {
                            let right = [
                                _mm512_load_si512(columns.add(unit).cast()),
                                _mm512_load_si512(columns.add(half + unit).cast()),
                            ];
                            for (row, dots) in dots.iter_mut().enumerate() {
                                let left = _mm512_set1_epi32(*rows.add(row * SIDE + unit));
                                for (dot, right) in dots.iter_mut().zip(right) {
                                    *dot = $add(*dot, right, left);
                                }
                            }
                        }
                    }
                }
                let largest = dots.map(|[low, high]| _mm512_max_epi32(low, high));
                let largest = largest.into_iter().reduce(|a, b| _mm512_max_epi32(a, b));
                let largest = largest.unwrap_or(_mm512_setzero_si512());
                if _mm512_cmpge_epi32_mask(largest, _mm512_setzero_si512()) == 0 {
                    continue;
                }
                found = true;
                for (row, (dots, &floor)) in dots.iter().zip(floors).enumerate() {
                    let floor = _mm512_set1_epi32(floor);
                    for (half, &dots) in dots.iter().enumerate() {
                        let (row, dots) = (first + row, _mm512_add_epi32(dots, floor));
                        let near = _mm512_cmpge_epi32_mask(dots, floor);
                        masks[row] |= u32::from(near) << (half * SIDE);
                        let tile = &mut tiles[row / SIDE + 2 * half].0[row % SIDE];
                        // SAFETY: a row of a tile is 64 bytes, aligned to as many.
                        unsafe { _mm512_store_si512(tile.as_mut_ptr().cast(), dots) };
                    }
                }
            }
            found
        }
    };
}
pub(super) use zmm_multiply;

zmm_multiply!("avx512f,avx512bw", |_: i32| 0, |sum, right, left| {
    _mm512_add_epi32(sum, _mm512_madd_epi16(right, left))
});
