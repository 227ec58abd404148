//! Exact duplicates, of which only a few need to take part in a k-nearest-neighbour join: without
//! that, a million equal rows are all each other's neighbours, 10¹² pairs at distance 0.

use std::cmp::Ordering;

use lshjoin_kernels::{Rows, Scalar, Sorter, memory};
use rayon::prelude::*;

use crate::base::{ROW_NUMBERS, context::Context, error::Result, input::Input};

/// Rows without most of their duplicates. Rows are duplicates when all their values are equal,
/// −0 and 0 being equal, and all their keys, where they have some.
///
/// Of each group of duplicates the first `keep` rows are kept. What that has to be for the k
/// nearest neighbours, the lower row coming first among equal distances:
/// - k for items that others are joined with, as those after the first k are nobody's neighbours;
/// - 1 for queries, as all of a group have the same neighbours;
/// - k + 1 for rows joined with themselves. Any row after the first k has exactly the neighbours of
///   the one after the first k, whatever the metric: their distances to all rows are the same, and
///   each has k rows before the other that are as near.
pub(crate) struct Distinct {
    /// The rows that take part, rising.
    pub(crate) kept: Vec<u32>,
    /// For each row the position in `kept` of a row that has the same neighbours: its own or, for a
    /// row that was dropped, that of the last of its group that was kept.
    pub(crate) positions: Vec<u32>,
}

impl Distinct {
    /// Of the items of a join for the k nearest; of equal ones those are duplicates that have the
    /// same neighbours: where rows are kept apart or joined `within` groups, by their keys as well.
    ///
    /// # Errors
    /// As [`Distinct::of`].
    pub(crate) fn of_input<T: Scalar>(
        input: &Input<'_, T>,
        within: Option<&[u32]>,
        k: usize,
        ctx: &Context,
    ) -> Result<Option<Self>> {
        let (_, apart) = input.keys_apart();
        let keys: Vec<&[u32]> = within.into_iter().chain(apart).collect();
        let keep = k.saturating_add(usize::from(input.queries.is_none()));
        Self::of(input.items, &keys, keep, ctx)
    }

    /// `None` when all rows are kept. Each of `keys` has a key for each row.
    ///
    /// # Errors
    /// When there are more rows than a `u32` can count, or the run is cancelled.
    pub(crate) fn of<T: Scalar>(
        rows: Rows<'_, T>,
        keys: &[&[u32]],
        keep: usize,
        ctx: &Context,
    ) -> Result<Option<Self>> {
        ctx.check()?;
        let hashes = (0..rows.len()).into_par_iter();
        let hashes = hashes.map_init(Vec::new, |room, row| {
            let hash = hash(rows.row_in(row, room));
            let keys = keys.iter().map(|keys| keys[row]);
            keys.fold(hash, |hash, key| mix(hash ^ u64::from(key)))
        });
        let hashes = memory::par_collect(hashes, "hashes of rows")?;
        ctx.check()?;
        Self::by_hashes(rows, keys, keep, &hashes)
    }

