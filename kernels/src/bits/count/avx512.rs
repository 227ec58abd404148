//! AVX-512 VPOPCNTDQ: the set bits of 16 words at once.

use std::arch::x86_64::*;

use crate::bits::{
    block::{GROUPS, Scan},
    right::{LANES, Line},
};

const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
const MANY: f32 = (1 << 30) as f32;

/// See `scan` in `near`, for so many groups.
///
/// # Safety
/// The machine must have the instructions. The chosen rows must be there, as well as the lines and the
/// populations of `N` groups.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
pub(in crate::bits) unsafe fn scan<const N: usize, const RISING: bool, F>(
    block: &Scan<'_>,
    mut found: F,
) where
    F: FnMut(usize, u64, &[Line; GROUPS]),
{
    let width = block.width;
    for (position, (&row, limit)) in block.chosen.iter().zip(block.limits).enumerate() {
        let mut counts = [_mm512_setzero_si512(); N];
        // SAFETY: the caller vouches for `width` words of the row, and for as many lines of each
        // group, which are aligned.
        unsafe {
            let row = block.left.as_ptr().add(row as usize * width);
            let lines = block.lines.as_ptr().cast::<__m512i>();
            for word in 0..width {
                let left = _mm512_set1_epi32(row.add(word).read() as i32);
                for (group, count) in counts.iter_mut().enumerate() {
                    let right = _mm512_load_si512(lines.add(group * width + word));
                    let differing = _mm512_popcnt_epi32(_mm512_xor_si512(left, right));
                    *count = _mm512_add_epi32(*count, differing);
                }
            }
        }
        let most = _mm512_set1_ps(limit.most);
        // Rounded down; what is too large for an integer is more than any row has bits.
        let whole = _mm512_min_ps(_mm512_set1_ps(MANY), most);
        let whole = _mm512_cvt_roundps_epi32::<DOWN>(whole);
        let mut mask = 0;
        for (group, &count) in counts.iter().enumerate() {
            let near = if RISING {
                // SAFETY: a line of the group, which is aligned.
                let set = unsafe { _mm512_load_ps(block.populations.as_ptr().add(group).cast()) };
                let most = _mm512_fmadd_ps(_mm512_set1_ps(limit.slope), set, most);
                _mm512_cmp_ps_mask::<_CMP_LE_OQ>(_mm512_cvtepi32_ps(count), most)
            } else {
                _mm512_cmple_epi32_mask(count, whole)
            };
            mask |= u64::from(near) << (group * LANES);
        }
        mask &= block.filled;
        if mask != 0 {
            let mut lines = [Line([0; LANES]); GROUPS];
            for (line, count) in lines.iter_mut().zip(counts) {
                // SAFETY: a line, which is aligned.
                unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), count) };
            }
            found(position, mask, &lines);
        }
    }
}
