//! Every kernel on memory that ends where the next page can't be touched.
//!
//! All that this program allocates ends so: what the tests pass, what they are given back, and the
//! panels, codes and scratch that kernels allocate for themselves. A read or write past the end of
//! any of it, as of memory that is freed, ends the process.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // tests may
#![cfg(unix)]

use std::{
    alloc::{GlobalAlloc, Layout},
    ptr,
};

use half::f16;
use lshjoin_kernels::{
    BoundedRows, Bucketing, DifferenceLimit, HashFunctions, Isa, KeyLayout, LeftBits, LeftPanel,
    Level, Measure, Narrow, Quantised, RightBits, RightPanel, Rows, Scalar, Sorter, check_finite,
    code_distances, code_distances2, code_intervals, distance, distances_of, insert_keys,
    near_bits, near_pairs, nearest_codes, pairs_within,
};

struct Fenced;

#[global_allocator]
static FENCED: Fenced = Fenced;

/// A multiple of the page size of every system that we build for.
const PAGE: usize = 1 << 16;

/// Bytes of a mapping before its fence, and how many of them are before what is allocated.
fn place(layout: Layout) -> (usize, usize) {
    let room = layout.size().next_multiple_of(PAGE);
    let before = room - layout.size();
    (room, before - before % layout.align())
}

// SAFETY: each allocation is a mapping of its own, not unmapped before it is freed.
unsafe impl GlobalAlloc for Fenced {
    /// Ends at the fence, but for what alignment takes: nothing for slices. A process may not have
    /// fences for all that a panic's backtrace allocates: that then has none.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (room, before) = place(layout);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANON;
        // SAFETY: a new mapping, whose end is made untouchable.
        unsafe {
            let start = libc::mmap(ptr::null_mut(), room + PAGE, access, kind, -1, 0);
            if start == libc::MAP_FAILED {
                return ptr::null_mut();
            }
            libc::mprotect(start.byte_add(room), PAGE, libc::PROT_NONE);
            start.byte_add(before).cast()
        }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let (room, before) = place(layout);
        // SAFETY: what `alloc` mapped for this layout, and nobody uses any more.
        unsafe { libc::munmap(memory.sub(before).cast(), room + PAGE) };
    }
}

/// Whether a byte can be read, by the word of the system.
fn readable(byte: *const u8) -> bool {
    let mut pipe = [0; 2];
    // SAFETY: system calls, which check the addresses that they are given.
    unsafe {
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let written = libc::write(pipe[1], byte.cast(), 1);
        let _ = pipe.map(|end| libc::close(end));
        written == 1
    }
}