    /// Compares the rows of equal hashes. At least one row of each group is kept.
    fn by_hashes<T: Scalar>(
        rows: Rows<'_, T>,
        keys: &[&[u32]],
        keep: usize,
        hashes: &[u64],
    ) -> Result<Option<Self>> {
        let keep = keep.max(1);
        let mut order = Vec::new();
        Sorter::new().sort(hashes, u64::BITS, &mut order)?;
        let mut dropped: Vec<(u32, u32)> = Vec::new();
        let mut drop_from = |group: &[u32]| {
            let Some((kept, rest)) = group.split_at_checked(keep) else {
                return Ok(());
            };
            let rest = rest.iter().map(|&row| (row, kept[keep - 1]));
            memory::extend(&mut dropped, rest, ROW_NUMBERS)
        };
        let row = |row: u32| rows.row(row as usize);
        let of_keys = |row: u32| keys.iter().map(move |keys| keys[row as usize]);
        for same in order.chunk_by_mut(|&x, &y| hashes[x as usize] == hashes[y as usize]) {
            if same.len() <= keep {
                continue;
            }
            let first = same[0];
            let is_same = |other| row(other) == row(first) && of_keys(other).eq(of_keys(first));
            if same.par_iter().all(|&other| is_same(other)) {
                drop_from(same)?;
            } else {
                // Rows of a group stay in rising order.
                let compare =
                    |x, y| compare(&row(x), &row(y)).then_with(|| of_keys(x).cmp(of_keys(y)));
                same.sort_unstable_by(|&x, &y| compare(x, y).then(x.cmp(&y)));
                same.chunk_by(|&x, &y| compare(x, y).is_eq())
                    .try_for_each(&mut drop_from)?;
            }
        }
        if dropped.is_empty() {
            return Ok(None);
        }
        let mut positions: Vec<u32> = memory::filled(u32::MAX, rows.len(), ROW_NUMBERS)?;
        for &(row, representative) in &dropped {
            positions[row as usize] = representative;
        }
        let mut kept = memory::empty(rows.len() - dropped.len(), ROW_NUMBERS)?;
        for row in 0..rows.len() {
            // The duplicate that stands for the row comes before it, so its position is known.
            positions[row] = match positions[row] {
                u32::MAX => {
                    kept.push(row as u32);
                    kept.len() as u32 - 1
                }
                representative => positions[representative as usize],
            };
        }
        Ok(Some(Self { kept, positions }))
    }
}

/// The bits of a value, those of −0 being those of 0.
fn bits<T: Scalar>(value: T) -> u64 {
    (value.to_f64() + 0.0).to_bits()
}

/// Equal for equal rows. Rows that differ in one value never collide, since each step is a
/// one-to-one function of it; several lanes, so that multiplications need not wait for each other.
pub(crate) fn hash<T: Scalar>(row: &[T]) -> u64 {
    let mut lanes = [0_u64; 4];
    let (chunks, rest) = row.as_chunks();
    for &values in chunks {
        add(&mut lanes, values);
    }
    let mut last = [T::ZERO; 4];
    last[..rest.len()].copy_from_slice(rest);
    add(&mut lanes, last);
    lanes.into_iter().fold(0, |hash, lane| mix(hash ^ lane))
}

fn add<T: Scalar>(lanes: &mut [u64; 4], values: [T; 4]) {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    for (lane, value) in lanes.iter_mut().zip(values) {
        *lane = (lane.rotate_left(5) ^ bits(value)).wrapping_mul(ODD);
    }
}

/// The finaliser of MurmurHash3 (Appleby 2011).
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    hash = (hash ^ hash >> 33).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ hash >> 33
}

