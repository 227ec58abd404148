//! Panel against panel in 8-bit integers: which pairs of rows may be near.
//!
//! A lossless filter in front of exact distances. With x̂ = s·q and ‖x − x̂‖ ≤ e (see
//! [`Quantised`]), ‖x̂ − x̂′‖ > τ + e + e′ implies ‖x − x′‖ > τ, and
//! ‖x̂ − x̂′‖² = ‖x̂‖² + ‖x̂′‖² − 2·s·s′·(q·q′).
//!
//! One file an instruction set, in `core::arch` and `asm!` rather than pulp, which has no dot
//! products of 8-bit integers, nor AMX tiles. They share the walk over the panels below and give
//! two functions each: [`Dots`] multiplies a block of 32 × 32 rows, [`Compare`] compares its four
//! tiles with the bounds, in single precision, while they are in the first-level cache.

use std::ops::Range;

use crate::{
    error::{KernelError, Result},
    isa::{Isa, Level},
    quantise::{Approximation, LINE, Quantised, SLACK, rounding},
};

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neondot;
mod scalar;

/// Rows of a tile's side.
const SIDE: usize = 16;
/// Tiles of a block's side; panels are padded to whole blocks.
const BLOCK: usize = 2;
/// Bytes of right panel that are kept in the first-level cache while all left blocks pass by.
const CACHED: usize = 24 << 10;

/// One cache line of codes, as 16 units of 4 bytes: as many codes of 8 bits, or 2 of 16 bits.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u32; SIDE]);

/// The dot products of 16 left rows (one a row) with 16 right rows.
#[repr(C, align(64))]
struct Tile([[i32; SIDE]; SIDE]);

/// One number for each of 16 rows.
#[cfg(target_arch = "x86_64")]
#[repr(C, align(64))]
struct Floats([f32; SIDE]);

/// What the test needs of 16 rows besides their dot products.
#[repr(C, align(64))]
#[derive(Clone)]
struct Side {
    scale: [f32; SIDE],
    /// At most ‖x̂‖²; infinite for rows of padding.
    norm2: [f32; SIDE],
    residual: [f32; SIDE],
    /// Bound and residual; −∞ for a row that asks nothing.
    reach: [f32; SIDE],
    sum: [i32; SIDE],
    /// The largest of the residuals.
    widest: f32,
}

/// Four tiles' worth of codes, in bounds for all reads that [`Dots`] makes.
struct Block {
    /// Left row 0, its lines one after the other; row r is `r * lines` further.
    left: *const Line,
    /// Lines of a left row.
    lines: usize,
    /// Right rows 0 to 15 interleaved: unit 0 of each row in the first line, and so on.
    right: *const Line,
    /// Lines from there to rows 16 to 31.
    next: usize,
    /// Units of a row that are not padding.
    units: usize,
    /// How many of the left rows matter, at most 32; the others' products may be anything.
    rows: usize,
    /// How many of the groups of 16 right rows matter, at most 2.
    groups: usize,
}

/// Tile (i, j) of a block, of left rows 16·i and right rows 16·j on, is at i + 2·j.
type Tiles = [Tile; BLOCK * BLOCK];

/// Multiplies a block. The sides of the left rows are passed for their sums.
///
/// Unsafe to call on a machine without the instruction set, or with pointers out of bounds.
type Dots = unsafe fn(&Block, &[Side; BLOCK], &mut Tiles);

/// Bit c of mask r is set if the pair (left row r, right row c) may be near.
///
/// Unsafe to call on a machine without the instruction set.
type Compare = unsafe fn(&Tile, &Side, &Side) -> [u16; SIDE];

/// Bit c of mask r is set if the pair (left row r, right row c) of a block may be near.
type Masks = [u32; SIDE * BLOCK];

/// Multiplies a block while it tests the tiles of the one before: where the two keep different
/// parts of the processor busy.
///
/// Unsafe to call as [`Dots`] and [`Compare`] are.
type Overlapped = unsafe fn(&Block, &mut Tiles, &Met, &Tiles, &mut Masks);

/// How codes become the units of a panel.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // only x86-64 needs all
#[derive(Clone, Copy, PartialEq)]
enum Packing {
    /// Four codes a unit.
    Bytes,
    /// Four codes a unit, those of the right panel plus 128: unsigned.
    Shifted,
    /// Two codes a unit, of 16 bits.
    Words,
}

struct Kernel {
    packing: Packing,
    dots: Dots,
    near: Compare,
    overlapped: Option<Overlapped>,
}

