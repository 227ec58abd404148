//! The nearest of a panel, without bounds to begin with.

use pulp::{Simd, WithSimd};

use super::{
    BLOCK, Bounds, LeftPanel, Near, Panels, Product, Reckoning, RightPanel, floors::larger,
};
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

impl WithSimd for NearestPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { panels, k, near } = self;
        let rights = &panels.right.bands;
        let columns = rights.len() * BLOCK;
        let mut product = Product::new();
        let mut squares = vec![f32::INFINITY; BLOCK * columns];
        let mut smallest = Vec::new();
        for (at, left) in panels.left.bands.iter().enumerate() {
            for (other, right) in rights.iter().enumerate() {
                panels.multiply((at, &Bounds::ALL), (other, &Bounds::NONE), &mut product);
                let of_columns = product.of_columns((left, right));
                for row in 0..left.rows {
                    let to = &mut squares[row * columns + other * BLOCK..][..BLOCK];
                    product.distances2((left, row), right, &of_columns, to);
                }
            }
            for (row, squares) in squares.chunks_exact(columns).enumerate().take(left.rows) {
                let Some(index) = left.index(row) else {
                    continue;
                };
                // The k smallest as codes have them are no further than the furthest of them may
                // be. What overflows single precision may be infinitely far.
                let told = |&square: &f32| {
                    if square < f32::INFINITY {
                        square
                    } else {
                        f32::INFINITY
                    }
                };
                smallest.clear();
                smallest.extend(squares.iter().map(told));
                let kth = match smallest.get(k - 1) {
                    Some(_) => *smallest.select_nth_unstable_by(k - 1, f32::total_cmp).1,
                    None => f32::INFINITY,
                };
                let mut furthest = 0.0;
                for (right, squares) in rights.iter().zip(squares.chunks_exact(BLOCK)) {
                    let reckoning = Reckoning::new((left, row), right, panels.rounding);
                    for (column, &square) in squares[..right.rows].iter().enumerate() {
                        if square <= kth {
                            furthest = larger(reckoning.interval(column, square).1, furthest);
                        }
                    }
                }
                let mut bound = panels.left.bounds[at].each[row];
                if kth < f32::INFINITY {
                    bound = bound.min(furthest);
                }
                for (right, squares) in rights.iter().zip(squares.chunks_exact(BLOCK)) {
                    let reckoning = Reckoning::new((left, row), right, panels.rounding);
                    let limit = reckoning.limit(bound);
                    for (column, &square) in squares[..right.rows].iter().enumerate() {
                        if square > limit {
                            continue;
                        }
                        let (at_least, at_most) = reckoning.interval(column, square);
                        if at_least <= bound
                            && let Some(other) = right.index(column)
                        {
                            near.push(Near {
                                left: index,
                                right: other,
                                at_least,
                                at_most,
                            });
                        }
                    }
                }
            }
        }
    }
}
