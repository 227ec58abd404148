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
