//! Portable Rust, the reference for all others.

use crate::bits::{
    block::{GROUPS, Scan},
    right::{LANES, Line},
};

pub(in crate::bits) fn scan(block: &Scan<'_>, mut found: impl FnMut(usize, u64, &[Line; GROUPS])) {
    let groups = block.populations.len();
    for (position, (&row, limit)) in block.chosen.iter().zip(block.limits).enumerate() {
        let row = block.row(row);
        let mut counts = [Line([0; LANES]); GROUPS];
        let mut mask = 0;
        for (group, counts) in counts.iter_mut().enumerate().take(groups) {
            let lines = &block.lines[group * block.width..][..block.width];
            for (word, line) in row.iter().zip(lines) {
                for (count, other) in counts.0.iter_mut().zip(line.0) {
                    *count += (word ^ other).count_ones();
                }
            }
            let sets = block.populations[group].0;
            for (lane, (&count, set)) in counts.0.iter().zip(sets).enumerate() {
                let near = count as f32 <= limit.most + limit.slope * set;
                mask |= u64::from(near) << (group * LANES + lane);
            }
        }
        mask &= block.filled;
        if mask != 0 {
            found(position, mask, &counts);
        }
    }
}
