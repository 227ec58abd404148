//! Keys, the functions that their ids come from, and the buckets beside them, against what they are
//! by definition.

use std::collections::BTreeSet;

use lshjoin::{BucketedRandomProjection, CauchyProjection, HashFamily, Prober, RandomHyperplanes};
use lshjoin_kernels::{
    Bucketing, HashFunctions, Isa, KeyLayout, KeyMode, Measure, NO_RANGE, Rows, Scalar, distance,
};

use super::input::Input;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.up_to(4) {
        0 => layouts(&mut input),
        1 | 2 => flips(&mut input),
        3 => functions::<f64>(&mut input),
        _ => functions::<f32>(&mut input),
    }
}

/// 2¹²⁷ − 1.
const PRIME: u128 = (1 << 127) - 1;

fn range(input: &mut Input) -> (i32, i32) {
    let low: i32 = input.any();
    match input.up_to(5) {
        0 => NO_RANGE,
        1 => (low, low),
        2 => (low, input.any()),
        3 => (i32::MIN, i32::MAX),
        _ => (low, low.saturating_add(input.any::<u8>().into())),
    }
}

fn layouts(input: &mut Input) {
    let count = input.up_to(40);
    let ranges = input.list(count, range);
    let layout = KeyLayout::new(&ranges);
    let span = |&(low, high): &(i32, i32)| (i64::from(high) - i64::from(low)).max(0) as u32;
    let widths = ranges.iter().map(|range| 32 - span(range).leading_zeros());
    let bits: u32 = widths.clone().sum();
    let packed = bits <= 128;
    assert_eq!(layout.mode() == KeyMode::Packed, packed);
    assert_eq!(layout.bits(), if packed { bits } else { 127 });
    assert_eq!(
        (layout.functions(), layout.ranges()),
        (ranges.len(), &ranges[..])
    );

    // What each function's ids are multiplied by, as the layout itself has it.
    let lows: Vec<i32> = ranges.iter().map(|range| range.0).collect();
    let unit = |function: usize| {
        let mut ids = lows.clone();
        ids[function] = ids[function].wrapping_add(1);
        layout.pack(&ids).unwrap_or(0)
    };
    let coefficients: Vec<u128> = if packed {
        let starts = widths.scan(0, |start, width| {
            Some(std::mem::replace(start, *start + width))
        });
        // A field without bits may start where the key ends.
        let bit = |start: u32| 1_u128.checked_shl(start).unwrap_or(0);
        starts.map(bit).collect()
    } else {
        (0..ranges.len()).map(unit).collect()
    };
    let mut seen: Vec<(Vec<i32>, u128)> = Vec::new();
    for _ in 0..4 {
        let ids: Vec<i32> = ranges.iter().map(|range| id(range, input)).collect();
        let is_inside = ids
            .iter()
            .zip(&ranges)
            .all(|(id, (low, high))| low <= id && id <= high);
        let key = layout.pack(&ids);
        assert_eq!(key.is_some(), is_inside, "{ids:?} in {ranges:?}");
        let Some(key) = key else { continue };
        let expected = ids.iter().zip(&lows).zip(&coefficients);
        let expected = expected.fold(0, |sum, ((&id, &low), &by)| {
            let code = (i64::from(id) - i64::from(low)) as u32;
            match packed {
                true => sum + u128::from(code) * by,
                false => plus(sum, times(by, code)),
            }
        });
        assert_eq!(key, expected, "{ids:?} in {ranges:?}");
        for (other, of_other) in &seen {
            assert_eq!(*other == ids, *of_other == key, "{other:?} and {ids:?}");
        }
        assert_eq!(
            layout.pack(&ids[..ids.len().saturating_sub(1)]).is_some(),
            ids.is_empty()
        );
        seen.push((ids, key));
    }
    let others = input.list(ranges.len(), range);
    if others.len() == ranges.len() {
        let cover = layout.cover(&others);
        for ((of_both, range), other) in cover.ranges().iter().zip(&ranges).zip(&others) {
            assert_eq!(*of_both, (range.0.min(other.0), range.1.max(other.1)));
        }
        for (ids, _) in seen {
            assert!(
                cover.pack(&ids).is_some(),
                "{ids:?} in {:?}",
                cover.ranges()
            );
        }
    }
}