/// A total order in which exactly duplicates are equal.
fn compare<'a, T: Scalar>(left: &'a [T], right: &'a [T]) -> Ordering {
    let bits = |row: &'a [T]| row.iter().map(|&value| bits(value));
    bits(left).cmp(bits(right))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        IvfPlan, JoinPlan, LshPlan, base::metric::Metric, base::random::gaussians,
        join::knn::by_plan, pairs::results::Neighbors,
    };

    /// The neighbours of all queries, from those of the queries that were kept; indices in `near`
    /// are positions in `items`.
    fn expand(near: &Neighbors<f32>, positions: &[u32], items: &[u32]) -> Vec<(f32, i64)> {
        let item =
            |position: i64| usize::try_from(position).map_or(-1, |position| items[position].into());
        let list = |&position: &u32| {
            let list = position as usize * near.k..(position as usize + 1) * near.k;
            list.map(|at| (near.distances[at], item(near.indices[at])))
        };
        positions.iter().flat_map(list).collect()
    }

    /// Brute force on all rows and on the kept ones.
    fn assert_same_neighbors(values: &[f32], dim: usize, k: usize, collide: Option<u64>) {
        let rows = Rows::new(values, dim).unwrap();
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        let distinct = |keep| {
            let hashes =
                (0..rows.len()).map(|row| hash(&rows.row(row)) % collide.unwrap_or(u64::MAX));
            let hashes: Vec<u64> = hashes.collect();
            let distinct = Distinct::by_hashes(rows, &[], keep, &hashes).unwrap();
            distinct.unwrap_or_else(|| Distinct {
                kept: all.clone(),
                positions: all.clone(),
            })
        };
        let (queries, items, both) = (distinct(1), distinct(k), distinct(k + 1));
        let [q, i, b] = [&queries, &items, &both].map(|side| rows.gather(&side.kept).unwrap());
        let [q, i, b] = [&q, &i, &b].map(|values| Rows::new(values, dim).unwrap());
        let ctx = Context::new().unwrap();
        for metric in [Metric::Euclidean, Metric::Manhattan, Metric::Cosine] {
            let join = |queries, items| {
                by_plan(
                    Input::new(queries, items),
                    k,
                    metric,
                    &JoinPlan::Exact,
                    &ctx,
                )
                .unwrap()
            };
            let expected = expand(&join(None, rows), &all, &all);
            assert_eq!(
                expand(&join(None, b), &both.positions, &both.kept),
                expected
            );
            let expected = expand(&join(Some(rows), rows), &all, &all);
            let got = expand(&join(Some(q), i), &queries.positions, &items.kept);
            assert_eq!(got, expected, "{metric}");
        }
    }

    proptest! {
        #[test]
        fn neighbors_are_those_of_all_rows(
            dim in 1..4_usize,
            values in prop::collection::vec(
                prop_oneof![Just(0.0_f32), Just(-0.0), Just(1.0), Just(1e-30), Just(-2.0)], 0..150),
            k in 1..5_usize,
            collide in prop::option::of(1..4_u64),
        ) {
            let values = &values[..values.len() / dim * dim];
            assert_same_neighbors(values, dim, k, collide);
        }
    }

    #[test]
    fn plans_are_followed_by_the_rows_that_take_part() {
        const DIM: usize = 8;
        let mut values = gaussians(4400 * DIM, 3);
        // Many copies of three rows, first and last.
        for row in (0..40).chain(4200..4400) {
            let original = (row % 3 + 100) * DIM;
            values.copy_within(original..original + DIM, row * DIM);
        }
        let (rows, ctx, k) = (Rows::new(&values, DIM).unwrap(), Context::new().unwrap(), 4);
        let Distinct { kept, positions } = Distinct::of(rows, &[], k + 1, &ctx).unwrap().unwrap();
        assert!(kept.len() < 4200);
        let some = rows.gather(&kept).unwrap();
        let some = Rows::new(&some, DIM).unwrap();
        let lists = |until_recall: Option<f64>| {
            let plan = IvfPlan::new(40, 3.0).seed(1).rounds(1);
            JoinPlan::Ivf(plan.until_recall(until_recall))
        };
        let tables = |until_recall: Option<f64>| {
            let plan = LshPlan::new(6, 8, 2).seed(1).probes(2).rounds(1);
            JoinPlan::Lsh(plan.until_recall(until_recall))
        };
        let plans = [
            lists(None),
            lists(Some(0.8)),
            tables(None),
            tables(Some(0.8)),
        ];
        for plan in plans.into_iter().chain([JoinPlan::Exact]) {
            for metric in [Metric::Euclidean, Metric::Cosine, Metric::Manhattan] {
                let found = by_plan(Input::new(None, rows), k, metric, &plan, &ctx).unwrap();
                let of_some = by_plan(Input::new(None, some), k, metric, &plan, &ctx).unwrap();
                let expected = expand(&of_some, &positions, &kept);
                let all: Vec<u32> = (0..rows.len() as u32).collect();
                assert_eq!(expand(&found, &all, &all), expected, "{metric} {plan:?}");
            }
        }
    }

    fn distinct<T: Scalar>(values: &[T], dim: usize, keep: usize) -> Option<(Vec<u32>, Vec<u32>)> {
        let rows = Rows::new(values, dim).unwrap();
        let distinct = Distinct::of(rows, &[], keep, &Context::new().unwrap()).unwrap();
        distinct.map(|distinct| (distinct.kept, distinct.positions))
    }

    #[test]
    fn the_first_rows_of_a_group_are_kept() {
        let values = [5.0_f32, 1.0, 5.0, 5.0, 1.0, 5.0, 2.0];
        assert_eq!(
            distinct(&values, 1, 1),
            Some((vec![0, 1, 6], vec![0, 1, 0, 0, 1, 0, 2]))
        );
        assert_eq!(
            distinct(&values, 1, 2),
            Some((vec![0, 1, 2, 4, 6], vec![0, 1, 2, 2, 3, 2, 4]))
        );
        assert_eq!(
            distinct(&values, 1, 3),
            Some((vec![0, 1, 2, 3, 4, 6], vec![0, 1, 2, 3, 4, 3, 5]))
        );
        assert_eq!(distinct(&values, 1, 4), None);
        assert_eq!(distinct(&values, 1, 0), distinct(&values, 1, 1));
        assert_eq!(distinct::<f64>(&[], 3, 1), None);
    }

    #[test]
    fn zeros_are_equal_and_neighbouring_numbers_are_not() {
        let zeros = [0.0_f64, 1.0, -0.0, 1.0, 0.0, -1.0];
        assert_eq!(distinct(&zeros, 2, 1), Some((vec![0, 2], vec![0, 0, 1])));
        let next = [
            1.0_f64,
            1.0_f64.next_up(),
            1.0_f64.next_down(),
            f64::from_bits(1),
            0.0,
        ];
        assert_eq!(distinct(&next, 1, 1), None);
        // The same values in other positions, within a lane of the hash and across lanes.
        let mut row: Vec<f32> = (0..11).map(|at| at as f32).collect();
        let mut rows = row.clone();
        row.swap(0, 4);
        rows.extend(&row);
        row.swap(0, 5);
        rows.extend(&row);
        assert_eq!(distinct(&rows, 11, 1), None);
    }

    #[test]
    fn rows_of_one_hash_are_told_apart() {
        let values: Vec<f32> = (0..600).map(|row| (row * 7 % 200) as f32).collect();
        let rows = Rows::new(&values, 1).unwrap();
        let distinct = Distinct::by_hashes(rows, &[], 2, &[9; 600])
            .unwrap()
            .unwrap();
        assert_eq!(distinct.kept, (0..400).collect::<Vec<_>>());
        assert!(
            (0..600).all(
                |row| distinct.positions[row] == if row < 400 { row } else { row - 200 } as u32
            )
        );
    }

    #[test]
    fn hashes_do_not_collide_on_a_grid() {
        let values: Vec<f32> = (0..1 << 16)
            .flat_map(|row| {
                [row & 15, row >> 4 & 15, row >> 8 & 15, row >> 12, row & 1]
                    .map(|value| value as f32)
            })
            .collect();
        let mut hashes: Vec<u64> = values.chunks(5).map(hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 1 << 16);
    }

    #[test]
    fn rows_of_different_keys_are_no_duplicates() {
        let (rows, ctx) = ([1.0_f32; 6], Context::new().unwrap());
        let rows = Rows::new(&rows, 1).unwrap();
        let keys: [&[u32]; 2] = [&[1, 1, 2, 1, 2, 1], &[5, 5, 5, 5, 5, 6]];
        let distinct = Distinct::of(rows, &keys, 1, &ctx).unwrap().unwrap();
        assert_eq!(distinct.kept, [0, 2, 5]);
        assert_eq!(distinct.positions, [0, 0, 1, 0, 1, 2]);
    }
}
