//! Kernels on each instruction set beside the scalar one, and on codes, bounds, shapes and indices
//! that nobody made with care.

use lshjoin_kernels::{
    BoundedRows, CommonScale, DifferenceLimit, Isa, KernelError, LeftBits, LeftPanel, Measure,
    Near, Quantised, Result, RightBits, RightPanel, Rows, Scalar, Sorter, centre_of, check_finite,
    check_within, code_distances2, cosine_distances, decode, distance, distances_of, dot_products,
    each_near_least, euclidean_distances, exact_dot_products, insert_keys, least, near_bits,
    near_pairs, nearest_codes, nearest_pairs, norms, pairs_within, sum_codes,
};

use super::input::{Input, Random, norm};

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.up_to(5) {
        0 => panels(&mut input),
        1 => hostile_panels(&mut input),
        2 => distances::<f32>(&mut input),
        3 => distances::<f64>(&mut input),
        4 => {
            sort(&mut input);
            packed_bits(&mut input);
            insertion(&mut input);
        }
        _ => numbers(&mut input),
    }
}

/// Any numbers, or finite ones alone.
fn values<T: Scalar>(count: usize, finite: bool, input: &mut Input) -> Vec<T> {
    let ordinary = input.flag();
    let mut random = Random::new(input.any::<u16>().into());
    let value = |_| match input.is_over() || ordinary && random.below(8) > 0 {
        true => random.unit() as f32,
        false => input.odd_f32(),
    };
    let of = |value: f32| match finite && !value.is_finite() {
        true => T::from_f64(2.5),
        false => T::from_f64(value.into()),
    };
    (0..count).map(value).map(of).collect()
}

/// Indices, seldom of a row that is not there.
fn indices(rows: usize, input: &mut Input) -> Vec<u32> {
    let count = input.up_to(70);
    let beyond = usize::from(input.once_in(16));
    let mut random = Random::new(input.any::<u16>().into());
    (0..count)
        .map(|_| random.below((rows + beyond).max(1)) as u32)
        .collect()
}

fn bounds(count: usize, input: &mut Input) -> Vec<f32> {
    let count = count + usize::from(input.once_in(32));
    let all = input.odd_f32();
    (0..count)
        .map(|_| {
            if input.is_over() {
                all
            } else {
                input.odd_f32()
            }
        })
        .collect()
}

/// What two panels come to, with all floats as bits and pairs in one order.
#[derive(Debug, PartialEq)]
struct Compared {
    near: Result<Vec<(u32, u32, u32, u32)>>,
    nearest: Result<Vec<(u32, u32, u32, u32)>>,
    nearest_codes: Result<Vec<(u32, u32, u32, u32)>>,
    squares: Result<Vec<u32>>,
}

struct Side<'a> {
    codes: Quantised<'a>,
    rows: Vec<u32>,
    bounds: Vec<f32>,
}

fn compare(left: &Side, right: &Side, k: usize, isa: Isa) -> Result<Compared> {
    let (mut lefts, mut rights) = (LeftPanel::new(isa), RightPanel::new(isa));
    lefts.gather(&left.codes, &left.rows, &left.bounds)?;
    rights.gather(&right.codes, &right.rows, &right.bounds)?;
    let pairs = |found: Result<()>, near: Vec<Near>| {
        found.map(|()| {
            let bits = |near: &Near| {
                (
                    near.left,
                    near.right,
                    near.lower.to_bits(),
                    near.upper.to_bits(),
                )
            };
            let mut pairs: Vec<_> = near.iter().map(bits).collect();
            pairs.sort();
            pairs
        })
    };
    let (mut near, mut nearest, mut squares) = (Vec::new(), Vec::new(), Vec::new());
    let found = near_pairs(&lefts, &rights, &mut near);
    let near = pairs(found, near);
    let found = nearest_pairs(&lefts, &rights, k, &mut nearest);
    let nearest = pairs(found, nearest);
    let mut codes = Vec::new();
    let found = nearest_codes(&lefts, &rights, k, &mut codes);
    let nearest_codes = pairs(found, codes);
    let found = code_distances2(&lefts, &rights, &mut squares);
    let columns = rights.columns().count();
    let squares = found.map(|()| {
        assert_eq!(squares.len(), columns * left.rows.len());
        squares.iter().map(|square| square.to_bits()).collect()
    });
    Ok(Compared {
        near,
        nearest,
        nearest_codes,
        squares,
    })
}

