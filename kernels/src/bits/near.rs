//! The pairs of rows of packed bits that differ in no more than their left row's limit.

use std::ops::Range;

#[cfg(target_arch = "aarch64")]
use super::count::neon;
#[cfg(target_arch = "x86_64")]
use super::count::{avx2, avx512};
use super::{
    block::{DifferenceLimit, GROUPS, Scan},
    count::scalar,
    left::LeftBits,
    right::{LANES, Line, RightBits},
};
use crate::{
    base::{
        error::{KernelError, Result},
        isa::{Isa, Level},
        memory,
    },
    rows::shape::{check_indices, check_len},
    simd::bits::set_bits,
};

/// A pair of rows that is near.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearBits {
    /// Where the left row is among those chosen.
    pub left: u32,
    /// The slot of the right row.
    pub slot: u32,
    /// In how many bits they differ.
    pub differing: u32,
}

/// Appends the pairs of some left rows and of the right rows of some groups that differ in no more bits
/// than the limit of the left row.
///
/// Limits without slopes are exact once rounded down; those with slopes are computed in single
/// precision, on some machines with a rounding less than on others.
///
/// ```
/// use lshjoin_kernels::{DifferenceLimit, Isa, LeftBits, NearBits, RightBits, Rows, near_bits};
///
/// let rows = Rows::new(&[0b0000_1111_u8, 0b0000_0111, 0b1111_0000], 1)?;
/// let right = RightBits::new(rows, &[0, 1, 2], &[0, 3])?;
/// let mut left = LeftBits::default();
/// left.gather(rows, &[0])?;
/// let limits = [DifferenceLimit { most: 1.0, slope: 0.0 }];
/// let mut near = Vec::new();
/// near_bits(&left, &[0], &limits, &right, right.groups(0), Isa::best(), &mut near)?;
/// let pair = |slot, differing| NearBits { left: 0, slot, differing };
/// assert_eq!(near, [pair(0, 0), pair(1, 1)]);
/// # Ok::<(), lshjoin_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::Shape`] when rows have different numbers of bytes, or there is not a limit for each
/// row; [`KernelError::RowOutOfRange`] for rows or groups that there are not; [`KernelError::Memory`].
///
/// # Source
/// To count by look-ups of half bytes: W. Muła, N. Kurz and D. Lemire, "Faster population counts using
/// AVX2 instructions", 2018.
pub fn near_bits(
    left: &LeftBits,
    chosen: &[u32],
    limits: &[DifferenceLimit],
    right: &RightBits,
    groups: Range<usize>,
    isa: Isa,
    near: &mut Vec<NearBits>,
) -> Result<()> {
    check(left, chosen, limits, right, &groups)?;
    let rising = limits.iter().any(|limit| limit.slope > 0.0);
    let mut first = groups.start;
    while first < groups.end {
        let last = groups.end.min(first + GROUPS);
        let (lines, populations) = right.of_groups(first..last);
        let block = Scan {
            width: left.width(),
            left: left.words(),
            chosen,
            limits,
            lines,
            populations,
            filled: right.filled(first..last),
        };
        // So that none has to be asked for while pairs are found.
        let most = chosen.len().saturating_mul(GROUPS * LANES);
        memory::reserve(near, most, "pairs of packed bits")?;
        scan(&block, rising, isa, |row, mask, counts| {
            keep(near, row, mask, first * LANES, counts)
        });
        first = last;
    }
    Ok(())
}

/// Hands over each of the chosen rows that is near some right row: where it is among them, a bit for
/// each row that is near, and in how many bits it differs from each. `rising` unless all slopes are 0.
fn scan(block: &Scan<'_>, rising: bool, isa: Isa, found: impl FnMut(usize, u64, &[Line; GROUPS])) {
    /// Calls the function for as many groups as there are, compiled for their number.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    macro_rules! by_groups {
        ($isa:ident) => {
            match (block.populations.len(), rising) {
                (1, false) => $isa::scan::<1, false, _>(block, found),
                (2, false) => $isa::scan::<2, false, _>(block, found),
                (3, false) => $isa::scan::<3, false, _>(block, found),
                (_, false) => $isa::scan::<4, false, _>(block, found),
                (1, true) => $isa::scan::<1, true, _>(block, found),
                (2, true) => $isa::scan::<2, true, _>(block, found),
                (3, true) => $isa::scan::<3, true, _>(block, found),
                (_, true) => $isa::scan::<4, true, _>(block, found),
            }
        };
    }
    match isa.level() {
        // SAFETY: the machine has these instructions, and `near_bits` has checked rows and groups.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Vnni | Level::Amx if isa.counts_bits() => unsafe {
            by_groups!(avx512)
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::AvxVnni | Level::Avx512 | Level::Avx512Vnni | Level::Amx => unsafe {
            by_groups!(avx2)
        },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Level::Neon | Level::NeonDot | Level::NeonI8mm => unsafe { by_groups!(neon) },
        _ => scalar::scan(block, found),
    }
}

