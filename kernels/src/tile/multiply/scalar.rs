//! The reference: portable and plain.

use crate::tile::{
    band::SIDE,
    block::{Block, Product},
};

/// See [`Multiply`](crate::tile::block::Multiply).
///
/// # Safety
/// The block's pointers must be in bounds.
pub(in crate::tile) unsafe fn multiply(block: &Block, product: &mut Product) -> bool {
    let Product {
        tiles,
        thresholds,
        masks,
    } = product;
    *masks = [0; _];
    for (row, mask) in masks[..block.left_band.rows].iter_mut().enumerate() {
        for half in 0..2 {
            let starts = &thresholds.starts[half * SIDE..][..SIDE];
            let sums = &mut tiles[row / SIDE + 2 * half].0[row % SIDE];
            sums.copy_from_slice(starts);
            for unit in 0..block.units {
                let (line, unit) = (unit / SIDE, unit % SIDE);
                // SAFETY: the caller vouches for the pointers, to two halves of as many lines of 16
                // rows.
                let (left, right) = unsafe {
                    let lines = block.lines * SIDE;
                    let left = block
                        .left
                        .add(row / SIDE * lines + line * SIDE + row % SIDE);
                    let right = block.right.add(half * lines + line * SIDE + unit);
                    ((*left).0[unit], (*right).0)
                };
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum += unit_dot(left, right);
                }
            }
            for (column, &sum) in sums.iter().enumerate() {
                *mask |= u32::from(sum >= thresholds.least[row]) << (half * SIDE + column);
            }
        }
    }
    *masks != [0; _]
}

fn unit_dot(left: u32, right: u32) -> i32 {
    left.to_ne_bytes()
        .into_iter()
        .zip(right.to_ne_bytes())
        .map(|(left, right)| i32::from(left as i8) * i32::from(right as i8))
        .sum()
}
