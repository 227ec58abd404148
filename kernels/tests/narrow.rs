//! Rows of 8 and 16 bits: every kernel gives what it gives of the same rows in single precision, on
//! every instruction set.

// Tests may.
#![allow(clippy::unwrap_used)]

use half::{bf16, f16};
use lshjoin_kernels::{
    BoundedRows, Bucketing, CommonScale, HashFunctions, Isa, KernelError, Measure, Narrow,
    OwnedRows, Quantised, Rows, centre_of, check_finite, cosine_distances, distances_of,
    dot_products, euclidean_distances, exact_dot_products, norms, pairs_within,
};

const MEASURES: [Measure; 3] = [Measure::SquaredEuclidean, Measure::Manhattan, Measure::Dot];

/// Calls `test` with rows of each kind, of several lengths, and with the same widened.
fn each_kind(test: impl Fn(Rows<'_, f32>, Rows<'_, f32>, Isa)) {
    for dim in [1, 7, 16, 31, 33, 64, 100] {
        let bytes: Vec<u8> = (0..40 * dim).map(|at| (at * 7919 % 1021) as u8).collect();
        let signed: Vec<i8> = bytes.iter().map(|&value| value.cast_signed()).collect();
        let number = |&value: &u8| f32::from(value) / 16.0 - 8.0;
        let halves: Vec<f16> = bytes.iter().map(number).map(f16::from_f32).collect();
        let brains: Vec<bf16> = bytes.iter().map(number).map(bf16::from_f32).collect();
        for narrow in [
            Narrow::U8(&bytes),
            Narrow::I8(&signed),
            Narrow::F16(&halves),
            Narrow::Bf16(&brains),
        ] {
            let narrow = Rows::narrow(narrow, dim).unwrap();
            let values = narrow.values().unwrap();
            let wide = Rows::new(&values, dim).unwrap();
            for &isa in Isa::available() {
                test(narrow, wide, isa);
            }
        }
    }
}

#[test]
fn rows_are_those_that_were_given() {
    each_kind(|narrow, wide, _| {
        assert_eq!((narrow.len(), narrow.dim()), (wide.len(), wide.dim()));
        assert_eq!(narrow.row(3), wide.row(3));
        assert_eq!(narrow.slice(2..9).row(4), wide.row(6));
        assert_eq!(
            narrow.gather(&[9, 0]).unwrap(),
            wide.gather(&[9, 0]).unwrap()
        );
        let copies = OwnedRows::of(narrow, &[9, 0, 9]).unwrap();
        let copies = copies.rows().unwrap();
        assert_eq!(copies.are_integers(), narrow.are_integers());
        assert_eq!(*copies.values().unwrap(), wide.gather(&[9, 0, 9]).unwrap());
        let mut room = Vec::new();
        for row in 0..narrow.len() {
            assert_eq!(narrow.row_in(row, &mut room), &*wide.row(row));
        }
        assert_eq!(
            narrow.slice(1..5).values_in(&mut room),
            &*wide.slice(1..5).values().unwrap()
        );
    });
    let odd = Rows::<f32>::narrow(Narrow::U8(&[1, 2, 3]), 2);
    assert!(matches!(
        odd,
        Err(KernelError::Shape {
            what: "rows",
            got: 3,
            expected: 2
        })
    ));
    assert!(Rows::<f32>::narrow(Narrow::I8(&[]), 0).is_err());
    assert!(Rows::<f32>::narrow(Narrow::I8(&[]), 3).unwrap().is_empty());
}

