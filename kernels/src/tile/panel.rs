//! Rows gathered into panels: blocks of 32 rows of one scale, packed for one instruction set.

use super::Packing;
use crate::{
    error::{KernelError, Result},
    isa::Isa,
    quantise::{Quantised, rounding},
};

/// Rows of a tile's side, and units of a line.
pub(super) const SIDE: usize = 16;
/// Rows of a block's side: two tiles.
pub(super) const BLOCK: usize = 2 * SIDE;
/// The index of rows that only fill a block up.
const PADDING: u32 = u32::MAX;

/// One cache line of codes, as 16 units of 4 bytes: as many codes of 8 bits, or 2 of 16 bits.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line(pub(super) [u32; SIDE]);

/// What a code of 1 stands for, and what else is needed of that.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) value: f64,
    pub(super) inverse: f64,
    /// 1/√(√2·s), so that the product of two is 1/√(2ss′).
    pub(super) root: f64,
}

/// What is known of 32 rows besides their codes.
#[repr(C, align(64))]
#[derive(Clone)]
pub(super) struct Band {
    /// Σ q².
    pub(super) squares: [i32; BLOCK],
    /// Σ q.
    pub(super) sums: [i32; BLOCK],
    pub(super) residuals: [f32; BLOCK],
    /// The distance at which a row asks for pairs, with room for the rounding of computed ones;
    /// −∞ where it asks for nothing.
    pub(super) bounds: [f32; BLOCK],
    /// The rows' places in what was gathered.
    indices: [u32; BLOCK],
    /// That of all of them.
    pub(super) scale: Scale,
    pub(super) largest_square: i32,
    pub(super) widest_residual: f32,
    pub(super) furthest_bound: f32,
    /// How many are not padding.
    pub(super) rows: usize,
}

impl Band {
    fn new(scale: f32) -> Self {
        let value = f64::from(scale);
        let scale = Scale {
            value,
            inverse: value.recip(),
            root: (std::f64::consts::SQRT_2 * value).sqrt().recip(),
        };
        Self {
            // Padding asks for more than any product has.
            squares: [i32::MAX; BLOCK],
            sums: [0; BLOCK],
            residuals: [0.0; BLOCK],
            bounds: [f32::NEG_INFINITY; BLOCK],
            indices: [PADDING; BLOCK],
            scale,
            largest_square: 0,
            widest_residual: 0.0,
            furthest_bound: f32::NEG_INFINITY,
            rows: 0,
        }
    }

    /// The place of a row in what was gathered, if it is not padding.
    pub(super) fn index(&self, row: usize) -> Option<u32> {
        (row < self.rows).then(|| self.indices[row])
    }

    fn push(&mut self, from: &Quantised, row: usize, index: u32) {
        let known = from.row(row);
        let at = self.rows;
        self.squares[at] = known.square;
        self.sums[at] = known.sum;
        self.residuals[at] = known.residual;
        self.indices[at] = index;
        self.largest_square = self.largest_square.max(known.square);
        self.widest_residual = self.widest_residual.max(known.residual);
        self.rows += 1;
    }

    fn set_bounds(&mut self, bounds: &[f32], widen: f32) {
        self.furthest_bound = f32::NEG_INFINITY;
        for (to, &index) in self.bounds.iter_mut().zip(&self.indices[..self.rows]) {
            let bound = bounds[index as usize];
            *to = if bound < 0.0 {
                f32::NEG_INFINITY
            } else if bound.is_nan() {
                f32::INFINITY
            } else {
                bound * widen
            };
            self.furthest_bound = self.furthest_bound.max(*to);
        }
    }
}

/// Codes and constants of some rows, packed for one instruction set and side.
#[derive(Clone)]
pub(super) struct Packed {
    pub(super) isa: Isa,
    pub(super) dim: usize,
    len: usize,
    /// Half a band after the other; of each, the first line of its 16 rows, then their second.
    pub(super) lines: Vec<Line>,
    pub(super) bands: Vec<Band>,
    /// The rows by scale; kept from one gather to the next for its memory.
    order: Vec<(u32, u32, u32)>,
}

