//! Sorted lists of a few keys, which smaller ones are inserted into.

#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::base::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::base::isa::Level;

/// Keys that are compared side by side.
#[cfg(target_arch = "x86_64")]
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
    #[cfg(not(target_arch = "x86_64"))]
    let _ = isa;
    insert_by_search(list, keys);
}

fn insert_by_search(list: &mut [i64], keys: &[i64]) {
    let Some(last) = list.len().checked_sub(1) else {
        return;
    };
    for &key in keys {
        if key >= list[last] {
            continue;
        }
        let place = list.partition_point(|&other| other < key);
        if list[place] != key {
            list.copy_within(place..last, place + 1);
            list[place] = key;
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
            length in prop_oneof![0..35_usize, (1..19_usize).prop_map(|chunks| chunks * 8)],
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
