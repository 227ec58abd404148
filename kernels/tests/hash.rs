//! Hashing rows, against the definition in double precision, on every instruction set.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // tests may

use lshjoin_kernels::{
    Bucketing, HashFunctions, Isa, KernelError, KeyLayout, KeyMode, Measure, Rows, Scalar, distance,
};
use proptest::prelude::*;
use rand::Rng;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

fn values(count: usize, seed: u64, scale: f64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut unit = || rng.next_u64() as f64 / u64::MAX as f64 - 0.5;
    // Rounded to f32, so that the same rows exist in both precisions.
    (0..count)
        .map(|_| f64::from((unit() * scale) as f32))
        .collect()
}

fn functions(count: usize, dim: usize, bucketing: Bucketing) -> HashFunctions {
    let offsets = values(count, 99, 2.0);
    HashFunctions::new(dim, values(count * dim, 7, 2.0), offsets, bucketing).unwrap()
}

/// The definition: a dot product in the fixed order, floor, nothing clever.
fn definition<T: Scalar>(functions: &HashFunctions, rows: Rows<'_, T>) -> Vec<i32> {
    let mut ids = Vec::new();
    for row in 0..rows.len() {
        let row: Vec<f64> = rows.row(row).iter().map(|value| value.to_f64()).collect();
        for (direction, offset) in functions
            .directions()
            .chunks(functions.dim())
            .zip(functions.offsets())
        {
            let dot = distance(Measure::Dot, &row, direction, Isa::SCALAR).unwrap();
            ids.push(match functions.bucketing() {
                Bucketing::Width(width) => ((dot + offset) * (1.0 / width)).floor() as i32,
                _ => i32::from(dot + offset >= 0.0),
            });
        }
    }
    ids
}

fn ids<T: Scalar>(functions: &HashFunctions, rows: Rows<'_, T>, isa: Isa) -> Vec<i32> {
    let mut ids = vec![0; rows.len() * functions.len()];
    functions.bucket_ids(rows, isa, &mut ids).unwrap();
    ids
}

/// A column for each table; `None` for a row without a key.
fn keys<T: Scalar>(
    functions: &HashFunctions,
    rows: Rows<'_, T>,
    layouts: &[KeyLayout],
    isa: Isa,
) -> Vec<Vec<Option<u128>>> {
    let mut keys = vec![vec![7; rows.len()]; layouts.len()];
    let mut columns: Vec<&mut [u128]> = keys.iter_mut().map(Vec::as_mut_slice).collect();
    let keyless = functions.keys(rows, layouts, isa, &mut columns).unwrap();
    let with_gaps = |(keys, keyless): (&Vec<u128>, &Vec<usize>)| {
        assert!(keyless.is_sorted_by(|row, next| row < next));
        let mut keys: Vec<_> = keys.iter().copied().map(Some).collect();
        keyless.iter().for_each(|&row| keys[row] = None);
        keys
    };
    keys.iter().zip(&keyless).map(with_gaps).collect()
}

#[test]
fn ids_are_those_of_the_definition_on_every_isa_and_in_both_precisions() {
    for (count, dim, n) in [
        (1, 1, 0),
        (1, 1, 1),
        (3, 7, 17),
        (5, 64, 100),
        (12, 385, 1100),
    ] {
        for bucketing in [
            Bucketing::Width(1.0),
            Bucketing::Width(1e-3),
            Bucketing::Width(1e-6),
            Bucketing::Sign,
        ] {
            let functions = functions(count, dim, bucketing);
            let double = values(n * dim, 3, 20.0);
            let single: Vec<f32> = double.iter().map(|&value| value as f32).collect();
            let rows = Rows::new(&double, dim).unwrap();
            let expected = definition(&functions, rows);
            for &isa in Isa::available() {
                assert_eq!(
                    ids(&functions, rows, isa),
                    expected,
                    "{isa} f64 {bucketing:?}"
                );
                let rows = Rows::new(&single, dim).unwrap();
                assert_eq!(
                    ids(&functions, rows, isa),
                    expected,
                    "{isa} f32 {bucketing:?}"
                );
            }
        }
    }
}

#[test]
fn integer_rows_on_integer_directions_fall_exactly_on_boundaries() {
    let dim = 16;
    let directions: Vec<f64> = (0..4 * dim).map(|at| (at % 5) as f64 - 2.0).collect();
    let functions =
        HashFunctions::new(dim, directions, vec![0.0; 4], Bucketing::Width(3.0)).unwrap();
    let single: Vec<f32> = (0..50 * dim)
        .map(|at| (at * 31 % 11) as f32 - 5.0)
        .collect();
    let rows = Rows::new(&single, dim).unwrap();
    for &isa in Isa::available() {
        assert_eq!(
            ids(&functions, rows, isa),
            definition(&functions, rows),
            "{isa}"
        );
    }
}

