//! The pairs of two panels that may be within the bounds of their rows.

use pulp::{Simd, WithSimd};

use super::{
    band::{BLOCK, Band, Bounds},
    block::Product,
    distance_bounds::DistanceBounds,
    panel::{LeftPanel, RightPanel},
    panels::Panels,
};
use crate::{
    base::{error::Result, memory},
    simd::{bits::set_bits, dispatch::dispatch},
};

/// What memory is asked for.
pub(super) const PAIRS: &str = "pairs that may be near";

/// A pair of rows that may be near, by their indices in what two panels gathered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Near {
    /// Index of the left row.
    pub left: u32,
    /// Index of the right row.
    pub right: u32,
    /// The Euclidean distance of the two rows, computed in single precision or better, is not
    /// below this,
    pub lower: f32,
    /// nor above this.
    pub upper: f32,
}

/// Appends the panels' pairs of rows that may be near.
///
/// Left out are only pairs whose Euclidean distance is above both rows' bounds, even if it is rounded
/// as in single precision. A pair that is reported may be further apart, by about the residuals of the
/// 8-bit codes: 1 % of the vectors' lengths. The order is the same on every run with one instruction
/// set, but of no meaning.
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
/// assert!(near.iter().all(|pair| pair.lower <= 0.5 && pair.upper >= 0.0));
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`Packing`](crate::KernelError::Packing) when the panels are for different instruction sets,
/// [`Shape`](crate::KernelError::Shape) when their rows are of different dimensions.
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

    /// All left bands with as many right ones as the cache holds, then with the next.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Result<()> {
        let Self { panels, near } = self;
        let (lefts, rights) = (panels.left.bands.len(), panels.right.bands.len());
        let mut product = Product::new();
        for start in (0..rights).step_by(panels.cached()) {
            for left in 0..lefts {
                for right in start..rights.min(start + panels.cached()) {
                    let bounds = (&panels.left.bounds[left], &panels.right.bounds[right]);
                    if panels.multiply((left, bounds.0), (right, bounds.1), &mut product) {
                        memory::reserve(near, BLOCK * BLOCK, PAIRS)?;
                        let bands = (&panels.left.bands[left], &panels.right.bands[right]);
                        report(&product, bands, bounds, panels.rounding, near);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Appends the pairs of a block whose dot products reach their thresholds, and whose distance bounds
/// say the same: thresholds are made for the furthest of the left rows' bounds, and this looks at each.
#[inline(always)]
fn report(
    product: &Product,
    (left, right): (&Band, &Band),
    (of_left, of_right): (&Bounds, &Bounds),
    rounding: f64,
    near: &mut Vec<Near>,
) {
    for (row, &mask) in product.masks.iter().enumerate() {
        let Some(left_index) = left.index(row).filter(|_| mask != 0) else {
            continue;
        };
        let distances = DistanceBounds::new((left, row), right, rounding);
        for column in set_bits(mask) {
            let Some(right_index) = right.index(column) else {
                continue;
            };
            let distance2 = distances.distance2(column, product.dot(row, column));
            let (lower, upper) = distances.interval(column, distance2);
            if lower <= of_left.each[row].max(of_right.each[column]) {
                near.push(Near {
                    left: left_index,
                    right: right_index,
                    lower,
                    upper,
                });
            }
        }
    }
}
