//! AVX2: the set bits of half bytes by a look-up, added up as bytes.

use std::arch::x86_64::*;

use crate::bits::{
    block::{GROUPS, Scan},
    right::{LANES, Line},
};

/// Words whose set bits a byte can hold: up to 8 of each.
const WORDS: usize = 31;

/// See `scan` in `near`, for so many groups.
///
/// # Safety
/// The machine must have the instructions. The chosen rows must be there, as well as the lines and the
/// populations of `N` groups.
#[target_feature(enable = "avx2")]
pub(in crate::bits) unsafe fn scan<const N: usize, const RISING: bool, F>(
    block: &Scan<'_>,
    mut found: F,
) where
    F: FnMut(usize, u64, &[Line; GROUPS]),
{
    for (position, (&row, limit)) in block.chosen.iter().zip(block.limits).enumerate() {
        let row = block.row(row);
        let most = _mm256_set1_ps(limit.most);
        let mut lines = [Line([0; LANES]); GROUPS];
        let mut mask = 0;
        for (group, line) in lines.iter_mut().enumerate().take(N) {
            // SAFETY: the caller vouches for as many lines of each group as a row has words.
            let counts = unsafe { count(row, block.lines.as_ptr().add(group * block.width)) };
            for (half, counts) in counts.into_iter().enumerate() {
                let most = if RISING {
                    // SAFETY: half a line of the group, which is aligned.
                    let set = unsafe {
                        let line = block.populations.as_ptr().add(group);
                        _mm256_load_ps(line.cast::<f32>().add(half * LANES / 2))
                    };
                    _mm256_add_ps(most, _mm256_mul_ps(_mm256_set1_ps(limit.slope), set))
                } else {
                    most
                };
                let near = _mm256_cmp_ps::<_CMP_LE_OQ>(_mm256_cvtepi32_ps(counts), most);
                let near = _mm256_movemask_ps(near) as u32;
                mask |= u64::from(near) << (group * LANES + half * LANES / 2);
                let half = &mut line.0[half * LANES / 2..][..LANES / 2];
                // SAFETY: half a line, which is aligned.
                unsafe { _mm256_store_si256(half.as_mut_ptr().cast(), counts) };
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
/// The machine must have the instructions, and there must be as many lines as words.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn count(row: &[u32], mut lines: *const Line) -> [__m256i; 2] {
    let nibbles = _mm256_set1_epi8(15);
    let of_nibble = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    ));
    let mut counts = [_mm256_setzero_si256(); 2];
    for words in row.chunks(WORDS) {
        let mut bytes = [_mm256_setzero_si256(); 2];
        for &word in words {
            let left = _mm256_set1_epi32(word as i32);
            for (half, bytes) in bytes.iter_mut().enumerate() {
                // SAFETY: half a line, which is aligned.
                let right = unsafe { _mm256_load_si256(lines.cast::<__m256i>().add(half)) };
                let differing = _mm256_xor_si256(left, right);
                let low = _mm256_and_si256(differing, nibbles);
                let high = _mm256_and_si256(_mm256_srli_epi16::<4>(differing), nibbles);
                *bytes = _mm256_add_epi8(*bytes, _mm256_shuffle_epi8(of_nibble, low));
                *bytes = _mm256_add_epi8(*bytes, _mm256_shuffle_epi8(of_nibble, high));
            }
            // SAFETY: no further than the end of the lines.
            lines = unsafe { lines.add(1) };
        }
        for (count, bytes) in counts.iter_mut().zip(bytes) {
            let pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            *count = _mm256_add_epi32(*count, fours);
        }
    }
    counts
}
