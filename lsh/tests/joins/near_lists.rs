//! Radius joins in memory by lists near each other, against those of all pairs.

use lshjoin::{Context, Distance, Isa, Keys, RadiusJoin, RadiusNeighbors, Rows};

use super::{on, rows, to_f32};

const DIM: usize = 16;
const ITEMS: usize = 12_000;

/// Rows around many centres; some are equal.
fn clustered() -> Vec<f32> {
    let (mut values, centres) = (rows(ITEMS, DIM, 3), rows(500, DIM, 4));
    for (row, values) in values.chunks_mut(DIM).enumerate() {
        let centre = &centres[row % 500 * DIM..][..DIM];
        for (value, far) in values.iter_mut().zip(centre) {
            *value = 0.1 * *value + 5.0 * far;
        }
    }
    to_f32(&values)
}

fn stages(ctx: &Context) -> Vec<&'static str> {
    let stages = ctx.report().seconds.into_iter();
    stages.map(|(stage, _)| stage).collect()
}

/// By the lists near each row, and whether it was so.
fn by_lists(join: &RadiusJoin<'_, f32>, isa: Isa) -> (RadiusNeighbors<f32>, bool) {
    let ctx = Context::on(isa);
    let found = join.run(&ctx).unwrap();
    (found, stages(&ctx).contains(&"radius"))
}

#[test]
fn pairs_are_those_of_all_within_one_group() {
    let values = clustered();
    let all = Rows::new(&values, DIM).unwrap();
    let (queries, items) = (all.slice(0..4500), all.slice(4500..ITEMS));
    let group = vec![0; ITEMS];
    let documents: Vec<u32> = (0..ITEMS as u32).map(|row| row / 2 % 700).collect();
    for (distance, radius) in [(Distance::Euclidean, 3.0), (Distance::Cosine, 2e-4)] {
        let itself = RadiusJoin::new(all, radius).apart(Keys::new(&documents));
        let two = RadiusJoin::new(items, radius).queries(queries);
        let of_two = Keys::new(&group[4500..]).queries(&group[..4500]);
        let joins = [(itself, Keys::new(&group)), (two, of_two)];
        for (join, of_one_group) in joins {
            let join = join.distance(distance);
            let ctx = Context::new().unwrap();
            // Groups are compared in full.
            let expected = join.within(of_one_group).run(&ctx).unwrap();
            assert!(expected.indices.len() > 2500, "{distance:?}");
            assert!(!stages(&ctx).contains(&"radius"), "{distance:?}");
            let (found, is_by_lists) = by_lists(&join, Isa::best());
            assert!(found == expected, "{distance:?}");
            assert!(is_by_lists, "{distance:?}, {join:?}");
            let (found, _) = on(1, || by_lists(&join, Isa::SCALAR));
            assert!(found == expected, "{distance:?}, on one thread");
        }
    }
}

#[test]
fn batches_have_each_pair_once_in_one_order() {
    let values = clustered();
    let join = RadiusJoin::new(Rows::new(&values, DIM).unwrap(), 3.0);
    let expected = join.run(&Context::new().unwrap()).unwrap();
    let batches = || {
        let (mut found, ctx) = (Vec::new(), Context::new().unwrap());
        let add = |batch: lshjoin::JoinedPairs<f32>| {
            found.extend(batch.left.into_iter().zip(batch.right));
        };
        join.run_batches(1000, &ctx, add).unwrap();
        found
    };
    let mut found = on(2, batches);
    assert_eq!(on(1, batches), found);
    found.sort_unstable();
    let rows = (0..).zip(expected.lims.windows(2));
    let expected = rows.flat_map(|(row, ends)| {
        let of_row = &expected.indices[ends[0] as usize..ends[1] as usize];
        of_row.iter().map(move |&other| (row, other))
    });
    let mut expected: Vec<(i64, i64)> = expected.collect();
    expected.sort_unstable();
    assert!(found == expected);
}
