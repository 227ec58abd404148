//! NEON with products of 8-bit matrices: those of two rows with two others at once.
//!
//! In `asm!`, for `core::arch` has no stable intrinsic for `smmla`.

use std::arch::{aarch64::*, asm};

use super::neon::{LANES, VECTORS, finish};
use crate::tile::{
    band::SIDE,
    block::{Block, Product},
};

/// Rows of left panel that are multiplied at once, two by two.
const ROWS: usize = 4;
/// Pairs of the 16 right rows of half a band.
const PAIRS: usize = SIDE / 2;

/// `sum` and the dot products of two rows of eight bytes, one after the other, with two others:
/// first with first, first with second, second with first, second with second.
///
/// # Safety
/// The machine must have the extension for products of matrices.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn add_dots(mut sum: int32x4_t, left: int32x4_t, right: int32x4_t) -> int32x4_t {
    // SAFETY: arithmetic on registers; the caller vouches for the instruction.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {left:v}.16b, {right:v}.16b",
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
/// The machine must have the extension for products of matrices, and the block's pointers be in
/// bounds.
#[target_feature(enable = "neon,i8mm")]
pub(in crate::tile) unsafe fn multiply(block: &Block, product: &mut Product) -> bool {
    product.masks = [0; _];
    let tile = block.lines * SIDE;
    for half in 0..block.right_band.rows.div_ceil(SIDE) {
        let starts: [_; PAIRS] = std::array::from_fn(|pair| {
            let at = half * SIDE + 2 * pair;
            // SAFETY: 2 of 32 numbers.
            let starts = unsafe { vld1_s32(product.thresholds.starts[at..at + 2].as_ptr()) };
            vcombine_s32(starts, starts)
        });
        for first in (0..block.left_band.rows).step_by(ROWS) {
            let mut dots = [starts; ROWS / 2];
            for line in 0..block.lines {
                // SAFETY: the caller vouches for two halves of `tile` lines on each side, with zeros in
                // place of units that are only padding.
                unsafe {
                    let at = first / SIDE * tile + line * SIDE + first % SIDE;
                    let rows = block.left.add(at).cast::<i32>();
                    let right = block.right.add(half * tile + line * SIDE).cast::<i32>();
                    let units = (block.units - line * SIDE).min(SIDE);
                    for unit in (0..units).step_by(2) {
                        let right = right.add(unit * SIDE);
                        let right: [_; PAIRS] =
                            std::array::from_fn(|pair| vld1q_s32(right.add(pair * LANES)));
                        for (pair, dots) in dots.iter_mut().enumerate() {
                            let rows = rows.add(2 * pair * SIDE + unit);
                            let left = vcombine_s32(vld1_s32(rows), vld1_s32(rows.add(SIDE)));
                            for (dot, right) in dots.iter_mut().zip(right) {
                                *dot = add_dots(*dot, left, right);
                            }
                        }
                    }
                }
            }
            for (pair, dots) in dots.into_iter().enumerate() {
                let row = first + 2 * pair;
                let of_row = |part: fn(int32x4_t) -> int32x2_t| -> [int32x4_t; VECTORS] {
                    std::array::from_fn(|at| {
                        vcombine_s32(part(dots[2 * at]), part(dots[2 * at + 1]))
                    })
                };
                finish(product, row, half, of_row(|dots| vget_low_s32(dots)));
                finish(product, row + 1, half, of_row(|dots| vget_high_s32(dots)));
            }
        }
    }
    product.masks != [0; _]
}
