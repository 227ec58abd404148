//! The reference: portable and plain.

use super::{BLOCK, Block, SIDE, Side, Tile, Tiles};

/// See [`Dots`](super::Dots).
///
/// # Safety
/// The block's pointers must be in bounds.
pub(super) unsafe fn dots(block: &Block, _: &[Side; BLOCK], tiles: &mut Tiles) {
    for group in 0..block.groups {
        for row in 0..block.rows {
            let mut sums = [0_i32; SIDE];
            for unit in 0..block.units {
                // SAFETY: the caller vouches for the pointers.
                let (left, right) = unsafe {
                    let left = &*block.left.add(row * block.lines + unit / SIDE);
                    let right = &*block.right.add(group * block.next + unit);
                    (left.0[unit % SIDE], right.0)
                };
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum += unit_dot(left, right);
                }
            }
            tiles[row / SIDE + BLOCK * group].0[row % SIDE] = sums;
        }
    }
}

fn unit_dot(left: u32, right: u32) -> i32 {
    left.to_ne_bytes()
        .into_iter()
        .zip(right.to_ne_bytes())
        .map(|(left, right)| i32::from(left as i8) * i32::from(right as i8))
        .sum()
}

/// See [`Compare`](super::Compare).
///
/// # Safety
/// None is needed; the signature is that of all instruction sets.
pub(super) unsafe fn near(tile: &Tile, left: &Side, right: &Side) -> [u16; SIDE] {
    let mut masks = [0; SIDE];
    for (row, mask) in masks.iter_mut().enumerate() {
        for column in 0..SIDE {
            let near = left
                .near(row, right, column, tile.0[row][column], 0.0)
                .is_some();
            *mask |= u16::from(near) << column;
        }
    }
    masks
}
