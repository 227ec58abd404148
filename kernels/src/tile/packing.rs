//! The form that codes have in a panel, by what each instruction set multiplies.

use super::band::{Line, SIDE};
use crate::{
    base::isa::{Isa, Level},
    codes::limits::LINE,
};

/// How codes become the units of a panel.
#[allow(dead_code, reason = "no architecture needs all")]
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Packing {
    /// Four codes a unit.
    Bytes,
    /// Four codes a unit, those of the right panel plus 128: unsigned.
    Shifted,
    /// Four codes a unit; of right rows, two units of a row come one after the other.
    Pairs,
    /// Two codes a unit, of 16 bits.
    Words,
}

impl Packing {
    /// What the kernel for `isa` multiplies.
    pub(super) fn of(isa: Isa) -> Self {
        match isa.level() {
            Level::Avx2 | Level::Avx512 => Packing::Words,
            Level::AvxVnni | Level::Avx512Vnni => Packing::Shifted,
            Level::NeonI8mm => Packing::Pairs,
            _ => Packing::Bytes,
        }
    }

    /// What codes of the right panel are packed plus.
    pub(super) fn shift(self) -> u8 {
        match self {
            Packing::Shifted => 128,
            _ => 0,
        }
    }

    pub(super) fn codes_per_unit(self) -> usize {
        match self {
            Packing::Bytes | Packing::Shifted | Packing::Pairs => 4,
            Packing::Words => 2,
        }
    }

    /// Codes of a line.
    pub(super) fn per_line(self) -> usize {
        SIDE * self.codes_per_unit()
    }

    /// Lines of a row of `dim` codes.
    pub(super) fn lines(self, dim: usize) -> usize {
        dim.next_multiple_of(LINE) / self.per_line()
    }

    /// Where a unit of a right row goes, of those that 16 rows have: the line, and the place in it.
    #[inline(always)]
    pub(super) fn place(self, unit: usize, row: usize) -> (usize, usize) {
        match self {
            Packing::Pairs => (unit / 2 * 2 + 2 * row / SIDE, 2 * row % SIDE + unit % 2),
            _ => (unit, row),
        }
    }

    /// The units of a line's worth of codes.
    #[inline(always)]
    pub(super) fn line(self, codes: &[i8]) -> Line {
        let mut line = Line([0; SIDE]);
        match self {
            Packing::Bytes | Packing::Shifted | Packing::Pairs => {
                for (unit, codes) in line.0.iter_mut().zip(codes.as_chunks::<4>().0) {
                    *unit = u32::from_ne_bytes(codes.map(|code| code as u8));
                }
            }
            Packing::Words => {
                for (unit, &[first, second]) in line.0.iter_mut().zip(codes.as_chunks::<2>().0) {
                    let [a, b] = i16::from(first).to_ne_bytes();
                    let [c, d] = i16::from(second).to_ne_bytes();
                    *unit = u32::from_ne_bytes([a, b, c, d]);
                }
            }
        }
        line
    }
}
