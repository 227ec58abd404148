//! Bitmaps of sets, which bound what two sets have in common without reading them.
//!
//! Elements of both sets are hashed to the same bits. Those that they share are among the bits of
//! both, but for those that share a bit with another element (as in the bitmap filter of E. Sandes,
//! G. Teodoro and A. Melo, "Bitmap filter: speeding up exact set similarity joins", 2020).

/// Words of a bitmap: a cache line.
const WORDS: usize = 8;

/// The bits of a set's elements.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sketch {
    bits: [u64; WORDS],
    /// Elements beyond the first of each bit.
    beyond: u32,
}

impl Sketch {
    /// Of a set, given by its different elements.
    pub(crate) fn of(set: &[u32]) -> Self {
        let mut bits = [0; WORDS];
        for &element in set {
            // The upper bits of a product with the golden ratio (D. Knuth, "The art of computer
            // programming", volume 3, 6.4).
            let bit = element.wrapping_mul(0x9E37_79B9) >> 23;
            bits[bit as usize / 64] |= 1_u64 << (bit % 64);
        }
        let used: u32 = bits.iter().map(|word| word.count_ones()).sum();
        Self {
            bits,
            beyond: (set.len() as u32).saturating_sub(used),
        }
    }

    /// So many elements, at most, are in both sets.
    pub(crate) fn most_in_common(&self, other: &Self) -> usize {
        let words = self.bits.iter().zip(&other.bits);
        let both: u32 = words.map(|(x, y)| (x & y).count_ones()).sum();
        both as usize + self.beyond.min(other.beyond) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_two_sets_have_more_in_common(
            x in prop::collection::btree_set(0..2000_u32, 0..900),
            y in prop::collection::btree_set(0..2000_u32, 0..900),
        ) {
            let sketch = |set: &BTreeSet<u32>| {
                Sketch::of(&set.iter().copied().collect::<Vec<u32>>())
            };
            let most = sketch(&x).most_in_common(&sketch(&y));
            prop_assert!(x.intersection(&y).count() <= most);
            prop_assert!(most <= x.len().max(512) && sketch(&x).most_in_common(&sketch(&x)) == x.len());
        }
    }
}
