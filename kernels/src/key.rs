//! Packing the bucket ids of one table into a 128-bit key.
//!
//! Lossless while the ids' measured ranges fit: each function gets as many bits as its range
//! needs, and the ids can be read back. Where the widths add up to more than 128 bits, the key is
//! a universal hash of the ids instead ("rehash").

use pulp::{Simd, WithSimd};
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{isa::Isa, simd::dispatch};

/// How the ids of one table's functions become a key.
///
/// ```
/// use lshjoin_kernels::{KeyLayout, KeyMode};
///
/// // Two functions whose ids were seen in −3..=4 and 10..=10.
/// let layout = KeyLayout::new(&[(-3, 4), (10, 10)]);
/// assert_eq!((layout.mode(), layout.bits()), (KeyMode::Packed, 3));
/// let key = layout.pack(&[-1, 10]).unwrap();
/// assert_eq!(layout.unpack(key), Some(vec![-1, 10]));
/// assert_eq!(layout.pack(&[5, 10]), None, "no bucket was measured there");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLayout {
    ranges: Vec<(i32, i32)>,
    fields: Fields,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fields {
    /// The lowest bit of each function's field.
    Packed { shifts: Vec<u32>, bits: u32 },
    /// One coefficient a function.
    Rehash { coefficients: Vec<u128> },
}

/// What a key says of the bucket ids it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyMode {
    /// Keys are equal exactly when the ids are.
    Packed,
    /// Keys are equal when the ids are; two rows of other ids share a key with a probability of
    /// at most 2⁻¹²⁶.
    Rehash,
}

impl KeyMode {
    /// `"packed"` or `"rehash"`.
    pub fn name(self) -> &'static str {
        match self {
            KeyMode::Packed => "packed",
            KeyMode::Rehash => "rehash",
        }
    }
}

/// The Mersenne prime 2¹²⁷ − 1, in whose field rehashing computes.
const PRIME: u128 = (1 << 127) - 1;

impl KeyLayout {
    /// Lays out keys for functions whose ids were seen in `ranges`, lowest and highest included.
    ///
    /// A range whose lowest is above its highest stands for "nothing seen" and takes no bits.
    pub fn new(ranges: &[(i32, i32)]) -> Self {
        let mut shifts = Vec::with_capacity(ranges.len());
        let mut bits = 0;
        for &(low, high) in ranges {
            shifts.push(bits);
            let last = (i64::from(high) - i64::from(low)).max(0);
            bits += i64::BITS - last.leading_zeros();
        }
        let fields = if bits <= u128::BITS {
            Fields::Packed { shifts, bits }
        } else {
            // Public, fixed coefficients: the bound is over their choice, not against an
            // adversary who picks rows with the coefficients before him.
            let mut rng = ChaCha8Rng::seed_from_u64(0x1517_7019);
            let mut draw =
                || (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())) % PRIME;
            Fields::Rehash {
                coefficients: ranges.iter().map(|_| draw()).collect(),
            }
        };
        Self {
            ranges: ranges.to_vec(),
            fields,
        }
    }

    /// The ranges that the layout was made for.
    pub fn ranges(&self) -> &[(i32, i32)] {
        &self.ranges
    }

    /// Number of functions.
    pub fn functions(&self) -> usize {
        self.ranges.len()
    }

    /// Lossless or rehashed.
    pub fn mode(&self) -> KeyMode {
        match self.fields {
            Fields::Packed { .. } => KeyMode::Packed,
            Fields::Rehash { .. } => KeyMode::Rehash,
        }
    }

    /// Significant bits of a key: what a sort has to look at.
    pub fn bits(&self) -> u32 {
        match self.fields {
            Fields::Packed { bits, .. } => bits,
            Fields::Rehash { .. } => 127,
        }
    }

    /// The key of one row's ids, or `None` when an id lies outside its measured range (and so
    /// in a bucket that none of the measured rows is in) or there are not as many as functions.
    ///
    /// Rehashing (multilinear hashing modulo a prime; Carter and Wegman 1979): Σ aᵢ·idᵢ modulo
    /// 2¹²⁷ − 1 with random aᵢ, so two different id vectors collide with probability
    /// 1 / (2¹²⁷ − 1).
    pub fn pack(&self, ids: &[i32]) -> Option<u128> {
        if ids.len() != self.ranges.len() {
            return None;
        }
        let mut key = 0;
        for (function, (&id, &(low, high))) in ids.iter().zip(&self.ranges).enumerate() {
            if id < low || id > high {
                return None;
            }
            let code = id.wrapping_sub(low) as u32;
            match &self.fields {
                // A field without bits may start at bit 128, where there is nothing to shift to.
                Fields::Packed { shifts, .. } => {
                    key |= u128::from(code).checked_shl(shifts[function]).unwrap_or(0);
                }
                Fields::Rehash { coefficients } => {
                    key = reduce(key + times(coefficients[function], code));
                }
            }
        }
        Some(key)
    }

    /// The keys of many rows, from their ids as (functions, rows): what [`KeyLayout::pack`] gives
    /// for each row, in order.
    pub(crate) fn pack_columns<'a>(
        &self,
        ids: &[i32],
        keys: impl ExactSizeIterator<Item = &'a mut Option<u128>>,
        isa: Isa,
    ) {
        debug_assert_eq!(ids.len(), keys.len() * self.functions());
        dispatch(
            isa,
            PackColumns {
                layout: self,
                ids,
                keys,
            },
        );
    }

    /// The ids that a key was packed from; `None` in rehash mode.
    pub fn unpack(&self, key: u128) -> Option<Vec<i32>> {
        let Fields::Packed { shifts, bits } = &self.fields else {
            return None;
        };
        let ends = shifts.iter().skip(1).chain([bits]);
        let id = |((&shift, &end), &(low, _)): ((&u32, &u32), &(i32, i32))| {
            let mask = (1_u128 << (end - shift)) - 1;
            low.wrapping_add((key.checked_shr(shift).unwrap_or(0) & mask) as i32)
        };
        Some(shifts.iter().zip(ends).zip(&self.ranges).map(id).collect())
    }

    /// The layout for these ranges and those of `other` together.
    pub fn cover(&self, other: &[(i32, i32)]) -> Self {
        let both = |(&(low, high), &(l, h)): (&(i32, i32), &(i32, i32))| (low.min(l), high.max(h));
        Self::new(&self.ranges.iter().zip(other).map(both).collect::<Vec<_>>())
    }
}

