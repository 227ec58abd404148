//! Which rows meet: those of each cell and those that look into it.
//!
//! A row looks into the cells whose centroids are about as near as that of its own; how much further
//! they may be is learnt from rows whose neighbours are known. All queries being known, those that look
//! into a cell are gathered from all over and meet its rows as tiles, as in FAISS's
//! `big_batch_search`. A side joined with itself needs a third of the pairs, since two rows meet when
//! either looks into the other's cell. (To look into the buckets that probably hold neighbours: Q. Lv
//! et al., "Multi-probe LSH", 2007.)

use std::ops::Range;

use lshjoin_kernels::{Quantised, Rows, Scalar};
use rayon::prelude::*;

use crate::{
    cells::{BLOCK, CellStarts, Cells, Distances, sample_step},
    error::Result,
    held_out::{self, Known},
    needed::Needed,
    plan::MOST_CELLS,
    run::Run,
    side::Side,
};

/// Up to which shares of the margin rows look into cells at a time: all have met the more promising
/// rows before the others come, so that most pairs of the last part fail the first test.
const PARTS: [f32; 2] = [0.5, 1.0];

/// Rows that tell how many cells a margin lets a row look into.
const SAMPLED: usize = 2048;

/// Sampled rows a cell that tell how many rows the cells have.
const ROWS_OF_CELL: usize = 8;

/// Cells near each whose rows may fill the lists of its own.
const NEAR: usize = 64;

/// The largest value of a row that centroids are learnt from: its square fits single precision.
const LARGEST: f64 = 1e18;

/// Left and right rows by cell, and which left rows look into each.
pub(crate) struct Visits {
    /// Right rows that each left one meets to begin with, if there are as many near.
    filling: usize,
    /// The cells nearest to each, itself first.
    near: Vec<Vec<u32>>,
    /// `None` when the right side meets itself.
    left: Option<CellStarts>,
    right: CellStarts,
    looks: Looks,
}

/// The rows that look into each cell, by part and cell: into their own only where it is not among what
/// fills their lists.
struct Looks {
    starts: CellStarts,
    rows: Vec<u32>,
}

/// The cell of each row of a block, and what it looks into: where the keys of each row end, and all keys.
#[derive(Default)]
struct OfBlock {
    cells: Vec<u32>,
    ends: Vec<u32>,
    keys: Vec<u16>,
}

/// Bytes of a look, while looks are listed by row and by cell.
pub(crate) const LOOK_BYTES: usize = size_of::<u16>() + size_of::<u32>();

// A key is a part and a cell.
const _: () = assert!(PARTS.len() * MOST_CELLS <= 1 << 16);

/// Ranges of two orders of rows that are to meet.
pub(crate) type Met = Vec<(Range<usize>, Range<usize>)>;

/// At most `count` cells of a side's rows, or of their directions where these are what its metric
/// compares.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn cells_of<T: Scalar>(
    side: &Side<'_, T>,
    count: usize,
    seed: u64,
    run: &Run,
) -> Result<Cells> {
    let step = sample_step(side.rows.len(), count);
    let (sampled, dim) = (side.rows.len().div_ceil(step), side.rows.dim());
    let mut values = vec![0.0; sampled * dim];
    values
        .par_chunks_mut(dim)
        .enumerate()
        .for_each(|(place, copy)| {
            let row = place * step;
            let scale = f64::from(side.direction_scale(row));
            for (copy, value) in copy.iter_mut().zip(side.rows.row(row)) {
                *copy = (value.to_f64() * scale).clamp(-LARGEST, LARGEST) as f32;
            }
        });
    Cells::of_sample(Rows::new(&values, dim)?, count, seed, run)
}

/// The margins by which rows find those nearest to them: where a side meets itself, the least of the
/// margins by which either finds the other.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn needed<T: Scalar>(
    cells: &Cells,
    left: Option<&Side<'_, T>>,
    right: &Side<'_, T>,
    known: &[Known],
    run: &Run,
) -> Result<Needed> {
    let rows: Vec<u32> = known.iter().map(|(row, _)| *row).collect();
    let looked = |_: usize, distances: &Distances| (distances.nearest(), distances.margins());
    let of_rows = each_row(cells, left.unwrap_or(right), &rows, looked, run)?;
    let pairs = known.iter().zip(&of_rows);
    let pairs: Vec<(u32, &(u32, Vec<f32>))> = pairs
        .flat_map(|((_, others), of_row)| others.iter().map(move |&other| (other, of_row)))
        .collect();
    let others: Vec<u32> = pairs.iter().map(|&(other, _)| other).collect();
    let margin = |place: usize, distances: &Distances| {
        let (cell, margins) = pairs[place].1;
        let straight = margins[distances.nearest() as usize];
        match left {
            Some(_) => straight,
            None => straight.min(distances.margin(*cell)),
        }
    };
    let mut margins = each_row(cells, right, &others, margin, run)?.into_iter();
    let of_row = |(_, others): &Known| margins.by_ref().take(others.len()).collect();
    Ok(Needed(known.iter().map(of_row).collect()))
}

