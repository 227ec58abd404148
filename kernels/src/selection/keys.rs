//! Sorted lists of a few keys, which smaller ones are inserted into.
//!
//! To insert without a branch on what is there, each place takes the larger of the key and the place
//! before it, if that is smaller than what it has: a compare and two selections for a whole register
//! of places.

#[cfg(target_arch = "x86_64")]
mod avx512;

use pulp::{Simd, WithSimd};

#[cfg(target_arch = "x86_64")]
use crate::base::isa::Level;
use crate::{base::isa::Isa, simd::dispatch::dispatch};

/// Keys that are compared side by side.
const LANES: usize = 8;

/// Inserts `keys` into a list that is sorted, rises, and stays as long as it is: the largest go. A key
/// that the list has is not inserted again.
///
/// Lists whose length is a multiple of 8 are quickest.
///
/// ```
/// use lshjoin_kernels::{Isa, insert_keys};
///
/// let mut list = [1, 5, i64::MAX];
/// insert_keys(&mut list, &[3, 9, 5, 3], Isa::best());
/// assert_eq!(list, [1, 3, 5]);
/// ```
pub fn insert_keys(list: &mut [i64], keys: &[i64], isa: Isa) {
    #[cfg(target_arch = "x86_64")]
    if let Level::Avx512 | Level::Avx512Vnni | Level::Amx = isa.level()
        && let (chunks, []) = list.as_chunks_mut::<LANES>()
    {
        /// By a function that is compiled for the number of chunks, if it is one of these.
        macro_rules! by_length {
            ($($length:literal)*) => {
                match chunks.len() {
                    $($length => {
                        if let Some(chunks) = chunks.first_chunk_mut::<$length>() {
                            // SAFETY: all of these levels have AVX-512 F, and an Isa is one of this
                            // machine.
                            return unsafe { avx512::insert_keys(chunks, keys) };
                        }
                    })*
                    _ => {}
                }
            };
        }
        by_length!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
    }
    dispatch(isa, InsertKeys { list, keys });
}

struct InsertKeys<'a> {
    list: &'a mut [i64],
    keys: &'a [i64],
}

impl WithSimd for InsertKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for &key in self.keys {
            let is_near = self.list.last().is_some_and(|&last| key < last);
            if is_near && !contains(self.list, key) {
                insert(self.list, key);
            }
        }
    }
}

#[inline(always)]
fn contains(list: &[i64], key: i64) -> bool {
    let (chunks, rest) = list.as_chunks::<LANES>();
    let mut equal = [false; LANES];
    for chunk in chunks {
        for (equal, &other) in equal.iter_mut().zip(chunk) {
            *equal |= other == key;
        }
    }
    equal.contains(&true) | rest.contains(&key)
}

/// Inserts a key into a sorted list, whose largest goes.
#[inline(always)]
fn insert(list: &mut [i64], key: i64) {
    let whole = list.len() / LANES * LANES;
    for at in (whole..list.len()).rev() {
        let before = if at == 0 { i64::MIN } else { list[at - 1] };
        list[at] = list[at].min(before.max(key));
    }
    for at in (0..whole).step_by(LANES).rev() {
        let mut before = [i64::MIN; LANES];
        if at == 0 {
            before[1..].copy_from_slice(&list[..LANES - 1]);
        } else {
            before.copy_from_slice(&list[at - 1..][..LANES]);
        }
        for (here, before) in list[at..][..LANES].iter_mut().zip(before) {
            *here = (*here).min(before.max(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::dispatch::on_each_isa;

    proptest! {
        #[test]
        fn the_least_are_left_each_once(
            keys in prop::collection::vec(0..300_i64, 0..400),
            length in prop_oneof![0..35_usize, (1..19_usize).prop_map(|chunks| chunks * LANES)],
        ) {
            let mut expected = keys.clone();
            expected.sort_unstable();
            expected.dedup();
            expected.resize(expected.len().max(length), i64::MAX);
            expected.truncate(length);
            on_each_isa(|isa| {
                let mut list = vec![i64::MAX; length];
                let (some, others) = keys.split_at(keys.len() / 2);
                insert_keys(&mut list, some, isa);
                insert_keys(&mut list, others, isa);
                assert_eq!(list, expected);
            });
        }
    }
}