/// Rows that are packed side by side.
const LANES: usize = 16;

struct PackColumns<'a, K> {
    layout: &'a KeyLayout,
    ids: &'a [i32],
    keys: K,
}

impl<'a, K: ExactSizeIterator<Item = &'a mut Option<u128>>> WithSimd for PackColumns<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            layout,
            ids,
            mut keys,
        } = self;
        let rows = keys.len();
        let mut done = 0;
        if let Fields::Packed { shifts, .. } = &layout.fields {
            let fields = || shifts.iter().zip(&layout.ranges);
            while done + LANES <= rows {
                let columns = ids.chunks_exact(rows).map(|column| &column[done..]);
                for (packed, key) in pack_lanes(fields(), columns).into_iter().zip(&mut keys) {
                    *key = packed;
                }
                done += LANES;
            }
        }
        let mut of_row = vec![0; layout.functions()];
        for (row, key) in (done..).zip(keys) {
            for (function, id) in of_row.iter_mut().enumerate() {
                *id = ids[function * rows + row];
            }
            *key = layout.pack(&of_row);
        }
    }
}

/// Packs the first ids of each column.
#[inline(always)]
fn pack_lanes<'a>(
    fields: impl Iterator<Item = (&'a u32, &'a (i32, i32))>,
    columns: impl Iterator<Item = &'a [i32]>,
) -> [Option<u128>; LANES] {
    // Two halves of 64 bits, as no vector unit shifts 128.
    let (mut lower, mut upper) = ([0_u64; LANES], [0_u64; LANES]);
    let mut outside = [false; LANES];
    for ((&shift, &(low, high)), ids) in fields.zip(columns) {
        let Some(ids) = ids.first_chunk::<LANES>() else {
            break;
        };
        for lane in 0..LANES {
            outside[lane] |= (ids[lane] < low) | (ids[lane] > high);
        }
        let codes = ids.map(|id| u64::from(id.wrapping_sub(low) as u32));
        if shift < 64 {
            for lane in 0..LANES {
                lower[lane] |= codes[lane] << shift;
            }
        }
        if shift > 32 {
            // A field without bits may start at bit 128: its code is 0.
            let (left, right) = (
                shift.saturating_sub(64).min(63),
                64_u32.saturating_sub(shift),
            );
            for lane in 0..LANES {
                upper[lane] |= codes[lane] << left >> right;
            }
        }
    }
    std::array::from_fn(|lane| {
        let key = u128::from(upper[lane]) << 64 | u128::from(lower[lane]);
        (!outside[lane]).then_some(key)
    })
}

/// The range in which nothing has been seen yet.
pub const NO_RANGE: (i32, i32) = (i32::MAX, i32::MIN);

/// `value` modulo [`PRIME`], up to one multiple: below 2¹²⁷ + 2, or PRIME itself made 0.
fn reduce(value: u128) -> u128 {
    let folded = (value & PRIME) + (value >> 127);
    if folded >= PRIME {
        folded - PRIME
    } else {
        folded
    }
}

