//! Panel against panel in 8-bit integers: which pairs of rows may be near.
//!
//! A lossless filter in front of exact distances: `floors` says how large the dot product of two
//! rows' codes has to be. One file an instruction set, in `core::arch` and `asm!` rather than
//! pulp, which has no dot products of 8-bit integers, nor AMX tiles. Each multiplies blocks of
//! 32 × 32 rows and compares the products with the floors while they are in registers, or in the
//! first-level cache; the walk over the panels is shared.

use pulp::{Simd, WithSimd};

use crate::{
    error::{KernelError, Result},
    isa::{Isa, Level},
    memory,
    quantise::{LINE, rounding},
    simd::dispatch,
};

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
mod floors;
mod nearest;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neondot;
mod panel;
mod scalar;
mod squares;

pub(crate) use floors::LARGEST_DOT;
use floors::{Floors, Reckoning};
pub use nearest::nearest_pairs;
use panel::{BLOCK, Band, Bounds, Line, Packed, SIDE};
pub use panel::{LeftPanel, RightPanel};
pub use squares::code_distances2;

/// What memory is asked for.
const PAIRS: &str = "pairs that may be near";

/// Bytes of right panel that are kept in the first-level cache while all left blocks pass by.
const CACHED: usize = 24 << 10;

/// The dot products of 16 left rows (one a row) with 16 right rows, each plus what its column
/// starts from.
#[repr(C, align(64))]
#[derive(Clone)]
struct Tile([[i32; SIDE]; SIDE]);

/// Two bands that meet: pointers to all lines of both.
struct Block<'a> {
    left_band: &'a Band,
    right_band: &'a Band,
    left: *const Line,
    right: *const Line,
    /// Lines of a row.
    lines: usize,
    /// Units of a row that are not padding.
    units: usize,
}

/// What comes of a block.
#[repr(C, align(128))]
struct Product {
    /// Tile (i, j), of left rows 16·i and right rows 16·j on, is at i + 2·j. Undefined where all
    /// masks of a row are 0.
    tiles: [Tile; 4],
    floors: Floors,
    /// Bit c of mask r is set if the pair (left row r, right row c) may be near; those of padding
    /// may be anything.
    masks: [u32; BLOCK],
}

/// Sets a block's tiles and masks, by the floors that are set, and says whether any mask is not 0.
///
/// Unsafe to call on a machine without the instruction set, or with pointers out of bounds.
type Multiply = unsafe fn(&Block, &mut Product) -> bool;

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

fn multiply(isa: Isa) -> Multiply {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::multiply,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512::multiply,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Vnni => avx512vnni::multiply,
        #[cfg(target_arch = "x86_64")]
        Level::Amx => amx::multiply,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::multiply,
        #[cfg(target_arch = "aarch64")]
        Level::NeonDot => neondot::multiply,
        _ => scalar::multiply,
    }
}

impl Packing {
    fn of(isa: Isa) -> Self {
        match isa.level() {
            Level::Avx2 | Level::Avx512 => Packing::Words,
            Level::Avx512Vnni => Packing::Shifted,
            _ => Packing::Bytes,
        }
    }

    fn codes_per_unit(self) -> usize {
        match self {
            Packing::Bytes | Packing::Shifted => 4,
            Packing::Words => 2,
        }
    }

    /// Codes of a line.
    fn per_line(self) -> usize {
        SIDE * self.codes_per_unit()
    }

