//! What the machine can do at most: bytes read and copied, and multiply-adds from registers to
//! registers, in assembly so that nothing is spilled.

#[cfg(target_arch = "x86_64")]
use std::arch::asm;
use std::hint::black_box;

#[cfg(target_arch = "x86_64")]
use criterion::{BenchmarkGroup, measurement::WallTime};
use criterion::{Criterion, Throughput};
#[cfg(target_arch = "x86_64")]
use lshjoin_kernels::{Isa, Level};

use super::{DIM, MANY, bench, gaussian};

/// Reading and copying of what no cache holds.
pub fn memory(criterion: &mut Criterion) {
    let from = gaussian(MANY, DIM);
    let mut group = criterion.benchmark_group("memory");
    group.throughput(Throughput::Bytes(size_of_val(&from[..]) as u64));
    bench(&mut group, "read", "any", || {
        // Bits rather than numbers, so that the sum is vectorised.
        let add = |sum: u32, value: &f32| sum.wrapping_add(value.to_bits());
        black_box(from.iter().fold(0, add))
    });
    let from = &from[..from.len() / 4];
    let mut to = vec![1.0; from.len()];
    group.throughput(Throughput::Bytes(size_of_val(from) as u64));
    bench(&mut group, "copy", "any", || {
        to.copy_from_slice(from);
        black_box(to[0])
    });
    group.finish();
}

/// How often the instructions are run.
#[cfg(target_arch = "x86_64")]
const LOOPS: u64 = 1000;

/// Multiply-adds of one instruction, or of the few that make one, in twelve independent sums.
#[cfg(target_arch = "x86_64")]
pub fn arithmetic(criterion: &mut Criterion) {
    const SUMS: u64 = 12;

    let mut group = criterion.benchmark_group("peak");
    // Benchmarks the lines, `\s` being the register of a sum.
    macro_rules! peak {
        ($level:ident, $name:literal, $products:literal, $($line:literal),*) => {
            peak!($level, $name, $products; if true; $($line),*)
        };
        ($level:ident, $name:literal, $products:literal; if $has:expr; $($line:literal),*) => {
            let isa = Isa::available().iter().find(|isa| isa.level() == Level::$level);
            if let (Some(isa), true) = (isa, $has) {
                group.throughput(Throughput::Elements(LOOPS * SUMS * $products));
                bench(&mut group, $name, isa, || {
                    // SAFETY: arithmetic on registers, all of which are given up; the machine has
                    // this instruction set.
                    unsafe {
                        asm!(
                            "vzeroall",
                            "2:",
                            ".irp s,0,1,2,3,4,5,6,7,8,9,10,11",
                            $($line,)*
                            ".endr",
                            "dec rcx",
                            "jnz 2b",
                            inout("rcx") LOOPS => _, clobber_abi("C"), options(nomem, nostack),
                        );
                    }
                });
            }
        };
    }
    peak!(Avx2, "fma", 8, "vfmadd231ps ymm\\s, ymm15, ymm14");
    peak!(Avx512, "fma", 16, "vfmadd231ps zmm\\s, zmm15, zmm14");
    peak!(
        Avx2,
        "maddubs",
        32,
        "vpmaddubsw ymm12, ymm15, ymm14",
        "vpmaddwd ymm13, ymm12, ymm14",
        "vpaddd ymm\\s, ymm\\s, ymm13"
    );
    peak!(
        Avx2,
        "maddwd",
        16,
        "vpmaddwd ymm12, ymm15, ymm14",
        "vpaddd ymm\\s, ymm\\s, ymm12"
    );
    peak!(
        Avx512,
        "maddubs",
        64,
        "vpmaddubsw zmm12, zmm15, zmm14",
        "vpmaddwd zmm13, zmm12, zmm14",
        "vpaddd zmm\\s, zmm\\s, zmm13"
    );
    peak!(
        Avx512,
        "maddwd",
        32,
        "vpmaddwd zmm12, zmm15, zmm14",
        "vpaddd zmm\\s, zmm\\s, zmm12"
    );
    peak!(
        AvxVnni,
        "dpbusd",
        32,
        "{{vex}} vpdpbusd ymm\\s, ymm15, ymm14"
    );
    peak!(Avx512Vnni, "dpbusd", 64, "vpdpbusd zmm\\s, zmm15, zmm14");

    // Bits rather than multiply-adds.
    let counts = is_x86_feature_detected!("avx512vpopcntdq");
    peak!(Avx512, "popcnt", 512; if counts; "vpopcntd zmm\\s, zmm\\s");
    peak!(
        Avx512,
        "xor popcnt",
        512; if counts;
        "vpxord zmm12, zmm15, zmm14",
        "vpopcntd zmm13, zmm12",
        "vpaddd zmm\\s, zmm\\s, zmm13"
    );
    peak!(
        Avx2,
        "xor popcnt",
        256,
        "vpxor ymm12, ymm15, ymm14",
        "vpand ymm13, ymm12, ymm14",
        "vpsrlw ymm12, ymm12, 4",
        "vpand ymm12, ymm12, ymm14",
        "vpshufb ymm13, ymm15, ymm13",
        "vpshufb ymm12, ymm15, ymm12",
        "vpaddb ymm\\s, ymm\\s, ymm13",
        "vpaddb ymm\\s, ymm\\s, ymm12"
    );

    amx_tiles(&mut group);
    group.finish();
}

/// The same of AMX, in the four sums that its tiles have room for.
#[cfg(target_arch = "x86_64")]
fn amx_tiles(group: &mut BenchmarkGroup<'_, WallTime>) {
    let amx = Isa::available()
        .iter()
        .find(|isa| isa.level() == Level::Amx);
    if let Some(isa) = amx {
        let mut config = [0_u8; 64];
        config[0] = 1;
        (0..8).for_each(|tile| (config[16 + 2 * tile], config[48 + tile]) = (64, 16));
        group.throughput(Throughput::Elements(LOOPS * 4 * 16 * 16 * 64));
        bench(group, "tdpbssd", isa, || {
            // SAFETY: arithmetic on registers, all of which are given up; the machine has AMX and
            // `config` is a valid configuration.
            unsafe {
                asm!(
                    "ldtilecfg [rdx]",
                    "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                    "2:",
                    "tdpbssd tmm0, tmm4, tmm6", "tdpbssd tmm1, tmm5, tmm6",
                    "tdpbssd tmm2, tmm4, tmm7", "tdpbssd tmm3, tmm5, tmm7",
                    "dec rcx",
                    "jnz 2b",
                    "tilerelease",
                    in("rdx") config.as_ptr(), inout("rcx") LOOPS => _,
                    clobber_abi("C"), options(readonly, nostack),
                );
            }
        });
    }
}

/// No probe is written for other processors.
#[cfg(not(target_arch = "x86_64"))]
pub fn arithmetic(_: &mut Criterion) {}