fn apart(x: &[f32], y: &[f32]) -> f64 {
    norm(x.iter().zip(y).map(|(&x, &y)| f64::from(x) - f64::from(y)))
}

/// Packed bits, limits and rows that may not be there: all instruction sets report the same.
fn packed_bits(input: &mut Input) {
    let (isa, width) = (input.isa(), 1 + input.up_to(140));
    let (m, n) = (input.up_to(40), input.up_to(150));
    let mut random = Random::new(input.any::<u16>().into());
    let mut bytes =
        |rows: usize| -> Vec<u8> { (0..rows * width).map(|_| random.below(256) as u8).collect() };
    let (left, right) = (bytes(m), bytes(n));
    let (left, right) = (rows(&left, width), rows(&right, width));
    let (chosen, order) = (indices(m, input), indices(n, input));
    let mut offsets: Vec<usize> = (0..3).map(|_| input.up_to(order.len() + 1)).collect();
    if input.flag() {
        offsets.sort();
    }
    let groups = input.up_to(4)..input.up_to(6);
    // Halves and quarters, with which nothing is rounded.
    let slope = if input.flag() {
        input.up_to(8) as f32 / 4.0
    } else {
        0.0
    };
    let limits: Vec<_> = bounds(chosen.len(), input)
        .into_iter()
        .map(|most| DifferenceLimit {
            most: (most * 4.0).round() / 4.0,
            slope,
        })
        .collect();
    let compare = |isa| {
        let right = RightBits::new(right, &order, &offsets)?;
        let mut lefts = LeftBits::default();
        lefts.gather(left, &(0..m as u32).collect::<Vec<_>>())?;
        let mut near = Vec::new();
        near_bits(
            &lefts,
            &chosen,
            &limits,
            &right,
            groups.clone(),
            isa,
            &mut near,
        )?;
        Ok::<_, KernelError>(near)
    };
    assert_eq!(compare(isa), compare(Isa::SCALAR));
}

/// Panels of codes of real rows: all instruction sets report the same, and nothing near is lost.
fn panels(input: &mut Input) {
    let (isa, dim) = (input.isa(), 1 + input.up_to(140));
    let (m, n) = (1 + input.up_to(40), 1 + input.up_to(80));
    let (left, right) = (values(m * dim, true, input), values(n * dim, true, input));
    let (left, right) = (rows(&left, dim), rows(&right, dim));
    let centre = centre_of(left, isa);
    assert_eq!(centre, centre_of(left, Isa::SCALAR));
    // Any will do, if it is the same for all.
    let centre = match input.flag() {
        true => Some(right.row(0).to_vec()),
        false => centre,
    };
    let centre = centre.as_deref();
    let (scale, k) = (CommonScale::of(left, centre, isa), input.up_to(80));
    assert_eq!(scale, CommonScale::of(left, centre, Isa::SCALAR));
    let scale = CommonScale::from_bits(input.any::<u32>() & !0xff).unwrap_or(scale);
    assert_eq!(CommonScale::from_bits(scale.to_bits()), Some(scale));
    let inflated = input.once_in(4).then(|| (input.up_to(n), input.odd_f32()));
    let side = |rows: Rows<'_, f32>, input: &mut Input| {
        let rows_of = indices(rows.len(), input);
        let bounds = bounds(rows_of.len(), input);
        let on = |isa| {
            let codes = Quantised::with_scale(rows, centre, scale, isa);
            let mut codes = codes.expect("finite rows");
            assert_eq!(codes.uncovered(rows, centre).expect("their rows"), None);
            if let Some((row, error)) = inflated {
                assert_eq!(codes.inflate_error(row, error).is_ok(), row < rows.len());
            }
            let (rows, bounds) = (rows_of.clone(), bounds.clone());
            Side {
                codes,
                rows,
                bounds,
            }
        };
        (on(isa), on(Isa::SCALAR))
    };
    let (left_side, left_scalar) = side(left, input);
    let (right_side, right_scalar) = side(right, input);
    assert_eq!(left_side.codes.parts(), left_scalar.codes.parts(), "{isa}");
    assert_eq!(
        right_side.codes.parts(),
        right_scalar.codes.parts(),
        "{isa}"
    );
    let compared = compare(&left_side, &right_side, k, isa);
    let expected = compare(&left_scalar, &right_scalar, k, Isa::SCALAR);
    assert_eq!(compared, expected, "{isa}");

    let Ok(Compared { near: Ok(near), .. }) = compared else {
        return;
    };
    let found: std::collections::BTreeSet<_> = near.iter().map(|near| (near.0, near.1)).collect();
    for (i, (&row, &bound)) in (0..).zip(left_side.rows.iter().zip(&left_side.bounds)) {
        for (j, (&other, &of_other)) in (0..).zip(right_side.rows.iter().zip(&right_side.bounds)) {
            let far = apart(&left.row(row as usize), &right.row(other as usize));
            let bound = f64::from(bound.max(of_other)) * (1.0 + f64::from(f32::EPSILON));
            let is_near = far <= bound && bound >= 0.0;
            assert!(
                !is_near || found.contains(&(i, j)),
                "{isa} lost ({i}, {j}) at {far}"
            );
        }
    }
}

