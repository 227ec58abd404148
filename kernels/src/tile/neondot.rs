//! NEON with dot products: four products of bytes a lane.
//!
//! In `asm!`, for `core::arch` has no stable intrinsic for `sdot`.

use std::arch::{aarch64::*, asm};

use super::{BLOCK, Block, SIDE, Side, Tiles};

/// Rows of left panel that are multiplied at once, with one group: 16 accumulators of 32.
const ROWS: usize = 4;
/// Vectors that 16 lanes take.
const VECTORS: usize = 4;
const LANES: usize = SIDE / VECTORS;

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

/// See [`Dots`](super::Dots).
///
/// # Safety
/// The machine must have the dot-product extension, and the block's pointers be in bounds.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn dots(block: &Block, _: &[Side; BLOCK], tiles: &mut Tiles) {
    for group in 0..block.groups {
        for first in (0..block.rows).step_by(ROWS) {
            let mut dots = [[vdupq_n_s32(0); VECTORS]; ROWS];
            // SAFETY: the caller vouches for 32 left rows and two groups of right rows; a unit of
            // a left row lies in its lines; a row of a tile is four vectors.
            unsafe {
                let rows = block.left.add(first * block.lines).cast::<i32>();
                let right = block.right.add(group * block.next).cast::<i32>();
                for unit in 0..block.units {
                    let right = right.add(unit * SIDE);
                    let right: [_; VECTORS] =
                        std::array::from_fn(|vector| vld1q_s32(right.add(vector * LANES)));
                    for (row, dots) in dots.iter_mut().enumerate() {
                        let left = vdupq_n_s32(*rows.add(row * block.lines * SIDE + unit));
                        for (dot, right) in dots.iter_mut().zip(right) {
                            *dot = add_dot(*dot, left, right);
                        }
                    }
                }
                for (row, dots) in dots.into_iter().enumerate() {
                    let row = first + row;
                    let tile = &mut tiles[row / SIDE + BLOCK * group].0[row % SIDE];
                    for (vector, dot) in dots.into_iter().enumerate() {
                        vst1q_s32(tile.as_mut_ptr().add(vector * LANES), dot);
                    }
                }
            }
        }
    }
}
