//! Rows of packed bits, eight a byte, and in how many bits two of them differ: Hamming distance, and
//! with the numbers of set bits Jaccard distance, too.
//!
//! As in `tile`, but exact: the left rows of a block are compared with 64 right rows at a time, whose
//! words lie lane by lane, and what each pair differs in is tested against the limit of its left row
//! while it is in registers. `count` has a file for each instruction set.
//!
//! May use `base`, `simd` and `rows`. Start with `near`.

pub(crate) mod block;
mod count;
pub(crate) mod left;
pub(crate) mod near;
pub(crate) mod right;

/// Bits of a word.
const WORD: usize = u32::BITS as usize;

/// Bytes of a row, at most: numbers of bits are then exact in single precision.
pub(crate) const MOST_BYTES: usize = (1 << 24) / 8 - 1;

/// The words of a row, in which what lies beyond its bytes is zero.
fn words(row: &[u8]) -> impl ExactSizeIterator<Item = u32> {
    row.chunks(size_of::<u32>()).map(|bytes| {
        let mut word = [0; size_of::<u32>()];
        word[..bytes.len()].copy_from_slice(bytes);
        u32::from_le_bytes(word)
    })
}

/// How many of its bits are set.
fn population(row: &[u8]) -> u32 {
    words(row).map(u32::count_ones).sum()
}