/// `coefficient · code` modulo [`PRIME`].
fn times(coefficient: u128, code: u32) -> u128 {
    let code = u128::from(code);
    let low = (coefficient & u128::from(u64::MAX)) * code;
    let high = (coefficient >> 64) * code; // below 2⁹⁵, to be multiplied by 2⁶⁴
    // 2⁶⁴ · high = 2¹²⁷ · (high >> 63) + 2⁶⁴ · (high mod 2⁶³), and 2¹²⁷ is 1 here.
    let high = (high >> 63) + ((high & ((1 << 63) - 1)) << 64);
    reduce(reduce(low) + reduce(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids_and_ranges(
        functions: std::ops::Range<usize>,
        span: i32,
    ) -> impl Strategy<Value = Vec<(i32, i32, i32, i32)>> {
        // low, high and two ids between them
        let one = (any::<i32>(), 0..=span).prop_flat_map(|(low, span)| {
            let high = low.saturating_add(span);
            (Just(low), Just(high), low..=high, low..=high)
        });
        prop::collection::vec(one, functions)
    }

    proptest! {
        #[test]
        fn packed_keys_are_equal_exactly_when_ids_are(table in ids_and_ranges(1..8, 300)) {
            let ranges: Vec<_> = table.iter().map(|f| (f.0, f.1)).collect();
            let (a, b): (Vec<_>, Vec<_>) = table.iter().map(|f| (f.2, f.3)).unzip();
            let layout = KeyLayout::new(&ranges);
            prop_assert_eq!(layout.mode(), KeyMode::Packed);
            let (key_a, key_b) = (layout.pack(&a).unwrap(), layout.pack(&b).unwrap());
            prop_assert_eq!(key_a == key_b, a == b);
            prop_assert_eq!(layout.unpack(key_a), Some(a));
            prop_assert!(layout.bits() == 128 || key_b >> layout.bits() == 0);
        }

        #[test]
        fn rehashed_keys_tell_ids_apart(table in ids_and_ranges(6..9, i32::MAX)) {
            let ranges = vec![(i32::MIN, i32::MAX); table.len()];
            let (a, b): (Vec<_>, Vec<_>) = table.iter().map(|f| (f.2, f.3)).unzip();
            let layout = KeyLayout::new(&ranges);
            prop_assert_eq!(layout.mode(), KeyMode::Rehash);
            prop_assert_eq!(layout.pack(&a) == layout.pack(&b), a == b);
            prop_assert_eq!(layout.unpack(0), None);
        }

        #[test]
        fn columns_are_packed_as_rows_are(
            table in ids_and_ranges(0..9, 1 << 20),
            rows in 0_usize..40,
            full in any::<bool>(),
        ) {
            let mut ranges: Vec<_> = table.iter().map(|f| (f.0, f.1)).collect();
            if full {
                // More than 128 bits: rehashed.
                ranges.fill((i32::MIN, i32::MAX));
            }
            let layout = KeyLayout::new(&ranges);
            // Either of two ids of each function, or now and then one that is out of range.
            let id = |function: usize, row: usize| match (row * 31 + function * 17) % 64 {
                0 => table[function].0.wrapping_sub(1),
                n if n % 2 == 0 => table[function].2,
                _ => table[function].3,
            };
            let row = |row| (0..table.len()).map(|function| id(function, row)).collect::<Vec<_>>();
            let expected: Vec<_> = (0..rows).map(|index| layout.pack(&row(index))).collect();
            let ids: Vec<_> = (0..table.len())
                .flat_map(|function| (0..rows).map(move |row| (function, row)))
                .map(|(function, row)| id(function, row))
                .collect();
            for &isa in Isa::available() {
                let mut keys = vec![Some(7); rows];
                layout.pack_columns(&ids, keys.iter_mut(), isa);
                prop_assert_eq!(&keys, &expected, "{}", isa);
            }
        }

        #[test]
        fn multiplying_in_the_field_agrees_with_doubling_and_adding(a in 0..PRIME, code: u32) {
            let mut expected = 0;
            for bit in (0..32).rev() {
                expected = (expected + expected) % PRIME;
                if code >> bit & 1 == 1 {
                    expected = (expected + a) % PRIME;
                }
            }
            prop_assert_eq!(times(a, code), expected);
        }

        #[test]
        fn an_id_outside_its_range_has_no_key(table in ids_and_ranges(1..6, 1000), above in any::<bool>()) {
            let ranges: Vec<_> = table.iter().map(|f| (f.0, f.1)).collect();
            let mut ids: Vec<_> = table.iter().map(|f| f.2).collect();
            let edge = if above { ranges[0].1.checked_add(1) } else { ranges[0].0.checked_sub(1) };
            prop_assume!(edge.is_some());
            ids[0] = edge.unwrap();
            prop_assert_eq!(KeyLayout::new(&ranges).pack(&ids), None);
        }
    }

    #[test]
    fn exactly_128_bits_are_packed_and_129_are_rehashed() {
        let full = (i32::MIN, i32::MAX);
        let layout = KeyLayout::new(&[full, full, full, full]);
        assert_eq!((layout.mode(), layout.bits()), (KeyMode::Packed, 128));
        let ids = vec![i32::MIN, -1, i32::MAX, 7];
        assert_eq!(layout.unpack(layout.pack(&ids).unwrap()), Some(ids));
        // A function that never varies needs no bits, even where none are left.
        assert_eq!(
            KeyLayout::new(&[full, full, full, full, (5, 5)]).mode(),
            KeyMode::Packed
        );
        assert_eq!(
            KeyLayout::new(&[full, full, full, full, (5, 6)]).mode(),
            KeyMode::Rehash
        );
    }
}
