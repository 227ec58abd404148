//! NEON with dot products: four products of bytes a lane.
//!
//! In `asm!`, for `core::arch` has no stable intrinsic for `sdot`.

use std::arch::{aarch64::*, asm};

use super::neon::{LANES, VECTORS, finish, starts};
use crate::tile::{
    band::SIDE,
    block::{Block, Product},
};

/// Rows of left panel that are multiplied at once, with one group: 16 accumulators of 32.
const ROWS: usize = 4;

/// `sum` and, a lane, the dot product of four bytes.
///
/// # Safety
/// The machine must have the dot-product extension.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn add_dot(mut sum: int32x4_t, left: int32x4_t, right: int32x4_t) -> int32x4_t {
    // SAFETY: arithmetic on registers; the caller vouches for the instruction.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {left:v}.16b, {right:v}.16b",
            sum = inout(vreg) sum,
            left = in(vreg) left,
            right = in(vreg) right,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// See [`Multiply`](crate::tile::block::Multiply).
///
/// # Safety
/// The machine must have the dot-product extension, and the block's pointers be in bounds.
#[target_feature(enable = "neon,dotprod")]
pub(in crate::tile) unsafe fn multiply(block: &Block, product: &mut Product) -> bool {
    product.masks = [0; _];
    let tile = block.lines * SIDE;
    for half in 0..block.right_band.rows.div_ceil(SIDE) {
        let starts = starts(&product.thresholds, half);
        for first in (0..block.left_band.rows).step_by(ROWS) {
            let mut dots = [starts; ROWS];
            for line in 0..block.lines {
                // SAFETY: the caller vouches for two halves of `tile` lines on each side.
                unsafe {
                    let at = first / SIDE * tile + line * SIDE + first % SIDE;
                    let rows = block.left.add(at).cast::<i32>();
                    let right = block.right.add(half * tile + line * SIDE).cast::<i32>();
                    for unit in 0..(block.units - line * SIDE).min(SIDE) {
                        let right = right.add(unit * SIDE);
                        let right: [_; VECTORS] =
                            std::array::from_fn(|vector| vld1q_s32(right.add(vector * LANES)));
                        for (row, dots) in dots.iter_mut().enumerate() {
                            let left = vdupq_n_s32(*rows.add(row * SIDE + unit));
                            for (dot, right) in dots.iter_mut().zip(right) {
                                *dot = add_dot(*dot, left, right);
                            }
                        }
                    }
                }
            }
            for (row, dots) in dots.into_iter().enumerate() {
                finish(product, first + row, half, dots);
            }
        }
    }
    product.masks != [0; _]
}