#[test]
fn fences_stand_where_slices_end() {
    for len in [1, 7, 1000, PAGE, PAGE + 1] {
        let slice = vec![1_u8; len];
        let range = slice.as_ptr_range();
        assert!(readable(range.start) && readable(range.end.wrapping_sub(1)));
        assert!(!readable(range.end), "the end of {len} bytes");
    }
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

/// `len` ordinary values, of a capacity no larger.
fn values<T: Scalar>(len: usize) -> Vec<T> {
    let value = |at| T::from_f64((at * 37 % 101) as f64 / 8.0 - 6.0);
    (0..len).map(value).collect()
}

/// Around the lengths of vectors, lines and unrolled loops.
fn lengths() -> impl Iterator<Item = usize> + Clone {
    (1..=34).chain([47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129, 200])
}

fn distances<T: Scalar>(isa: Isa) {
    let mut out = Vec::new();
    for dim in lengths() {
        let values = values::<T>(3 * dim);
        let rows = Rows::new(&values, dim).unwrap();
        let (last, indices, pairs) = (rows.row(2), vec![2, 0, 2, 2, 2], vec![(2, 2), (2, 1)]);
        let side = BoundedRows {
            rows,
            indices: &indices,
            bounds: &vec![T::INFINITY; indices.len()],
        };
        for measure in [Measure::SquaredEuclidean, Measure::Manhattan, Measure::Dot] {
            let mut count = 0;
            pairs_within(measure, side, side, isa, &mut |_, _, _| count += 1).unwrap();
            assert_eq!(count, indices.len().pow(2));
            distances_of(measure, rows, rows, &pairs, &mut out, isa).unwrap();
            assert_eq!(distance(measure, &last, &last, isa), Ok(out[0]));
        }
    }
}

#[test]
fn exact_distances() {
    on_each_isa(|isa| {
        distances::<f32>(isa);
        distances::<f64>(isa);
    });
}

fn finite<T: Scalar>(isa: Isa) {
    for len in lengths().chain([(1 << 16) - 1, (1 << 16) + 1]) {
        let values = values::<T>(len);
        assert_eq!(check_finite(Rows::new(&values, 1).unwrap(), isa), Ok(()));
    }
}

#[test]
fn finiteness() {
    on_each_isa(|isa| {
        finite::<f32>(isa);
        finite::<f64>(isa);
    });
}

/// It chooses its instructions by itself.
#[test]
fn conversion() {
    for len in lengths() {
        let halves = vec![f16::ONE; len];
        let rows = Rows::<f32>::narrow(Narrow::F16(&halves), len).unwrap();
        assert_eq!(rows.values().unwrap(), vec![1.0; len]);
    }
}

/// Ids and keys: projection, floor, the exact path, packing, and hashing where ids are too wide.
fn hashing<T: Scalar>(isa: Isa) {
    for (dim, n) in lengths().zip(lengths().skip(5)) {
        let values = values::<T>(n * dim);
        let rows = Rows::new(&values, dim).unwrap();
        for bucketing in [
            Bucketing::Width(0.5),
            Bucketing::Width(1e-5),
            Bucketing::Sign,
        ] {
            let directions = self::values(6 * dim);
            let functions = HashFunctions::new(dim, directions, vec![0.25; 6], bucketing).unwrap();
            let mut ids = vec![0; 6 * n];
            functions.bucket_ids(rows, isa, &mut ids).unwrap();
            let ranges = functions.ranges(rows, isa).unwrap();
            let layouts = [KeyLayout::new(&ranges[..1]), KeyLayout::new(&ranges[1..])];
            let (mut first, mut second) = (vec![0; n], vec![0; n]);
            let mut columns = vec![&mut first[..], &mut second[..]];
            let keyless = functions.keys(rows, &layouts, isa, &mut columns).unwrap();
            assert_eq!(keyless, [[], []]);
            for (row, ids) in ids.chunks(6).enumerate() {
                assert_eq!(Some(second[row]), layouts[1].pack(&ids[1..]));
                assert_eq!(Some(first[row]), layouts[0].pack(&ids[..1]));
            }
        }
    }
}

#[test]
fn bucket_ids_and_keys() {
    on_each_isa(|isa| {
        hashing::<f32>(isa);
        hashing::<f64>(isa);
    });
}

/// Quantising, gathering and comparing. Panels are padded to whole blocks of whole lines, so that a
/// kernel which reads a block too many, or a line, leaves the panel.
fn tiles<T: Scalar>(isa: Isa) {
    let mut near = Vec::new();
    for (dim, n) in lengths().flat_map(|dim| [1, 15, 32, 33, 65].map(|n| (dim, n))) {
        let values = values::<T>(n * dim);
        let mut rows = Quantised::new(Rows::new(&values, dim).unwrap(), isa).unwrap();
        let backwards: Vec<u32> = (0..n as u32).rev().collect();
        rows.reorder(&backwards).unwrap();
        // New ones, for a panel keeps its memory.
        let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
        left.gather(&rows, &backwards, &vec![f32::INFINITY; n])
            .unwrap();
        right.gather(&rows, &backwards, &vec![-1.0; n]).unwrap();
        right.set_bounds(&vec![f32::INFINITY; n]).unwrap();
        near.clear();
        near_pairs(&left, &right, &mut near).unwrap();
        assert_eq!(near.len(), n * n);
        let mut squares = Vec::new();
        code_distances2(&left, &right, &mut squares).unwrap();
        near.clear();
        nearest_codes(&left, &right, 7, &mut near).unwrap();
        assert_eq!(near.len(), n * n.min(7));
        code_distances((&rows, 0), &rows, &backwards, &mut squares, isa).unwrap();
        let pairs: Vec<_> = backwards.iter().map(|&row| (row, 0)).collect();
        code_intervals(&rows, &rows, &pairs, &mut Vec::new(), isa).unwrap();
    }
}

#[test]
fn codes_and_tiles() {
    on_each_isa(|isa| {
        tiles::<f32>(isa);
        tiles::<f64>(isa);
    });
}

/// Groups that are not full, and blocks of one to four groups: a kernel which reads a word or a line too
/// many leaves what was packed.
#[test]
fn packed_bits() {
    on_each_isa(|isa| {
        for (width, n) in lengths().flat_map(|width| [1, 16, 33, 64, 65].map(|n| (width, n))) {
            let bytes: Vec<u8> = (0..n * width).map(|at| (at * 77) as u8).collect();
            let rows = Rows::new(&bytes, width).unwrap();
            let all: Vec<u32> = (0..n as u32).collect();
            let right = RightBits::new(rows, &all, &[0, n]).unwrap();
            let mut left = LeftBits::default();
            left.gather(rows, &all).unwrap();
            for slope in [0.0, 1.0] {
                let most = (8 * width) as f32;
                let limits = vec![DifferenceLimit { most, slope }; n];
                let mut near = Vec::new();
                near_bits(
                    &left,
                    &all,
                    &limits,
                    &right,
                    right.groups(0),
                    isa,
                    &mut near,
                )
                .unwrap();
                assert_eq!(near.len(), n * n);
            }
        }
    });
}

#[test]
fn sorting() {
    let mut order = Vec::new();
    for rows in lengths().chain([255, 256, 257, 1023, 1024, 1025]) {
        let wide: Vec<u128> = (0..rows as u128).map(|row| (row * 77 % 64) << 60).collect();
        let narrow: Vec<u64> = wide.iter().map(|&key| (key >> 30) as u64).collect();
        for bits in [1, 11, 12, 64, 66, 128] {
            Sorter::new().sort(&wide, bits, &mut order).unwrap();
            assert_eq!(order.len(), rows);
            Sorter::new().sort(&narrow, bits, &mut order).unwrap();
            assert_eq!(order.len(), rows);
        }
    }
}

#[test]
fn insertion() {
    on_each_isa(|isa| {
        for places in lengths() {
            for count in [1, 7, 8, 9, 100] {
                let keys: Vec<i64> = (0..count).map(|key| key * 37 % 101).collect();
                let mut list = vec![i64::MAX; places];
                insert_keys(&mut list, &keys, isa);
                assert!(list.is_sorted());
            }
        }
    });
}
