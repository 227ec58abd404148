//! The kernels, each on every instruction set of this machine and one thread, beside what the
//! machine can do at most: `make bench-kernels`.
//!
//! Names are kernel / instruction set / case; throughput counts multiply-adds or bytes read where
//! a peak of the same is measured, else rows.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{fmt::Display, hint::black_box, time::Duration};

use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, measurement::WallTime};
use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use half::f16;
use lshjoin_kernels::{
    BoundedRows, Bucketing, DifferenceLimit, HashFunctions, Isa, KeyLayout, LeftBits, LeftPanel,
    Measure, Narrow, Quantised, RightBits, RightPanel, Rows, Scalar, Sorter, check_finite,
    distances_of, dot_products, euclidean_distances, insert_keys, near_bits, near_pairs,
    pairs_within,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod branching;
mod peak;

/// Values of a row, in most benchmarks.
const DIM: usize = 384;

/// Rows that no cache holds, and rows that a second-level cache holds with what is made of them.
const MANY: usize = 1_000_000;
const FEW: usize = 512;

/// Rows that are hashed: the rate does not depend on their number from thousands on. And rows of a
/// block of them, whose projections stay in a second-level cache.
const HASHED: usize = 100_000;
const BLOCK: usize = 192;

/// Tables, and functions of a table.
const TABLES: usize = 16;
const FUNCTIONS: usize = 12;

/// Runs `work` as the group's benchmark of that name.
fn bench<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    isa: impl Display,
    case: impl Display,
    mut work: impl FnMut() -> R,
) {
    let id = BenchmarkId::new(isa.to_string(), case);
    group.bench_function(id, |bencher| bencher.iter(&mut work));
}

/// Rows of a normal distribution, nearly: sums of uniform numbers. Beyond some thousands they come
/// again.
fn gaussian(rows: usize, dim: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut draw = || {
        let bytes = random.next_u64().to_le_bytes();
        let sum: i32 = bytes.iter().map(|&byte| i32::from(byte)).sum();
        (sum as f32 - 1020.0) / 209.0
    };
    let mut values: Vec<f32> = (0..rows.min(4096) * dim).map(|_| draw()).collect();
    let distinct = values.len();
    values.reserve_exact(rows * dim - distinct);
    while values.len() < rows * dim {
        values.extend_from_within(..distinct.min(rows * dim - values.len()));
    }
    values
}

fn rows(values: &[f32], dim: usize) -> Rows<'_, f32> {
    Rows::new(values, dim).expect("whole rows")
}

/// Panels that the second-level cache holds, with bounds that few pairs are below.
fn tile(criterion: &mut Criterion) {
    const SIDE: usize = 1024;
    let mut group = criterion.benchmark_group("tile");
    for &isa in Isa::available() {
        for dim in [384, 128] {
            let values = gaussian(2 * SIDE, dim);
            let quantised = Quantised::new(rows(&values, dim), isa).expect("finite");
            // Random pairs are √(2·dim) apart, ± 1.
            let bounds = vec![(2.0 * dim as f32).sqrt() - 4.0; SIDE];
            let order: Vec<u32> = (0..2 * SIDE as u32).collect();
            let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
            left.gather(&quantised, &order[..SIDE], &bounds)
                .expect("rows exist");
            right
                .gather(&quantised, &order[SIDE..], &bounds)
                .expect("rows exist");
            let mut near = Vec::new();
            group.throughput(Throughput::Elements((SIDE * SIDE * dim) as u64));
            bench(&mut group, isa, dim, || {
                near.clear();
                near_pairs(&left, &right, &mut near).expect("one dimension");
                near.len()
            });
        }
    }
    group.finish();
}

fn quantise(criterion: &mut Criterion) {
    let values = gaussian(MANY, DIM);
    let mut group = criterion.benchmark_group("quantise");
    for (case, count) in [("memory", MANY), ("cache", FEW)] {
        let values = &values[..count * DIM];
        group.throughput(Throughput::Bytes(size_of_val(values) as u64));
        for &isa in Isa::available() {
            bench(&mut group, isa, case, || {
                Quantised::new(rows(values, DIM), isa)
            });
        }
    }
    group.finish();
}