/// The margin by which rows look into so many cells, on average: as a sample has it.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn margin_of<T: Scalar>(
    cells: &Cells,
    side: &Side<'_, T>,
    probes: usize,
    run: &Run,
) -> Result<f32> {
    let rows = held_out::sample(side.rows.len(), SAMPLED);
    let margins = each_row(cells, side, &rows, |_, distances| distances.margins(), run)?;
    let mut margins = margins.concat();
    let place = (rows.len() * probes).min(margins.len()).saturating_sub(1);
    Ok(match margins.is_empty() {
        true => 0.0,
        false => *margins.select_nth_unstable_by(place, f32::total_cmp).1,
    })
}

/// How far rows look with a margin, as a sample has it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extent {
    /// Cells that a row looks into.
    pub(crate) cells: f64,
    /// The share of the right rows that are in them.
    pub(crate) share: f64,
    /// The share of them that fill its list before.
    pub(crate) filling: f64,
}

/// How far left rows look with each of these margins, after `filling` right ones filled their lists.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn extents<T: Scalar>(
    cells: &Cells,
    left: Option<&Side<'_, T>>,
    right: &Side<'_, T>,
    margins: &[f32],
    filling: usize,
    run: &Run,
) -> Result<Vec<Extent>> {
    let rows = held_out::sample(right.rows.len(), ROWS_OF_CELL * cells.len());
    let of_rows = each_row(cells, right, &rows, |_, distances| distances.nearest(), run)?;
    let starts = CellStarts::of_sample(of_rows.into_iter(), cells.len());
    let share = |cell| starts.of(cell).len() as f64 / starts.rows() as f64;
    let all = right.rows.len() as f64;
    let left = left.unwrap_or(right);
    let looking = held_out::sample(left.rows.len(), SAMPLED);
    let most = margins.iter().copied().fold(0.0, f32::max);
    let looks = |_: usize, distances: &Distances| {
        let own = distances.nearest();
        let parts = parts((share(own) * all).ceil() as usize, filling);
        let filled = (share(own) / parts as f64).max(filling as f64 / all);
        let look = Extent {
            filling: filled.min(1.0),
            ..Extent::default()
        };
        let mut looks = vec![look; margins.len()];
        distances.within(most, |cell, further| {
            if cell == own && parts == 1 {
                return;
            }
            for (look, &margin) in looks.iter_mut().zip(margins) {
                if further <= margin {
                    look.cells += 1.0;
                    look.share += share(cell);
                }
            }
        });
        looks
    };
    let looks = each_row(cells, left, &looking, looks, run)?;
    let count = (looks.len() as f64).max(1.0);
    let mean = |place: usize| {
        let of_rows = looks.iter().map(|looks| looks[place]);
        of_rows.fold(Extent::default(), |sum, look| Extent {
            cells: sum.cells + look.cells / count,
            share: sum.share + look.share / count,
            filling: sum.filling + look.filling / count,
        })
    };
    Ok((0..margins.len()).map(mean).collect())
}

/// Into how many parts right rows are cut to fill the lists of a cell: of large cells some rows each.
fn parts(rows: usize, filling: usize) -> usize {
    rows.div_ceil(2 * filling).max(1)
}

/// [`Cells::each_row`] for some of a side's rows, by index.
fn each_row<T: Scalar, V: Send>(
    cells: &Cells,
    side: &Side<'_, T>,
    rows: &[u32],
    of_row: impl Fn(usize, &Distances) -> V + Sync,
    run: &Run,
) -> Result<Vec<V>> {
    let Some(codes) = &side.codes else {
        return Ok(Vec::new());
    };
    let numbers: Vec<u32> = rows.iter().map(|&row| side.number(row)).collect();
    cells.each_row(codes, &numbers, of_row, run)
}

