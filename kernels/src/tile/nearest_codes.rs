//! The nearest rows of a panel by their codes alone.

use pulp::{Simd, WithSimd};

use super::{
    band::BLOCK,
    block::Product,
    code_distances::set_distances2,
    distance_bounds::DistanceBounds,
    near::{Near, PAIRS},
    panel::{LeftPanel, RightPanel},
    panels::Panels,
    rounding::{at_most_infinite, not_negative},
};
use crate::{
    base::{
        error::{KernelError, Result},
        memory,
    },
    selection::{
        keys::insert_keys,
        least::{LANES, mask_of},
    },
    simd::{bits::set_bits, dispatch::dispatch},
};

/// Keys of a list are a multiple of this, which is quickest.
const KEYS: usize = 8;

/// Appends, for each left row, its pairs with the `k` right rows whose codes are nearest to its own, or
/// with all where there are fewer; whatever the bounds of the rows are.
///
/// Unlike [`nearest_pairs`](crate::nearest_pairs), which appends all pairs that may be among the `k`
/// nearest, this takes the codes' word.
///
/// ```
/// use lshjoin_kernels::{Isa, LeftPanel, Quantised, RightPanel, Rows, nearest_codes};
///
/// let isa = Isa::best();
/// let rows = Quantised::new(Rows::new(&[0.0_f32, 1.0, 5.0, 9.0], 1)?, isa)?;
/// let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
/// left.gather(&rows, &[0, 3], &[f32::INFINITY; 2])?;
/// right.gather(&rows, &[1, 2], &[-1.0; 2])?;
/// let mut near = Vec::new();
/// nearest_codes(&left, &right, 1, &mut near)?;
/// let found: Vec<_> = near.iter().map(|pair| (pair.left, pair.right)).collect();
/// assert_eq!(found, [(0, 0), (1, 1)]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::NoNeighbours`] when `k` is 0, and as [`near_pairs`](crate::near_pairs).
pub fn nearest_codes(
    left: &LeftPanel,
    right: &RightPanel,
    k: usize,
    near: &mut Vec<Near>,
) -> Result<()> {
    if k == 0 {
        return Err(KernelError::NoNeighbours);
    }
    if let Some(panels) = Panels::new(left, right)? {
        dispatch(left.0.isa, NearestCodes { panels, k, near })?;
    }
    Ok(())
}

struct NearestCodes<'a> {
    panels: Panels<'a>,
    k: usize,
    near: &'a mut Vec<Near>,
}

impl WithSimd for NearestCodes<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Result<()> {
        let Self { panels, k, near } = self;
        let rights = &panels.right.bands;
        let columns = rights.len() * BLOCK;
        let k = k.min(columns);
        let mut product = Product::new();
        let mut squares = memory::filled(f32::INFINITY, BLOCK * columns, PAIRS)?;
        let isa = panels.left.isa;
        let mut keys = [0; LANES];
        let mut list = memory::filled(i64::MAX, k.next_multiple_of(KEYS), PAIRS)?;
        for (at, left) in panels.left.bands.iter().enumerate() {
            set_distances2(&panels, at, &mut product, &mut squares);
            memory::reserve(near, left.rows * k, PAIRS)?;
            for (row, squares) in squares.chunks_exact(columns).enumerate().take(left.rows) {
                let Some(index) = left.index(row) else {
                    continue;
                };
                list.fill(i64::MAX);
                let mut kth = f32::INFINITY;
                // In one loop, not by a closure, which would be compiled for no instruction set.
                for (chunk, numbers) in squares.as_chunks::<LANES>().0.iter().enumerate() {
                    // Not a number where single precision overflows: as far as can be.
                    let near = |square: f32| (square <= kth) | square.is_nan();
                    let mut count = 0;
                    for at in set_bits(mask_of(numbers, near)) {
                        let square = at_most_infinite(not_negative(numbers[at]));
                        keys[count] = key(square, chunk * LANES + at);
                        count += 1;
                    }
                    if count > 0 {
                        insert_keys(&mut list, &keys[..count], isa);
                        kth = square_of(list[k - 1]);
                    }
                }
                for &key in &list[..k] {
                    let (square, position) = (square_of(key), key as u32 as usize);
                    let (band, column) = (position / BLOCK, position % BLOCK);
                    let Some((right, position)) = rights
                        .get(band)
                        .and_then(|right| Some((right, right.index(column)?)))
                    else {
                        continue;
                    };
                    let distances = DistanceBounds::new((left, row), right, panels.rounding);
                    let (lower, upper) = distances.interval(column, square);
                    near.push(Near {
                        left: index,
                        right: position,
                        lower,
                        upper,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Keys are ordered by squared distance, then by position: positive numbers order as their bits do.
#[inline(always)]
fn key(square: f32, position: usize) -> i64 {
    i64::from(square.to_bits()) << 32 | position as i64
}

#[inline(always)]
fn square_of(key: i64) -> f32 {
    match key {
        i64::MAX => f32::INFINITY,
        _ => f32::from_bits((key >> 32) as u32),
    }
}
