//! AVX-512 VNNI: four products a lane, of unsigned with signed bytes.

use std::arch::x86_64::*;

use super::avx512;
use crate::tile::{
    band::{BLOCK, SIDE},
    block::{Block, Product, Tile, UNROLLED},
    thresholds::DotThresholds,
};

/// Rows of left panel that are multiplied at once, with 32 of the right: 16 accumulators.
const ROWS: usize = 8;

// Right codes are packed plus 128; what that adds is taken away beforehand, from what sums of a row start
// from. Sums may wrap on the way, but not in the end.
avx512::zmm_multiply!("avx512f,avx512bw,avx512vnni", |sum, right, left| {
    _mm512_dpbusd_epi32(sum, right, left)
});
