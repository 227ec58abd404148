//! Lists that fit registers stay there from one key to the next: what has just been stored is slow to
//! load again at another offset.
//!
//! To insert without a branch on what is there, each place takes the larger of the key and the place
//! before it, if that is smaller than what it has: a compare and two selections for a whole register
//! of places.

use std::arch::x86_64::*;

use crate::simd::bits::set_bits;

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
    for keys in keys.chunks(LANES) {
        // Most of many keys are too far: as many are told at once as a register holds.
        let last = _mm512_permutexvar_epi64(_mm512_set1_epi64(7), chunks[CHUNKS - 1]);
        let valid = u8::MAX >> (LANES - keys.len());
        // SAFETY: no more than the keys there are.
        let some = unsafe { _mm512_maskz_loadu_epi64(valid, keys.as_ptr()) };
        for at in set_bits(_mm512_mask_cmplt_epi64_mask(valid, some, last)) {
            let key = _mm512_set1_epi64(keys[at]);
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
    }
    for (chunk, to) in chunks.iter().zip(list) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *chunk) };
    }
}
