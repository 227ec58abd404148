//! The nearest of a panel, without bounds to begin with.

use pulp::{Simd, WithSimd};

use super::{BLOCK, LeftPanel, Near, Panels, Product, Reckoning, RightPanel, SIDE};
use crate::{
    error::{KernelError, Result},
    simd::dispatch,
};

/// Appends, for each left row, its pairs with those right rows that may be among its `k` nearest
/// there and within its bound: all whose distance may be as small as the k-th smallest of the
/// distances that they have at most.
///
/// Where rows have no bounds yet, this finds some for less than
/// [`near_pairs`](super::near_pairs) would report all pairs.
///
/// ```
/// use lshjoin_kernels::{Isa, LeftPanel, Quantised, RightPanel, Rows, nearest_pairs};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[0.0_f32, 1.0, 5.0, 9.0], 1)?, isa)?;
/// let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
/// left.gather(&rows, &[0, 3], &[f32::INFINITY; 2])?;
/// right.gather(&rows, &[1, 2], &[-1.0; 2])?;
/// let mut near = Vec::new();
/// nearest_pairs(&left, &right, 1, &mut near)?;
/// let found: Vec<_> = near.iter().map(|pair| (pair.left, pair.right)).collect();
/// assert_eq!(found, [(0, 0), (1, 1)]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::NoNeighbours`] when `k` is 0, and as [`near_pairs`](super::near_pairs).
pub fn nearest_pairs(
    left: &LeftPanel,
    right: &RightPanel,
    k: usize,
    near: &mut Vec<Near>,
) -> Result<()> {
    if k == 0 {
        return Err(KernelError::NoNeighbours);
    }
    if let Some(panels) = Panels::new(left, right)? {
        dispatch(left.0.isa, NearestPairs { panels, k, near });
    }
    Ok(())
}

struct NearestPairs<'a> {
    panels: Panels<'a>,
    k: usize,
    near: &'a mut Vec<Near>,
}

/// The intervals of 32 left rows with 32 right rows.
struct Intervals {
    at_least: [[f32; BLOCK]; BLOCK],
    at_most: [[f32; BLOCK]; BLOCK],
}

impl WithSimd for NearestPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { panels, k, near } = self;
        let rights = panels.right.bands.len();
        let mut product = Product::new();
        let mut intervals: Vec<Intervals> = Vec::new();
        let mut kth = Vec::new();
        for (at, left) in panels.left.bands.iter().enumerate() {
            intervals.clear();
            for right in 0..rights {
                panels.multiply(at, right, &mut product);
                intervals.push(Intervals::of(&panels, at, right, &product));
            }
            for row in 0..left.rows {
                let at_most = intervals.iter().flat_map(|block| block.at_most[row]);
                let bound = if k == 1 {
                    at_most.fold(f32::INFINITY, f32::min)
                } else {
                    kth.clear();
                    kth.extend(at_most);
                    match kth.get(k - 1) {
                        Some(_) => *kth.select_nth_unstable_by(k - 1, f32::total_cmp).1,
                        None => f32::INFINITY,
                    }
                };
                for (block, right) in intervals.iter().zip(&panels.right.bands) {
                    for (column, &at_least) in block.at_least[row].iter().enumerate() {
                        // Infinite for pairs that are not near at all.
                        if at_least <= bound
                            && at_least < f32::INFINITY
                            && let Some(index) = left.index(row)
                            && let Some(other) = right.index(column)
                        {
                            near.push(Near {
                                left: index,
                                right: other,
                                at_least,
                                at_most: block.at_most[row][column],
                            });
                        }
                    }
                }
            }
        }
    }
}

impl Intervals {
    #[inline(always)]
    fn of(panels: &Panels, left: usize, right: usize, product: &Product) -> Self {
        let (left, right) = (&panels.left.bands[left], &panels.right.bands[right]);
        let mut intervals = Self {
            at_least: [[f32::INFINITY; BLOCK]; BLOCK],
            at_most: [[f32::INFINITY; BLOCK]; BLOCK],
        };
        for row in 0..left.rows {
            let mask = product.masks[row];
            if mask == 0 {
                continue;
            }
            let reckoning = Reckoning::new((left, row), right, &product.floors, panels.rounding);
            for half in 0..2 {
                let sums = &product.tiles[row / SIDE + 2 * half].0[row % SIDE];
                for (at, &sum) in sums.iter().enumerate() {
                    let column = half * SIDE + at;
                    let (at_least, at_most) = reckoning.interval(column, sum);
                    let near = mask >> column & 1 == 1 && column < right.rows;
                    intervals.at_least[row][column] = if near { at_least } else { f32::INFINITY };
                    intervals.at_most[row][column] = if near { at_most } else { f32::INFINITY };
                }
            }
        }
        intervals
    }
}
