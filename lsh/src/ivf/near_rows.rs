//! The nearest of some rows, as far as codes tell.

use lshjoin_kernels::{Quantised, code_distances, memory};
use rayon::prelude::*;

use crate::{
    base::{ROW_NUMBERS, context::Context, error::Result},
    ivf::list_distances::{Candidates, keep_nearest},
};

/// Rows that others are compared with at a time: their distances from a few of these are kept.
const AT_ONCE: usize = 1 << 16;

/// The `most` nearest of `others`, but itself, to each of these rows of one side, by rising distance.
///
/// # Errors
/// When the run is cancelled, or there is no memory.
pub(crate) fn near_rows(
    codes: &Quantised,
    (rows, others): (&[u32], &[u32]),
    most: usize,
    ctx: &Context,
) -> Result<Vec<Vec<u32>>> {
    let mut near: Vec<Vec<u32>> = vec![Vec::new(); rows.len()];
    for others in others.chunks(AT_ONCE) {
        let others = Candidates::new(codes, others, ctx.isa())?;
        let found = others.nearest(codes, rows, most + 1, ctx)?;
        for (near, found) in near.iter_mut().zip(found) {
            memory::extend(near, found, ROW_NUMBERS)?;
        }
    }
    let all = codes.without_errors();
    let nearest = near.into_par_iter().zip(rows).map(|(mut near, &row)| {
        near.retain(|&other| other != row);
        let mut distances = Vec::new();
        code_distances((codes, row), &all, &near, &mut distances, ctx.isa())?;
        let mut near: Vec<(f32, u32)> = distances.into_iter().zip(near).collect();
        keep_nearest(&mut near, most);
        Ok(near.into_iter().map(|(_, other)| other).collect())
    });
    nearest.collect()
}

#[cfg(test)]
mod tests {
    use lshjoin_kernels::Rows;

    use super::*;
    use crate::{base::metric::Metric, vectors::Vectors};

    #[test]
    fn they_are_those_of_all_that_are_nearest() -> Result<()> {
        let ctx = Context::new()?;
        let values: Vec<f32> = (0..200_000)
            .map(|row| (row * 7919 % 200_003) as f32)
            .collect();
        let side = Vectors::new("rows", Rows::new(&values, 1)?, Metric::Euclidean, &ctx)?;
        let all: Vec<u32> = (0..200_000).collect();
        let rows = [0, 70_000, 199_999];
        let near = near_rows(side.codes.as_ref().unwrap(), (&rows, &all), 3, &ctx)?;
        // Codes are of the 256 steps between the least and the largest value.
        let far = 200_003.0 / 255.0;
        for (row, near) in rows.into_iter().zip(near) {
            assert!(near.len() == 3 && !near.contains(&row));
            let from = |other: &u32| (values[*other as usize] - values[row as usize]).abs();
            assert!(
                near.iter().all(|other| from(other) <= far),
                "{row}: {near:?}"
            );
        }
        Ok(())
    }
}