    /// Lines of a row of `dim` codes.
    fn lines(self, dim: usize) -> usize {
        dim.next_multiple_of(LINE) / self.per_line()
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

impl Product {
    const fn new() -> Self {
        Self {
            tiles: [const { Tile([[0; SIDE]; SIDE]) }; 4],
            floors: Floors::new(),
            masks: [0; BLOCK],
        }
    }

    /// What [`Product::distances2`] needs to know of the columns.
    #[inline(always)]
    fn of_columns(&self, (left, right): (&Band, &Band)) -> Columns {
        let (s, t) = (left.scale.value, right.scale.value);
        Columns {
            of_left: (s * s) as f32,
            squares: right.squares.map(|square| (t * t) as f32 * square as f32),
            of_products: (2.0 * s * t) as f32,
        }
    }

    /// Sets the squared distances of a left row to all right rows as the codes have them, those
    /// of padding infinite. All tiles must be defined.
    #[inline(always)]
    fn distances2(&self, (left, row): (&Band, usize), right: &Band, of: &Columns, to: &mut [f32]) {
        let square = of.of_left * left.squares[row] as f32;
        let starts = &self.floors.columns;
        for half in 0..2 {
            let sums = &self.tiles[row / SIDE + 2 * half].0[row % SIDE];
            for (column, sum) in sums.iter().enumerate() {
                let at = half * SIDE + column;
                let dot = sum.wrapping_sub(starts[at]) as f32;
                to[at] = (square + of.squares[at]) - of.of_products * dot;
            }
        }
        to[right.rows..].fill(f32::INFINITY);
    }

    /// Appends the pairs of the masks that pass the test once more, each by its own bound: the floors
    /// go by the furthest of the left rows.
    #[inline(always)]
    fn report(
        &self,
        (left, of_left): (&Band, &Bounds),
        (right, of_right): (&Band, &Bounds),
        rounding: f64,
        near: &mut Vec<Near>,
    ) {
        for (row, &mask) in self.masks.iter().enumerate() {
            let Some(left_index) = left.index(row).filter(|_| mask != 0) else {
                continue;
            };
            let reckoning = Reckoning::new((left, row), right, rounding);
            for column in bits(mask) {
                let Some(right_index) = right.index(column) else {
                    continue;
                };
                let tile = &self.tiles[row / SIDE + 2 * (column / SIDE)];
                let sum = tile.0[row % SIDE][column % SIDE];
                let dot = sum.wrapping_sub(self.floors.columns[column]);
                let distance2 = reckoning.distance2(column, dot);
                let (at_least, at_most) = reckoning.interval(column, distance2);
                if at_least <= of_left.each[row].max(of_right.each[column]) {
                    near.push(Near {
                        left: left_index,
                        right: right_index,
                        at_least,
                        at_most,
                    });
                }
            }
        }
    }
}

/// The terms of squared distances, for the right rows of a block.
struct Columns {
    of_left: f32,
    squares: [f32; BLOCK],
    of_products: f32,
}

/// The indices of the bits that are set.
#[inline(always)]
pub(crate) fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lowest = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            lowest
        })
    })
}

/// A pair of rows that may be near, by their indices in what two panels gathered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Index of the left row.
    pub left: u32,
    /// Index of the right row.
    pub right: u32,
    /// The Euclidean distance of the two rows, computed in single precision or better, is not
    /// below this,
    pub at_least: f32,
    /// nor above this.
    pub at_most: f32,
}

/// Appends the panels' pairs of rows that may be near.
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
/// use lshjoin_kernels::{Isa, LeftPanel, Quantised, RightPanel, Rows, near_pairs};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[0.0_f32, 0.0, 3.0, 4.0, 3.0, 4.5], 2)?, isa)?;
/// let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
/// left.gather(&rows, &[0, 1], &[1.0, 1.0])?;
/// right.gather(&rows, &[0, 1, 2], &[-1.0; 3])?;
/// let mut near = Vec::new();
/// near_pairs(&left, &right, &mut near)?;
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
pub fn near_pairs(left: &LeftPanel, right: &RightPanel, near: &mut Vec<Near>) -> Result<()> {
    if let Some(panels) = Panels::new(left, right)? {
        dispatch(left.0.isa, NearPairs { panels, near })?;
    }
    Ok(())
}

struct NearPairs<'a> {
    panels: Panels<'a>,
    near: &'a mut Vec<Near>,
}

