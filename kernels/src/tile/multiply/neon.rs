//! NEON without dot products: products of bytes widened to 16 bits, then added in pairs.

use std::arch::aarch64::*;

use crate::tile::{
    band::SIDE,
    block::{Block, Product},
    thresholds::DotThresholds,
};

/// Vectors that 16 lanes take.
pub(super) const VECTORS: usize = 4;
pub(super) const LANES: usize = SIDE / VECTORS;

/// See [`Multiply`](crate::tile::block::Multiply).
///
/// # Safety
/// The machine must have NEON, and the block's pointers be in bounds.
#[target_feature(enable = "neon")]
pub(in crate::tile) unsafe fn multiply(block: &Block, product: &mut Product) -> bool {
    product.masks = [0; _];
    let tile = block.lines * SIDE;
    for half in 0..block.right_band.rows.div_ceil(SIDE) {
        let starts = starts(&product.thresholds, half);
        for row in 0..block.left_band.rows {
            // Each product takes two lanes until the end.
            let mut sums = [[vdupq_n_s32(0); 2]; VECTORS];
            for line in 0..block.lines {
                // SAFETY: the caller vouches for two halves of `tile` lines on each side.
                unsafe {
                    let at = row / SIDE * tile + line * SIDE + row % SIDE;
                    let left = block.left.add(at).cast::<i32>();
                    let right = block.right.add(half * tile + line * SIDE).cast::<i8>();
                    for unit in 0..(block.units - line * SIDE).min(SIDE) {
                        let left = vreinterpretq_s8_s32(vdupq_n_s32(*left.add(unit)));
                        for (vector, sums) in sums.iter_mut().enumerate() {
                            let right = vld1q_s8(right.add((unit * VECTORS + vector) * 16));
                            let low = vmull_s8(vget_low_s8(left), vget_low_s8(right));
                            let high = vmull_high_s8(left, right);
                            *sums = [vpadalq_s16(sums[0], low), vpadalq_s16(sums[1], high)];
                        }
                    }
                }
            }
            let sum = |vector: usize| {
                let [low, high] = sums[vector];
                vaddq_s32(starts[vector], vpaddq_s32(low, high))
            };
            finish(product, row, half, std::array::from_fn(sum));
        }
    }
    product.masks != [0; _]
}

/// What the sums of 16 columns start from.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn starts(thresholds: &DotThresholds, half: usize) -> [int32x4_t; VECTORS] {
    std::array::from_fn(|vector| {
        let at = half * SIDE + vector * LANES;
        // SAFETY: 4 of 32 numbers.
        unsafe { vld1q_s32(thresholds.starts[at..at + LANES].as_ptr()) }
    })
}

/// Compares the sums of a row with the threshold of that row, and keeps them if some reach it.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn finish(product: &mut Product, row: usize, half: usize, sums: [int32x4_t; VECTORS]) {
    const BITS: [u32; LANES] = [1, 2, 4, 8];
    // SAFETY: an array of four lanes.
    let bits = unsafe { vld1q_u32(BITS.as_ptr()) };
    let least = vdupq_n_s32(product.thresholds.least[row]);
    let tile = &mut product.tiles[row / SIDE + 2 * half].0[row % SIDE];
    for (vector, sums) in sums.into_iter().enumerate() {
        let near = vaddvq_u32(vandq_u32(bits, vcgeq_s32(sums, least)));
        product.masks[row] |= near << (half * SIDE + vector * LANES);
        let lanes = &mut tile[vector * LANES..][..LANES];
        // SAFETY: four numbers.
        unsafe { vst1q_s32(lanes.as_mut_ptr(), sums) };
    }
}
