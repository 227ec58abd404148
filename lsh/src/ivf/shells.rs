//! Which rows of lists may be within a radius of a row: those in a shell around the centroid.
//!
//! By the triangle inequality a row is within a radius of another only if their distances from a
//! centroid differ by no more than that (S. Brin, "Near neighbor search in large metric spaces",
//! 1995). Distances are those that codes stand for.

use std::ops::Range;

use lshjoin_kernels::{LeftPanel, Near, RightPanel, Scalar, memory, near_pairs};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result, sampling::sample},
    ivf::{coarse_quantiser::CoarseQuantiser, list_offsets::ListOffsets},
    vectors::Vectors,
};

/// Rows that are compared with all lists at a time.
const BLOCK: usize = 512;

/// Lists of a panel.
const OF_PANEL: usize = 2048;

/// Rows of a shell.
const OF_SHELL: usize = 32;

/// Rows that tell how many shells are near, and the share of all pairs up to which it is quicker to
/// compare these alone: a pair of a few rows takes some six times as long as one of many.
const SAMPLE: usize = 512;
const MOST_NEAR: f64 = 0.15;

/// By how much a computed distance may be below what it should be.
const ROUNDING: f64 = 1e-5;

/// How an out-of-memory error names them.
const SHELLS: &str = "shells of lists within the radius of rows";

/// The distance of a row, by index, from the centroid of its list, or a little more; as large as can be
/// for a row without direction, which is at the same distance from all others.
pub(crate) fn radius_of<T: Scalar>(side: &Vectors<'_, T>, row: usize, centroid: &[f32]) -> f32 {
    if side.lacks_direction(row) {
        return f32::MAX;
    }
    let values = side.coded(row).zip(centroid);
    let squares: f64 = values.map(|(x, &y)| (x - f64::from(y)).powi(2)).sum();
    let radius = (squares.sqrt() * (1.0 + ROUNDING)) as f32;
    radius.next_up().min(f32::MAX)
}

/// The rows of lists, in shells around their centroids.
pub(crate) struct Shells {
    panels: Vec<(u32, RightPanel)>,
    /// Rows by list, by rising distance from its centroid.
    pub(crate) order: Vec<u32>,
    /// By list.
    shells: Vec<Shell>,
    of_lists: ListOffsets,
    bound: f32,
}

/// Rows about as far from their centroid.
struct Shell {
    /// Positions in the order of rows.
    rows: Range<usize>,
    /// None is nearer to the centroid, or further.
    nearest: f32,
    furthest: f32,
}

/// Rows that may be within the radius of rows of shells: ranges of `rows` and of the shells' order.
pub(crate) struct NearShells {
    pub(crate) rows: Vec<u32>,
    pub(crate) blocks: Vec<(Range<usize>, Range<usize>)>,
}