/// One row with rows at random: a plain copy of them, what joins compute of the pairs that pass a filter
/// (exact), and measures in the rows' own precision. `values` are those of `items` where they lie.
fn distances<N: Copy, T: Scalar>(
    criterion: &mut Criterion,
    name: &str,
    values: &[N],
    items: Rows<'_, T>,
) {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut draw = |among: usize| -> Vec<(u32, u32)> {
        (0..MANY)
            .map(|_| (0, random.random_range(0..among as u32)))
            .collect()
    };
    let query = items.row(0).to_vec();
    let query = Rows::new(&query, DIM).expect("one row");
    for (case, order) in [("memory", draw(items.len())), ("cache", draw(FEW / 2))] {
        // A few of them at a time, never the same until all had their turn.
        let mut turns = order.chunks(FEW).cycle();
        let mut turn = || turns.next().expect("endless");
        let bytes = (FEW * DIM * size_of::<N>()) as u64;

        let mut group = criterion.benchmark_group(format!("gather {name}"));
        group.throughput(Throughput::Bytes(bytes));
        let mut copy = values[..FEW * DIM].to_vec();
        bench(&mut group, "any", case, || {
            for (to, &(_, row)) in copy.chunks_exact_mut(DIM).zip(turn()) {
                to.copy_from_slice(&values[row as usize * DIM..][..DIM]);
            }
            black_box(&mut copy)[0]
        });
        group.finish();

        let mut group = criterion.benchmark_group(format!("exact {name}"));
        group.throughput(Throughput::Bytes(bytes));
        let mut out = Vec::new();
        for &isa in Isa::available() {
            bench(&mut group, isa, case, || {
                euclidean_distances(query, items, turn(), &mut out, isa).expect("rows exist");
                out[0]
            });
        }
        group.finish();

        for (measure, of) in [
            (Measure::SquaredEuclidean, "squared Euclidean"),
            (Measure::Dot, "dot"),
            (Measure::Manhattan, "Manhattan"),
        ] {
            let mut group = criterion.benchmark_group(format!("{of} {name}"));
            group.throughput(Throughput::Bytes(bytes));
            let mut out = Vec::new();
            for &isa in Isa::available() {
                bench(&mut group, isa, case, || {
                    distances_of(measure, query, items, turn(), &mut out, isa).expect("rows exist");
                    out[0]
                });
            }
            group.finish();
        }
    }
}

fn distances_of_each_type(criterion: &mut Criterion) {
    let values = gaussian(MANY, DIM);
    distances(criterion, "f32", &values, rows(&values, DIM));
    let halves: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
    let narrow = Rows::<f32>::narrow(Narrow::F16(&halves), DIM).expect("whole rows");
    distances(criterion, "f16", &halves, narrow);
    drop(halves);
    let values: Vec<f64> = values[..values.len() / 2]
        .iter()
        .map(|&x| x.into())
        .collect();
    let wide = Rows::new(&values, DIM).expect("whole rows");
    distances(criterion, "f64", &values, wide);
}

/// Panel against panel in the rows' own precision, with bounds that few pairs are within.
fn within(criterion: &mut Criterion) {
    const SIDE: usize = 256;
    let values = gaussian(2 * SIDE, DIM);
    let order: Vec<u32> = (0..2 * SIDE as u32).collect();
    // Random pairs are √(2·dim) apart, ± 1.
    let near = (2.0 * DIM as f32).sqrt() - 4.0;
    for (measure, of, bound) in [
        (Measure::SquaredEuclidean, "squared Euclidean", near * near),
        (
            Measure::Manhattan,
            "Manhattan",
            near * (DIM as f32 / 2.0).sqrt(),
        ),
    ] {
        let bounds = vec![bound; SIDE];
        let bounded = |indices| BoundedRows {
            rows: rows(&values, DIM),
            indices,
            bounds: &bounds,
        };
        let (left, right) = (bounded(&order[..SIDE]), bounded(&order[SIDE..]));
        let mut group = criterion.benchmark_group(format!("within {of}"));
        group.throughput(Throughput::Elements((SIDE * SIDE * DIM) as u64));
        for &isa in Isa::available() {
            bench(&mut group, isa, "cache", || {
                let mut near = 0;
                pairs_within(measure, left, right, isa, &mut |_, _, _| near += 1)
                    .expect("shapes match");
                near
            });
        }
        group.finish();
    }
}

