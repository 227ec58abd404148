//! All squared distances between two panels, as their codes have them.

use pulp::{Simd, WithSimd};

use super::{BLOCK, Bounds, LeftPanel, Panels, Product, RightPanel};
use crate::{error::Result, memory, simd::dispatch};

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
/// As [`near_pairs`](super::near_pairs).
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
                let of_columns = product.of_columns((left, right));
                for row in 0..left.rows {
                    if let Some(index) = left.index(row) {
                        let to = &mut squares[index as usize * columns + other * BLOCK..][..BLOCK];
                        product.distances2((left, row), right, &of_columns, to);
                    }
                }
            }
        }
    }
}