/// Adds the pairs of a left row whose bits in `mask` are set.
#[cold]
#[inline(never)]
fn keep(
    near: &mut Vec<NearBits>,
    row: usize,
    mask: u64,
    first_slot: usize,
    counts: &[Line; GROUPS],
) {
    near.extend(set_bits(mask).map(|slot| NearBits {
        left: row as u32,
        slot: (first_slot + slot) as u32,
        differing: counts[slot / LANES].0[slot % LANES],
    }));
}

fn check(
    left: &LeftBits,
    chosen: &[u32],
    limits: &[DifferenceLimit],
    right: &RightBits,
    groups: &Range<usize>,
) -> Result<()> {
    if !left.is_empty() {
        check_len("words of a left row", left.width(), right.width())?;
    }
    check_len("limits", limits.len(), chosen.len())?;
    if groups.end > right.all_groups() {
        return Err(KernelError::RowOutOfRange {
            what: "groups",
            index: groups.end,
            rows: right.all_groups(),
        });
    }
    check_indices("chosen rows", chosen.iter().copied(), left.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{rows::matrix::Rows, simd::dispatch::on_each_isa};

    /// Bytes of a row: less than a word, whole ones, more than fit a byte's sum, and odd ones.
    const WIDTHS: [usize; 8] = [1, 7, 8, 31, 32, 64, 65, 1000];

    /// Rows of which some are alike, some empty and some full.
    fn rows(count: usize, width: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut random = move || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        (0..count)
            .flat_map(|row| {
                let bytes: Vec<u8> = match row % 5 {
                    0 => vec![0; width],
                    1 => vec![255; width],
                    2 => (0..width).map(|at| at as u8).collect(),
                    _ => (0..width).map(|_| random()).collect(),
                };
                bytes
            })
            .collect()
    }

    /// What `near_bits` is to find, a byte at a time.
    fn brute_force(
        left: Rows<'_, u8>,
        chosen: &[u32],
        limits: &[DifferenceLimit],
        right: Rows<'_, u8>,
    ) -> Vec<(u32, u32, u32)> {
        let mut pairs = Vec::new();
        for ((position, &row), limit) in (0..).zip(chosen).zip(limits) {
            for other in 0..right.len() as u32 {
                let (x, y) = (left.bits(row as usize), right.bits(other as usize));
                let differing = x.iter().zip(y).map(|(x, y)| (x ^ y).count_ones()).sum();
                let set: u32 = y.iter().map(|byte| byte.count_ones()).sum();
                if differing as f32 <= limit.most + limit.slope * set as f32 {
                    pairs.push((position, other, differing));
                }
            }
        }
        pairs
    }

    #[test]
    fn pairs_are_those_of_brute_force() {
        for width in WIDTHS {
            let (of_left, of_right) = (rows(30, width, 1), rows(171, width, 2));
            let left = Rows::new(&of_left, width).unwrap();
            let right = Rows::new(&of_right, width).unwrap();
            let order: Vec<u32> = (0..171).collect();
            // Lists of which one is empty, one shorter than a group, one of more than four groups.
            let lists = [0, 70, 70, 75, 91, 171];
            let packed = RightBits::new(right, &order, &lists).unwrap();
            let mut queries = LeftBits::default();
            queries.gather(left, &(0..30).collect::<Vec<_>>()).unwrap();
            let chosen = [0, 29, 7, 7, 13, 1, 2];
            let bits = (8 * width) as f32;
            for slope in [0.0, 0.25] {
                let of = |most| DifferenceLimit { most, slope };
                let half = of((bits / 2.0).floor());
                let limits = [
                    of(-1.0),
                    of(0.0),
                    half,
                    of(half.most - 1.0),
                    of(f32::INFINITY),
                    of(bits),
                    half,
                ];
                let expected = brute_force(left, &chosen, &limits, right);
                on_each_isa(|isa| {
                    let mut near = Vec::new();
                    for list in 0..packed.lists() {
                        let groups = packed.groups(list);
                        near_bits(&queries, &chosen, &limits, &packed, groups, isa, &mut near)
                            .unwrap();
                    }
                    let mut found: Vec<_> = near
                        .iter()
                        .map(|pair| (pair.left, packed.row(pair.slot), pair.differing))
                        .collect();
                    found.sort_unstable();
                    assert_eq!(found, expected, "{isa}, {width} bytes, slope {slope}");
                    for pair in near {
                        let row = right.bits(packed.row(pair.slot) as usize);
                        let set: u32 = row.iter().map(|byte| byte.count_ones()).sum();
                        assert_eq!(packed.population(pair.slot), set);
                    }
                });
            }
        }
    }

    #[test]
    fn lists_have_their_rows_and_no_others() {
        let bytes = rows(40, 3, 5);
        let of = Rows::new(&bytes, 3).unwrap();
        let packed = RightBits::new(of, &[39, 3, 7], &[0, 1, 3]).unwrap();
        let lists = (0..packed.lists()).map(|list| packed.rows(packed.groups(list)).collect());
        assert_eq!(lists.collect::<Vec<Vec<u32>>>(), [vec![39], vec![3, 7]]);
        assert_eq!(RightBits::new(of, &[], &[]).unwrap().lists(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bytes = rows(4, 2, 1);
        let of = Rows::new(&bytes, 2).unwrap();
        let packed = RightBits::new(of, &[0, 1], &[0, 2]).unwrap();
        let mut left = LeftBits::default();
        let no_row = |error: KernelError| matches!(error, KernelError::RowOutOfRange { .. });
        let no_shape = |error: KernelError| matches!(error, KernelError::Shape { .. });
        assert!(no_row(left.gather(of, &[4]).unwrap_err()));
        assert!(no_row(RightBits::new(of, &[4], &[0, 1]).unwrap_err()));
        assert!(no_shape(RightBits::new(of, &[0], &[0, 2]).unwrap_err()));
        assert!(no_shape(
            RightBits::new(of, &[0, 1], &[0, 2, 1]).unwrap_err()
        ));
        left.gather(of, &[2]).unwrap();
        let limit = DifferenceLimit {
            most: 9.0,
            slope: 0.0,
        };
        let mut near = Vec::new();
        let mut compare = |left: &LeftBits, chosen: &[u32], limits: &[_], groups| {
            near_bits(
                left,
                chosen,
                limits,
                &packed,
                groups,
                Isa::SCALAR,
                &mut near,
            )
        };
        compare(&left, &[0], &[limit], 0..1).unwrap();
        assert!(no_row(compare(&left, &[1], &[limit], 0..1).unwrap_err()));
        assert!(no_row(compare(&left, &[0], &[limit], 0..2).unwrap_err()));
        assert!(no_shape(compare(&left, &[0], &[], 0..1).unwrap_err()));
        left.gather(Rows::new(&rows(1, 5, 1), 5).unwrap(), &[0])
            .unwrap();
        assert!(no_shape(compare(&left, &[0], &[limit], 0..1).unwrap_err()));
        let wide = vec![0; (1 << 24) / 8];
        let wide = Rows::new(&wide, wide.len()).unwrap();
        let error = RightBits::new(wide, &[], &[]).unwrap_err();
        assert!(matches!(error, KernelError::TooWide { .. }));
    }

    proptest! {
        #[test]
        fn all_instruction_sets_agree(
            width in 1..200_usize,
            left in 1..20_usize,
            right in 0..150_usize,
            share in 0.0..1.0_f32,
            slope in prop_oneof![Just(0.0), 0.0..2.0_f32],
            seed: u64,
        ) {
            let (of_left, of_right) = (rows(left, width, seed), rows(right, width, !seed));
            let all = |rows: usize| (0..rows as u32).collect::<Vec<_>>();
            let packed = Rows::new(&of_right, width).unwrap();
            let packed = RightBits::new(packed, &all(right), &[0, right]).unwrap();
            let mut queries = LeftBits::default();
            queries.gather(Rows::new(&of_left, width).unwrap(), &all(left)).unwrap();
            // With halves and quarters nothing is rounded.
            let slope = (slope * 4.0).floor() / 4.0;
            let most = (share * 8.0 * width as f32).floor();
            let limits = vec![DifferenceLimit { most, slope }; left];
            let find = |isa| {
                let mut near = Vec::new();
                let groups = packed.groups(0);
                near_bits(&queries, &all(left), &limits, &packed, groups, isa, &mut near).unwrap();
                near
            };
            let expected = find(Isa::SCALAR);
            on_each_isa(|isa| assert_eq!(find(isa), expected, "{isa}"));
        }
    }
}
