//! Rows in the order of their keys.

use crate::base::{
    error::{KernelError, Result},
    memory,
};

/// Below this many rows for each 32 bits of key, a comparison sort is faster.
const SMALL: usize = 256;

/// Widest digit in bits: 2048 counters fit the L1 cache, and 32 bits take three passes.
const MAX_DIGIT: u32 = 11;
const VALUES: usize = 1 << MAX_DIGIT;

/// What memory is asked for.
const SORTED: &str = "the order of keys";

/// What rows are sorted by: `u64` or `u128`.
pub trait Key: bits::Bits {}

impl Key for u64 {}
impl Key for u128 {}

mod bits {
    pub trait Bits: Copy + Ord {
        const BITS: u32;
        /// The lowest `bits` bits, where `bits <= BITS`.
        fn low(self, bits: u32) -> Self;
        /// Bits `shift..shift + 32`, where `shift < BITS`.
        fn limb(self, shift: u32) -> u32;
    }

    macro_rules! impl_bits {
        ($unsigned:ty) => {
            impl Bits for $unsigned {
                const BITS: u32 = <$unsigned>::BITS;
                #[inline(always)]
                fn low(self, bits: u32) -> Self {
                    self & Self::MAX.checked_shr(Self::BITS - bits).unwrap_or(0)
                }
                #[inline(always)]
                fn limb(self, shift: u32) -> u32 {
                    (self >> shift) as u32
                }
            }
        };
    }

    impl_bits!(u64);
    impl_bits!(u128);
}

/// Puts the rows of a table in the order of their keys; keeps its memory from table to table.
///
/// A stable radix sort, least significant digit first, of 64-bit records: 32 bits of key above
/// the row. Wider keys are sorted 32 bits at a time, lowest first, so that a record never moves
/// more than 8 bytes however wide its key; digits that all rows share are skipped.
///
/// ```
/// use lshjoin_kernels::Sorter;
///
/// let mut order = Vec::new();
/// Sorter::new().sort(&[7_u128, 3, 7, 1], 3, &mut order)?;
/// assert_eq!(order, [3, 1, 0, 2]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
#[derive(Debug, Default)]
pub struct Sorter {
    records: Vec<u64>,
    scratch: Vec<u64>,
}

impl Sorter {
    /// A sorter that holds no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes to `order` the rows of `keys` by (lowest `bits` bits of the key, row), ascending.
    ///
    /// Bits of the keys above `bits` are ignored; `bits` beyond the width of the key mean all.
    /// `order` is overwritten with one `u32` a row.
    ///
    /// # Errors
    /// [`KernelError::TooManyRows`] when rows cannot be numbered by `u32`,
    /// [`KernelError::Memory`].
    pub fn sort<K: Key>(&mut self, keys: &[K], bits: u32, order: &mut Vec<u32>) -> Result<()> {
        let rows = row_count(keys.len())?;
        let bits = bits.min(K::BITS);
        order.clear();
        memory::reserve(order, keys.len(), SORTED)?;
        if keys.len() < SMALL * bits.div_ceil(32) as usize {
            order.extend(0..rows);
            order.sort_unstable_by_key(|&row| (keys[row as usize].low(bits), row));
            return Ok(());
        }
        let record =
            |row: u32, shift| u64::from(keys[row as usize].limb(shift)) << 32 | u64::from(row);
        self.records.clear();
        memory::reserve(&mut self.records, keys.len(), SORTED)?;
        memory::resize(&mut self.scratch, keys.len(), 0, SORTED)?;
        self.records.extend((0..rows).map(|row| record(row, 0)));
        for shift in (0..bits).step_by(32) {
            if shift > 0 {
                for slot in &mut self.records {
                    *slot = record(*slot as u32, shift);
                }
            }
            self.sort_records((bits - shift).min(32));
        }
        order.extend(self.records.iter().map(|&record| record as u32));
        Ok(())
    }

    /// Sorts the records, stably, by the lowest `bits` of their upper 32 bits, 1 to 32.
    fn sort_records(&mut self, bits: u32) {
        let passes = bits.div_ceil(MAX_DIGIT);
        let width = bits.div_ceil(passes);
        for start in (0..bits).step_by(width as usize) {
            let mask = (1 << width.min(bits - start)) - 1;
            let digit = |record: u64| (record >> (32 + start)) as usize & mask & (VALUES - 1);

            let mut places = [0_u32; VALUES];
            for &record in &self.records {
                places[digit(record)] += 1;
            }
            if places[digit(self.records[0])] as usize == self.records.len() {
                continue;
            }
            let mut next = 0;
            for place in &mut places[..=mask] {
                next += std::mem::replace(place, next);
            }
            for &record in &self.records {
                let place = &mut places[digit(record)];
                self.scratch[*place as usize] = record;
                *place += 1;
            }
            std::mem::swap(&mut self.records, &mut self.scratch);
        }
    }
}

fn row_count(rows: usize) -> Result<u32> {
    u32::try_from(rows).map_err(|_| KernelError::TooManyRows {
        rows,
        limit: u32::MAX as usize,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn oracle<K: Key>(keys: &[K], bits: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..keys.len() as u32).collect();
        order.sort_by_key(|&row| (keys[row as usize].low(bits.min(K::BITS)), row));
        order
    }

    fn random_keys(rows: usize, seed: u64) -> Vec<u128> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut limb = || u128::from(rng.next_u64());
        (0..rows).map(|_| limb() << 64 | limb()).collect()
    }

    #[test]
    fn rows_come_out_by_key_then_row() {
        let mut sorter = Sorter::new();
        let mut order = vec![42];
        for rows in [0, 1, 2, SMALL - 1, SMALL, SMALL + 1, 4 * SMALL, 5000] {
            let keys = random_keys(rows, rows as u64);
            let narrow: Vec<u64> = keys.iter().map(|&key| key as u64).collect();
            for bits in [
                0, 1, 7, 11, 12, 22, 31, 32, 33, 43, 63, 64, 65, 96, 127, 128, 200,
            ] {
                sorter.sort(&keys, bits, &mut order).unwrap();
                assert_eq!(
                    order,
                    oracle(&keys, bits),
                    "{rows} rows, {bits} of 128 bits"
                );
                sorter.sort(&narrow, bits, &mut order).unwrap();
                assert_eq!(
                    order,
                    oracle(&narrow, bits),
                    "{rows} rows, {bits} of 64 bits"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn few_distinct_keys_keep_row_order(
            rows in 0..2000_usize,
            mask: u128,
            distinct in 1..9_u64,
            bits in 0..=128_u32,
        ) {
            let values = random_keys(distinct as usize, 1);
            let picks = random_keys(rows, distinct);
            let keys: Vec<u128> =
                picks.iter().map(|pick| values[(pick % distinct as u128) as usize] & mask).collect();
            let mut order = Vec::new();
            Sorter::new().sort(&keys, bits, &mut order).unwrap();
            prop_assert_eq!(order, oracle(&keys, bits));
        }
    }

    #[test]
    fn rows_beyond_u32_are_refused() {
        let limit = u32::MAX as usize;
        let rows = limit + 1;
        assert_eq!(row_count(limit), Ok(u32::MAX));
        assert_eq!(
            row_count(rows),
            Err(KernelError::TooManyRows { rows, limit })
        );
    }
}
