//! AVX2: codes as 16-bit words, two products a lane.
//!
//! Not as bytes: `vpmaddubsw` takes one unsigned side and saturates, and the ways around it cost
//! as many instructions a product.

use std::arch::x86_64::*;

use super::{BLOCK, Block, Floats, SIDE, Side, Tile, Tiles};

/// Rows of left panel that are multiplied at once, with one group: 8 accumulators of 16.
const ROWS: usize = 4;
/// Vectors that 16 lanes take.
const VECTORS: usize = 2;
const LANES: usize = SIDE / VECTORS;

/// See [`Dots`](super::Dots).
///
/// # Safety
/// The machine must have AVX2, and the block's pointers be in bounds.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn dots(block: &Block, _: &[Side; BLOCK], tiles: &mut Tiles) {
    for group in 0..block.groups {
        for first in (0..block.rows).step_by(ROWS) {
            let mut dots = [[_mm256_setzero_si256(); VECTORS]; ROWS];
            // SAFETY: the caller vouches for 32 left rows and two groups of right rows; a unit of
            // a left row lies in its lines.
            unsafe {
                let rows = block.left.add(first * block.lines).cast::<i32>();
                for unit in 0..block.units {
                    let right = block.right.add(group * block.next + unit).cast::<__m256i>();
                    let right = [_mm256_load_si256(right), _mm256_load_si256(right.add(1))];
                    for (row, dots) in dots.iter_mut().enumerate() {
                        let left = *rows.add(row * block.lines * SIDE + unit);
                        let left = _mm256_set1_epi32(left);
                        for (dot, right) in dots.iter_mut().zip(right) {
                            *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(right, left));
                        }
                    }
                }
            }
            for (row, dots) in dots.iter().enumerate() {
                let row = first + row;
                let tile = &mut tiles[row / SIDE + BLOCK * group].0[row % SIDE];
                // SAFETY: a row of a tile is 64 bytes, aligned to as many.
                unsafe {
                    _mm256_store_si256(tile.as_mut_ptr().cast(), dots[0]);
                    _mm256_store_si256(tile.as_mut_ptr().add(LANES).cast(), dots[1]);
                }
            }
        }
    }
}

/// See [`Compare`](super::Compare).
///
/// # Safety
/// The machine must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn near(tile: &Tile, left: &Side, right: &Side) -> [u16; SIDE] {
    let zero = _mm256_setzero_ps();
    // `max` gives its second operand for −∞ + ∞: a side that asks nothing counts for nothing.
    let wide = |reach, widest| _mm256_max_ps(_mm256_add_ps(reach, _mm256_set1_ps(widest)), zero);
    let mut masks = [0; SIDE];
    let mut left_reach = Floats([0.0; SIDE]);
    for start in [0, LANES] {
        // SAFETY: both are 8 of 16 lanes, in a structure aligned to 64 bytes.
        unsafe {
            let reach = _mm256_load_ps(left.reach.as_ptr().add(start));
            let reach = wide(reach, right.widest);
            _mm256_store_ps(left_reach.0.as_mut_ptr().add(start), reach);
        }
    }
    for start in [0, LANES] {
        // SAFETY: 8 of 16 lanes, in a structure aligned to 64 bytes.
        let floats = |values: &[f32; SIDE]| unsafe { _mm256_load_ps(values.as_ptr().add(start)) };
        let right_scale = floats(&right.scale);
        let right_scale2 = _mm256_add_ps(right_scale, right_scale);
        let right_norm2 = floats(&right.norm2);
        let right_reach = wide(floats(&right.reach), left.widest);
        for (row, mask) in masks.iter_mut().enumerate() {
            // SAFETY: 8 of a tile row's 16 lanes, aligned.
            let dots = unsafe { _mm256_load_si256(tile.0[row].as_ptr().add(start).cast()) };
            let product = _mm256_mul_ps(_mm256_cvtepi32_ps(dots), right_scale2);
            let left_scale = _mm256_set1_ps(left.scale[row]);
            let nearness = _mm256_fmsub_ps(product, left_scale, right_norm2);
            let reach = _mm256_max_ps(right_reach, _mm256_set1_ps(left_reach.0[row]));
            let nearness = _mm256_fmadd_ps(reach, reach, nearness);
            let left_norm2 = _mm256_set1_ps(left.norm2[row]);
            // Not below, rather than above or equal: what is not a number is kept.
            let near = _mm256_cmp_ps::<_CMP_NLT_UQ>(nearness, left_norm2);
            *mask |= (_mm256_movemask_ps(near) as u16) << start;
        }
    }
    masks
}
