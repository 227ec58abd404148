//! AMX-INT8: 16 × 16 dot products of 64 bytes an instruction.
//!
//! In `asm!`, for `core::arch` has no stable intrinsics for it. The tile unit multiplies 16 × 16
//! rows of 128 dimensions in 32 cycles; testing the results takes the vector units 48. So the test
//! of one block goes between the multiplications of the next, in one block of assembly: left to
//! itself, the processor does not look far enough ahead.

use std::arch::{asm, x86_64::*};

use super::{BLOCK, Block, Floats, Line, Masks, Met, SIDE, Side, Tiles};

/// Rows of a block.
const ROWS: usize = SIDE * BLOCK;

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
pub(super) struct Configured(());

impl Configured {
    /// # Safety
    /// The machine must have AMX-INT8, and Linux have granted its use.
    pub(super) unsafe fn new() -> Self {
        // SAFETY: reads the 64 bytes of a valid configuration; the caller vouches for the rest.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &CONFIG, options(nostack, readonly)) };
        Self(())
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the tiles were configured by this thread: a reference in `walk` never leaves it.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// What the test reads of the block before, and its result.
#[repr(C, align(64))]
struct Test {
    left_scale: [Floats; BLOCK],
    left_norm2: [Floats; BLOCK],
    left_reach: [Floats; BLOCK],
    masks: Masks,
    /// Bytes of `left_scale` to go through, in each step of the multiplication.
    each_step: usize,
}

/// One step of the multiplication: 64 codes of 32 × 32 rows.
macro_rules! multiply {
    () => {
        "tileloadd tmm4, [{left0} + {left_stride}]
         tileloadd tmm6, [{right0} + {line}]
         tileloadd tmm5, [{left1} + {left_stride}]
         tdpbssd tmm0, tmm4, tmm6
         tileloadd tmm7, [{right1} + {line}]
         tdpbssd tmm1, tmm5, tmm6
         tdpbssd tmm2, tmm4, tmm7
         tdpbssd tmm3, tmm5, tmm7
         add {left0}, {line}
         add {left1}, {line}
         add {right0}, 1024
         add {right1}, 1024"
    };
}

/// The test of a left row with 2 × 16 right rows, as in `avx512::near`: the row is
/// `$row` further than `{at}` bytes into `left_scale`, and 16 times that into the tile.
macro_rules! test {
    ($row:literal) => {
        concat!(
            "vbroadcastss zmm20, dword ptr [{test} + {at} + 4*",
            $row,
            "]
             vbroadcastss zmm21, dword ptr [{test} + {at} + 128 + 4*",
            $row,
            "]
             vbroadcastss zmm22, dword ptr [{test} + {at} + 256 + 4*",
            $row,
            "]
             vcvtdq2ps zmm16, [{done} + 64*",
            $row,
            "]
             vcvtdq2ps zmm17, [{done} + 2048 + 64*",
            $row,
            "]
             vmulps zmm16, zmm16, {scale0}
             vmulps zmm17, zmm17, {scale1}
             vmaxps zmm18, zmm22, {reach0}
             vmaxps zmm19, zmm22, {reach1}
             vfmsub213ps zmm16, zmm20, {norm0}
             vfmsub213ps zmm17, zmm20, {norm1}
             vfmadd231ps zmm16, zmm18, zmm18
             vfmadd231ps zmm17, zmm19, zmm19
             vcmpps k1, zmm16, zmm21, 21
             vcmpps k2, zmm17, zmm21, 21
             kmovw [{test} + {at} + 384 + 4*",
            $row,
            "], k1
             kmovw [{test} + {at} + 386 + 4*",
            $row,
            "], k2"
        )
    };
}

macro_rules! store {
    () => {
        "tilestored [{fresh} + {line}], tmm0
         tilestored [{fresh} + {line} + 1024], tmm1
         tilestored [{fresh} + {line} + 2048], tmm2
         tilestored [{fresh} + {line} + 3072], tmm3"
    };
}

/// See [`Dots`](super::Dots). Multiplies the whole block, padding too.
///
/// # Safety
/// The thread's tiles must be [`Configured`], and the block's pointers in bounds.
pub(super) unsafe fn dots(block: &Block, _: &[Side; BLOCK], fresh: &mut Tiles) {
    // SAFETY: the caller vouches for 32 left rows and two groups of right rows, of `lines` lines;
    // the four tiles of the result are 4096 bytes in a row.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            multiply!(),
            "dec {steps}",
            "jnz 2b",
            store!(),
            left0 = inout(reg) block.left => _,
            left1 = inout(reg) block.left.add(SIDE * block.lines) => _,
            right0 = inout(reg) block.right => _,
            right1 = inout(reg) block.right.add(block.next) => _,
            steps = inout(reg) block.lines => _,
            left_stride = in(reg) block.lines * size_of::<Line>(),
            line = in(reg) size_of::<Line>(),
            fresh = in(reg) fresh.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// See [`Overlapped`](super::Overlapped).
///
/// # Safety
/// The machine must have AVX-512 F, the thread's tiles be [`Configured`], and the block's pointers
/// in bounds.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn overlapped(
    block: &Block,
    fresh: &mut Tiles,
    met: &Met,
    done: &Tiles,
    masks: &mut Masks,
) {
    let [left0, left1] = met.left;
    let [right0, right1] = met.right;
    let left_reach = |side: &Side| widened(&side.reach, right0.widest.max(right1.widest));
    let right_reach = |side: &Side| widened(&side.reach, left0.widest.max(left1.widest));
    // SAFETY: 16 lanes of 32 bits, in a structure aligned to 64 bytes.
    let floats = |values: &[f32; SIDE]| unsafe { _mm512_load_ps(values.as_ptr()) };
    let twice = |values| _mm512_add_ps(floats(values), floats(values));
    let mut test = Test {
        left_scale: [Floats(left0.scale), Floats(left1.scale)],
        left_norm2: [Floats(left0.norm2), Floats(left1.norm2)],
        left_reach: [left0, left1].map(|side| {
            let mut reach = Floats([0.0; SIDE]);
            // SAFETY: as above.
            unsafe { _mm512_store_ps(reach.0.as_mut_ptr(), left_reach(side)) };
            reach
        }),
        masks: [0; ROWS],
        // Four rows a turn, so that the last step ends with the last row.
        each_step: 16 * (ROWS / 4).div_ceil(block.lines),
    };
    // SAFETY: as for `dots`; the test goes through the 32 rows of `done`, of `left_scale`, and of
    // what follows it 128, 256 and 384 bytes further in `Test`.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            multiply!(),
            "add {until}, [{test} + 512]",
            "3:",
            "cmp {at}, 128",
            "je 4f",
            test!(0),
            test!(1),
            test!(2),
            test!(3),
            "add {done}, 256",
            "add {at}, 16",
            "cmp {at}, {until}",
            "jb 3b",
            "4:",
            "dec {steps}",
            "jnz 2b",
            store!(),
            left0 = inout(reg) block.left => _,
            left1 = inout(reg) block.left.add(SIDE * block.lines) => _,
            right0 = inout(reg) block.right => _,
            right1 = inout(reg) block.right.add(block.next) => _,
            steps = inout(reg) block.lines => _,
            left_stride = in(reg) block.lines * size_of::<Line>(),
            line = in(reg) size_of::<Line>(),
            fresh = in(reg) fresh.as_mut_ptr(),
            done = inout(reg) done.as_ptr() => _,
            test = in(reg) &raw mut test,
            at = inout(reg) 0_usize => _,
            until = inout(reg) 0_usize => _,
            scale0 = in(zmm_reg) twice(&right0.scale),
            scale1 = in(zmm_reg) twice(&right1.scale),
            norm0 = in(zmm_reg) floats(&right0.norm2),
            norm1 = in(zmm_reg) floats(&right1.norm2),
            reach0 = in(zmm_reg) right_reach(right0),
            reach1 = in(zmm_reg) right_reach(right1),
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
            out("zmm20") _, out("zmm21") _, out("zmm22") _, out("k1") _, out("k2") _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    *masks = test.masks;
}

/// The bounds of 16 rows, widened by the other rows' residual; 0 for those that ask nothing.
#[target_feature(enable = "avx512f")]
fn widened(reach: &[f32; SIDE], widest: f32) -> __m512 {
    // SAFETY: 16 lanes of 32 bits.
    let reach = unsafe { _mm512_loadu_ps(reach.as_ptr()) };
    // `max` gives its second operand for −∞ + ∞.
    _mm512_max_ps(
        _mm512_add_ps(reach, _mm512_set1_ps(widest)),
        _mm512_setzero_ps(),
    )
}