/// Panels of codes that no row has: nothing is known of what they find, but that it ends.
fn hostile_panels(input: &mut Input) {
    let (isa, dim) = (input.isa(), input.up_to(140));
    let (count, k) = (input.up_to(40), input.up_to(50));
    let skipped = usize::from(input.once_in(16));
    let order = indices(count, input);
    let (of_left, of_right) = (indices(count, input), indices(count, input));
    let bounds = [bounds(of_left.len(), input), bounds(of_right.len(), input)];
    let mut random = Random::new(input.any::<u16>().into());
    let mut bytes = |count: usize| -> Vec<u8> {
        let byte = |_| match random.below(8) {
            0 => random.below(256) as u8,
            _ => input.any(),
        };
        (0..count).map(byte).collect()
    };
    let codes = bytes(count * Quantised::stride(dim));
    let codes: Vec<i8> = codes.iter().map(|&code| code as i8).collect();
    let known = bytes(count * 16 + skipped);
    let Ok(mut codes) = Quantised::from_parts(dim, &codes, &known[skipped..]) else {
        return;
    };
    let mut other = codes.clone();
    if other.reorder(&order).is_ok() {
        codes.append(&other).expect("the same dimension");
    }
    let [of_lefts, of_rights] = bounds;
    let (left, right) = (codes.clone(), codes.slice(0..codes.len()));
    let left = Side {
        codes: left,
        rows: of_left,
        bounds: of_lefts,
    };
    let right = Side {
        codes: right,
        rows: of_right,
        bounds: of_rights,
    };
    let _ = compare(&left, &right, k, isa);
}

fn rows<T>(values: &[T], dim: usize) -> Rows<'_, T> {
    Rows::new(values, dim).expect("whole rows")
}

