//! All squared distances between two panels, as their codes have them.

use pulp::{Simd, WithSimd};

use super::{
    band::{BLOCK, Band, Bounds, SIDE},
    block::Product,
    panel::{LeftPanel, RightPanel},
    panels::Panels,
};
use crate::{
    base::{error::Result, memory},
    simd::dispatch::dispatch,
};

/// Sets `squares` to the squared Euclidean distances of the panels' rows, (left rows, columns)
/// row-major, as far as 8-bit codes tell: off by about 1 % of the vectors' lengths. They are the
/// same on every machine. [`RightPanel::columns`] says which right row a column is of, if any;
/// those of none are infinite.
///
/// For what need not be exact, such as which of many centroids is near.
///
/// ```
/// use lshjoin_kernels::{Isa, LeftPanel, Quantised, RightPanel, Rows, code_distances2};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[0.0_f32, 0.0, 3.0, 4.0], 2)?, isa)?;
/// let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
/// left.gather(&rows, &[0], &[f32::INFINITY])?;
/// right.gather(&rows, &[0, 1], &[-1.0; 2])?;
/// let mut squares = Vec::new();
/// code_distances2(&left, &right, &mut squares)?;
/// let of_row = |row| right.columns().position(|column| column == Some(row)).unwrap();
/// assert_eq!(squares[of_row(0)], 0.0);
/// assert!((squares[of_row(1)] - 25.0).abs() < 0.5);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// As [`near_pairs`](crate::near_pairs).
pub fn code_distances2(left: &LeftPanel, right: &RightPanel, squares: &mut Vec<f32>) -> Result<()> {
    let len = left.0.len() * right.0.bands.len() * BLOCK;
    // All of it is set anew.
    memory::resize(squares, len, f32::INFINITY, "distances")?;
    if let Some(panels) = Panels::new(left, right)? {
        dispatch(left.0.isa, CodeDistances2 { panels, squares });
    }
    Ok(())
}

struct CodeDistances2<'a> {
    panels: Panels<'a>,
    squares: &'a mut [f32],
}

impl WithSimd for CodeDistances2<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { panels, squares } = self;
        let columns = panels.right.bands.len() * BLOCK;
        let mut product = Product::new();
        for (at, left) in panels.left.bands.iter().enumerate() {
            for (other, right) in panels.right.bands.iter().enumerate() {
                panels.multiply((at, &Bounds::ALL), (other, &Bounds::NONE), &mut product);
                let distances = CodeDistances::new(left, right);
                for row in 0..left.rows {
                    if let Some(index) = left.index(row) {
                        let to = &mut squares[index as usize * columns + other * BLOCK..][..BLOCK];
                        distances.set_row(row, &product, to);
                    }
                }
            }
        }
    }
}

/// Sets `squares`, (rows, columns) row-major, to the squared distances of the rows of a left band to all
/// right rows, by their order in the bands.
#[inline(always)]
pub(super) fn set_distances2(
    panels: &Panels<'_>,
    band: usize,
    product: &mut Product,
    squares: &mut [f32],
) {
    let left = &panels.left.bands[band];
    let columns = panels.right.bands.len() * BLOCK;
    for (other, right) in panels.right.bands.iter().enumerate() {
        panels.multiply((band, &Bounds::ALL), (other, &Bounds::NONE), product);
        let distances = CodeDistances::new(left, right);
        for row in 0..left.rows {
            let to = &mut squares[row * columns + other * BLOCK..][..BLOCK];
            distances.set_row(row, product, to);
        }
    }
}

/// The squared distances of the rows of two bands, as their codes have them.
pub(super) struct CodeDistances<'a> {
    left: &'a Band,
    right: &'a Band,
    /// What a square of left codes, and twice a product of codes, stand for.
    of_left: f32,
    of_products: f32,
    /// The squares of the right rows.
    squares: [f32; BLOCK],
}

impl<'a> CodeDistances<'a> {
    #[inline(always)]
    pub(super) fn new(left: &'a Band, right: &'a Band) -> Self {
        let (s, t) = (left.scale.value, right.scale.value);
        Self {
            left,
            right,
            of_left: (s * s) as f32,
            of_products: (2.0 * s * t) as f32,
            squares: right.squares.map(|square| (t * t) as f32 * square as f32),
        }
    }

    /// Sets the squared distances of a left row to all right rows, those of padding infinite. All tiles
    /// of the bands' product must be defined.
    #[inline(always)]
    pub(super) fn set_row(&self, row: usize, product: &Product, to: &mut [f32]) {
        let square = self.of_left * self.left.squares[row] as f32;
        let starts = &product.thresholds.starts;
        for half in 0..2 {
            let sums = &product.tiles[row / SIDE + 2 * half].0[row % SIDE];
            for (column, sum) in sums.iter().enumerate() {
                let at = half * SIDE + column;
                let dot = sum.wrapping_sub(starts[at]) as f32;
                to[at] = (square + self.squares[at]) - self.of_products * dot;
            }
        }
        to[self.right.rows..].fill(f32::INFINITY);
    }
}