#[test]
fn rows_of_any_magnitude_hash_by_the_definition() {
    let functions = functions(6, 33, Bucketing::Sign);
    for scale in [1e-44, 1e-30, 1e-10, 1e10, 1e30, 1e38] {
        let double = values(20 * 33, 5, scale);
        let single: Vec<f32> = double.iter().map(|&value| value as f32).collect();
        let rows = Rows::new(&single, 33).unwrap();
        for &isa in Isa::available() {
            assert_eq!(
                ids(&functions, rows, isa),
                definition(&functions, rows),
                "{isa} {scale}"
            );
        }
    }
}

#[test]
fn directions_too_large_for_single_precision_hash_by_the_definition() {
    let functions = HashFunctions::new(2, vec![1e40, 1.0], vec![0.0], Bucketing::Sign).unwrap();
    let rows = Rows::new(&[1e-45_f32, -1e-3, 1e-45, 1e-3], 2).unwrap();
    for &isa in Isa::available() {
        assert_eq!(ids(&functions, rows, isa), [0, 1], "{isa}");
    }
}

#[test]
fn ids_may_use_all_128_bits_of_a_key() {
    const FULL: (i32, i32) = (i32::MIN, i32::MAX);
    // Each function reads a dimension of its own; the last never varies.
    let (count, layout) = (5, KeyLayout::new(&[FULL, FULL, FULL, FULL, (7, 7)]));
    assert_eq!((layout.mode(), layout.bits()), (KeyMode::Packed, 128));
    let directions = (0..count * count).map(|at| f64::from(at % (count + 1) == 0));
    let functions = HashFunctions::new(
        count as usize,
        directions.collect(),
        vec![0.0; count as usize],
        Bucketing::Width(1.0),
    )
    .unwrap();
    let places = [i32::MAX, i32::MAX, i32::MAX, i32::MIN, 0, -1, 1 << 30];
    let mut expected = Vec::new();
    for row in 0..100 {
        let of_row = (0..4).map(|function| places[row % 7 * function % 7]);
        expected.push(
            of_row
                .chain([7 + (row % 10 / 9) as i32])
                .collect::<Vec<_>>(),
        );
    }
    let values: Vec<f64> = expected
        .concat()
        .into_iter()
        .map(|id| f64::from(id) + 0.5)
        .collect();
    let rows = Rows::new(&values, count as usize).unwrap();
    for &isa in Isa::available() {
        let keys = keys(&functions, rows, std::slice::from_ref(&layout), isa).concat();
        assert!(
            keys.contains(&None) && keys.contains(&Some(u128::MAX)),
            "{isa}"
        );
        for (ids, key) in expected.iter().zip(keys) {
            assert_eq!(key, layout.pack(ids), "{isa}");
        }
    }
}

#[test]
fn ranges_and_keys_follow_from_ids() {
    let (count, dim, n) = (6, 20, 1500);
    let functions = functions(count, dim, Bucketing::Width(0.25));
    let double = values(n * dim, 11, 4.0);
    let rows = Rows::new(&double, dim).unwrap();
    for &isa in Isa::available() {
        let ids = ids(&functions, rows, isa);
        let ranges = functions.ranges(rows, isa).unwrap();
        for (function, &range) in ranges.iter().enumerate() {
            let column = ids.iter().skip(function).step_by(count);
            assert_eq!(
                range,
                (*column.clone().min().unwrap(), *column.max().unwrap())
            );
        }
        let layouts = [KeyLayout::new(&ranges[..2]), KeyLayout::new(&ranges[2..])];
        let keys = keys(&functions, rows, &layouts, isa);
        for (row, ids) in ids.chunks(count).enumerate() {
            assert_eq!(keys[0][row], layouts[0].pack(&ids[..2]));
            assert_eq!(keys[1][row], layouts[1].pack(&ids[2..]));
        }
        // Rows beyond what was measured have no key, rather than another bucket's.
        let far: Vec<f64> = double.iter().map(|value| value * 1000.0).collect();
        let far = self::keys(&functions, Rows::new(&far, dim).unwrap(), &layouts, isa);
        assert!(far.concat().contains(&None));
    }
}