/// The bits of a number, any NaN being any other.
fn bits<T: Scalar>(value: T) -> u64 {
    let value = value.to_f64();
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

/// The measure in the order of summation that the kernels have.
fn measured<T: Scalar>(measure: Measure, x: &[T], y: &[T]) -> T {
    let term = |(&x, &y): (&T, &T)| match measure {
        Measure::SquaredEuclidean => (x - y) * (x - y),
        Measure::Manhattan => (x - y).abs(),
        Measure::Dot => x * y,
    };
    let terms: Vec<T> = x.iter().zip(y).map(term).collect();
    let mut lanes = [T::ZERO; 32];
    let (chunks, rest) = terms.as_chunks::<32>();
    for chunk in chunks {
        lanes
            .iter_mut()
            .zip(chunk)
            .for_each(|(lane, &term)| *lane = *lane + term);
    }
    let last = &mut lanes[32 - rest.len()..];
    last.iter_mut()
        .zip(rest)
        .for_each(|(lane, &term)| *lane = *lane + term);
    let mut half = 16;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = lanes[lane] + lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

fn distances<T: Scalar>(input: &mut Input) {
    let (isa, dim) = (input.isa(), 1 + input.up_to(140));
    let measure = input.pick(&[Measure::SquaredEuclidean, Measure::Manhattan, Measure::Dot]);
    let (m, n) = (1 + input.up_to(20), input.up_to(40));
    let (left, right) = (
        values::<T>(m * dim, false, input),
        values(n * dim, false, input),
    );
    let (left, right) = (rows(&left, dim), rows(&right, dim));
    let (of_left, of_right) = (indices(m, input), indices(n, input));
    let number = |value: f32| T::from_f64(value.into());
    let bounds = [bounds(of_left.len(), input), bounds(of_right.len(), input)];
    let bounds = bounds.map(|bounds| bounds.into_iter().map(number).collect::<Vec<T>>());
    let expected = |i: usize, j: usize| measured(measure, &left.row(i), &right.row(j));
    let out_of = |indices: &[u32], rows: usize| indices.iter().any(|&at| at as usize >= rows);
    let bad = (out_of(&of_left, m), out_of(&of_right, n));

    let query = &left.row(m - 1);
    for row in 0..n {
        let found = distance(measure, query, &right.row(row), isa).expect("same dimension");
        assert_eq!(
            bits(found),
            bits(expected(m - 1, row)),
            "{isa} {measure:?} {dim}"
        );
    }
    assert!(distance(measure, query, &query[1..], isa).is_err());
    let mut out = vec![T::ZERO; 3];
    let pairs: Vec<(u32, u32)> = of_left
        .iter()
        .copied()
        .zip(of_right.iter().copied())
        .collect();
    let found = distances_of(measure, left, right, &pairs, &mut out, isa);
    assert_eq!(
        found.is_err(),
        pairs
            .iter()
            .any(|pair| pair.0 as usize >= m || pair.1 as usize >= n)
    );
    if found.is_ok() {
        let expected = pairs
            .iter()
            .map(|pair| bits(expected(pair.0 as usize, pair.1 as usize)));
        assert!(
            out.iter().copied().map(bits).eq(expected),
            "{isa} {measure:?}"
        );
    }
    let exact = |isa: Isa| {
        let mut all = Vec::new();
        let mut out = vec![7.0];
        let found = euclidean_distances(left, right, &pairs, &mut out, isa);
        all.push((found, std::mem::take(&mut out)));
        let found = exact_dot_products(left, right, &pairs, &mut out, isa);
        all.push((found, std::mem::take(&mut out)));
        let (of_left, of_right) = (norms(left, isa), norms(right, isa));
        let sides = ((left, &of_left[..]), (right, &of_right[..]));
        let found = cosine_distances(sides.0, sides.1, &pairs, &mut out, isa);
        all.push((found, out));
        assert!(
            cosine_distances(sides.0, (right, &[]), &pairs, &mut Vec::new(), isa).is_err()
                || n == 0
        );
        let bits_of = |(found, out): (Result<()>, Vec<f64>)| {
            (found, out.into_iter().map(bits).collect::<Vec<_>>())
        };
        all.into_iter().map(bits_of).collect::<Vec<_>>()
    };
    assert_eq!(exact(isa), exact(Isa::SCALAR), "{isa}");

    let mut products = vec![T::ZERO; m * n];
    dot_products(left, right, &mut products, isa).expect("their size");
    for (at, product) in products.into_iter().enumerate() {
        let expected = measured(Measure::Dot, &left.row(at / n), &right.row(at % n));
        assert_eq!(bits(product), bits(expected), "{isa}");
    }

    let lefts = BoundedRows {
        rows: left,
        indices: &of_left,
        bounds: &bounds[0],
    };
    let rights = BoundedRows {
        rows: right,
        indices: &of_right,
        bounds: &bounds[1],
    };
    let mut found = Vec::new();
    let asked = pairs_within(measure, lefts, rights, isa, &mut |i, j, score| {
        found.push((i, j, bits(score)));
    });
    let right_shape = bounds[0].len() == of_left.len() && bounds[1].len() == of_right.len();
    assert_eq!(asked.is_ok(), right_shape && !bad.0 && !bad.1);
    if asked.is_ok() {
        found.sort();
        let mut expected_pairs = Vec::new();
        for (i, &row) in of_left.iter().enumerate() {
            for (j, &other) in of_right.iter().enumerate() {
                let score = expected(row as usize, other as usize);
                if score <= bounds[0][i] || score <= bounds[1][j] {
                    expected_pairs.push((i as u32, j as u32, bits(score)));
                }
            }
        }
        assert_eq!(found, expected_pairs, "{isa} {measure:?}");
    }
}

fn sort(input: &mut Input) {
    let (count, bits) = (input.up_to(3000), input.any::<u8>());
    let (mask, seed): (u128, u16) = input.any();
    let mut random = Random::new(seed.into());
    let mut word = || random.below(1 << 31) as u128;
    let mut key = || (word() << 97 | word() << 66 | word() << 35 | word() << 4 | word()) & mask;
    let keys: Vec<u128> = (0..count).map(|_| key()).collect();
    let low = |key: u128, bits: u32| key & u128::MAX.checked_shr(128 - bits).unwrap_or(0);
    let expected = |width: u32| {
        let bits = u32::from(bits).min(width);
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.sort_by_key(|&row| low(keys[row as usize], bits));
        order
    };
    let (mut sorter, mut order) = (Sorter::new(), vec![7; input.up_to(9)]);
    sorter
        .sort(&keys, bits.into(), &mut order)
        .expect("few rows");
    assert_eq!(order, expected(128));
    let halves: Vec<u64> = keys.iter().map(|&key| key as u64).collect();
    sorter
        .sort(&halves, bits.into(), &mut order)
        .expect("few rows");
    assert_eq!(order, expected(64));
}

fn insertion(input: &mut Input) {
    let (isa, places, count) = (input.isa(), input.up_to(140), input.up_to(300));
    let mut random = Random::new(input.any::<u16>().into());
    let keys: Vec<i64> = (0..count).map(|_| random.below(200) as i64 - 100).collect();
    let mut expected = keys.clone();
    expected.sort_unstable();
    expected.dedup();
    expected.resize(expected.len().max(places), i64::MAX);
    expected.truncate(places);
    let mut list = vec![i64::MAX; places];
    let (some, others) = keys.split_at(input.up_to(count));
    insert_keys(&mut list, some, isa);
    insert_keys(&mut list, others, isa);
    assert_eq!(list, expected, "{isa}");
}

fn numbers(input: &mut Input) {
    let isa = input.isa();
    let (count, dim) = (input.up_to(300), 1 + input.up_to(40));
    let numbers: Vec<f32> = values(count / dim * dim, false, input);
    let lesser = |least: f32, &number: &f32| if number < least { number } else { least };
    let expected = numbers.iter().fold(f32::INFINITY, lesser);
    assert_eq!(least(&numbers, isa), expected, "{isa}");
    let (from, margin) = (input.odd_f32(), input.odd_f32());
    let near = |isa| {
        let mut positions = Vec::new();
        each_near_least(
            &numbers,
            from,
            margin,
            |position| positions.push(position),
            isa,
        );
        assert!(positions.is_sorted());
        positions
    };
    assert_eq!(near(isa), near(Isa::SCALAR), "{isa}");

    let all = rows(&numbers, dim);
    let bad = numbers.iter().position(|number| !number.is_finite());
    match (check_finite(all, isa), bad) {
        (Ok(()), None) => {}
        (Err(KernelError::NotFinite { row, dimension, .. }), Some(at)) => {
            assert_eq!((row, dimension), (at / dim, at % dim));
        }
        (found, bad) => panic!("{found:?} and not {bad:?}"),
    }
    assert_eq!(Quantised::new(all, isa).is_err(), bad.is_some());
    let largest = input.odd_f32();
    let is_within = |number: &f32| number.abs() <= largest;
    let bad = numbers.iter().position(|number| !is_within(number));
    match (check_within(all, largest, isa), bad) {
        (Ok(()), None) => {}
        (
            Err(
                KernelError::NotFinite { row, dimension, .. }
                | KernelError::TooLarge { row, dimension, .. },
            ),
            Some(at),
        ) => assert_eq!((row, dimension), (at / dim, at % dim)),
        (found, bad) => panic!("{found:?} and not {bad:?}"),
    }
    let indices = indices(all.len(), input);
    if let Ok(codes) = Quantised::new(all, isa) {
        let found = sum_codes(&codes, &indices, isa);
        assert_eq!(found, sum_codes(&codes, &indices, Isa::SCALAR), "{isa}");
        let bad = indices.iter().any(|&index| index as usize >= codes.len());
        assert_eq!(found.is_err(), bad);
        assert_eq!(decode(&codes, &indices).is_err(), bad);
    }
}
