//! Pairs and multiply-adds a second of the 8-bit tiles, on one thread, beside the peak of the
//! instruction that they are made of, and the rate of quantising:
//! `RAYON_NUM_THREADS=1 cargo run --release --example tile_rate`.

use std::{hint::black_box, time::Instant};

use lshjoin_kernels::{Isa, LeftPanel, Level, Quantised, RightPanel, Rows, near_pairs};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Least seconds of many short runs of `work`: some of them go undisturbed.
fn seconds(mut work: impl FnMut()) -> f64 {
    let mut repeats = 1;
    loop {
        let start = Instant::now();
        (0..repeats).for_each(|_| work());
        let took = start.elapsed().as_secs_f64();
        if took > 0.001 {
            break;
        }
        repeats *= 2;
    }
    let timed = || {
        let start = Instant::now();
        (0..repeats).for_each(|_| work());
        start.elapsed().as_secs_f64() / f64::from(repeats)
    };
    std::iter::repeat_with(timed)
        .take(100)
        .fold(f64::INFINITY, f64::min)
}

fn gaussian(n: usize, dim: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut uniform = || random.random::<f32>();
    // Near enough to a normal distribution: a sum of twelve uniform numbers.
    (0..n * dim)
        .map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0)
        .collect()
}

/// Multiply-adds a second of the instruction alone, from registers to registers.
#[cfg(target_arch = "x86_64")]
fn peak(isa: Isa) -> Option<f64> {
    use std::arch::asm;
    const LOOPS: u64 = 100_000;
    /// A block of `asm!` that repeats the lines on `LOOPS` times.
    macro_rules! repeat {
        ($($line:literal),* ; $($out:tt)*) => {
            seconds(|| {
                // SAFETY: arithmetic on registers that are declared; the machine has `isa`.
                unsafe {
                    asm!("2:", $($line,)* "dec {n}", "jnz 2b",
                        n = inout(reg) LOOPS => _, $($out)*, options(nomem, nostack));
                }
            })
        };
    }
    let (products, took) = match isa.level() {
        Level::Avx2 => (
            6 * 16,
            repeat!(
                "vpmaddwd ymm6, ymm15, ymm14", "vpaddd ymm0, ymm0, ymm6",
                "vpmaddwd ymm7, ymm15, ymm14", "vpaddd ymm1, ymm1, ymm7",
                "vpmaddwd ymm8, ymm15, ymm14", "vpaddd ymm2, ymm2, ymm8",
                "vpmaddwd ymm9, ymm15, ymm14", "vpaddd ymm3, ymm3, ymm9",
                "vpmaddwd ymm10, ymm15, ymm14", "vpaddd ymm4, ymm4, ymm10",
                "vpmaddwd ymm11, ymm15, ymm14", "vpaddd ymm5, ymm5, ymm11";
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
                out("ymm5") _, out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _,
                out("ymm10") _, out("ymm11") _
            ),
        ),
        Level::Avx512 => (
            6 * 32,
            repeat!(
                "vpmaddwd zmm6, zmm15, zmm14", "vpaddd zmm0, zmm0, zmm6",
                "vpmaddwd zmm7, zmm15, zmm14", "vpaddd zmm1, zmm1, zmm7",
                "vpmaddwd zmm8, zmm15, zmm14", "vpaddd zmm2, zmm2, zmm8",
                "vpmaddwd zmm9, zmm15, zmm14", "vpaddd zmm3, zmm3, zmm9",
                "vpmaddwd zmm10, zmm15, zmm14", "vpaddd zmm4, zmm4, zmm10",
                "vpmaddwd zmm11, zmm15, zmm14", "vpaddd zmm5, zmm5, zmm11";
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _,
                out("zmm5") _, out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _,
                out("zmm10") _, out("zmm11") _
            ),
        ),
        Level::Avx512Vnni => (
            12 * 64,
            repeat!(
                "vpdpbusd zmm0, zmm15, zmm14", "vpdpbusd zmm1, zmm15, zmm14",
                "vpdpbusd zmm2, zmm15, zmm14", "vpdpbusd zmm3, zmm15, zmm14",
                "vpdpbusd zmm4, zmm15, zmm14", "vpdpbusd zmm5, zmm15, zmm14",
                "vpdpbusd zmm6, zmm15, zmm14", "vpdpbusd zmm7, zmm15, zmm14",
                "vpdpbusd zmm8, zmm15, zmm14", "vpdpbusd zmm9, zmm15, zmm14",
                "vpdpbusd zmm10, zmm15, zmm14", "vpdpbusd zmm11, zmm15, zmm14";
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _,
                out("zmm5") _, out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _,
                out("zmm10") _, out("zmm11") _
            ),
        ),
        Level::Amx => {
            let mut config = [0_u8; 64];
            config[0] = 1;
            (0..8).for_each(|tile| (config[16 + 2 * tile], config[48 + tile]) = (64, 16));
            let took = seconds(|| {
                // SAFETY: arithmetic on registers that are declared; the machine has AMX and
                // `config` is a valid configuration.
                unsafe {
                    asm!(
                        "ldtilecfg [{config}]",
                        "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                        "2:",
                        "tdpbssd tmm0, tmm4, tmm6", "tdpbssd tmm1, tmm5, tmm6",
                        "tdpbssd tmm2, tmm4, tmm7", "tdpbssd tmm3, tmm5, tmm7",
                        "dec {n}", "jnz 2b",
                        "tilerelease",
                        config = in(reg) config.as_ptr(), n = inout(reg) LOOPS => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(readonly, nostack),
                    );
                }
            });
            (4 * 16 * 16 * 64, took)
        }
        _ => return None,
    };
    Some(LOOPS as f64 * f64::from(products) / took)
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_: Isa) -> Option<f64> {
    None
}

