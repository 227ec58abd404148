//! NEON without dot products: products of bytes widened to 16 bits, then added in pairs.

use std::arch::aarch64::*;

use super::{BLOCK, Block, SIDE, Side, Tile, Tiles};

/// Vectors that 16 lanes take.
const VECTORS: usize = 4;
const LANES: usize = SIDE / VECTORS;

/// See [`Dots`](super::Dots).
///
/// # Safety
/// The machine must have NEON, and the block's pointers be in bounds.
#[target_feature(enable = "neon")]
pub(super) unsafe fn dots(block: &Block, _: &[Side; BLOCK], tiles: &mut Tiles) {
    for group in 0..block.groups {
        for row in 0..block.rows {
            let tile = &mut tiles[row / SIDE + BLOCK * group].0[row % SIDE];
            // Each product takes two lanes until the end.
            let mut sums = [[vdupq_n_s32(0); 2]; VECTORS];
            // SAFETY: the caller vouches for the row and the group; a unit of a left row lies in
            // its lines, and a row of a tile is four vectors.
            unsafe {
                let left = block.left.add(row * block.lines).cast::<i32>();
                let right = block.right.add(group * block.next).cast::<i8>();
                for unit in 0..block.units {
                    let left = vreinterpretq_s8_s32(vdupq_n_s32(*left.add(unit)));
                    for (vector, sums) in sums.iter_mut().enumerate() {
                        let right = vld1q_s8(right.add((unit * VECTORS + vector) * 16));
                        let low = vmull_s8(vget_low_s8(left), vget_low_s8(right));
                        let high = vmull_high_s8(left, right);
                        *sums = [vpadalq_s16(sums[0], low), vpadalq_s16(sums[1], high)];
                    }
                }
                for (vector, [low, high]) in sums.into_iter().enumerate() {
                    let sum = vpaddq_s32(low, high);
                    vst1q_s32(tile.as_mut_ptr().add(vector * LANES), sum);
                }
            }
        }
    }
}

/// See [`Compare`](super::Compare).
///
/// # Safety
/// The machine must have NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn near(tile: &Tile, left: &Side, right: &Side) -> [u16; SIDE] {
    const BITS: [u32; LANES] = [1, 2, 4, 8];
    // SAFETY: an array of four lanes.
    let bits = unsafe { vld1q_u32(BITS.as_ptr()) };
    let zero = vdupq_n_f32(0.0);
    // `maxnm` prefers numbers, so that −∞ + ∞, of a side that asks nothing, counts for nothing.
    let wide = |reach, widest| vmaxnmq_f32(vaddq_f32(reach, vdupq_n_f32(widest)), zero);
    let mut masks = [0; SIDE];
    for start in (0..SIDE).step_by(LANES) {
        // SAFETY: 4 of 16 lanes.
        let floats = |values: &[f32; SIDE]| unsafe { vld1q_f32(values.as_ptr().add(start)) };
        let right_scale = floats(&right.scale);
        let right_scale2 = vaddq_f32(right_scale, right_scale);
        let right_norm2 = floats(&right.norm2);
        let right_reach = wide(floats(&right.reach), left.widest);
        for (row, mask) in masks.iter_mut().enumerate() {
            // SAFETY: 4 of a tile row's 16 lanes.
            let dots = unsafe { vld1q_s32(tile.0[row].as_ptr().add(start)) };
            let product = vmulq_f32(vcvtq_f32_s32(dots), right_scale2);
            let left_scale = vdupq_n_f32(left.scale[row]);
            let nearness = vfmaq_f32(vnegq_f32(right_norm2), product, left_scale);
            let left_reach = wide(vdupq_n_f32(left.reach[row]), right.widest);
            let reach = vmaxnmq_f32(right_reach, left_reach);
            let nearness = vfmaq_f32(nearness, reach, reach);
            // Not below, rather than above or equal: what is not a number is kept.
            let far = vcltq_f32(nearness, vdupq_n_f32(left.norm2[row]));
            *mask |= (vaddvq_u32(vbicq_u32(bits, far)) as u16) << start;
        }
    }
    masks
}
