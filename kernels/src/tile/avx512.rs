//! AVX-512 without 8-bit dot products: codes as 16-bit words, two products a lane.

use std::arch::x86_64::*;

use super::{BLOCK, Block, Floats, SIDE, Side, Tile, Tiles};

/// Rows of left panel that are multiplied at once, with both groups: 16 accumulators.
const ROWS: usize = 8;

/// Defines `dots` for one way to add the products of a lane: `$add(sum, right, left)`, on sums
/// that start from `$start(sum of the left row's codes)`.
macro_rules! zmm_dots {
    ($features:literal, $start:expr, $add:expr) => {
        /// See [`Dots`](super::Dots).
        ///
        /// # Safety
        /// The machine must have the instruction set, and the block's pointers be in bounds.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn dots(block: &Block, left: &[Side; BLOCK], tiles: &mut Tiles) {
            for first in (0..block.rows).step_by(ROWS) {
                let sums = &left[first / SIDE].sum[first % SIDE..][..ROWS];
                let mut dots = [[_mm512_setzero_si512(); BLOCK]; ROWS];
                for (dots, &sum) in dots.iter_mut().zip(sums) {
                    *dots = [_mm512_set1_epi32($start(sum)); BLOCK];
                }
                // SAFETY: the caller vouches for 32 left rows and two groups of right rows; a unit
                // of a left row lies in its lines.
                unsafe {
                    let rows = block.left.add(first * block.lines).cast::<i32>();
                    for unit in 0..block.units {
                        let right = [
                            _mm512_load_si512(block.right.add(unit).cast()),
                            _mm512_load_si512(block.right.add(block.next + unit).cast()),
                        ];
                        for (row, dots) in dots.iter_mut().enumerate() {
                            let left = *rows.add(row * block.lines * SIDE + unit);
                            let left = _mm512_set1_epi32(left);
                            for (dot, right) in dots.iter_mut().zip(right) {
                                *dot = $add(*dot, right, left);
                            }
                        }
                    }
                }
                for (row, dots) in dots.iter().enumerate() {
                    for (group, &dots) in dots.iter().enumerate() {
                        let row = first + row;
                        let tile = &mut tiles[row / SIDE + BLOCK * group].0[row % SIDE];
                        // SAFETY: a row of a tile is 64 bytes, aligned to as many.
                        unsafe { _mm512_store_si512(tile.as_mut_ptr().cast(), dots) };
                    }
                }
            }
        }
    };
}
pub(super) use zmm_dots;

zmm_dots!("avx512f,avx512bw", |_| 0, |sum, right, left| {
    _mm512_add_epi32(sum, _mm512_madd_epi16(right, left))
});

/// See [`Compare`](super::Compare).
///
/// # Safety
/// The machine must have AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn near(tile: &Tile, left: &Side, right: &Side) -> [u16; SIDE] {
    // SAFETY: all arrays are of 16 lanes of 32 bits, in structures aligned to 64 bytes.
    let floats = |values: &[f32; SIDE]| unsafe { _mm512_load_ps(values.as_ptr()) };
    let zero = _mm512_setzero_ps();
    let right_scale = floats(&right.scale);
    let right_scale2 = _mm512_add_ps(right_scale, right_scale);
    let right_norm2 = floats(&right.norm2);
    // `max` gives its second operand for −∞ + ∞: a side that asks nothing counts for nothing.
    let wide = |reach, widest| _mm512_max_ps(_mm512_add_ps(reach, _mm512_set1_ps(widest)), zero);
    let right_reach = wide(floats(&right.reach), left.widest);
    let mut left_reach = Floats([0.0; SIDE]);
    // SAFETY: as above.
    unsafe {
        let reach = wide(floats(&left.reach), right.widest);
        _mm512_store_ps(left_reach.0.as_mut_ptr(), reach);
    }
    let mut masks = [0; SIDE];
    for (row, mask) in masks.iter_mut().enumerate() {
        // SAFETY: a row of a tile is 16 lanes of 32 bits, aligned.
        let dots = unsafe { _mm512_load_si512(tile.0[row].as_ptr().cast()) };
        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(dots), right_scale2);
        let left_scale = _mm512_set1_ps(left.scale[row]);
        let nearness = _mm512_fmsub_ps(product, left_scale, right_norm2);
        let reach = _mm512_max_ps(right_reach, _mm512_set1_ps(left_reach.0[row]));
        let nearness = _mm512_fmadd_ps(reach, reach, nearness);
        let left_norm2 = _mm512_set1_ps(left.norm2[row]);
        // Not below, rather than above or equal: what is not a number is kept.
        *mask = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(nearness, left_norm2);
    }
    masks
}
