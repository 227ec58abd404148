//! NEON: the set bits of bytes, added up as bytes.

use std::arch::aarch64::*;

use crate::bits::{
    block::{GROUPS, Scan},
    right::{LANES, Line},
};

/// Words whose set bits a byte can hold: up to 8 of each.
const WORDS: usize = 31;

/// Registers that a line takes.
const PARTS: usize = 4;

/// See `scan` in `near`, for so many groups.
///
/// # Safety
/// The machine must have NEON. The chosen rows must be there, as well as the lines and the populations
/// of `N` groups.
#[target_feature(enable = "neon")]
pub(in crate::bits) unsafe fn scan<const N: usize, const RISING: bool, F>(
    block: &Scan<'_>,
    mut found: F,
) where
    F: FnMut(usize, u64, &[Line; GROUPS]),
{
    const BITS: [u32; 4] = [1, 2, 4, 8];
    // SAFETY: an array of four lanes.
    let bits = unsafe { vld1q_u32(BITS.as_ptr()) };
    for (position, (&row, limit)) in block.chosen.iter().zip(block.limits).enumerate() {
        let row = block.row(row);
        let mut lines = [Line([0; LANES]); GROUPS];
        let mut mask = 0;
        for (group, line) in lines.iter_mut().enumerate().take(N) {
            // SAFETY: the caller vouches for as many lines of each group as a row has words.
            let counts = unsafe { count(row, block.lines.as_ptr().add(group * block.width)) };
            for (part, counts) in counts.into_iter().enumerate() {
                let lanes = part * LANES / PARTS..(part + 1) * LANES / PARTS;
                let mut most = vdupq_n_f32(limit.most);
                if RISING {
                    let set = &block.populations[group].0[lanes.clone()];
                    // SAFETY: four numbers.
                    most = vfmaq_n_f32(most, unsafe { vld1q_f32(set.as_ptr()) }, limit.slope);
                }
                let near = vandq_u32(bits, vcleq_f32(vcvtq_f32_u32(counts), most));
                mask |= u64::from(vaddvq_u32(near)) << (group * LANES + lanes.start);
                // SAFETY: four numbers.
                unsafe { vst1q_u32(line.0[lanes].as_mut_ptr(), counts) };
            }
        }
        mask &= block.filled;
        if mask != 0 {
            found(position, mask, &lines);
        }
    }
}

/// In how many bits a row differs from each of a group.
///
/// # Safety
/// The machine must have NEON, and there must be as many lines as words.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn count(row: &[u32], mut lines: *const Line) -> [uint32x4_t; PARTS] {
    let mut counts = [vdupq_n_u32(0); PARTS];
    for words in row.chunks(WORDS) {
        let mut bytes = [vdupq_n_u8(0); PARTS];
        for &word in words {
            let left = vdupq_n_u32(word);
            for (part, bytes) in bytes.iter_mut().enumerate() {
                // SAFETY: a quarter of a line.
                let right = unsafe { vld1q_u32(lines.cast::<u32>().add(part * LANES / PARTS)) };
                let differing = vreinterpretq_u8_u32(veorq_u32(left, right));
                *bytes = vaddq_u8(*bytes, vcntq_u8(differing));
            }
            // SAFETY: no further than the end of the lines.
            lines = unsafe { lines.add(1) };
        }
        for (count, bytes) in counts.iter_mut().zip(bytes) {
            *count = vaddq_u32(*count, vpaddlq_u16(vpaddlq_u8(bytes)));
        }
    }
    counts
}