impl Shells {
    /// Of all rows, by list, given [how far](radius_of) each is from its centroid, for a radius of
    /// `bound`.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn new(
        quantiser: &CoarseQuantiser,
        starts: &ListOffsets,
        radii: &[f32],
        bound: f32,
        ctx: &Context,
    ) -> Result<Self> {
        let mut order = memory::collect(0..starts.rows() as u32, ROW_NUMBERS)?;
        let (mut shells, mut ends, mut reaches) = (Vec::new(), vec![0], Vec::new());
        for list in 0..starts.len() as u32 {
            ctx.check()?;
            let of_list = starts.of(list);
            let rows = &mut order[of_list.clone()];
            rows.sort_unstable_by(|&x, &y| {
                let by_radius = radii[x as usize].total_cmp(&radii[y as usize]);
                by_radius.then(x.cmp(&y))
            });
            let radius = |row: &u32| radii[*row as usize];
            // Lists of no rows are beyond all.
            reaches.push(rows.last().map_or(-1.0, |last| wider(radius(last) + bound)));
            let of_shells = rows.chunks(OF_SHELL).zip(of_list.step_by(OF_SHELL));
            let of_shells = of_shells.map(|(rows, start)| {
                let (nearest, furthest) = (radius(&rows[0]), radius(&rows[rows.len() - 1]));
                Shell {
                    nearest: match furthest < f32::MAX {
                        true => nearest * (1.0 - 3.0 * ROUNDING as f32),
                        false => -1.0,
                    },
                    furthest,
                    rows: start..start + rows.len(),
                }
            });
            memory::extend(&mut shells, of_shells, SHELLS)?;
            ends.push(shells.len());
        }
        let numbers: Vec<u32> = (0..quantiser.len() as u32).collect();
        let of_panels = numbers
            .par_chunks(OF_PANEL)
            .zip(reaches.par_chunks(OF_PANEL));
        let panels = of_panels.map(|(lists, reaches)| {
            let mut panel = RightPanel::new(ctx.isa());
            panel.gather(quantiser.codes(), lists, reaches)?;
            Ok((lists[0], panel))
        });
        Ok(Self {
            panels: panels.collect::<Result<_>>()?,
            order,
            shells,
            of_lists: ListOffsets::of_starts(ends),
            bound,
        })
    }

    /// The shells that each of these rows of a side, by internal id, has to be compared with.
    ///
    /// # Errors
    /// When the run is cancelled, or there is no memory.
    pub(crate) fn near<T: Scalar>(
        &self,
        side: &Vectors<'_, T>,
        rows: &[u32],
        ctx: &Context,
    ) -> Result<NearShells> {
        let blocks = rows.par_chunks(BLOCK).map_init(
            || (LeftPanel::new(ctx.isa()), Vec::new()),
            |(left, near), rows| {
                ctx.check()?;
                let mut found = Vec::new();
                if let Some(codes) = &side.codes {
                    left.gather(codes, rows, &vec![-1.0; rows.len()])?;
                    for (first, panel) in &self.panels {
                        near.clear();
                        near_pairs(left, panel, near)?;
                        self.add(rows, *first, near, &mut found)?;
                    }
                }
                Ok(found)
            },
        );
        let blocks: Vec<Vec<(u32, u32)>> = blocks.collect::<Result<_>>()?;
        let found = blocks.iter().flatten().copied();
        let shells = found.clone().map(|(shell, _)| shell);
        let offsets = ListOffsets::new(shells, self.shells.len());
        let rows = offsets.by_list(found, SHELLS)?;
        let blocks = (0..).zip(&self.shells);
        let blocks = blocks.map(|(shell, of_shell)| (offsets.of(shell), of_shell.rows.clone()));
        let blocks = blocks.filter(|(left, _)| !left.is_empty());
        Ok(NearShells {
            rows,
            blocks: memory::collect(blocks, SHELLS)?,
        })
    }

    /// Adds the shells of lists, whose numbers count from `first`, that rows are near.
    fn add(
        &self,
        rows: &[u32],
        first: u32,
        near: &[Near],
        found: &mut Vec<(u32, u32)>,
    ) -> Result<()> {
        for pair in near {
            let of_list = self.of_lists.of(first + pair.right);
            for (shell, number) in self.shells[of_list.clone()].iter().zip(of_list) {
                if wider(pair.upper + self.bound) >= shell.nearest
                    && pair.lower <= wider(shell.furthest + self.bound)
                {
                    memory::push(found, (number as u32, rows[pair.left as usize]), SHELLS)?;
                }
            }
        }
        Ok(())
    }

    /// Whether it is quicker to compare rows with the shells near them than with all others, by some
    /// rows of a side.
    ///
    /// # Errors
    /// As [`Shells::near`].
    pub(crate) fn are_worth<T: Scalar>(
        &self,
        side: &Vectors<'_, T>,
        ctx: &Context,
    ) -> Result<bool> {
        let rows = sample(side.len(), SAMPLE);
        let near = self.near(side, &rows, ctx)?;
        let pairs = near
            .blocks
            .iter()
            .map(|(left, right)| left.len() * right.len());
        let share = pairs.sum::<usize>() as f64 / (rows.len() * self.order.len()).max(1) as f64;
        Ok(share < MOST_NEAR)
    }

    /// How many rows are compared with the lists at a time: what is near them takes up some hundred
    /// megabytes where nearly all is.
    pub(crate) fn rows_at_once(&self) -> usize {
        const MOST: usize = 1 << 24;
        (MOST / self.of_lists.len().max(1)).clamp(BLOCK, 1 << 16)
    }
}

/// What is no less, whatever was rounded.
fn wider(distance: f32) -> f32 {
    distance * (1.0 + ROUNDING as f32)
}