impl WithSimd for NearPairs<'_> {
    type Output = Result<()>;

    /// With as many right bands as the cache holds, all left ones.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Result<()> {
        let Self { panels, near } = self;
        let (lefts, rights) = (panels.left.bands.len(), panels.right.bands.len());
        let mut product = Product::new();
        for start in (0..rights).step_by(panels.cached()) {
            for left in 0..lefts {
                for right in start..rights.min(start + panels.cached()) {
                    panels.near_pairs(left, right, &mut product, near)?;
                }
            }
        }
        Ok(())
    }
}

/// Two panels for one instruction set and dimension.
struct Panels<'a> {
    left: &'a Packed,
    right: &'a Packed,
    multiply: Multiply,
    /// Lines of a row, and units of it that are not padding.
    lines: usize,
    units: usize,
    /// Relative error of a distance that is computed in single precision.
    rounding: f64,
    #[cfg(target_arch = "x86_64")]
    _configured: Option<amx::Configured>,
}

impl<'a> Panels<'a> {
    /// `None` when there is nothing to multiply.
    fn new(left: &'a LeftPanel, right: &'a RightPanel) -> Result<Option<Self>> {
        let (left, right) = (&left.0, &right.0);
        if left.isa != right.isa {
            return Err(KernelError::Packing {
                left: left.isa,
                right: right.isa,
            });
        }
        if left.bands.is_empty() || right.bands.is_empty() {
            return Ok(None);
        }
        if left.dim != right.dim {
            return Err(KernelError::Shape {
                what: "a row of the right panel",
                got: right.dim,
                expected: left.dim,
            });
        }
        let packing = Packing::of(left.isa);
        Ok(Some(Self {
            left,
            right,
            multiply: multiply(left.isa),
            lines: packing.lines(left.dim),
            units: left.dim.div_ceil(packing.codes_per_unit()),
            rounding: rounding(left.dim),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this instruction set's `Isa` exists, so that the machine has it.
            _configured: (left.isa.level() == Level::Amx)
                .then(|| unsafe { amx::Configured::new() }),
        }))
    }

    /// How many right bands are to stay in the cache.
    fn cached(&self) -> usize {
        (CACHED / (BLOCK * self.lines * size_of::<Line>())).max(1)
    }

    /// Appends the pairs of two bands that may be near.
    #[inline(always)]
    fn near_pairs(
        &self,
        left: usize,
        right: usize,
        product: &mut Product,
        near: &mut Vec<Near>,
    ) -> Result<()> {
        let (left_bounds, right_bounds) = (&self.left.bounds[left], &self.right.bounds[right]);
        if self.multiply((left, left_bounds), (right, right_bounds), product) {
            let left = (&self.left.bands[left], left_bounds);
            let right = (&self.right.bands[right], right_bounds);
            memory::reserve(near, BLOCK * BLOCK, PAIRS)?;
            product.report(left, right, self.rounding, near);
        }
        Ok(())
    }

    /// Multiplies two bands; whether some pair may be near.
    #[inline(always)]
    fn multiply(
        &self,
        (left, left_bounds): (usize, &Bounds),
        (right, right_bounds): (usize, &Bounds),
        product: &mut Product,
    ) -> bool {
        let of_band = BLOCK * self.lines;
        let block = Block {
            left_band: &self.left.bands[left],
            right_band: &self.right.bands[right],
            left: self.left.lines[left * of_band..][..of_band].as_ptr(),
            right: self.right.lines[right * of_band..][..of_band].as_ptr(),
            lines: self.lines,
            units: self.units,
        };
        let left = (block.left_band, left_bounds);
        product.floors.set(left, (block.right_band, right_bounds));
        // SAFETY: the machine has the panels' instruction set, or there would be no `Isa` of it,
        // and both pointers are to a whole band.
        let near = unsafe { (self.multiply)(&block, product) };
        debug_assert_eq!(near, product.masks != [0; BLOCK]);
        near
    }
}