fn kernel(isa: Isa) -> Kernel {
    let (packing, dots, near): (_, Dots, Compare) = match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => (Packing::Words, avx2::dots, avx2::near),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => (Packing::Words, avx512::dots, avx512::near),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni => (Packing::Shifted, avx512vnni::dots, avx512::near),
        #[cfg(target_arch = "x86_64")]
        Level::Amx => (Packing::Bytes, amx::dots, avx512::near),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => (Packing::Bytes, neon::dots, neon::near),
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot => (Packing::Bytes, neondot::dots, neon::near),
        _ => (Packing::Bytes, scalar::dots, scalar::near),
    };
    let overlapped: Option<Overlapped> = match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Amx => Some(amx::overlapped),
        _ => None,
    };
    Kernel {
        packing,
        dots,
        near,
        overlapped,
    }
}

impl Packing {
    fn codes_per_unit(self) -> usize {
        match self {
            Packing::Bytes | Packing::Shifted => 4,
            Packing::Words => 2,
        }
    }

    /// Lines of a row of `dim` codes.
    fn lines(self, dim: usize) -> usize {
        dim.next_multiple_of(LINE) / (SIDE * self.codes_per_unit())
    }

    /// Codes of a line.
    fn per_line(self) -> usize {
        SIDE * self.codes_per_unit()
    }