#[test]
fn a_bucket_beyond_32_bits_is_an_error_that_names_it() {
    let functions = HashFunctions::new(1, vec![1.0], vec![0.0], Bucketing::Width(0.5)).unwrap();
    let mut rows = vec![0.5_f32; 3000];
    rows[2345] = 2e9;
    let mut ids = vec![0; rows.len()];
    for &isa in Isa::available() {
        let error = functions
            .bucket_ids(Rows::new(&rows, 1).unwrap(), isa, &mut ids)
            .unwrap_err();
        assert_eq!(
            error,
            KernelError::BucketOverflow {
                row: 2345,
                function: 0,
                bucket: 4e9
            },
            "{isa}"
        );
    }
    // The last buckets that fit do.
    let last = [1_073_741_823.75_f64, -1_073_741_824.0];
    functions
        .bucket_ids(Rows::new(&last, 1).unwrap(), Isa::best(), &mut ids[..2])
        .unwrap();
    assert_eq!(ids[..2], [i32::MAX, i32::MIN]);
}

#[test]
fn wrong_shapes_and_widths_are_refused() {
    let functions = functions(2, 3, Bucketing::Sign);
    let rows = Rows::new(&[0.0_f32; 6], 3).unwrap();
    assert!(
        functions
            .bucket_ids(rows, Isa::best(), &mut [0; 3])
            .is_err()
    );
    let rows = Rows::new(&[0.0_f32; 6], 2).unwrap();
    assert!(
        functions
            .bucket_ids(rows, Isa::best(), &mut [0; 6])
            .is_err()
    );
    for width in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let made = HashFunctions::new(1, vec![1.0], vec![0.0], Bucketing::Width(width));
        assert!(
            matches!(made, Err(KernelError::BucketLength { .. })),
            "{width}"
        );
    }
    assert!(HashFunctions::new(2, vec![1.0; 4], vec![0.0], Bucketing::Sign).is_err());
    assert!(HashFunctions::new(1, vec![f64::NAN], vec![0.0], Bucketing::Sign).is_err());
}

proptest! {
    #[test]
    fn equal_rows_have_equal_ids(row in prop::collection::vec(-1e3_f32..1e3, 24), copies in 2_usize..40) {
        let functions = functions(5, 24, Bucketing::Width(0.01));
        let rows = row.repeat(copies);
        let ids = ids(&functions, Rows::new(&rows, 24).unwrap(), Isa::best());
        prop_assert!(ids.chunks(5).all(|of_row| of_row == &ids[..5]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..Default::default() })]

    /// Fields of all widths at all places of a key, ids in and out of their ranges, empty ranges.
    #[test]
    fn keys_are_the_ids_packed(
        ranges in prop::collection::vec((any::<i32>(), 0_u32..33, any::<bool>()), 1..9),
        n in 0_usize..120,
        near in prop::collection::vec(-20_f64..20.0, 120 * 8),
    ) {
        // Row i of one dimension, the function's direction 1: ids are floors of the values.
        let count = ranges.len();
        let full: Vec<(i32, i32)> = ranges.iter().map(|&(low, bits, empty)| {
            let low = low >> 1;
            let high = i64::from(low) + ((1_i64 << bits) - 1);
            let high = high.min(i64::from(i32::MAX)) as i32;
            if empty && bits == 0 { (high, low.wrapping_sub(1)) } else { (low, high) }
        }).collect();
        let layout = KeyLayout::new(&full);
        // Each function reads a dimension of its own.
        let mut directions = vec![0.0; count * count];
        (0..count).for_each(|at| directions[at * count + at] = 1.0);
        let functions =
            HashFunctions::new(count, directions, vec![0.0; count], Bucketing::Width(1.0)).unwrap();
        let values: Vec<f64> = (0..n * count)
            .map(|at| {
                let (low, high) = full[at % count];
                let edge = if near[at] < 0.0 { low } else { high };
                let place = f64::from(edge) + near[at] * f64::from(at as u32 % 3) / 2.0 + 0.5;
                place.clamp(-2e9, 2e9)
            })
            .collect();
        let rows = Rows::new(&values, count).unwrap();
        for &isa in Isa::available() {
            let ids = ids(&functions, rows, isa);
            let keys = keys(&functions, rows, std::slice::from_ref(&layout), isa);
            for (row, of_row) in ids.chunks(count).enumerate() {
                prop_assert_eq!(keys[0][row], layout.pack(of_row), "{} {:?}", isa, layout.mode());
            }
        }
    }
}
