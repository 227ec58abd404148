//! The bits of a mask that comparisons set.

/// The indices of the bits that are set, rising.
#[inline(always)]
pub(crate) fn set_bits(mask: impl Into<u64>) -> impl Iterator<Item = usize> {
    let mut mask = mask.into();
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lowest = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lowest
        })
    })
}