/// An id, nearly always within the range.
fn id(&(low, high): &(i32, i32), input: &mut Input) -> i32 {
    match input.up_to(15) {
        0 => low,
        1 => high,
        2 if input.once_in(8) => input.any(),
        _ => {
            let span = (i64::from(high) - i64::from(low)).max(0);
            let inside = i64::from(low) + input.up_to(span as usize) as i64;
            inside as i32
        }
    }
}

fn plus(x: u128, y: u128) -> u128 {
    (x + y) % PRIME
}

/// A product modulo [`PRIME`], by doubling.
fn times(mut by: u128, mut code: u32) -> u128 {
    let mut product = 0;
    while code > 0 {
        if code & 1 == 1 {
            product = plus(product, by);
        }
        by = plus(by, by);
        code >>= 1;
    }
    product
}

fn functions_of(dim: usize, input: &mut Input) -> Option<HashFunctions> {
    let count = 1 + input.up_to(23);
    let bucket_length = input.pick(&[1.0, 0.5, 2.5, 1e-3, 1e3, 1e-300, 1e300]);
    let seed = input.any();
    let drawn = match input.up_to(3) {
        0 => BucketedRandomProjection { bucket_length }.draw(count, dim, seed),
        1 => CauchyProjection { bucket_length }.draw(count, dim, seed),
        2 => RandomHyperplanes.draw(count, dim, seed),
        _ => {
            let mut values = |count| (0..count).map(|_| f64::from(input.odd_f32())).collect();
            let (directions, offsets) = (values(count.min(4) * dim), values(count.min(4)));
            let sign = input.flag();
            let bucketing = match sign {
                true => Bucketing::Sign,
                false => Bucketing::Width(bucket_length),
            };
            return HashFunctions::new(dim, directions, offsets, bucketing).ok();
        }
    };
    drawn.ok()
}

/// The id of a row by the definition, if it has one.
fn id_of<T: Scalar>(functions: &HashFunctions, row: &[T], function: usize) -> Option<i32> {
    let wide: Vec<f64> = row.iter().map(|value| value.to_f64()).collect();
    let direction = &functions.directions()[function * functions.dim()..][..functions.dim()];
    let place = distance(Measure::Dot, &wide, direction, Isa::SCALAR).expect("same dimension");
    let place = place + functions.offsets()[function];
    match functions.bucketing() {
        Bucketing::Width(width) => {
            let bucket = (place * (1.0 / width)).floor();
            let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&bucket);
            fits.then_some(bucket as i32)
        }
        _ => Some(i32::from(place >= 0.0)),
    }
}

