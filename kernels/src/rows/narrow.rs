//! Values that are kept in fewer bits than they are computed with.

use std::ops::Range;

use half::{bf16, f16};

/// Values of 8 or 16 bits, all of which single precision holds exactly.
#[derive(Clone, Copy, Debug)]
pub enum Narrow<'a> {
    /// Unsigned integers, as of SIFT descriptors.
    U8(&'a [u8]),
    /// Signed integers, as of quantised embeddings.
    I8(&'a [i8]),
    /// Half precision.
    F16(&'a [f16]),
    /// The upper half of single precision.
    Bf16(&'a [bf16]),
}

/// The same expression for each kind of values.
macro_rules! of_any {
    ($narrow:expr, $values:ident => $body:expr) => {
        match $narrow {
            Narrow::U8($values) => $body,
            Narrow::I8($values) => $body,
            Narrow::F16($values) => $body,
            Narrow::Bf16($values) => $body,
        }
    };
}
pub(super) use of_any;

impl Narrow<'_> {
    pub(super) fn len(&self) -> usize {
        of_any!(self, values => values.len())
    }

    #[inline(always)]
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        match self {
            Self::U8(values) => Self::U8(&values[range]),
            Self::I8(values) => Self::I8(&values[range]),
            Self::F16(values) => Self::F16(&values[range]),
            Self::Bf16(values) => Self::Bf16(&values[range]),
        }
    }
}

/// A number of half precision, exactly: by arithmetic that compilers vectorise, in place of a call for
/// each few numbers. No subnormal number takes part in it, which programs may have told the machine to
/// take for 0.
#[inline(always)]
pub(super) fn widened_half(value: f16) -> f32 {
    // Exponents count from 15 in half precision and from 127 in single precision.
    const REBIASED: u32 = (127 - 15) << 23;
    const SMALLEST_NORMAL: u32 = REBIASED + (1 << 23);
    let bits = u32::from(value.to_bits());
    let (sign, magnitude) = (bits >> 15 << 31, (bits & 0x7fff) << 13);
    let exponent = bits & 0x7c00;
    let widened = if exponent == 0 {
        let with_one_more = f32::from_bits(magnitude + SMALLEST_NORMAL);
        (with_one_more - f32::from_bits(SMALLEST_NORMAL)).to_bits()
    } else if exponent == 0x7c00 {
        magnitude + 2 * REBIASED
    } else {
        magnitude + REBIASED
    };
    f32::from_bits(widened | sign)
}
