//! AMX-INT8: 16 × 16 dot products of 64 bytes an instruction.
//!
//! In `asm!`, for `core::arch` has no stable intrinsics for it. A block of 128 dimensions takes the
//! tile unit 128 cycles; meanwhile the vector units compare the products of the block before with its
//! thresholds.

use std::arch::{asm, x86_64::*};

use crate::tile::{
    band::{Line, SIDE},
    block::{Block, Product},
};

/// Palette 1: eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIG: Config = Config {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// That this thread's tiles are configured, until dropped.
///
/// Configuring takes longer than multiplying a small block, so it is not done for each. No tile
/// lives from one block of assembly to the next; the configuration does, which compiled code never
/// touches: without the `amx-tile` target feature there is no instruction for it to do so.
pub(in crate::tile) struct Configured(());

impl Configured {
    /// # Safety
    /// The machine must have AMX-INT8, and Linux have granted its use.
    pub(in crate::tile) unsafe fn new() -> Self {
        // SAFETY: reads the 64 bytes of a valid configuration; the caller vouches for the rest.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the tiles were configured by this thread: no `Panels`, which has this, leaves it.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// See [`Multiply`](crate::tile::block::Multiply). Multiplies both bands whole, padding too.
///
/// # Safety
/// The machine must have AVX-512 BW, the thread's tiles be [`Configured`], and the block's pointers
/// in bounds.
#[target_feature(enable = "avx512f,avx512bw")]
pub(in crate::tile) unsafe fn multiply(block: &Block, product: &mut Product) -> bool {
    let Product {
        tiles,
        thresholds,
        masks,
    } = product;
    let half = block.lines * SIDE;
    // SAFETY: the caller vouches for two halves of `lines` tiles on each side. All rows of a tile
    // of sums start from the same 16 numbers, at a stride of 0.
    unsafe {
        asm!(
            "tileloadd tmm0, [{columns} + {none}]",
            "tileloadd tmm1, [{columns} + {none}]",
            "tileloadd tmm2, [{columns} + {none} + 64]",
            "tileloadd tmm3, [{columns} + {none} + 64]",
            "2:",
            "tileloadd tmm4, [{left0} + {line}]",
            "tileloadd tmm6, [{right0} + {line}]",
            "tileloadd tmm5, [{left1} + {line}]",
            "tileloadd tmm7, [{right1} + {line}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tdpbssd tmm1, tmm5, tmm6",
            "tdpbssd tmm2, tmm4, tmm7",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {left0}, 1024",
            "add {left1}, 1024",
            "add {right0}, 1024",
            "add {right1}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{tiles} + {line}], tmm0",
            "tilestored [{tiles} + {line} + 1024], tmm1",
            "tilestored [{tiles} + {line} + 2048], tmm2",
            "tilestored [{tiles} + {line} + 3072], tmm3",
            left0 = inout(reg) block.left => _,
            left1 = inout(reg) block.left.add(half) => _,
            right0 = inout(reg) block.right => _,
            right1 = inout(reg) block.right.add(half) => _,
            steps = inout(reg) block.lines => _,
            line = in(reg) size_of::<Line>(),
            none = in(reg) 0_usize,
            columns = in(reg) &raw const thresholds.starts,
            tiles = in(reg) tiles,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    let [low0, low1, high0, high1] = tiles;
    let mut any = 0;
    // Unrolled, since few instructions in all leave the processor room to look ahead.
    for (half, (low, high)) in [(low0, high0), (low1, high1)].into_iter().enumerate() {
        for row in 0..SIDE {
            let least = _mm512_set1_epi32(thresholds.least[half * SIDE + row]);
            let near = |dots: &[i32; SIDE]| {
                // SAFETY: a row of a tile is 16 numbers, aligned to 64 bytes.
                let dots = unsafe { _mm512_load_si512(dots.as_ptr().cast()) };
                u32::from(_mm512_cmpge_epi32_mask(dots, least))
            };
            let mask = _mm512_kunpackw(near(&high.0[row]), near(&low.0[row]));
            masks[half * SIDE + row] = mask;
            any |= mask;
        }
    }
    any != 0
}
