//! Centroids of packed bits, by Lloyd's iterations: a centroid has the bits that most of its rows have
//! (for Hamming distance J. Huang's k-modes, 1998, of two categories).

use lshjoin_kernels::{Rows, memory};
use rayon::prelude::*;

use crate::{
    base::{
        ROW_NUMBERS, context::Context, counting_sort::sort_by_row, error::Result, keys::PairKeys,
        sampling::seeded_sample,
    },
    binary::{
        metric::BinaryMetric,
        sides::{BinarySides, Whole},
        top_k::nearest,
    },
    pairs::results::Neighbors,
};

/// Rows of the sample for each centroid, and how often these are assigned.
const ROWS_OF_CENTROID: usize = 64;
const ROUNDS: usize = 5;

/// How an out-of-memory error names them.
pub(crate) const CENTROIDS: &str = "centroids";

/// About so many centroids of these rows, one after the other.
///
/// # Errors
/// When the run is cancelled, or there is no memory.
pub(crate) fn learn(
    rows: Rows<'_, u8>,
    count: usize,
    metric: BinaryMetric,
    seed: u64,
    ctx: &Context,
) -> Result<Vec<u8>> {
    let sample = rows.gather_bits(&seeded_sample(rows.len(), count * ROWS_OF_CENTROID, seed))?;
    let sample = Rows::new(&sample, rows.dim())?;
    let mut centroids = sample.gather_bits(&seeded_sample(sample.len(), count, seed))?;
    for _ in 0..ROUNDS {
        let lists = assign(sample, Rows::new(&centroids, rows.dim())?, metric, ctx)?.indices;
        let of_rows = lists.iter().map(|&list| list as u32);
        let (order, starts) = by_list(of_rows, centroids.len() / rows.dim())?;
        let of_lists = starts
            .par_windows(2)
            .map(|bounds| &order[bounds[0]..bounds[1]]);
        let centroids = centroids.par_chunks_mut(rows.dim()).zip(of_lists);
        centroids.try_for_each(|(centroid, of_list)| update(centroid, sample, of_list, metric))?;
    }
    Ok(centroids)
}

/// The nearest centroid of each row, and how far it is.
///
/// # Errors
/// When the run is cancelled, or there is no memory.
pub(crate) fn assign(
    rows: Rows<'_, u8>,
    centroids: Rows<'_, u8>,
    metric: BinaryMetric,
    ctx: &Context,
) -> Result<Neighbors<f32>> {
    let sides = BinarySides {
        queries: Some(rows),
        items: centroids,
        metric,
        keys: PairKeys::default(),
    };
    let all = Whole::new(&sides)?;
    nearest(&sides, all.left(), 1, ctx, |block, places| {
        let chosen: Vec<u32> = (0..places.len() as u32).collect();
        block.compare_all(&chosen, &all.right)
    })
}

/// Rows by list, rising, and where those of each start.
pub(super) fn by_list(
    lists: impl ExactSizeIterator<Item = u32> + Clone,
    count: usize,
) -> Result<(Vec<u32>, Vec<usize>)> {
    let mut ends = memory::zeroed(count, CENTROIDS)?;
    lists.clone().for_each(|list| ends[list as usize] += 1);
    let found = memory::collect(lists.zip(0..), ROW_NUMBERS)?;
    let mut order = Vec::new();
    sort_by_row(&found, &mut ends, &mut order, 0, ROW_NUMBERS)?;
    ends.insert(0, 0);
    Ok((order, ends))
}

/// Sets a centroid to what most of its rows have; without rows it stays.
fn update(
    centroid: &mut [u8],
    rows: Rows<'_, u8>,
    of_list: &[u32],
    metric: BinaryMetric,
) -> Result<()> {
    if of_list.is_empty() {
        return Ok(());
    }
    let mut counts = memory::zeroed::<[u32; 8]>(centroid.len(), CENTROIDS)?;
    for &row in of_list {
        for (counts, &byte) in counts.iter_mut().zip(rows.bits(row as usize)) {
            for (bit, count) in counts.iter_mut().enumerate() {
                *count += u32::from(byte >> bit & 1);
            }
        }
    }
    let least = match metric {
        BinaryMetric::Hamming => of_list.len() as u32 / 2 + 1,
        // As many as the rows have: most bits may be rare, but a set has some.
        BinaryMetric::Jaccard => {
            let all = counts.as_flattened().iter().map(|&count| count as usize);
            let set = (all.sum::<usize>() + of_list.len() / 2) / of_list.len();
            let mut falling = memory::copied(counts.as_flattened(), CENTROIDS)?;
            falling.sort_unstable_by(|x, y| y.cmp(x));
            falling[set.saturating_sub(1)].max(1)
        }
    };
    for (byte, counts) in centroid.iter_mut().zip(counts) {
        let bits = counts.iter().enumerate();
        *byte = bits.fold(0, |byte, (bit, &count)| {
            byte | u8::from(count >= least) << bit
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_centroid_has_what_most_rows_have() {
        let rows = Rows::new(&[0b0111_u8, 0b0011, 0b1001, 0b1_0000], 1).unwrap();
        let mut centroid = [0];
        update(&mut centroid, rows, &[0, 1, 2], BinaryMetric::Hamming).unwrap();
        assert_eq!(centroid, [0b0011]);
        // Rows of 2 bits and a third, on average.
        update(&mut centroid, rows, &[0, 1, 2], BinaryMetric::Jaccard).unwrap();
        assert_eq!(centroid, [0b0011]);
        // One or two of bits that are as frequent: all of these.
        update(&mut centroid, rows, &[1, 3], BinaryMetric::Jaccard).unwrap();
        assert_eq!(centroid, [0b1_0011]);
        update(&mut centroid, rows, &[], BinaryMetric::Jaccard).unwrap();
        assert_eq!(centroid, [0b1_0011]);
    }

    #[test]
    fn clusters_are_found() {
        let ctx = Context::new().unwrap();
        let rows: Vec<u8> = (0..4000_u32)
            .flat_map(|row| {
                let centre = if row % 2 == 0 {
                    [0x0F, 0xFF, 0]
                } else {
                    [0xF0, 0, 0xFF]
                };
                let noise = row.wrapping_mul(0x9E37_79B9) >> 27;
                centre.map(|byte: u8| byte ^ (1_u32 << noise) as u8)
            })
            .collect();
        let rows = Rows::new(&rows, 3).unwrap();
        for metric in [BinaryMetric::Hamming, BinaryMetric::Jaccard] {
            let mut found = learn(rows, 2, metric, 3, &ctx).unwrap();
            if found[0] == 0xF0 {
                found.rotate_left(3);
            }
            assert_eq!(found, [0x0F, 0xFF, 0, 0xF0, 0, 0xFF], "{metric}");
        }
    }
}