impl Packed {
    fn new(isa: Isa) -> Self {
        Self {
            isa,
            dim: 0,
            len: 0,
            lines: Vec::new(),
            bands: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Lays the rows out in bands of one scale, by rising bound if `by_bound`; the caller packs
    /// the codes.
    ///
    /// # Errors
    /// When indices or bounds do not fit; nothing is changed then.
    fn lay_out(
        &mut self,
        from: &Quantised,
        rows: &[u32],
        bounds: &[f32],
        by_bound: bool,
    ) -> Result<()> {
        if let Some(&row) = rows.iter().find(|&&row| row as usize >= from.len()) {
            return Err(KernelError::RowOutOfRange {
                what: "panel rows",
                index: row as usize,
                rows: from.len(),
            });
        }
        check_bounds(bounds, rows.len())?;
        self.dim = from.dim();
        self.len = rows.len();
        self.order.clear();
        let keyed = (0..)
            .zip(rows.iter().zip(bounds))
            .map(|(index, (&row, &bound))| {
                // Bits of positive numbers order as they do; which others come first does not matter.
                let bound = if by_bound { bound.to_bits() } else { 0 };
                (from.row(row as usize).scale.to_bits(), bound, index)
            });
        self.order.extend(keyed);
        self.order.sort_unstable();
        self.bands.clear();
        for &(scale, _, index) in &self.order {
            let scale = f32::from_bits(scale);
            match self.bands.last_mut() {
                Some(band) if band.rows < BLOCK && band.scale.value == f64::from(scale) => {
                    band.push(from, rows[index as usize] as usize, index);
                }
                _ => {
                    let mut band = Band::new(scale);
                    band.push(from, rows[index as usize] as usize, index);
                    self.bands.push(band);
                }
            }
        }
        let lines = self.bands.len() * BLOCK * Packing::of(self.isa).lines(self.dim);
        // What was there before may stay: products of padding are never looked at.
        self.lines.resize(lines, Line([0; SIDE]));
        self.set_bounds(bounds)
    }

    fn set_bounds(&mut self, bounds: &[f32]) -> Result<()> {
        check_bounds(bounds, self.len)?;
        let widen = 1.0 + rounding(self.dim) as f32;
        for band in &mut self.bands {
            band.set_bounds(bounds, widen);
        }
        Ok(())
    }

    /// Calls `pack(lines of 16 rows, place among them, codes)` for each row.
    fn pack(&mut self, from: &Quantised, rows: &[u32], pack: impl Fn(&mut [Line], usize, &[i8])) {
        let tile = SIDE * Packing::of(self.isa).lines(self.dim);
        for (band, lines) in self.bands.iter().zip(self.lines.chunks_exact_mut(2 * tile)) {
            for (place, &index) in band.indices[..band.rows].iter().enumerate() {
                let lines = &mut lines[place / SIDE * tile..][..tile];
                pack(
                    lines,
                    place % SIDE,
                    from.codes(rows[index as usize] as usize),
                );
            }
        }
    }
}

fn check_bounds(bounds: &[f32], rows: usize) -> Result<()> {
    if bounds.len() != rows {
        return Err(KernelError::Shape {
            what: "bounds",
            got: bounds.len(),
            expected: rows,
        });
    }
    Ok(())
}

/// Rows gathered for the left side of [`near_pairs`](super::near_pairs).
#[derive(Clone)]
pub struct LeftPanel(pub(super) Packed);

/// Rows gathered for the right side of [`near_pairs`](super::near_pairs).
#[derive(Clone)]
pub struct RightPanel(pub(super) Packed);

impl LeftPanel {
    /// An empty panel for `isa`; its memory is kept from one gather to the next.
    pub fn new(isa: Isa) -> Self {
        Self(Packed::new(isa))
    }

    /// Fills the panel with the rows of `from` that `rows` names. Of each, `bounds` gives the
    /// largest distance at which it asks for pairs: positive infinity, or NaN, asks for all,
    /// negative bounds for nothing.
    ///
    /// # Errors
    /// [`KernelError::RowOutOfRange`], or [`KernelError::Shape`] when there is not one bound a
    /// row; the panel is then as before.
    pub fn gather(&mut self, from: &Quantised, rows: &[u32], bounds: &[f32]) -> Result<()> {
        // A block is tested with the furthest of its left rows' bounds, so like goes with like.
        self.0.lay_out(from, rows, bounds, true)?;
        let packing = Packing::of(self.0.isa);
        self.0.pack(from, rows, |lines, row, codes| {
            let codes = codes.chunks_exact(packing.per_line());
            for (line, codes) in lines.iter_mut().skip(row).step_by(SIDE).zip(codes) {
                *line = packing.line(codes);
            }
        });
        Ok(())
    }

    /// Sets the bounds anew, which costs less than to gather again.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when there is not one bound a row.
    pub fn set_bounds(&mut self, bounds: &[f32]) -> Result<()> {
        self.0.set_bounds(bounds)
    }
}

impl RightPanel {
    /// An empty panel for `isa`; its memory is kept from one gather to the next.
    pub fn new(isa: Isa) -> Self {
        Self(Packed::new(isa))
    }

    /// Fills the panel as [`LeftPanel::gather`] does.
    ///
    /// # Errors
    /// As there.
    pub fn gather(&mut self, from: &Quantised, rows: &[u32], bounds: &[f32]) -> Result<()> {
        self.0.lay_out(from, rows, bounds, false)?;
        let packing = Packing::of(self.0.isa);
        let flip = match packing {
            Packing::Shifted => 0x8080_8080,
            Packing::Bytes | Packing::Words => 0,
        };
        self.0.pack(from, rows, |lines, column, codes| {
            let codes = codes.chunks_exact(packing.per_line());
            for (lines, codes) in lines.chunks_exact_mut(SIDE).zip(codes) {
                for (line, unit) in lines.iter_mut().zip(packing.line(codes).0) {
                    line.0[column] = unit ^ flip;
                }
            }
        });
        Ok(())
    }

    /// Sets the bounds anew, which costs less than to gather again.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when there is not one bound a row.
    pub fn set_bounds(&mut self, bounds: &[f32]) -> Result<()> {
        self.0.set_bounds(bounds)
    }
}