    /// The units of a line's worth of codes.
    #[inline(always)]
    fn line(self, codes: &[i8]) -> Line {
        let mut line = Line([0; SIDE]);
        match self {
            Packing::Bytes | Packing::Shifted => {
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

impl Side {
    const PADDING: Side = Side {
        scale: [0.0; SIDE],
        norm2: [f32::INFINITY; SIDE],
        residual: [0.0; SIDE],
        reach: [f32::NEG_INFINITY; SIDE],
        sum: [0; SIDE],
        widest: 0.0,
    };

    fn set(&mut self, lane: usize, row: Approximation) {
        self.scale[lane] = row.scale;
        self.norm2[lane] = row.norm2;
        self.residual[lane] = row.residual;
        self.sum[lane] = row.sum;
        self.widest = self.widest.max(row.residual);
    }

    /// The test itself, for one pair, which the vectorised ones pass at least when it does; and
    /// between what the distance of the two rows lies, with `rounding` for its computation.
    fn near(
        &self,
        row: usize,
        other: &Side,
        column: usize,
        dot: i32,
        rounding: f64,
    ) -> Option<(f32, f32)> {
        let wide = f64::from;
        let product = 2.0 * wide(self.scale[row]) * wide(other.scale[column]) * f64::from(dot);
        let norms2 = wide(self.norm2[row]) + wide(other.norm2[column]);
        let distance2 = norms2 - product;
        // `max` prefers numbers, so that −∞ + ∞, of a side that asks nothing, counts for nothing.
        let reach = (wide(self.reach[row]) + wide(other.residual[column]))
            .max(wide(other.reach[column]) + wide(self.residual[row]))
            .max(0.0);
        // Not "near if below": what is not a number is kept.
        if distance2 > reach * reach {
            return None;
        }
        let residuals = wide(self.residual[row]) + wide(other.residual[column]);
        let at_least = (distance2.max(0.0).sqrt() - residuals) * (1.0 - rounding);
        // The norms were rounded down by SLACK.
        let at_most =
            ((distance2 + 2.0 * SLACK * norms2).max(0.0).sqrt() + residuals) * (1.0 + rounding);
        let at_most = if at_most.is_nan() {
            f64::INFINITY
        } else {
            at_most
        };
        Some((
            (at_least.max(0.0) as f32).next_down().max(0.0),
            (at_most as f32).next_up(),
        ))
    }
}

/// A pair of rows that may be near, by their indices in two panels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Index in the left panel.
    pub left: u32,
    /// Index in the right panel.
    pub right: u32,
    /// The Euclidean distance of the two rows, computed in single precision or better, is not
    /// below this,
    pub at_least: f32,
    /// nor above this.
    pub at_most: f32,
}

/// Codes and constants of some rows, packed for one instruction set and side.
#[derive(Clone)]
struct Packed {
    isa: Isa,
    dim: usize,
    len: usize,
    lines: Vec<Line>,
    sides: Vec<Side>,
}

impl Packed {
    fn new(isa: Isa) -> Self {
        Self {
            isa,
            dim: 0,
            len: 0,
            lines: Vec::new(),
            sides: Vec::new(),
        }
    }

    /// Makes room for `len` rows and sets their constants; the caller packs the codes.
    fn start(&mut self, from: &Quantised, rows: impl ExactSizeIterator<Item = usize>) {
        self.dim = from.dim();
        self.len = rows.len();
        let padded = self.len.next_multiple_of(SIDE * BLOCK);
        let lines = padded * kernel(self.isa).packing.lines(self.dim);
        // What was there before may stay: products of padding are never looked at.
        self.lines.resize(lines, Line([0; SIDE]));
        self.sides.clear();
        self.sides.resize(padded / SIDE, Side::PADDING);
        for (index, row) in rows.enumerate() {
            self.sides[index / SIDE].set(index % SIDE, from.row(row));
        }
    }

    fn set_bounds(&mut self, bounds: &[f32]) -> Result<()> {
        if bounds.len() != self.len {
            return Err(KernelError::Shape {
                what: "bounds",
                got: bounds.len(),
                expected: self.len,
            });
        }
        let widen = 1.0 + rounding(self.dim) as f32;
        for (side, bounds) in self.sides.iter_mut().zip(bounds.chunks(SIDE)) {
            for (lane, &bound) in bounds.iter().enumerate() {
                side.reach[lane] = if bound < 0.0 {
                    f32::NEG_INFINITY
                } else if bound.is_nan() {
                    f32::INFINITY
                } else {
                    bound * widen + side.residual[lane]
                };
            }
        }
        Ok(())
    }
}

/// Checks indices before anything is changed.
fn check_rows(from: &Quantised, rows: &[u32]) -> Result<()> {
    match rows.iter().copied().max() {
        Some(row) if row as usize >= from.len() => Err(KernelError::RowOutOfRange {
            what: "panel rows",
            index: row as usize,
            rows: from.len(),
        }),
        _ => Ok(()),
    }
}

fn check_range(from: &Quantised, rows: &Range<usize>) -> Result<()> {
    if rows.start > rows.end || rows.end > from.len() {
        return Err(KernelError::RowOutOfRange {
            what: "panel rows",
            index: rows.end.max(rows.start),
            rows: from.len(),
        });
    }
    Ok(())
}

macro_rules! panel {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Packed);

        impl $name {
            /// An empty panel for `isa`; its memory is kept from one gather to the next.
            pub fn new(isa: Isa) -> Self {
                Self(Packed::new(isa))
            }

            /// Fills the panel with the rows of `from` that `rows` names, in that order. They ask
            /// nothing until [`set_bounds`](Self::set_bounds).
            ///
            /// # Errors
            /// [`KernelError::RowOutOfRange`]; the panel is then as before.
            pub fn gather(&mut self, from: &Quantised, rows: &[u32]) -> Result<()> {
                check_rows(from, rows)?;
                self.pack(from, rows.iter().map(|&row| row as usize));
                Ok(())
            }

            /// The same with the rows of a range.
            ///
            /// # Errors
            /// [`KernelError::RowOutOfRange`]; the panel is then as before.
            pub fn gather_range(&mut self, from: &Quantised, rows: Range<usize>) -> Result<()> {
                check_range(from, &rows)?;
                self.pack(from, rows);
                Ok(())
            }

            /// Sets the bound of each row: the largest distance at which it asks for pairs.
            ///
            /// Positive infinity, or NaN, asks for all; negative bounds ask for nothing.
            ///
            /// # Errors
            /// [`KernelError::Shape`] when there is not one bound a row.
            pub fn set_bounds(&mut self, bounds: &[f32]) -> Result<()> {
                self.0.set_bounds(bounds)
            }

            /// Number of rows.
            pub fn len(&self) -> usize {
                self.0.len
            }

            /// Whether there is no row.
            pub fn is_empty(&self) -> bool {
                self.0.len == 0
            }
        }
    };
}

panel! {
    /// Rows gathered for the left side of [`near_pairs`].
    LeftPanel
}

panel! {
    /// Rows gathered for the right side of [`near_pairs`].
    RightPanel
}

impl LeftPanel {
    /// Row after row, each in its own lines.
    fn pack(&mut self, from: &Quantised, rows: impl ExactSizeIterator<Item = usize> + Clone) {
        self.0.start(from, rows.clone());
        let packing = kernel(self.0.isa).packing;
        let lines = packing.lines(from.dim());
        for (lines, row) in self.0.lines.chunks_exact_mut(lines).zip(rows) {
            let codes = from.codes(row).chunks_exact(packing.per_line());
            for (line, codes) in lines.iter_mut().zip(codes) {
                *line = packing.line(codes);
            }
        }
    }
}

impl RightPanel {
    /// Sixteen rows at a time, interleaved.
    fn pack(&mut self, from: &Quantised, rows: impl ExactSizeIterator<Item = usize> + Clone) {
        self.0.start(from, rows.clone());
        let packing = kernel(self.0.isa).packing;
        let flip = match packing {
            Packing::Shifted => 0x8080_8080,
            Packing::Bytes | Packing::Words => 0,
        };
        let group = SIDE * packing.lines(from.dim());
        for (index, row) in rows.enumerate() {
            let lines = &mut self.0.lines[index / SIDE * group..][..group];
            let column = index % SIDE;
            let codes = from.codes(row).chunks_exact(packing.per_line());
            for (lines, codes) in lines.chunks_exact_mut(SIDE).zip(codes) {
                for (line, unit) in lines.iter_mut().zip(packing.line(codes).0) {
                    line.0[column] = unit ^ flip;
                }
            }
        }
    }
}

/// Which pairs of a left and a right panel are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// Each left row with each right row.
    Across,
    /// Both panels hold the same rows: each pair once, left index below right index.
    Within,
}