/// Numbers the side's rows by cell, and lists which look into each if there is a margin: into their own
/// only if not all of it fills their lists. `right` is of the other side's rows, if there is one.
fn by_cell<T: Scalar>(
    cells: &Cells,
    side: &mut Side<'_, T>,
    right: Option<&CellStarts>,
    margin: Option<f32>,
    filling: usize,
    run: &Run,
) -> Result<(CellStarts, Looks)> {
    let looks = |of_block: &mut dyn Iterator<Item = Distances>| {
        let mut block = OfBlock::default();
        for distances in of_block {
            block.cells.push(distances.nearest());
            if let Some(margin) = margin {
                distances.within(margin, |cell, further| {
                    let part = PARTS.iter().position(|part| further <= part * margin);
                    let key = key(part.unwrap_or(0), cell, cells.len());
                    block.keys.push(key as u16);
                });
            }
            block.ends.push(block.keys.len() as u32);
        }
        block
    };
    let rows: Vec<u32> = (0..side.rows.len() as u32).collect();
    let blocks = match &side.codes {
        Some(codes) => cells.each_block(codes, &rows, looks, run)?,
        None => Vec::new(),
    };
    let of_rows = blocks.iter().flat_map(|block| &block.cells);
    let of_rows: Vec<u32> = of_rows.copied().collect();
    let starts = CellStarts::new(of_rows.iter().copied(), cells.len());
    let order = starts.order(&of_rows);
    let right = right.unwrap_or(&starts);
    let in_full = |cell| parts(right.of(cell).len(), filling) == 1;
    let looks = Looks::new(&blocks, &order, cells.len(), in_full);
    drop(blocks);
    side.reorder(order)?;
    Ok((starts, looks))
}

/// Numbers the parts of all cells.
fn key(part: usize, cell: u32, cells: usize) -> u32 {
    (part * cells) as u32 + cell
}

impl Looks {
    /// Of all rows, block by block, which are numbered by `order`; none into their own cell where that is
    /// `in_full`.
    fn new(
        blocks: &[OfBlock],
        order: &[u32],
        cells: usize,
        in_full: impl Fn(u32) -> bool + Copy,
    ) -> Self {
        let keys = blocks.iter().flat_map(|block| {
            (0..block.cells.len()).flat_map(move |row| block.keys_of(row, in_full))
        });
        let starts = CellStarts::new(keys, PARTS.len() * cells);
        let (mut rows, mut next) = (vec![0; starts.rows()], starts.clone());
        for (number, &row) in (0..).zip(order) {
            let (block, row) = (&blocks[row as usize / BLOCK], row as usize % BLOCK);
            for key in block.keys_of(row, in_full) {
                rows[next.take(key)] = number;
            }
        }
        Self { starts, rows }
    }
}

impl OfBlock {
    fn keys_of(&self, row: usize, in_full: impl Fn(u32) -> bool) -> impl Iterator<Item = u32> {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        let keys = &self.keys[start as usize..self.ends[row] as usize];
        // Of the first part, that of a cell is its number.
        let own = self.cells[row];
        let skipped = in_full(own);
        let keys = keys.iter().map(|&key| u32::from(key));
        keys.filter(move |&key| !(skipped && key == own))
    }
}

impl Visits {
    /// Numbers both sides' rows by cell, of which left ones look as far as `margin` after `filling` right
    /// ones filled their lists.
    ///
    /// # Errors
    /// When the run is cancelled.
    pub(crate) fn new<T: Scalar>(
        cells: &Cells,
        left: Option<&mut Side<'_, T>>,
        right: &mut Side<'_, T>,
        margin: f32,
        filling: usize,
        run: &Run,
    ) -> Result<Self> {
        let centroids = Quantised::new(cells.centroids()?, run.isa())?;
        let all: Vec<u32> = (0..cells.len() as u32).collect();
        let near = cells.each_row(&centroids, &all, |_, distances| distances.first(NEAR), run)?;
        let ((left, looks), right) = match left {
            None => {
                let (right, looks) = by_cell(cells, right, None, Some(margin), filling, run)?;
                ((None, looks), right)
            }
            Some(left) => {
                let right = by_cell(cells, right, None, None, filling, run)?.0;
                let (left, looks) = by_cell(cells, left, Some(&right), Some(margin), filling, run)?;
                ((Some(left), looks), right)
            }
        };
        Ok(Self {
            filling,
            near,
            left,
            right,
            looks,
        })
    }

    /// The left rows that look into cells, in the order that [`Visits::parts`] goes by.
    pub(crate) fn order(&self) -> &[u32] {
        &self.looks.rows
    }