#[test]
fn distances() {
    each_kind(|narrow, wide, isa| {
        let pairs: Vec<(u32, u32)> = (0..200).map(|at| (at / 5 % 40, at * 7 % 40)).collect();
        let of = |left: Rows<'_, f32>, right: Rows<'_, f32>| {
            let (mut all, mut out) = (Vec::new(), Vec::new());
            euclidean_distances(left, right, &pairs, &mut out, isa).unwrap();
            all.append(&mut out);
            exact_dot_products(left, right, &pairs, &mut out, isa).unwrap();
            all.append(&mut out);
            let of_sides = (norms(left, isa), norms(right, isa));
            cosine_distances(
                (left, &of_sides.0),
                (right, &of_sides.1),
                &pairs,
                &mut out,
                isa,
            )
            .unwrap();
            all.append(&mut out);
            all.extend(of_sides.0);
            for measure in MEASURES {
                let mut out = Vec::new();
                distances_of(measure, left, right, &pairs, &mut out, isa).unwrap();
                all.extend(out.iter().copied().map(f64::from));
                let side = |rows, indices| BoundedRows {
                    rows,
                    indices,
                    bounds: &[700.0; 6],
                };
                let (left, right) = (
                    side(left, &[0, 9, 9, 3, 5, 39]),
                    side(right, &[8, 9, 1, 0, 38, 2]),
                );
                let mut found = Vec::new();
                let mut note = |i: u32, j: u32, measure: f32| found.push((i, j, measure));
                pairs_within(measure, left, right, isa, &mut note).unwrap();
                found.sort_by_key(|&(i, j, _)| (i, j));
                all.extend(
                    found
                        .iter()
                        .flat_map(|&(i, j, x)| [f64::from(i), j.into(), x.into()]),
                );
            }
            let mut products = vec![0.0; left.len() * right.len()];
            dot_products(left, right, &mut products, isa).unwrap();
            all.extend(products.into_iter().map(f64::from));
            all
        };
        let expected = of(wide, wide);
        assert_eq!(of(narrow, narrow), expected, "{isa}");
        assert_eq!(of(wide, narrow), expected, "{isa}");
        assert_eq!(of(narrow, wide), expected, "{isa}");
    });
}

#[test]
fn codes_and_buckets() {
    each_kind(|narrow, wide, isa| {
        let (codes, expected) = (
            Quantised::new(narrow, isa).unwrap(),
            Quantised::new(wide, isa).unwrap(),
        );
        if !narrow.are_integers() {
            assert_eq!(codes.parts(), expected.parts(), "{isa}");
            assert_eq!(centre_of(narrow, isa), centre_of(wide, isa));
        }
        assert_eq!(codes.uncovered(narrow, None).unwrap(), None);
        assert_eq!(codes.unsound(0..codes.len()), None);
        let directions: Vec<f64> = (0..3 * narrow.dim())
            .map(|at| (at % 7) as f64 - 3.1)
            .collect();
        let width = Bucketing::Width(9.0);
        let functions = HashFunctions::new(narrow.dim(), directions, vec![0.0; 3], width).unwrap();
        let ids = |rows: Rows<'_, f32>| {
            let mut ids = vec![0; 3 * rows.len()];
            functions.bucket_ids(rows, isa, &mut ids).unwrap();
            ids
        };
        assert_eq!(ids(narrow), ids(wide), "{isa}");
    });
}

#[test]
fn integers_are_their_own_codes() {
    let unsigned: Vec<u8> = (0..20 * 64).map(|at| (at * 7919 % 255) as u8).collect();
    let signed: Vec<i8> = unsigned
        .iter()
        .map(|&value| (i16::from(value) - 127) as i8)
        .collect();
    for &isa in Isa::available() {
        for narrow in [Narrow::U8(&unsigned), Narrow::I8(&signed)] {
            let rows = Rows::<f32>::narrow(narrow, 64).unwrap();
            let centre = centre_of(rows, isa);
            let scale = CommonScale::of(rows, centre.as_deref(), isa);
            let codes = Quantised::with_scale(rows, centre.as_deref(), scale, isa).unwrap();
            assert!(
                (0..rows.len()).all(|row| codes.scale(row) == Some(1.0)),
                "{isa}"
            );
            assert_eq!(codes.parts().0, signed, "{isa}");
        }
    }
}

#[test]
fn long_rows_of_integers_have_sums_that_fit() {
    let values = [vec![0_u8; 70_001], vec![255; 70_001]].concat();
    let rows = Rows::<f32>::narrow(Narrow::U8(&values), 70_001).unwrap();
    for &isa in Isa::available() {
        let mut out = Vec::new();
        euclidean_distances(rows, rows, &[(0, 1), (1, 1)], &mut out, isa).unwrap();
        assert_eq!(out, [(70_001.0 * 65_025.0_f64).sqrt(), 0.0]);
    }
}

#[test]
fn what_is_not_finite_is_found() {
    let mut halves = vec![f16::MAX; 3 * 50_000];
    for &isa in Isa::available() {
        for at in [0, 1, 70_000, halves.len() - 1] {
            let clean = std::mem::replace(&mut halves[at], f16::NEG_INFINITY);
            let checked = check_finite(Rows::<f32>::narrow(Narrow::F16(&halves), 3).unwrap(), isa);
            halves[at] = clean;
            let expected = KernelError::NotFinite {
                row: at / 3,
                dimension: at % 3,
                value: f64::NEG_INFINITY,
            };
            assert_eq!(checked, Err(expected));
        }
        let clean = Rows::<f32>::narrow(Narrow::F16(&halves), 3).unwrap();
        assert_eq!(check_finite(clean, isa), Ok(()));
    }
}