fn main() -> lshjoin_kernels::Result<()> {
    let values = gaussian(65_536, 384);
    let bytes = size_of_val(&values[..]) as f64;
    let read = seconds(|| {
        // Bits rather than numbers, so that the sum is vectorised.
        let add = |sum: u32, value: &f32| sum.wrapping_add(value.to_bits());
        black_box(values.iter().fold(0, add));
    });
    println!("reading {:.1} GB/s", bytes / read / 1e9);
    let rows = Rows::new(&values, 384)?;
    for &isa in Isa::available() {
        let took = seconds(|| drop(black_box(Quantised::new(rows, isa))));
        println!("quantising {isa:<10} {:.1} GB/s", bytes / took / 1e9);
    }
    println!(
        "isa        dim  left × right   survivors  M pairs/s  GMAC/s  of peak   gather ns/row"
    );
    for &isa in Isa::available() {
        let peak = peak(isa);
        for dim in [384, 128] {
            let quantised = {
                let values = gaussian(8192, dim);
                Quantised::new(Rows::new(&values, dim)?, isa)?
            };
            for (m, n) in [(1024, 1024), (256, 256), (20, 50)] {
                // Rows at random, as buckets have them.
                let rows = |count: usize, step: usize| -> Vec<u32> {
                    (0..count)
                        .map(|i| ((i * step + 17) % 8192) as u32)
                        .collect()
                };
                let (left_rows, right_rows) = (rows(m, 2_731), rows(n, 5_003));
                // Random pairs are √(2·dim) apart, ± 1.
                let bound = (2.0 * dim as f32).sqrt() - 4.0;
                let (left_bounds, right_bounds) = (vec![bound; m], vec![bound; n]);
                let (mut left, mut right) = (LeftPanel::new(isa), RightPanel::new(isa));
                let gathered = seconds(|| {
                    left.gather(&quantised, &left_rows, &left_bounds)
                        .expect("rows exist");
                    right
                        .gather(&quantised, &right_rows, &right_bounds)
                        .expect("rows exist");
                });
                let mut near = Vec::new();
                let took = seconds(|| {
                    near.clear();
                    near_pairs(&left, &right, &mut near).expect("panels fit");
                    black_box(&near);
                });
                let pairs = (m * n) as f64 / took;
                let macs = pairs * dim as f64;
                println!(
                    "{isa:<10} {dim:>3}  {m:>4} × {n:<5} {:>10}  {:>10.0} {:>7.0}  {:>6}  {:>10.0}",
                    near.len(),
                    pairs / 1e6,
                    macs / 1e9,
                    peak.map_or("-".into(), |peak| format!("{:.0} %", 100.0 * macs / peak)),
                    gathered / (m + n) as f64 * 1e9,
                );
            }
        }
        if let Some(peak) = peak {
            println!("{isa:<10} peak {:.0} GMAC/s", peak / 1e9);
        }
    }
    Ok(())
}
