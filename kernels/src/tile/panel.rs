//! Rows gathered for a join: bands of 32 rows of one scale, packed for one instruction set.

use super::{
    band::{BLOCK, Band, Bounds, Line, SIDE},
    packing::Packing,
};
use crate::{
    base::{error::Result, isa::Isa, memory},
    codes::{limits::rounding, quantised::Quantised},
    rows::shape::{check_indices, check_len},
    simd::prefetch::AHEAD,
};

/// What memory is asked for.
const PANEL: &str = "panels of codes";

/// Codes and constants of some rows, packed for one instruction set and side.
#[derive(Clone)]
pub(super) struct Packed {
    pub(super) isa: Isa,
    pub(super) dim: usize,
    len: usize,
    /// Half a band after the other; of each, the first line of its 16 rows, then their second.
    pub(super) lines: Vec<Line>,
    pub(super) bands: Vec<Band>,
    pub(super) bounds: Vec<Bounds>,
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
            bounds: Vec::new(),
            order: Vec::new(),
        }
    }

    /// Lays the rows out in bands of one scale, by rising bound if `by_bound`; the caller packs the
    /// codes.
    ///
    /// # Errors
    /// When indices or bounds do not fit; nothing is changed then. When there is no memory; the panel
    /// is of no rows then.
    fn lay_out(
        &mut self,
        from: &Quantised,
        rows: &[u32],
        bounds: &[f32],
        by_bound: bool,
    ) -> Result<()> {
        check_indices("panel rows", rows.iter().copied(), from.len())?;
        check_len("bounds", bounds.len(), rows.len())?;
        let filled = self.fill(from, rows, bounds, by_bound);
        if filled.is_err() {
            self.len = 0;
            self.bands.clear();
        }
        filled
    }

    fn fill(
        &mut self,
        from: &Quantised,
        rows: &[u32],
        bounds: &[f32],
        by_bound: bool,
    ) -> Result<()> {
        self.dim = from.dim();
        self.len = rows.len();
        self.order.clear();
        memory::reserve(&mut self.order, rows.len(), PANEL)?;
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
        let shift = i32::from(Packing::of(self.isa).shift());
        for &(scale, _, index) in &self.order {
            let scale = f32::from_bits(scale);
            match self.bands.last_mut() {
                Some(band) if band.rows < BLOCK && band.scale.value == f64::from(scale) => {
                    band.push(from, rows[index as usize] as usize, index, shift);
                }
                _ => {
                    let mut band = Band::new(scale);
                    band.push(from, rows[index as usize] as usize, index, shift);
                    memory::push(&mut self.bands, band, PANEL)?;
                }
            }
        }
        memory::resize(&mut self.bounds, self.bands.len(), Bounds::NONE, PANEL)?;
        let lines = self.bands.len() * BLOCK * Packing::of(self.isa).lines(self.dim);
        // What was there before may stay: products of padding are never looked at.
        memory::resize(&mut self.lines, lines, Line([0; SIDE]), PANEL)?;
        self.set_bounds(bounds)
    }

    fn set_bounds(&mut self, bounds: &[f32]) -> Result<()> {
        check_len("bounds", bounds.len(), self.len)?;
        for (to, band) in self.bounds.iter_mut().zip(&self.bands) {
            to.set(band, widen(self.dim), |index| bounds[index as usize]);
        }
        Ok(())
    }

    /// How many rows were gathered.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Calls `pack(lines of 16 rows, position among them, codes)` for each row.
    fn pack(&mut self, from: &Quantised, rows: &[u32], pack: impl Fn(&mut [Line], usize, &[i8])) {
        let tile = SIDE * Packing::of(self.isa).lines(self.dim);
        for (band, lines) in self.bands.iter().zip(self.lines.chunks_exact_mut(2 * tile)) {
            let indices = band.indices();
            for (position, &index) in indices.iter().enumerate() {
                let next = indices.get(position + AHEAD);
                from.prefetch_codes(next.map(|&next| &rows[next as usize]));
                let lines = &mut lines[position / SIDE * tile..][..tile];
                pack(
                    lines,
                    position % SIDE,
                    from.codes(rows[index as usize] as usize),
                );
            }
        }
    }
}

/// What bounds are multiplied by, to have room for the rounding of distances.
fn widen(dim: usize) -> f32 {
    1.0 + rounding(dim) as f32
}

/// Rows gathered for the left side of [`near_pairs`](crate::near_pairs).
#[derive(Clone)]
pub struct LeftPanel(pub(super) Packed);

