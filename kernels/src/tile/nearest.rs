//! The nearest rows of a panel, where no bounds are known yet.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{
    band::{BLOCK, Band},
    block::Product,
    code_distances::set_distances2,
    distance_bounds::{DistanceBounds, Widest},
    near::{Near, PAIRS},
    panel::{LeftPanel, RightPanel},
    panels::Panels,
};
use crate::{
    base::{
        error::{KernelError, Result},
        memory,
    },
    selection::least::{each_position, least_of_lanes},
    simd::dispatch::dispatch,
};

/// Appends, for each left row, its pairs with those right rows that may be among its `k` nearest
/// there and within its bound: all whose distance may be as small as the k-th smallest of the
/// distances that they have at most.
///
/// Where rows have no bounds yet, this costs less than to report all pairs by
/// [`near_pairs`](crate::near_pairs).
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
/// [`KernelError::NoNeighbours`] when `k` is 0, and as [`near_pairs`](crate::near_pairs).
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
        dispatch(left.0.isa, NearestPairs { panels, k, near })?;
    }
    Ok(())
}

/// Right rows of one scale. Codes of a few much larger rows tell less, which must not widen the bounds
/// of the others.
struct Kind {
    /// Where their squared distances are among those to all right rows.
    positions: Range<usize>,
    widest: Widest,
}

impl Kind {
    fn of(rights: &[Band], rounding: f64) -> Vec<Self> {
        let same = |x: &Band, y: &Band| x.scale.value == y.scale.value;
        let kinds = rights.chunk_by(same).scan(0, |start, bands| {
            let positions = *start..*start + bands.len() * BLOCK;
            *start = positions.end;
            Some(Self {
                positions,
                widest: Widest::of(bands, rounding),
            })
        });
        kinds.collect()
    }
}

struct NearestPairs<'a> {
    panels: Panels<'a>,
    k: usize,
    near: &'a mut Vec<Near>,
}

impl WithSimd for NearestPairs<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Result<()> {
        let Self { panels, k, near } = self;
        let rights = &panels.right.bands;
        let columns = rights.len() * BLOCK;
        let mut product = Product::new();
        let mut squares = memory::filled(f32::INFINITY, BLOCK * columns, PAIRS)?;
        let mut ends = memory::empty(columns, PAIRS)?;
        let mut found = memory::empty(columns, PAIRS)?;
        let kinds = Kind::of(rights, panels.rounding);
        for (at, left) in panels.left.bands.iter().enumerate() {
            set_distances2(&panels, at, &mut product, &mut squares);
            for (row, squares) in squares.chunks_exact(columns).enumerate().take(left.rows) {
                let Some(index) = left.index(row) else {
                    continue;
                };
                let wanted = panels.left.bounds[at].each[row];
                let left = (left, row);
                let furthest = kinds.iter().map(|kind| {
                    let kth = not_below_kth(&squares[kind.positions.clone()], k, &mut ends);
                    kind.widest.furthest(left, kth)
                });
                let bound = furthest.fold(wanted, f32::min);
                found.clear();
                for Kind { positions, widest } in &kinds {
                    let limit = widest.limit(left, bound);
                    // Not a number where single precision overflows.
                    let near_enough = |square: f32| (square <= limit) | square.is_nan();
                    each_position(&squares[positions.clone()], near_enough, |position| {
                        let position = positions.start + position;
                        let (band, column) = (position / BLOCK, position % BLOCK);
                        let distances = DistanceBounds::new(left, &rights[band], panels.rounding);
                        let (lower, upper) = distances.interval(column, squares[position]);
                        if let Some(right) = rights[band].index(column) {
                            found.push(Near {
                                left: index,
                                right,
                                lower,
                                upper,
                            });
                        }
                    });
                }
                ends.clear();
                ends.extend(found.iter().map(|pair| pair.upper));
                let bound = wanted.min(kth_smallest(&mut ends, k));
                memory::reserve(near, found.len(), PAIRS)?;
                near.extend(found.iter().filter(|pair| pair.lower <= bound));
            }
        }
        Ok(())
    }
}

/// No less than the k-th smallest number, and little more: the k-th of the smallest of some groups, of
/// which there are about 2 k. `smallest` is scratch memory.
#[inline(always)]
fn not_below_kth(numbers: &[f32], k: usize, smallest: &mut Vec<f32>) -> f32 {
    smallest.clear();
    let group = (numbers.len() / k.div_ceil(BLOCK / 2)).max(1);
    for numbers in numbers.chunks(group.next_multiple_of(BLOCK)) {
        smallest.extend(least_of_lanes::<BLOCK>(numbers));
    }
    kth_smallest(smallest, k)
}

/// The k-th smallest, infinite where there are fewer than k.
fn kth_smallest(numbers: &mut [f32], k: usize) -> f32 {
    match numbers.get(k - 1) {
        Some(_) => *numbers.select_nth_unstable_by(k - 1, f32::total_cmp).1,
        None => f32::INFINITY,
    }
}