fn functions<T: Scalar>(input: &mut Input) {
    let (isa, dim) = (input.isa(), 1 + input.up_to(69));
    let Some(functions) = functions_of(dim, input) else {
        return;
    };
    // Some quite ordinary rows, then some of whatever numbers come.
    let (ordinary, odd) = (input.up_to(200), input.up_to(5));
    let step = input.pick(&[0.25, 1.0, 1e-3, 37.0]);
    let mut values: Vec<T> = (0..ordinary * dim)
        .map(|at| T::from_f64(((at * 7919 % 101) as f64 - 50.0) * step))
        .collect();
    values.extend((0..odd * dim).map(|_| match input.odd_f32() {
        value if value.is_finite() => T::from_f64(f64::from(value) * step),
        _ => T::ZERO,
    }));
    let rows = Rows::new(&values, dim).expect("whole rows");
    let count = functions.len();
    let expected: Option<Vec<i32>> = (0..rows.len() * count)
        .map(|at| id_of(&functions, &rows.row(at / count), at % count))
        .collect();

    let mut ids = vec![0; rows.len() * count];
    let hashed = functions.bucket_ids(rows, isa, &mut ids);
    assert_eq!(hashed.is_ok(), expected.is_some(), "{isa}: {hashed:?}");
    let Some(expected) = expected else {
        assert!(functions.ranges(rows, isa).is_err());
        return;
    };
    assert_eq!(ids, expected, "{isa}");
    let ranges_of = |ids: &[i32]| -> Vec<(i32, i32)> {
        let of = |function: usize| {
            let ids = ids.iter().skip(function).step_by(count);
            ids.fold(NO_RANGE, |(low, high), &id| (low.min(id), high.max(id)))
        };
        (0..count).map(of).collect()
    };
    assert_eq!(functions.ranges(rows, isa), Ok(ranges_of(&ids)));

    // Keys laid out for some of the rows.
    let measured = input.up_to(rows.len());
    let ranges = ranges_of(&ids[..measured * count]);
    let of_table = 1 + input.up_to(count - 1);
    let layouts: Vec<KeyLayout> = ranges.chunks(of_table).map(KeyLayout::new).collect();
    let mut keys = vec![vec![0; rows.len()]; layouts.len()];
    let mut columns: Vec<&mut [u128]> = keys.iter_mut().map(Vec::as_mut_slice).collect();
    let keyless = functions
        .keys(rows, &layouts, isa, &mut columns)
        .expect("ids that fit");
    for (table, layout) in layouts.iter().enumerate() {
        let mut without = Vec::new();
        for (row, ids) in ids.chunks(count).enumerate() {
            let of_table = ids[table * of_table..].iter().take(layout.functions());
            match layout.pack(&of_table.copied().collect::<Vec<_>>()) {
                None => without.push(row),
                Some(key) => assert_eq!(keys[table][row], key, "{isa}, table {table}, row {row}"),
            }
        }
        assert_eq!(keyless[table], without, "{isa}, table {table}");
    }
}

/// The costs of all sets of crossings in which no function steps both ways, the least first.
fn costs(crossings: &[(usize, f32)]) -> Vec<f64> {
    let mut costs = Vec::new();
    for set in 1_u32..1 << crossings.len() {
        let members = (0..crossings.len()).filter(|at| set >> at & 1 == 1);
        let members: Vec<(usize, f32)> = members.map(|at| crossings[at]).collect();
        let functions: BTreeSet<usize> = members.iter().map(|member| member.0).collect();
        let cost = members
            .iter()
            .map(|member| f64::from(member.1).powi(2))
            .sum::<f64>();
        if functions.len() == members.len() && cost.is_finite() {
            costs.push(cost);
        }
    }
    costs.sort_by(f64::total_cmp);
    costs
}

fn nearly(found: &[f64], expected: &[f64]) -> bool {
    let same = |(found, expected): (&f64, &f64)| (found - expected).abs() <= expected * 1e-12;
    found.len() == expected.len() && found.iter().zip(expected).all(same)
}

fn flips(input: &mut Input) {
    let functions = input.up_to(80);
    let margins = input.list(functions, |input| input.odd_f32());
    let count = input.up_to(300);
    let mut prober = Prober::default();
    let found = prober.flips(&margins, count).to_vec();
    assert!(found.len() <= count && !found.contains(&0));
    assert_eq!(
        found.iter().collect::<BTreeSet<_>>().len(),
        found.len(),
        "none twice"
    );
    if margins.len() <= 8 && margins.iter().all(|margin| !margin.is_nan()) {
        let finite = margins.iter().copied().enumerate();
        let finite: Vec<_> = finite.filter(|margin| margin.1.is_finite()).collect();
        let mut expected = costs(&finite);
        expected.truncate(count);
        let cost = |flips: &u64| {
            let crossed = margins
                .iter()
                .enumerate()
                .filter(|(at, _)| flips >> at & 1 == 1);
            crossed.map(|(_, &margin)| f64::from(margin).powi(2)).sum()
        };
        let found: Vec<f64> = found.iter().map(cost).collect();
        assert!(
            nearly(&found, &expected),
            "{margins:?}: {found:?}, not {expected:?}"
        );
    }
}
