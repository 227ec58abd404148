//! The 8-bit filter: the same on every instruction set, lossless on hostile rows, and a filter.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // tests may

use lshjoin_kernels::{
    Isa, KernelError, LeftPanel, Level, Near, Quantised, RightPanel, Rows, Scalar, code_distances,
    code_distances2, code_intervals, near_pairs, nearest_codes, nearest_pairs,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn gaussian(n: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = || (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
    (0..n * dim).map(|_| normal()).collect()
}

/// The pairs that may be near, sorted.
fn near<T: Scalar>(
    isa: Isa,
    (left, left_bounds): (Rows<'_, T>, &[f32]),
    (right, right_bounds): (Rows<'_, T>, &[f32]),
) -> Vec<(u32, u32)> {
    let (mut left_panel, mut right_panel) = (LeftPanel::new(isa), RightPanel::new(isa));
    let left = Quantised::new(left, isa).unwrap();
    let right = Quantised::new(right, isa).unwrap();
    let indices = |rows: &Quantised| (0..rows.len() as u32).collect::<Vec<_>>();
    left_panel
        .gather(&left, &indices(&left), left_bounds)
        .unwrap();
    // Bounds that are set anew replace those before.
    right_panel
        .gather(&right, &indices(&right), &vec![-1.0; right.len()])
        .unwrap();
    right_panel.set_bounds(right_bounds).unwrap();
    let mut near = Vec::new();
    near_pairs(&left_panel, &right_panel, &mut near).unwrap();
    let pair = |near: &Near| (near.left, near.right);
    for found in &near {
        // An interval that is not infinite must not be empty either.
        assert!(found.lower <= found.upper);
    }
    near.sort_by_key(pair);
    near.iter().map(pair).collect()
}

/// Runs `test` on every instruction set of this machine and names those that it lacks.
fn on_each_isa(test: impl Fn(Isa)) {
    for name in Level::ALL.map(Level::name) {
        match name.parse() {
            Ok(isa) => test(isa),
            Err(_) => println!("skipping {name}: not on this machine"),
        }
    }
}

fn distance<T: Scalar>(left: &[T], right: &[T]) -> f64 {
    let difference = |(left, right): (&T, &T)| left.to_f64() - right.to_f64();
    let largest = left
        .iter()
        .zip(right)
        .map(difference)
        .fold(0.0, |largest: f64, off| largest.max(off.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    // Scaled, so that neither huge nor tiny squares are lost.
    let squares = left.iter().zip(right).map(difference);
    largest
        * squares
            .map(|off| (off / largest).powi(2))
            .sum::<f64>()
            .sqrt()
}

#[test]
fn every_isa_finds_what_the_reference_finds() {
    on_each_isa(|isa| {
        for dim in [1, 3, 63, 64, 65, 100, 384] {
            for (m, n) in [
                (0, 5),
                (5, 0),
                (1, 1),
                (7, 15),
                (8, 16),
                (9, 17),
                (33, 47),
                (31, 129),
            ] {
                let (left, right) = (gaussian(m, dim, 1), gaussian(n, dim, 2));
                let left = Rows::new(&left, dim).unwrap();
                let right = Rows::new(&right, dim).unwrap();
                // Around the typical distance, so that some pairs are near and some are not.
                let typical = (2.0 * dim as f32).sqrt();
                let bounds = |n: usize| (0..n).map(|i| typical * (0.94 + 0.02 * (i % 5) as f32));
                let (left_bounds, right_bounds): (Vec<_>, Vec<_>) = (
                    bounds(m).collect(),
                    bounds(n).map(|bound| bound - 0.1).collect(),
                );
                let run = |isa| near(isa, (left, &left_bounds), (right, &right_bounds));
                let expected = run(Isa::SCALAR);
                let some = !expected.is_empty() && expected.len() < m * n;
                assert!(some || m * n < 100);
                assert_eq!(run(isa), expected, "{isa}, {m} × {n}, dim {dim}");
            }
        }
    });
}

#[test]
fn most_far_pairs_are_rejected() {
    let (n, dim) = (300, 128);
    let values = gaussian(n, dim, 3);
    let rows = Rows::new(&values, dim).unwrap();
    // Random pairs are 16 ± 1 apart.
    let bound = 14.5;
    let truly = (0..n)
        .flat_map(|i| (0..i).map(move |j| (i, j)))
        .filter(|&(i, j)| distance(&rows.row(i), &rows.row(j)) <= f64::from(bound))
        .count();
    on_each_isa(|isa| {
        for scale in [1e-12, 1.0, 1e12] {
            let values: Vec<f32> = values.iter().map(|value| value * scale).collect();
            let rows = Rows::new(&values, dim).unwrap();
            let asks = vec![bound * scale; n];
            let silent = vec![f32::NEG_INFINITY; n];
            let mut within = near(isa, (rows, &asks), (rows, &silent));
            within.retain(|(left, right)| left < right);
            println!("{isa}: {} pairs pass, {truly} are near", within.len());
            assert!(truly > 100 && within.len() >= truly && within.len() < 2 * truly);
            assert!(near(isa, (rows, &silent), (rows, &silent)).is_empty());
        }
    });
}

#[test]
fn extreme_residuals_do_not_hide_their_neighbours() {
    // One row of each tile is too large to square; the others are an ordinary crowd.
    let (n, dim) = (64, 20);
    let mut values = gaussian(n, dim, 4);
    for row in (5..n).step_by(16) {
        values[row * dim..][..dim].fill(1e30);
    }
    let rows = Rows::new(&values, dim).unwrap();
    let asks = vec![3.0; n];
    let silent = vec![-1.0; n];
    let huge = |row: u32| row % 16 == 5;
    on_each_isa(|isa| {
        let mut found = near(isa, (rows, &asks), (rows, &silent));
        found.retain(|(left, right)| left < right);
        let ordinary = found
            .iter()
            .filter(|pair| !huge(pair.0) && !huge(pair.1))
            .count();
        assert!(ordinary < 200, "{isa}: {ordinary} ordinary pairs pass");
        assert!(
            found
                .iter()
                .filter(|pair| huge(pair.0) && huge(pair.1))
                .count()
                == 6
        );
    });
}

#[test]
fn intervals_hold_the_distance_at_all_magnitudes() {
    let dim = 3;
    let of_power = |power: i32| {
        let whole = move |at: usize| ((at * 7 + at * at) % 7) as f64 - 3.0;
        (0..8 * dim).map(move |at| whole(at) * 10_f64.powi(power))
    };
    for powers in [[0, 30], [-20, 37], [-30, 16], [6, 307], [-300, 20]] {
        let mut values: Vec<f64> = powers.into_iter().flat_map(of_power).collect();
        values.extend([0.0; 3]);
        let rows = Rows::new(&values, dim).unwrap();
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        let bounds = vec![f32::INFINITY; rows.len()];
        on_each_isa(|isa| {
            let quantised = Quantised::new(rows, isa).unwrap();
            let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
            left.gather(&quantised, &all, &bounds).unwrap();
            right.gather(&quantised, &all, &bounds).unwrap();
            let (mut all, mut nearest) = (Vec::new(), Vec::new());
            near_pairs(&left, &right, &mut all).unwrap();
            nearest_pairs(&left, &right, 5, &mut nearest).unwrap();
            assert_eq!(all.len(), rows.len() * rows.len());
            for pair in all.iter().chain(&nearest) {
                let (x, y) = (rows.row(pair.left as usize), rows.row(pair.right as usize));
                let truth = distance(&x, &y);
                let interval = f64::from(pair.lower)..=f64::from(pair.upper);
                assert!(
                    interval.contains(&truth),
                    "{isa} {powers:?} {truth} {interval:?}"
                );
            }
        });
    }
}

#[test]
fn rows_of_zeros_find_tiny_ones_beside_huge_ones() {
    for (huge, tiny) in [
        (1.67e20_f32, 5.99e-21_f32),
        (1.98e38, 7.5e-39),
        (1e21, 1e-22),
    ] {
        // Huge rows make the common scale, which is that of zeros.
        let values = [0.0, huge, -huge, -tiny];
        let rows = Rows::new(&values, 1).unwrap();
        let (asks, silent) = ([tiny, -1.0, -1.0, tiny], [-1.0; 4]);
        on_each_isa(|isa| {
            for (left, right) in [(&asks, &silent), (&silent, &asks)] {
                let found = near(isa, (rows, left), (rows, right));
                for pair in [(0, 3), (3, 0)] {
                    assert!(found.contains(&pair), "{isa} lost {pair:?} of {values:?}");
                }
            }
        });
    }
}

#[test]
fn bad_arguments_are_refused() {
    let rows = Quantised::new(
        Rows::new(&[1.0_f64, 2.0, 3.0, 4.0], 2).unwrap(),
        Isa::SCALAR,
    );
    let rows = rows.unwrap();
    let other = Quantised::new(Rows::new(&[1.0_f64], 1).unwrap(), Isa::SCALAR).unwrap();
    let (mut left, mut right) = (LeftPanel::new(Isa::SCALAR), RightPanel::new(Isa::SCALAR));
    let missing = KernelError::RowOutOfRange {
        what: "panel rows",
        index: 2,
        rows: 2,
    };
    assert_eq!(left.gather(&rows, &[0, 2], &[1.0; 2]), Err(missing));
    assert!(left.gather(&rows, &[0, 1], &[1.0]).is_err());
    left.gather(&rows, &[0, 1, 1], &[1.0; 3]).unwrap();
    right.gather(&other, &[0], &[1.0]).unwrap();
    assert!(right.set_bounds(&[1.0, 1.0]).is_err());
    let mut near = Vec::new();
    assert!(near_pairs(&left, &right, &mut near).is_err());
    let best = RightPanel::new(Isa::best());
    if Isa::best() != Isa::SCALAR {
        let refused = near_pairs(&left, &best, &mut near);
        assert!(matches!(refused, Err(KernelError::Packing { .. })));
    }
    let nan = [0.0, 1.0, f32::NAN, f32::INFINITY];
    let refused = Quantised::new(Rows::new(&nan, 2).unwrap(), Isa::best());
    assert!(matches!(
        refused,
        Err(KernelError::NotFinite {
            row: 1,
            dimension: 0,
            ..
        })
    ));
}

/// Rows that break careless arithmetic: huge, tiny, zero, equal, integer, and of mixed scales.
fn hostile_row(dim: usize) -> impl Strategy<Value = Vec<f32>> {
    let magnitude = prop_oneof![
        4 => Just(1.0_f32),
        1 => Just(0.0),
        1 => (-45_i32..=38).prop_map(|power| 10_f32.powi(power)),
        1 => Just(f32::MAX),
        1 => Just(f32::MIN_POSITIVE),
    ];
    let value = prop_oneof![
        3 => -1.0_f32..=1.0,
        1 => (-3_i8..=3).prop_map(|value| f32::from(value) / 3.0),
        1 => Just(1.0),
    ];
    let uneven = prop_oneof![3 => Just(1.0_f32), 1 => Just(1e-20)];
    let values = proptest::collection::vec((value, uneven), dim);
    (magnitude, values)
        .prop_map(|(magnitude, values)| values.iter().map(|(v, u)| v * u * magnitude).collect())
}

#[test]
fn code_distances_are_nearly_the_distances_and_the_same_everywhere() {
    let dim = 70;
    let (left, right) = (gaussian(37, dim, 9), gaussian(50, dim, 10));
    // Some rows of another scale, in the middle of the others.
    let right: Vec<f32> = right
        .chunks(dim)
        .zip(0..)
        .flat_map(|(row, at)| {
            row.iter()
                .map(move |x| if at % 9 == 4 { 9.0 * x } else { *x })
        })
        .collect();
    let rows = |values| Rows::new(values, dim).unwrap();
    let (left, right) = (rows(&left), rows(&right));
    let found = |isa: Isa| {
        let (mut of_left, mut of_right) = (LeftPanel::new(isa), RightPanel::new(isa));
        let places = |rows: Rows<'_, f32>| (0..rows.len() as u32).collect::<Vec<_>>();
        let codes = |rows| Quantised::new(rows, isa).unwrap();
        of_left
            .gather(&codes(left), &places(left), &vec![-1.0; left.len()])
            .unwrap();
        of_right
            .gather(&codes(right), &places(right), &vec![-1.0; right.len()])
            .unwrap();
        let mut squares = Vec::new();
        code_distances2(&of_left, &of_right, &mut squares).unwrap();
        (squares, of_right.columns().collect::<Vec<_>>())
    };
    let (squares, columns) = found(Isa::SCALAR);
    let mut seen: Vec<u32> = columns.iter().flatten().copied().collect();
    seen.sort();
    assert_eq!(seen, (0..right.len() as u32).collect::<Vec<_>>());
    for (row, squares) in squares.chunks(columns.len()).enumerate() {
        for (square, column) in squares.iter().zip(&columns) {
            match column {
                None => assert_eq!(*square, f32::INFINITY),
                Some(other) => {
                    let other = &*right.row(*other as usize);
                    let far = distance(&left.row(row), other);
                    let norm = distance(&vec![0.0; dim], other);
                    let off = f64::from(*square).max(0.0).sqrt() - far;
                    assert!(off.abs() < 0.03 * norm, "{off} of {far}");
                }
            }
        }
    }
    on_each_isa(|isa| assert_eq!(found(isa).0, squares, "{isa}"));
}

#[test]
fn the_nearest_of_a_panel_are_among_those_it_reports() {
    let dim = 20;
    let (left, right) = (gaussian(45, dim, 5), gaussian(150, dim, 6));
    let rows = |values| Rows::new(values, dim).unwrap();
    let (left, right) = (rows(&left), rows(&right));
    let indices = |rows: Rows<'_, f32>| (0..rows.len() as u32).collect::<Vec<_>>();
    for k in [1, 10, 149, 150, 1000, usize::MAX] {
        // The last left row asks only for what is very near, another for nothing.
        let mut bounds = vec![f32::INFINITY; left.len()];
        bounds[44] = 4.0;
        bounds[7] = -1.0;
        let found = |isa: Isa| {
            let (mut left_panel, mut right_panel) = (LeftPanel::new(isa), RightPanel::new(isa));
            let codes = |rows| Quantised::new(rows, isa).unwrap();
            left_panel
                .gather(&codes(left), &indices(left), &bounds)
                .unwrap();
            let silent = vec![-1.0; right.len()];
            right_panel
                .gather(&codes(right), &indices(right), &silent)
                .unwrap();
            let mut near = Vec::new();
            nearest_pairs(&left_panel, &right_panel, k, &mut near).unwrap();
            near.sort_by_key(|near| (near.left, near.right));
            near
        };
        let expected = found(Isa::SCALAR);
        for (row, &bound) in bounds.iter().enumerate() {
            let mut distances: Vec<(f64, u32)> = (0..right.len())
                .map(|other| (distance(&left.row(row), &right.row(other)), other as u32))
                .collect();
            distances.sort_by(|x, y| x.0.total_cmp(&y.0));
            let of_row: Vec<_> = expected
                .iter()
                .filter(|near| near.left as usize == row)
                .collect();
            for &(distance, other) in distances.iter().take(k) {
                let is = of_row.iter().find(|near| near.right == other);
                assert!(is.is_some() || distance > f64::from(bound), "{k} {row}");
                if let Some(near) = is {
                    let interval = f64::from(near.lower)..=f64::from(near.upper);
                    assert!(interval.contains(&distance));
                }
            }
            assert!(
                of_row.len() / 2 < k.saturating_add(5),
                "{} for {k}",
                of_row.len()
            );
        }
        on_each_isa(|isa| assert_eq!(found(isa), expected, "{isa}"));
    }
    let (left, right) = (LeftPanel::new(Isa::SCALAR), RightPanel::new(Isa::SCALAR));
    let refused = nearest_pairs(&left, &right, 0, &mut Vec::new());
    assert_eq!(refused, Err(KernelError::NoNeighbours));
}

/// What two kernels say of the codes of some rows: of each left row the nearest, and all distances.
type OfCodes = (Vec<Near>, Vec<f32>);

fn of_codes(
    isa: Isa,
    (left, right): (Rows<'_, f32>, Rows<'_, f32>),
    k: usize,
    bounds: &[f32],
) -> OfCodes {
    let indices = |rows: &Quantised| (0..rows.len() as u32).collect::<Vec<_>>();
    let (left, right) = (
        Quantised::new(left, isa).unwrap(),
        Quantised::new(right, isa).unwrap(),
    );
    let (left, right) = (left.without_errors(), right.without_errors());
    let (mut left_panel, mut right_panel) = (LeftPanel::new(isa), RightPanel::new(isa));
    left_panel.gather(&left, &indices(&left), bounds).unwrap();
    let silent = vec![-1.0; right.len()];
    right_panel
        .gather(&right, &indices(&right), &silent)
        .unwrap();
    let mut nearest = Vec::new();
    nearest_codes(&left_panel, &right_panel, k, &mut nearest).unwrap();
    nearest.sort_by_key(|pair| (pair.left, pair.right));
    let (mut all, mut of_row) = (Vec::new(), Vec::new());
    for row in 0..left.len() as u32 {
        code_distances((&left, row), &right, &indices(&right), &mut of_row, isa).unwrap();
        all.extend_from_slice(&of_row);
    }
    (nearest, all)
}

#[test]
fn single_pairs_have_the_intervals_of_tiles() {
    for dim in [1, 20, 130] {
        let (m, n) = (7, 40);
        let (left, right) = (gaussian(m, dim, 5), gaussian(n, dim, 6));
        for &isa in Isa::available() {
            let side = |values| Quantised::new(Rows::new(values, dim).unwrap(), isa).unwrap();
            let (left, right) = (side(&left), side(&right));
            let indices = |rows: &Quantised| (0..rows.len() as u32).collect::<Vec<_>>();
            let (mut of_left, mut of_right) = (LeftPanel::new(isa), RightPanel::new(isa));
            let all = vec![f32::INFINITY; m];
            of_left.gather(&left, &indices(&left), &all).unwrap();
            of_right
                .gather(&right, &indices(&right), &vec![-1.0; n])
                .unwrap();
            let (mut near, mut intervals) = (Vec::new(), Vec::new());
            near_pairs(&of_left, &of_right, &mut near).unwrap();
            assert_eq!(near.len(), m * n);
            let pairs: Vec<_> = near.iter().map(|pair| (pair.left, pair.right)).collect();
            code_intervals(&left, &right, &pairs, &mut intervals, isa).unwrap();
            let of_tiles: Vec<_> = near.iter().map(|pair| (pair.lower, pair.upper)).collect();
            assert_eq!(intervals, of_tiles);
            for pairs in [[(m as u32, 0)], [(0, n as u32)]] {
                let outside = code_intervals(&left, &right, &pairs, &mut intervals, isa);
                assert!(matches!(outside, Err(KernelError::RowOutOfRange { .. })));
            }
        }
    }
}

#[test]
fn kernels_that_go_by_codes_agree_with_all_distances() {
    for (dim, m, n) in [(1, 5, 9), (20, 45, 150), (64, 33, 64), (130, 3, 500)] {
        let (left, right) = (gaussian(m, dim, 5), gaussian(n, dim, 6));
        let sides = (
            Rows::new(&left, dim).unwrap(),
            Rows::new(&right, dim).unwrap(),
        );
        // Among them none, all, and the distance of a random row.
        let mut bounds = vec![(2.0 * dim as f32).sqrt(); m];
        (bounds[0], bounds[1]) = (-1.0, f32::INFINITY);
        for k in [1, 10, n - 1, n, usize::MAX] {
            let found = |isa| of_codes(isa, sides, k, &bounds);
            let (nearest, all) = found(Isa::SCALAR);
            for (row, distances) in all.chunks(n).enumerate() {
                let of_row = nearest.iter().filter(|pair| pair.left as usize == row);
                let of_row: Vec<&Near> = of_row.collect();
                assert_eq!(of_row.len(), k.min(n));
                let mut sorted = distances.to_vec();
                sorted.sort_by(f32::total_cmp);
                for pair in of_row {
                    // The same bits, however they were computed.
                    assert_eq!(pair.upper, distances[pair.right as usize]);
                    assert!(pair.upper <= sorted[k.min(n) - 1]);
                }
            }
            on_each_isa(|isa| assert!(found(isa) == (nearest.clone(), all.clone()), "{isa}"));
        }
    }
    let (left, right) = (LeftPanel::new(Isa::SCALAR), RightPanel::new(Isa::SCALAR));
    let refused = nearest_codes(&left, &right, 0, &mut Vec::new());
    assert_eq!(refused, Err(KernelError::NoNeighbours));
    let rows = |dim| Quantised::new(Rows::new(&[1.0_f32; 6], dim).unwrap(), Isa::SCALAR).unwrap();
    let mut out = Vec::new();
    let mut refused = |left, row, others: &[u32]| {
        code_distances((&rows(left), row), &rows(2), others, &mut out, Isa::SCALAR).unwrap_err()
    };
    assert!(matches!(refused(3, 0, &[0]), KernelError::Shape { .. }));
    assert!(matches!(
        refused(2, 3, &[0]),
        KernelError::RowOutOfRange { .. }
    ));
    assert!(matches!(
        refused(2, 0, &[3]),
        KernelError::RowOutOfRange { .. }
    ));
}

fn hostile() -> impl Strategy<Value = (usize, Vec<Vec<f32>>, Vec<(u8, usize)>)> {
    prop_oneof![Just(1_usize), Just(5), Just(64), Just(70)].prop_flat_map(|dim| {
        let rows = proptest::collection::vec(hostile_row(dim), 1..40);
        // Bounds: silent, zero, everything, or exactly the distance to some other row.
        let bounds = proptest::collection::vec((0_u8..8, 0..1000_usize), 40);
        (Just(dim), rows, bounds)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn nothing_near_is_lost((dim, mut rows, bounds) in hostile()) {
        // Some rows twice, some almost.
        let copies: Vec<_> = rows.iter().step_by(3).cloned().collect();
        let close = copies.iter().map(|row| row.iter().map(|v| v * 0.999_999).collect::<Vec<_>>());
        let close: Vec<_> = close.collect();
        rows.extend(copies);
        rows.extend(close);
        let n = rows.len();
        let flat: Vec<f32> = rows.concat();
        let wide: Vec<f64> = flat.iter().map(|&value| f64::from(value)).collect();
        let truth: Vec<f64> = (0..n * n).map(|at| distance(&rows[at / n], &rows[at % n])).collect();
        let bounds: Vec<f32> = (0..n)
            .map(|row| match bounds[row % bounds.len()] {
                (0, _) => f32::NEG_INFINITY,
                (1, _) => 0.0,
                (2, other) if other < 100 => f32::INFINITY,
                // Rounded like any number of single precision, so perhaps just below.
                (_, other) => truth[row * n + other % n] as f32,
            })
            .collect();
        let reach = |row: usize| f64::from(bounds[row]) * (1.0 + f64::from(f32::EPSILON));
        for &isa in Isa::available() {
            let found = [
                near(isa, (Rows::new(&flat, dim).unwrap(), &bounds), (Rows::new(&flat, dim).unwrap(), &bounds)),
                near(isa, (Rows::new(&wide, dim).unwrap(), &bounds), (Rows::new(&wide, dim).unwrap(), &bounds)),
            ];
            for i in 0..n {
                for j in 0..n {
                    let must = truth[i * n + j] <= reach(i).max(reach(j));
                    for found in &found {
                        let is = found.binary_search(&(i as u32, j as u32)).is_ok();
                        prop_assert!(is || !must, "{isa} lost ({i}, {j}) at {}", truth[i * n + j]);
                    }
                }
            }
        }
    }
}
