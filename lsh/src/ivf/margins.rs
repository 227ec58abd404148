//! How far rows look: into the cells whose centroids are further than that of their own by no more than
//! a margin, in squares, which is learnt from rows whose neighbours are known.

use lshjoin_kernels::{Scalar, memory};

use crate::{
    base::{context::Run, error::Result, report::Estimate},
    ivf::{
        coarse_quantiser::{Cells, Distances},
        warm_start::Filling,
    },
    recall::{
        ground_truth::{HeldOut, Known, Which},
        recall_curve::Needed,
    },
    vectors::{Side, Sides},
};

/// How often a margin is chosen, at most, until it is not found to be too narrow.
const ATTEMPTS: usize = 4;

/// Rows that tell how many cells a margin lets a row look into.
const SAMPLED: usize = 2048;

/// The margins by which rows find those nearest to them, 0 for those that fill their lists: where a side
/// meets itself, the least of the margins by which either finds the other.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn needed<T: Scalar>(
    cells: &Cells,
    filling: &Filling,
    left: Option<&Side<'_, T>>,
    right: &Side<'_, T>,
    known: &[Known],
    run: &Run,
) -> Result<Needed> {
    let rows: Vec<u32> = known.iter().map(|(row, _)| *row).collect();
    let looked = |_: usize, distances: &Distances| Ok((distances.nearest(), distances.margins()?));
    let of_rows = cells.each_row_of(left.unwrap_or(right), &rows, looked, run)?;
    let pairs = known.iter().zip(&of_rows);
    let pairs: Vec<(u32, &(u32, Vec<f32>))> = pairs
        .flat_map(|((_, others), of_row)| others.iter().map(move |&other| (other, of_row)))
        .collect();
    let others: Vec<u32> = pairs.iter().map(|&(other, _)| other).collect();
    let margin = |place: usize, distances: &Distances| {
        let (cell, margins) = pairs[place].1;
        let other = distances.nearest();
        let straight = margins[other as usize];
        Ok(match left {
            _ if filling.is_from(*cell, other) => 0.0,
            Some(_) => straight,
            None => straight.min(distances.margin(*cell)),
        })
    };
    let mut margins = cells.each_row_of(right, &others, margin, run)?.into_iter();
    let of_row = |(_, others): &Known| margins.by_ref().take(others.len()).collect();
    Ok(Needed(known.iter().map(of_row).collect()))
}

/// The margin by which rows find so many of those nearest to them, and how many that is by rows that it
/// was not chosen by. Where these say that it is too few, it is chosen by them as well, and others say.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn margin_for<T: Scalar>(
    cells: &Cells,
    filling: &Filling,
    (left, right): Sides<'_, '_, T>,
    held_out: &mut HeldOut<T>,
    recall: f64,
    run: &Run,
) -> Result<(f32, Estimate)> {
    let needed = |held_out: &HeldOut<T>, which| {
        let known = held_out.known(which);
        needed(cells, filling, left, right, &known, run)
    };
    let mut attempts = 1..ATTEMPTS;
    loop {
        let margin = needed(held_out, Which::ToChooseBy)?.reach_for(recall);
        let found = Estimate::of(needed(held_out, Which::ToCheckBy)?.found(margin));
        let again = found.falls_short(recall) && attempts.next().is_some();
        if !again || !held_out.check_by_others(left, right, run)? {
            return Ok((margin, found));
        }
    }
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
    let rows = side.sample(SAMPLED);
    let margins = cells.each_row_of(side, &rows, |_, distances| distances.margins(), run)?;
    let mut margins = memory::collect(margins.into_iter().flatten(), "margins")?;
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

/// How far left rows look with each of these margins, after their lists are filled.
///
/// # Errors
/// When the run is cancelled.
pub(crate) fn extents<T: Scalar>(
    cells: &Cells,
    filling: &Filling,
    left: &Side<'_, T>,
    margins: &[f32],
    run: &Run,
) -> Result<Vec<Extent>> {
    let rows = left.sample(SAMPLED);
    let most = margins.iter().copied().fold(0.0, f32::max);
    let looks = |_: usize, distances: &Distances| {
        let own = distances.nearest();
        let look = Extent {
            filling: filling.of(own),
            ..Extent::default()
        };
        let mut looks = vec![look; margins.len()];
        distances.within(most, |cell, further| {
            if filling.is_met(own, cell) {
                return;
            }
            for (look, &margin) in looks.iter_mut().zip(margins) {
                if further <= margin {
                    look.cells += 1.0;
                    look.share += filling.share(cell);
                }
            }
        });
        Ok(looks)
    };
    let looks = cells.each_row_of(left, &rows, looks, run)?;
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