/// Rows gathered for the right side of [`near_pairs`](crate::near_pairs).
#[derive(Clone)]
pub struct RightPanel(pub(super) Packed);

impl LeftPanel {
    /// An empty panel for `isa`; its memory is kept from one gather to the next.
    pub fn new(isa: Isa) -> Self {
        Self(Packed::new(isa))
    }

    /// Fills the panel with the rows of `from` that `rows` names. `bounds` gives for each the largest
    /// distance of the pairs that are wanted: all for positive infinity, or NaN; none for a negative
    /// bound.
    ///
    /// # Errors
    /// [`RowOutOfRange`](crate::KernelError::RowOutOfRange), or [`Shape`](crate::KernelError::Shape)
    /// when there is not one bound a row; the panel is then as before.
    pub fn gather(&mut self, from: &Quantised, rows: &[u32], bounds: &[f32]) -> Result<()> {
        // A block is tested with the furthest of its left rows' bounds: so rows of like bounds together.
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
    /// [`Shape`](crate::KernelError::Shape) when there is not one bound a row.
    pub fn set_bounds(&mut self, bounds: &[f32]) -> Result<()> {
        self.0.set_bounds(bounds)
    }
}

impl RightPanel {
    /// An empty panel for `isa`; its memory is kept from one gather to the next.
    pub fn new(isa: Isa) -> Self {
        Self(Packed::new(isa))
    }

    /// What a panel takes up in memory for each of its rows, at most, if it has many of each scale.
    pub fn bytes_a_row(isa: Isa, dim: usize) -> usize {
        let codes = Packing::of(isa).lines(dim) * size_of::<Line>();
        // A list that grows has room for up to twice as many.
        let of_band = 2 * size_of::<Band>() + size_of::<Bounds>();
        codes + of_band / BLOCK + size_of::<(u32, u32, u32)>()
    }

    /// Fills the panel as [`LeftPanel::gather`] does.
    ///
    /// # Errors
    /// As there.
    pub fn gather(&mut self, from: &Quantised, rows: &[u32], bounds: &[f32]) -> Result<()> {
        self.0.lay_out(from, rows, bounds, false)?;
        let packing = Packing::of(self.0.isa);
        // Of a number of 8 bits, to flip the highest is to add 128.
        let flip = u32::from_ne_bytes([packing.shift(); 4]);
        self.0.pack(from, rows, |lines, row, codes| {
            let codes = codes.chunks_exact(packing.per_line());
            for (lines, codes) in lines.as_chunks_mut::<SIDE>().0.iter_mut().zip(codes) {
                for (unit, codes) in packing.line(codes).0.into_iter().enumerate() {
                    let (line, place) = packing.place(unit, row);
                    lines[line].0[place] = codes ^ flip;
                }
            }
        });
        Ok(())
    }

    /// For each column the position, in what was gathered, of the row it is of; `None` for padding.
    pub fn columns(&self) -> impl Iterator<Item = Option<u32>> {
        let of_band = |band: &'_ Band| (0..BLOCK).map(|row| band.index(row)).collect::<Vec<_>>();
        self.0.bands.iter().flat_map(of_band)
    }

    /// Sets the bounds anew, which costs less than to gather again.
    ///
    /// # Errors
    /// [`Shape`](crate::KernelError::Shape) when there is not one bound a row.
    pub fn set_bounds(&mut self, bounds: &[f32]) -> Result<()> {
        self.0.set_bounds(bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rows;

    #[test]
    fn panels_take_up_what_they_say() -> Result<()> {
        let (dim, rows) = (96, 10_000);
        let values: Vec<f32> = (0..dim * rows).map(|value| (value % 1013) as f32).collect();
        let codes = Quantised::new(Rows::new(&values, dim)?, Isa::best())?;
        let all: Vec<u32> = (0..rows as u32).collect();
        for &isa in Isa::available() {
            let mut panel = RightPanel::new(isa);
            panel.gather(&codes, &all, &vec![0.0; rows])?;
            let Packed {
                lines,
                bands,
                bounds,
                order,
                ..
            } = &panel.0;
            let bytes = lines.capacity() * size_of::<Line>()
                + bands.capacity() * size_of::<Band>()
                + bounds.capacity() * size_of::<Bounds>()
                + order.capacity() * size_of_val(&order[0]);
            let said = RightPanel::bytes_a_row(isa, dim) * rows;
            assert!(bytes <= said, "{isa}: {bytes} of {said}");
            assert!(bytes > said * 3 / 4, "{isa}: {bytes} of {said}");
        }
        Ok(())
    }
}