/// A table's worth of projections in the fixed order.
fn products(criterion: &mut Criterion) {
    let values = gaussian(FEW, DIM);
    let (rows, directions) = (rows(&values, DIM), gaussian(4 * FUNCTIONS, DIM));
    let directions = Rows::new(&directions, DIM).expect("whole rows");
    let mut out = vec![0.0; rows.len() * directions.len()];
    let mut group = criterion.benchmark_group("dot products");
    group.throughput(Throughput::Elements((out.len() * DIM) as u64));
    for &isa in Isa::available() {
        bench(&mut group, isa, "cache", || {
            dot_products(rows, directions, &mut out, isa).expect("shapes match");
            out[0]
        });
    }
    group.finish();
}

/// Keys of 16 tables of 12 functions; the GEMM that this takes, alone, its output in the cache;
/// and what is left to do when the GEMM is done, on a block in the cache.
fn hash(criterion: &mut Criterion) {
    let values = gaussian(HASHED, DIM);
    let rows = rows(&values, DIM);
    let count = TABLES * FUNCTIONS;
    let directions = gaussian(count, DIM);
    // Buckets of two standard deviations of the projections.
    let functions = HashFunctions::new(
        DIM,
        directions.iter().copied().map(f64::from).collect(),
        vec![0.5; count],
        Bucketing::Width(2.0 * (DIM as f64).sqrt()),
    )
    .expect("finite");
    let layouts: Vec<KeyLayout> = functions
        .ranges(rows, Isa::best())
        .expect("buckets fit")
        .chunks(FUNCTIONS)
        .map(KeyLayout::new)
        .collect();
    let products = |rows: usize| Throughput::Elements((rows * count * DIM) as u64);
    let gemm = |rows: &[f32], out: &mut [f32]| {
        let height = rows.len() / DIM;
        matmul(
            MatMut::from_column_major_slice_mut(&mut out[..height * count], height, count),
            Accum::Replace,
            MatRef::from_row_major_slice(rows, height, DIM),
            MatRef::from_row_major_slice(&directions, count, DIM).transpose(),
            1.0,
            Par::Seq,
        );
    };

    let mut group = criterion.benchmark_group("gemm");
    group.throughput(products(HASHED));
    for block in [192, 288, 384, 480, 960] {
        let mut out = vec![0.0; block * count];
        bench(&mut group, "any", block, || {
            for rows in values.chunks(block * DIM) {
                gemm(rows, &mut out);
            }
            out[0]
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("keys");
    group.throughput(products(HASHED));
    let mut keys = vec![0; HASHED * TABLES];
    let mut columns: Vec<_> = keys.chunks_mut(HASHED).collect();
    for &isa in Isa::available() {
        bench(&mut group, isa, "memory", || {
            functions
                .keys(rows, &layouts, isa, &mut columns)
                .expect("shapes match")
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("floor-hash-pack");
    group.throughput(products(BLOCK));
    let block = rows.slice(0..BLOCK);
    let mut projections = vec![0.0; BLOCK * count];
    gemm(&block.values().expect("wide"), &mut projections);
    let mut columns: Vec<_> = keys.chunks_mut(BLOCK).take(TABLES).collect();
    for &isa in Isa::available() {
        bench(&mut group, isa, "cache", || {
            functions
                .keys_of_projections(block, &projections, &layouts, isa, &mut columns)
                .expect("shapes match")
        });
    }
    group.finish();
}

fn finite(criterion: &mut Criterion) {
    let values = gaussian(MANY, DIM);
    let mut group = criterion.benchmark_group("check finite");
    for (case, count) in [("memory", MANY), ("cache", FEW)] {
        let values = &values[..count * DIM];
        group.throughput(Throughput::Bytes(size_of_val(values) as u64));
        for &isa in Isa::available() {
            bench(&mut group, isa, case, || {
                check_finite(rows(values, DIM), isa)
            });
        }
    }
    group.finish();
}

/// Random candidates for lists of the nearest, some at a time, as blocks of a join bring them; beside
/// how such lists were filled before.
fn insertion(criterion: &mut Criterion) {
    const CANDIDATES: usize = 1000;
    const AT_ONCE: usize = 32;
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let distances: Vec<f32> = (0..MANY).map(|_| random.random()).collect();
    let mut group = criterion.benchmark_group("insertion");
    group.throughput(Throughput::Elements(MANY as u64));
    for k in [10, 100] {
        let case = format!("k = {k}");
        let mut list = branching::Nearest::new(k);
        bench(&mut group, "any", &case, || {
            for distances in distances.chunks(CANDIDATES) {
                list.clear();
                for (index, &distance) in (0..).zip(distances) {
                    list.insert(distance, index);
                }
                black_box(&mut list);
            }
        });
        let mut list = vec![0; k.next_multiple_of(8)];
        let mut keys = Vec::new();
        for &isa in Isa::available() {
            bench(&mut group, isa, &case, || {
                for distances in distances.chunks(CANDIDATES) {
                    list.fill(i64::MAX);
                    for (first, distances) in (0..).step_by(AT_ONCE).zip(distances.chunks(AT_ONCE))
                    {
                        keys.clear();
                        let with_index = (first..).zip(distances);
                        keys.extend(
                            with_index.map(|(index, distance)| {
                                i64::from(distance.to_bits()) << 32 | index
                            }),
                        );
                        insert_keys(&mut list, &keys, isa);
                    }
                    black_box(&mut list);
                }
            });
        }
    }
    group.finish();
}

/// Kernels that have one form for all instruction sets.
fn portable(criterion: &mut Criterion) {
    let halves: Vec<f16> = gaussian(FEW, DIM).into_iter().map(f16::from_f32).collect();
    let mut group = criterion.benchmark_group("widen f16");
    group.throughput(Throughput::Bytes(size_of_val(&halves[..]) as u64));
    let halves = Rows::<f32>::narrow(Narrow::F16(&halves), DIM).expect("whole rows");
    let mut room = Vec::new();
    bench(&mut group, "any", "cache", || {
        halves.values_in(&mut room)[0]
    });
    group.finish();

    let mut random = ChaCha8Rng::seed_from_u64(3);
    let keys: Vec<u64> = (0..MANY).map(|_| random.next_u64()).collect();
    let (mut sorter, mut order) = (Sorter::new(), Vec::new());
    let mut group = criterion.benchmark_group("radix sort");
    group.throughput(Throughput::Elements(MANY as u64));
    bench(&mut group, "any", "24 bits", || {
        sorter.sort(&keys, 24, &mut order).expect("few rows")
    });
    group.finish();
}

/// Packed bits that the second-level cache holds, with limits that few pairs are below; by what is
/// tested: a number, as for Hamming distance, or one that rises, as for Jaccard distance.
fn bits(criterion: &mut Criterion) {
    const SIDE: usize = 1024;
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut group = criterion.benchmark_group("bits");
    for width in [32, 128] {
        let values: Vec<u8> = (0..2 * SIDE * width)
            .map(|_| random.next_u32() as u8)
            .collect();
        let all = Rows::new(&values, width).expect("whole rows");
        let order: Vec<u32> = (0..2 * SIDE as u32).collect();
        let mut left = LeftBits::default();
        left.gather(all, &order[..SIDE]).expect("rows exist");
        let right = RightBits::new(all, &order[SIDE..], &[0, SIDE]).expect("rows exist");
        group.throughput(Throughput::Elements((SIDE * SIDE * width * 8) as u64));
        for (name, slope) in [("fixed", 0.0), ("rising", 0.01)] {
            let most = (2 * width) as f32;
            let limits = vec![DifferenceLimit { most, slope }; SIDE];
            for &isa in Isa::available() {
                let mut near = Vec::new();
                bench(&mut group, isa, format!("{} {name}", width * 8), || {
                    near.clear();
                    let groups = right.groups(0);
                    near_bits(
                        &left,
                        &order[..SIDE],
                        &limits,
                        &right,
                        groups,
                        isa,
                        &mut near,
                    )
                    .expect("one width");
                    near.len()
                });
            }
        }
    }
    group.finish();
}

fn main() {
    // Peaks and kernels alike, on one thread.
    rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build_global()
        .expect("no pool was made before");
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    peak::arithmetic(&mut criterion);
    peak::memory(&mut criterion);
    tile(&mut criterion);
    bits(&mut criterion);
    hash(&mut criterion);
    products(&mut criterion);
    within(&mut criterion);
    quantise(&mut criterion);
    distances_of_each_type(&mut criterion);
    insertion(&mut criterion);
    finite(&mut criterion);
    portable(&mut criterion);
    criterion.final_summary();
}
