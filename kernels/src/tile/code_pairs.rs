//! The pairs of two panels that are near by their codes alone.

use pulp::{Simd, WithSimd};

use super::{
    band::{BLOCK, Band, Bounds},
    block::Product,
    distance_bounds::DistanceBounds,
    near::PAIRS,
    panel::{LeftPanel, RightPanel},
    panels::Panels,
    rounding::{MORE, at_most_infinite},
};
use crate::{
    base::{error::Result, memory},
    simd::{bits::set_bits, dispatch::dispatch},
};

/// A pair of rows, by their indices in what two panels gathered, and its squared Euclidean distance as
/// [`code_distances2`](crate::code_distances2) has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodePair {
    /// Index of the left row.
    pub left: u32,
    /// Index of the right row.
    pub right: u32,
    /// Infinite where single precision overflows.
    pub square: f32,
}

/// Appends the panels' pairs of rows whose squared distance, as
/// [`code_distances2`](crate::code_distances2) has it, is at most the square of either row's bound; by
/// the rounding of that, some pairs that are a little further.
///
/// ```
/// use lshjoin_kernels::{Isa, LeftPanel, Quantised, RightPanel, Rows, code_pairs};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[0.0_f32, 1.0, 5.0], 1)?, isa)?;
/// let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
/// left.gather(&rows, &[0, 2], &[2.0, 0.5])?;
/// right.gather(&rows, &[1], &[-1.0])?;
/// let mut pairs = Vec::new();
/// code_pairs(&left, &right, &mut pairs)?;
/// assert!(pairs.len() == 1 && (pairs[0].square - 1.0).abs() < 0.1);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// As [`near_pairs`](crate::near_pairs).
pub fn code_pairs(left: &LeftPanel, right: &RightPanel, pairs: &mut Vec<CodePair>) -> Result<()> {
    if let Some(panels) = Panels::new(left, right)? {
        dispatch(left.0.isa, CodePairs { panels, pairs })?;
    }
    Ok(())
}

struct CodePairs<'a> {
    panels: Panels<'a>,
    pairs: &'a mut Vec<CodePair>,
}

impl WithSimd for CodePairs<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Result<()> {
        let Self { panels, pairs } = self;
        let mut product = Product::new();
        for (left, of_left) in panels.left.bounds.iter().enumerate() {
            for (right, of_right) in panels.right.bounds.iter().enumerate() {
                if panels.multiply((left, of_left), (right, of_right), &mut product) {
                    memory::reserve(pairs, BLOCK * BLOCK, PAIRS)?;
                    let bands = (&panels.left.bands[left], &panels.right.bands[right]);
                    report(&product, bands, (of_left, of_right), pairs);
                }
            }
        }
        Ok(())
    }
}

#[inline(always)]
fn report(
    product: &Product,
    (left, right): (&Band, &Band),
    (of_left, of_right): (&Bounds, &Bounds),
    pairs: &mut Vec<CodePair>,
) {
    for (row, &mask) in product.masks.iter().enumerate() {
        let Some(left_index) = left.index(row).filter(|_| mask != 0) else {
            continue;
        };
        let distances = DistanceBounds::new((left, row), right, 0.0);
        for column in set_bits(mask) {
            let Some(right_index) = right.index(column) else {
                continue;
            };
            let square = at_most_infinite(distances.distance2(column, product.dot(row, column)));
            let bound = of_left.each[row].max(of_right.each[column]);
            if bound >= 0.0 && square <= bound * bound * MORE {
                pairs.push(CodePair {
                    left: left_index,
                    right: right_index,
                    square,
                });
            }
        }
    }
}
