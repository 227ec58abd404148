//! Packing the bucket ids of one table into a 128-bit key.
//!
//! Lossless while the ids' measured ranges fit: each function gets as many bits as its range
//! needs. Where the widths add up to more than 128 bits, the key is
//! a universal hash of the ids instead ("rehash").

use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// How the ids of one table's functions become a key.
///
/// ```
/// use lshjoin_kernels::{KeyLayout, KeyMode};
///
/// // Two functions whose ids were seen in −3..=4 and 10..=10.
/// let layout = KeyLayout::new(&[(-3, 4), (10, 10)]);
/// assert_eq!((layout.mode(), layout.bits()), (KeyMode::Packed, 3));
/// assert_eq!(layout.pack(&[-1, 10]), Some(2));
/// assert_eq!(layout.pack(&[5, 10]), None, "no bucket was measured there");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyLayout {
    ranges: Vec<(i32, i32)>,
    fields: Fields,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fields {
    /// Each function's ids in bits of their own.
    Packed { limbs: Vec<Limb>, bits: u32 },
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
        let (mut limbs, mut bits): (Vec<Limb>, u32) = (Vec::new(), 0);
        for &(low, high) in ranges {
            // Nothing seen: no id that was decided by floats is as large as this one.
            let (low, high) = if low > high {
                (i32::MAX, i32::MAX)
            } else {
                (low, high)
            };
            let span = high.wrapping_sub(low) as u32;
            let end = bits + u32::BITS - span.leading_zeros();
            let fits = |limb: &Limb| end <= limb.start + u32::BITS;
            if !limbs.last().is_some_and(fits) {
                limbs.push(Limb {
                    start: bits,
                    fields: Vec::new(),
                });
            }
            if let Some(limb) = limbs.last_mut() {
                limb.fields.push(Field {
                    low,
                    span,
                    // A field without bits may come after a full limb: its zero goes anywhere.
                    shift: (bits - limb.start) % u32::BITS,
                });
            }
            bits = end;
        }
        let fields = if bits <= u128::BITS {
            Fields::Packed { limbs, bits }
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
        let codes = ids.iter().zip(&self.ranges).map(|(&id, &(low, high))| {
            let inside = low <= id && id <= high;
            inside.then(|| id.wrapping_sub(low) as u32)
        });
        match &self.fields {
            Fields::Packed { limbs, .. } => {
                let mut places = codes.zip(limbs.iter().flat_map(Limb::places));
                places.try_fold(0, |key, (code, (_, bit))| {
                    Some(key | u128::from(code?) << bit)
                })
            }
            Fields::Rehash { coefficients } => {
                let mut terms = codes.zip(coefficients);
                terms.try_fold(0, |key, (code, &by)| Some(reduce(key + times(by, code?))))
            }
        }
    }

    /// Where each function's ids go; `None` in rehash mode.
    pub(crate) fn limbs(&self) -> Option<&[Limb]> {
        match &self.fields {
            Fields::Packed { limbs, .. } => Some(limbs),
            Fields::Rehash { .. } => None,
        }
    }

    /// The layout for these ranges and those of `other` together.
    pub fn cover(&self, other: &[(i32, i32)]) -> Self {
        let both = |(&(low, high), &(l, h)): (&(i32, i32), &(i32, i32))| (low.min(l), high.max(h));
        Self::new(&self.ranges.iter().zip(other).map(both).collect::<Vec<_>>())
    }
}

/// Rows that are packed side by side.
pub(crate) const ROWS: usize = 32;

/// Functions whose fields, side by side in a key from bit `start` on, fit 32 bits: no vector unit
/// shifts 128 bits, and none has many lanes of 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limb {
    pub(crate) start: u32,
    pub(crate) fields: Vec<Field>,
}

/// What becomes of one function's ids: less `low` they are at most `span`, and go to bit `shift` of
/// their limb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) low: i32,
    pub(crate) span: u32,
    pub(crate) shift: u32,
}

impl Limb {
    /// The fields, each with the bit of the key at which it starts.
    fn places(&self) -> impl Iterator<Item = (&Field, u32)> {
        self.fields
            .iter()
            .map(|field| (field, self.start + field.shift))
    }
}

/// Keys of rows side by side, limb by limb: what [`KeyLayout::pack`] gives for each.
#[derive(Default)]
pub(crate) struct Packer {
    lower: [u64; ROWS],
    upper: [u64; ROWS],
}

impl Packer {
    /// Adds each row's limb that starts at bit `start` of the keys.
    #[inline(always)]
    pub(crate) fn add(&mut self, start: u32, limbs: &[u32]) {
        const HALF: u32 = u64::BITS;
        if start < HALF {
            for (lower, &limb) in self.lower.iter_mut().zip(limbs) {
                *lower |= u64::from(limb) << start;
            }
        }
        if start >= HALF {
            for (upper, &limb) in self.upper.iter_mut().zip(limbs) {
                *upper |= u64::from(limb) << (start - HALF);
            }
        } else if start > HALF - u32::BITS {
            for (upper, &limb) in self.upper.iter_mut().zip(limbs) {
                *upper |= u64::from(limb) >> (HALF - start);
            }
        }
    }

    #[inline(always)]
    pub(crate) fn write(&self, keys: &mut [u128]) {
        let halves = self.lower.iter().zip(&self.upper);
        for (key, (&lower, &upper)) in keys.iter_mut().zip(halves) {
            *key = u128::from(upper) << 64 | u128::from(lower);
        }
    }
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
            prop_assert!(layout.bits() == 128 || key_b >> layout.bits() == 0);
        }

        #[test]
        fn rehashed_keys_tell_ids_apart(table in ids_and_ranges(6..9, i32::MAX)) {
            let ranges = vec![(i32::MIN, i32::MAX); table.len()];
            let (a, b): (Vec<_>, Vec<_>) = table.iter().map(|f| (f.2, f.3)).unzip();
            let layout = KeyLayout::new(&ranges);
            prop_assert_eq!(layout.mode(), KeyMode::Rehash);
            prop_assert_eq!(layout.pack(&a) == layout.pack(&b), a == b);
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
        let codes = [0, i32::MAX as u32, u32::MAX, (1 << 31) + 7];
        let key = codes
            .iter()
            .rev()
            .fold(0, |key, &code| key << 32 | u128::from(code));
        assert_eq!(layout.pack(&[i32::MIN, -1, i32::MAX, 7]), Some(key));
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
