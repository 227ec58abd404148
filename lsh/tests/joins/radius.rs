//! Radius joins of indexes, whose rows are compared with the lists that may hold near ones.

use lshjoin::{Context, Distance, Index, Isa, PartitionPlan, RadiusJoin, RadiusNeighbors, Rows};

use super::{on, rows, to_f32};

const ITEMS: usize = 9200;
const DISTANCES: [Distance; 2] = [Distance::Euclidean, Distance::Cosine];

/// A query, an item, and the bits of their distance.
type Pairs = Vec<(i64, i64, u32)>;

fn build(values: &[f32], dim: usize, distance: Distance, ctx: &Context) -> Index {
    let items = Rows::new(values, dim).unwrap();
    let ids: Vec<i64> = (0..items.len() as i64).collect();
    let plan = PartitionPlan::new(80, 1.0);
    Index::build(items, &ids, distance.into(), Some(plan), 0, ctx).unwrap()
}

fn pairs(ids: &[i64], found: &RadiusNeighbors<f32>) -> Pairs {
    let mut pairs = Vec::new();
    for (&id, lims) in ids.iter().zip(found.lims.windows(2)) {
        let of_row = lims[0] as usize..lims[1] as usize;
        let near = found.indices[of_row.clone()].iter();
        let near = near.zip(&found.distances[of_row]);
        pairs.extend(near.map(|(&item, far)| (id, item, far.to_bits())));
    }
    pairs.sort_unstable();
    pairs
}

/// The join of the items with themselves in chunks of so many, and whether all went by lists.
fn by_chunks(index: &Index, size: usize, radius: f64, isa: Isa) -> (Pairs, bool) {
    let (mut found, mut is_by_lists) = (Vec::new(), true);
    for start in (0..ITEMS).step_by(size) {
        let (ctx, chunk) = (Context::on(isa), start..ITEMS.min(start + size));
        let (ids, near) = index.radius_of_chunk(chunk, radius, &ctx).unwrap();
        found.extend(pairs(&ids, &near));
        is_by_lists &= ctx.report().seconds.iter().any(|stage| stage.0 == "radius");
    }
    found.sort_unstable();
    (found, is_by_lists)
}

/// Rows of small numbers around some centres, in halves, so that all is exact; some are equal.
fn of_halves(dim: usize) -> Vec<f32> {
    let mut values = rows(ITEMS, dim, 5);
    let apart = rows(40, dim, 8);
    for (row, values) in values.chunks_mut(dim).enumerate() {
        let centre = &apart[row % 40 * dim..][..dim];
        values
            .iter_mut()
            .zip(centre)
            .for_each(|(value, far)| *value += 3.0 * far);
    }
    to_f32(&values)
}

#[test]
fn pairs_are_those_of_brute_force_but_none_at_the_radius() {
    let (dim, count) = (6, ITEMS);
    let values = of_halves(dim);
    let index = build(&values, dim, Distance::Euclidean, &Context::new().unwrap());
    for radius in [0.0, 0.5, 2.0] {
        let mut expected = Vec::new();
        for row in 0..count {
            for item in 0..count {
                let (x, y) = (&values[row * dim..][..dim], &values[item * dim..][..dim]);
                let square = x
                    .iter()
                    .zip(y)
                    .map(|(x, y)| f64::from(x - y).powi(2))
                    .sum::<f64>();
                if item != row && square < radius * radius {
                    expected.push((row as i64, item as i64, (square.sqrt() as f32).to_bits()));
                }
            }
        }
        assert_eq!(expected.is_empty(), radius == 0.0);
        for size in [ITEMS, 4100] {
            let (found, is_by_lists) = by_chunks(&index, size, radius, Isa::best());
            assert!(found == expected, "chunks of {size}, within {radius}");
            // The last of the smaller chunks has too few rows.
            assert_eq!(is_by_lists, size == ITEMS, "within {radius}");
        }
    }
}

#[test]
fn chunks_of_any_size_make_up_the_join_in_memory() {
    let dim = 6;
    let values = of_halves(dim);
    let changed = |change: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
        let values = values.iter().enumerate();
        values.map(|(at, &value)| change(at / dim, value)).collect()
    };
    let kinds = [
        (1.0, changed(&|_, value| value)),
        (1e-30, changed(&|_, value| 1e-30 * value)),
        (1e15, changed(&|_, value| 1e15 * value)),
        // Some are too large for codes to tell.
        (
            1.0,
            changed(&|row, value| if row % 1000 == 0 { 1e20 * value } else { value }),
        ),
        (
            1.0,
            changed(&|row, value| if row % 1000 == 0 { 0.0 } else { value }),
        ),
        // A twentieth is equal.
        (
            1.0,
            changed(&|row, value| if row % 20 == 0 { 2.0 } else { value }),
        ),
    ];
    for (kind, (scale, values)) in kinds.iter().enumerate() {
        for distance in DISTANCES {
            let radius = match distance {
                Distance::Cosine => 2e-4,
                _ => 0.8 * scale,
            };
            let items = Rows::new(values, dim).unwrap();
            let join = RadiusJoin::new(items, radius).distance(distance);
            let expected = join.run(&Context::new().unwrap()).unwrap();
            let all: Vec<i64> = (0..ITEMS as i64).collect();
            let expected = pairs(&all, &expected);
            assert!(
                expected.len() > 100,
                "{kind}, {distance:?}: {}",
                expected.len()
            );
            let index = build(values, dim, distance, &Context::new().unwrap());
            let (found, _) = by_chunks(&index, 4600, radius, Isa::best());
            assert!(found == expected, "{kind}, {distance:?}");
            if kind == 0 {
                let (found, _) = by_chunks(&index, ITEMS, radius, Isa::best());
                assert!(found == expected, "{distance:?}, one chunk");
                let found = on(1, || by_chunks(&index, 4600, radius, Isa::SCALAR).0);
                assert!(found == expected, "{distance:?}, on one thread");
            }
        }
    }
}

#[test]
fn queries_find_what_they_find_among_all() {
    let dim = 6;
    let values = of_halves(dim);
    let (others, items) = values.split_at(4500 * dim);
    for (distance, radius) in DISTANCES.into_iter().zip([2.5, 1e-3]) {
        let ctx = Context::new().unwrap();
        let mut index = build(items, dim, distance, &ctx);
        let queries = Rows::new(others, dim).unwrap();
        let all: Vec<i64> = (0..queries.len() as i64).collect();
        let find = |index: &Index| {
            let ctx = Context::new().unwrap();
            let found = index.radius(queries, radius, &ctx).unwrap();
            let stages = ctx.report().seconds;
            assert!(
                stages.iter().any(|stage| stage.0 == "radius"),
                "{distance:?}"
            );
            pairs(&all, &found)
        };
        let join = RadiusJoin::new(Rows::new(items, dim).unwrap(), radius);
        let join = join.queries(queries).distance(distance).run(&ctx).unwrap();
        let mut expected = pairs(&all, &join);
        assert!(
            find(&index) == expected && expected.len() > 1000,
            "{distance:?}"
        );
        let gone: Vec<i64> = (0..4000).step_by(3).collect();
        index.remove(&gone, &ctx).unwrap();
        expected.retain(|pair| gone.binary_search(&pair.1).is_err());
        assert!(
            find(&index) == expected,
            "{distance:?}, without those removed"
        );
    }
}