    /// Which of [`Visits::order`] are to meet which right rows: first those that promise most.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Met> {
        (0..PARTS.len()).map(|part| {
            let cells = 0..self.right.len() as u32;
            let met = cells.map(|cell| {
                let key = key(part, cell, self.right.len());
                (self.looks.starts.of(key), self.right.of(cell))
            });
            met.filter(|(left, right)| !left.is_empty() && !right.is_empty())
                .collect()
        })
    }

    /// What is to meet before: left rows with those of their own cell and of the nearest, as ranges of all
    /// left rows and of the right ones that are returned.
    pub(crate) fn first(&self) -> (Vec<u32>, Met) {
        let (mut order, mut met) = (Vec::new(), Vec::new());
        let left = self.left.as_ref().unwrap_or(&self.right);
        for (cell, near) in (0..).zip(&self.near) {
            let rows = left.of(cell);
            if rows.is_empty() {
                continue;
            }
            let start = order.len();
            order.extend(self.right.numbers(cell));
            for &cell in near.iter().filter(|&&other| other != cell) {
                let missing = self.filling.saturating_sub(order.len() - start);
                order.extend(self.right.numbers(cell).take(missing));
            }
            let (of_left, of_right) = (rows.len(), order.len() - start);
            let parts = parts(of_right, self.filling);
            met.extend((0..parts).map(|part| {
                let cut = |length| part * length / parts..(part + 1) * length / parts;
                let (left, right) = (cut(of_left), cut(of_right));
                (
                    rows.start + left.start..rows.start + left.end,
                    start + right.start..start + right.end,
                )
            }));
        }
        (order, met)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::{family::gaussian, metric::Metric};

    fn gaussians(count: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| gaussian(&mut rng) as f32).collect()
    }

    #[test]
    fn rows_meet_the_cells_within_their_margin_once_each() {
        const DIM: usize = 5;
        let run = Run::new().unwrap();
        let (queries, items) = (gaussians(300 * DIM, 1), gaussians(700 * DIM, 2));
        let side = |values| {
            let rows = Rows::new(values, DIM).unwrap();
            Side::new("rows", rows, Metric::Euclidean, &run).unwrap()
        };
        for (two_sided, filling) in [(false, 10), (false, 100), (true, 10), (true, 100)] {
            let (mut left, mut right) = (two_sided.then(|| side(&queries)), side(&items));
            let looking = side(if two_sided { &queries } else { &items });
            let cells = cells_of(&right, 20, 3, &run).unwrap();
            let margin = margin_of(&cells, &looking, 4, &run).unwrap();
            let all: Vec<u32> = (0..looking.rows.len() as u32).collect();
            let margins = each_row(&cells, &looking, &all, |_, of| of.margins(), &run).unwrap();
            let all: Vec<u32> = (0..right.rows.len() as u32).collect();
            let of_items = each_row(&cells, &right, &all, |_, of| of.nearest(), &run).unwrap();
            let extents = extents(&cells, left.as_ref(), &right, &[margin], filling, &run).unwrap();
            let visits =
                Visits::new(&cells, left.as_mut(), &mut right, margin, filling, &run).unwrap();
            let left = left.as_ref().unwrap_or(&right);

            let mut found = BTreeSet::new();
            for (met, part) in visits.parts().zip(PARTS) {
                for (of_left, of_right) in met {
                    let cell = visits.right.cell(of_right.start as u32);
                    assert_eq!(visits.right.of(cell), of_right);
                    for number in of_right {
                        assert_eq!(of_items[right.row(number as u32) as usize], cell);
                    }
                    for &number in &visits.order()[of_left] {
                        let row = left.row(number);
                        assert!(margins[row as usize][cell as usize] <= part * margin);
                        assert!(found.insert((row, cell)), "{row} looks into {cell} twice");
                    }
                }
            }
            let in_full = |cell: u32| visits.right.of(cell).len() <= 2 * filling;
            let looks = (0..).zip(&margins).flat_map(|(row, margins)| {
                let looks = (0..).zip(margins).filter(|&(cell, &further)| {
                    further <= margin && !(further == 0.0 && in_full(cell))
                });
                looks.map(move |(cell, _)| (row, cell))
            });
            assert_eq!(found, looks.collect());
            let average = found.len() as f64 / margins.len() as f64;
            let extent = &extents[0];
            assert!(
                (average - extent.cells).abs() < 0.2,
                "{average}, {}",
                extent.cells
            );

            let (order, met) = visits.first();
            let of_left = visits.left.as_ref().unwrap_or(&visits.right);
            let mut filled: Vec<usize> = Vec::new();
            for (left_rows, of_right) in met {
                assert!((filling..=2 * filling).contains(&of_right.len()));
                let cell = of_left.cell(left_rows.start as u32);
                let with = &order[of_right];
                assert!(
                    !in_full(cell) || visits.right.numbers(cell).all(|row| with.contains(&row))
                );
                filled.extend(left_rows);
            }
            assert_eq!(filled, (0..left.rows.len()).collect::<Vec<_>>());
        }
    }
}
