//! Lists that fit a few registers stay there from one key to the next: what has just been stored is
//! slow to load again at another offset.

use std::arch::x86_64::*;

/// Keys of a register.
const LANES: usize = 8;

/// As [`insert_keys`](super::insert_keys), into a list of `CHUNKS` registers.
#[target_feature(enable = "avx512f")]
pub(super) fn insert_keys<const CHUNKS: usize>(list: &mut [[i64; LANES]; CHUNKS], keys: &[i64]) {
    const LAST: u8 = 1 << (LANES - 1);
    let mut chunks = [_mm512_set1_epi64(i64::MAX); CHUNKS];
    for (chunk, from) in chunks.iter_mut().zip(list.iter()) {
        // SAFETY: an array of 64 bytes, at any alignment.
        *chunk = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
    }
    for &key in keys {
        let key = _mm512_set1_epi64(key);
        let is_near = _mm512_cmpgt_epi64_mask(chunks[CHUNKS - 1], key) & LAST != 0;
        let equal = |mask, &chunk| mask | _mm512_cmpeq_epi64_mask(chunk, key);
        if !is_near || chunks.iter().fold(0, equal) != 0 {
            continue;
        }
        for at in (0..CHUNKS).rev() {
            let lower = match at {
                0 => _mm512_set1_epi64(i64::MIN),
                _ => chunks[at - 1],
            };
            // The place before each: the last of `lower`, then all but the last of these.
            let before = _mm512_alignr_epi64::<7>(chunks[at], lower);
            chunks[at] = _mm512_min_epi64(chunks[at], _mm512_max_epi64(before, key));
        }
    }
    for (chunk, to) in chunks.iter().zip(list) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *chunk) };
    }
}