/// Appends the panels' pairs of rows that may be near, as indices into both panels.
///
/// Left out are only pairs whose Euclidean distance is above both rows' bounds, with room for the
/// rounding of a distance that is computed in single precision. A pair that is reported may be
/// further: by about the residuals of the 8-bit codes, 1 % of the vectors' lengths. The order is
/// the same on every run with one instruction set, but of no meaning.
///
/// A row wider than single precision can square (10¹⁸) is near everything, and so are all rows
/// tinier than 10⁻¹⁸ to each other: the exact distance decides.
///
/// ```
/// use lshjoin_kernels::{Isa, LeftPanel, Pairs, Quantised, RightPanel, Rows, near_pairs};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[0.0_f32, 0.0, 3.0, 4.0, 3.0, 4.5], 2)?, isa)?;
/// let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
/// left.gather(&rows, &[0, 1])?;
/// right.gather_range(&rows, 0..3)?;
/// left.set_bounds(&[1.0, 1.0])?;
/// let mut near = Vec::new();
/// near_pairs(&left, &right, Pairs::Across, &mut near)?;
/// let mut found: Vec<_> = near.iter().map(|pair| (pair.left, pair.right)).collect();
/// found.sort();
/// assert_eq!(found, [(0, 0), (1, 1), (1, 2)]);
/// assert!(near.iter().all(|pair| pair.at_least <= 0.5 && pair.at_most >= 0.0));
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Packing`] when the panels are for different instruction sets,
/// [`KernelError::Shape`] when their rows are of different dimensions.
///
/// # Source
/// The bound is the triangle inequality, as in metric trees; the blocking is that of
/// K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
pub fn near_pairs(
    left: &LeftPanel,
    right: &RightPanel,
    pairs: Pairs,
    near: &mut Vec<Near>,
) -> Result<()> {
    let (left, right) = (&left.0, &right.0);
    if left.isa != right.isa {
        return Err(KernelError::Packing {
            left: left.isa,
            right: right.isa,
        });
    }
    if left.len == 0 || right.len == 0 {
        return Ok(());
    }
    if left.dim != right.dim {
        return Err(KernelError::Shape {
            what: "a row of the right panel",
            got: right.dim,
            expected: left.dim,
        });
    }
    walk(left, right, pairs, near);
    Ok(())
}

/// Two blocks of rows that have been multiplied.
#[derive(Clone, Copy)]
struct Met<'a> {
    left: &'a [Side; BLOCK],
    right: &'a [Side; BLOCK],
    /// Of the first left and right row, in the panels.
    origin: (usize, usize),
}

/// Meets each left block with each right block, of panels for one instruction set and dimension.
///
/// A block is tested while, or after, the next one is multiplied.
fn walk(left: &Packed, right: &Packed, pairs: Pairs, near: &mut Vec<Near>) {
    let kernel = kernel(left.isa);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: this instruction set's `Isa` exists, so that the machine has it.
    let _configured = (left.isa.level() == Level::Amx).then(|| unsafe { amx::Configured::new() });
    let lines = kernel.packing.lines(left.dim);
    let units = left.dim.div_ceil(kernel.packing.codes_per_unit());
    let side = SIDE * BLOCK;
    let (left_sides, _) = left.sides.as_chunks::<BLOCK>();
    let (right_sides, _) = right.sides.as_chunks::<BLOCK>();
    let strip = (CACHED / (side * lines * size_of::<Line>())).max(1);
    let mut tiles = [const { [const { Tile([[0; SIDE]; SIDE]) }; BLOCK * BLOCK] }; 2];
    let [mut fresh, mut done] = tiles.each_mut();
    let mut masks = [0; SIDE * BLOCK];
    let mut waiting: Option<Met> = None;
    let rounding = rounding(left.dim);
    let mut report = |met: &Met, tiles: &Tiles, masks: &Masks| {
        for pair in met.confirmed(tiles, masks, rounding) {
            let wanted = (pair.left as usize) < left.len && (pair.right as usize) < right.len;
            if wanted && (pairs == Pairs::Across || pair.left < pair.right) {
                near.push(pair);
            }
        }
    };
    for start in (0..right_sides.len()).step_by(strip) {
        for (i, left_side) in left_sides.iter().enumerate() {
            for (j, right_side) in right_sides.iter().enumerate().skip(start).take(strip) {
                if pairs == Pairs::Within && i > j {
                    continue;
                }
                let origin = (i * side, j * side);
                let block = Block {
                    left: left.lines[origin.0 * lines..][..side * lines].as_ptr(),
                    lines,
                    right: right.lines[origin.1 * lines..][..side * lines].as_ptr(),
                    next: SIDE * lines,
                    units,
                    rows: (left.len - origin.0).min(side),
                    groups: (right.len - origin.1).div_ceil(SIDE).min(BLOCK),
                };
                // SAFETY: the machine has the panels' instruction set, or there would be no `Isa`
                // of it, and both pointers are to a whole block.
                unsafe {
                    match (&waiting, kernel.overlapped) {
                        (Some(met), Some(overlapped)) => {
                            overlapped(&block, fresh, met, done, &mut masks);
                        }
                        _ => (kernel.dots)(&block, left_side, fresh),
                    }
                }
                if let Some(met) = &waiting {
                    if kernel.overlapped.is_none() {
                        masks = met.masks(done, kernel.near);
                    }
                    if masks != [0; SIDE * BLOCK] {
                        report(met, done, &masks);
                    }
                }
                waiting = Some(Met {
                    left: left_side,
                    right: right_side,
                    origin,
                });
                std::mem::swap(&mut fresh, &mut done);
            }
        }
    }
    if let Some(met) = &waiting {
        masks = met.masks(done, kernel.near);
        report(met, done, &masks);
    }
}

impl Met<'_> {
    fn masks(&self, tiles: &Tiles, near: Compare) -> Masks {
        let mut masks = [0; SIDE * BLOCK];
        for (index, tile) in tiles.iter().enumerate() {
            let (i, j) = (index % BLOCK, index / BLOCK);
            // SAFETY: the tiles were made by this instruction set, so that the machine has it.
            let of_tile = unsafe { near(tile, &self.left[i], &self.right[j]) };
            for (mask, of_tile) in masks[i * SIDE..].iter_mut().zip(of_tile) {
                *mask |= u32::from(of_tile) << (j * SIDE);
            }
        }
        masks
    }

    /// The pairs of the masks that pass the test once more, each by its own residuals: the
    /// vectorised test goes by the widest of a side.
    fn confirmed(&self, tiles: &Tiles, masks: &Masks, rounding: f64) -> impl Iterator<Item = Near> {
        // Most often all are 0, which is seen faster together.
        let some: &[u32] = if *masks == [0; SIDE * BLOCK] {
            &[]
        } else {
            masks
        };
        some.iter().enumerate().flat_map(move |(row, &mask)| {
            bits(mask).filter_map(move |column| {
                let (i, row_of_tile) = (row / SIDE, row % SIDE);
                let (j, column_of_tile) = (column / SIDE, column % SIDE);
                let dot = tiles[i + BLOCK * j].0[row_of_tile][column_of_tile];
                let (at_least, at_most) = self.left[i].near(
                    row_of_tile,
                    &self.right[j],
                    column_of_tile,
                    dot,
                    rounding,
                )?;
                Some(Near {
                    left: (self.origin.0 + row) as u32,
                    right: (self.origin.1 + column) as u32,
                    at_least,
                    at_most,
                })
            })
        })
    }
}

/// The indices of the bits that are set.
fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lowest = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lowest
        })
    })
}
