//! AMX-INT8: 16 × 16 dot products of 64 bytes an instruction.
//!
//! In `asm!`, for `core::arch` has no stable intrinsics for it.

use std::arch::asm;

use super::{BLOCK, Block, Line, SIDE, Side, Tiles};

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

/// See [`Dots`](super::Dots). Multiplies the whole block, padding too.
///
/// # Safety
/// The machine must have AMX-INT8, Linux have granted its use, and the block's pointers be in
/// bounds.
pub(super) unsafe fn dots(block: &Block, _: &[Side; BLOCK], tiles: &mut Tiles) {
    const LINE: usize = size_of::<Line>();
    let left_stride = block.lines * LINE;
    // SAFETY: the caller vouches for 32 left rows and two groups of right rows, of `lines` lines;
    // the four tiles of the result are 4096 bytes in a row. Tile registers and their configuration
    // do not outlive the block of assembly.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            "tileloadd tmm4, [{left0} + {left_stride}]",
            "tileloadd tmm6, [{right0} + {line}]",
            "tileloadd tmm5, [{left1} + {left_stride}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right1} + {line}]",
            "tdpbssd tmm1, tmm5, tmm6",
            "tdpbssd tmm2, tmm4, tmm7",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {left0}, {line}",
            "add {left1}, {line}",
            "add {right0}, 1024",
            "add {right1}, 1024",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{tiles} + {line}], tmm0",
            "tilestored [{tiles} + {line} + 1024], tmm1",
            "tilestored [{tiles} + {line} + 2048], tmm2",
            "tilestored [{tiles} + {line} + 3072], tmm3",
            "tilerelease",
            config = in(reg) &CONFIG,
            left0 = inout(reg) block.left => _,
            left1 = inout(reg) block.left.add(SIDE * block.lines) => _,
            right0 = inout(reg) block.right => _,
            right1 = inout(reg) block.right.add(block.next) => _,
            steps = inout(reg) block.lines => _,
            left_stride = in(reg) left_stride,
            line = in(reg) LINE,
            tiles = in(reg) tiles.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
