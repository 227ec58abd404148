//! AVX-VNNI: four products a lane, of unsigned with signed bytes, where there is no AVX-512.

use std::arch::x86_64::*;

use super::avx2;
use crate::tile::{
    band::{BLOCK, SIDE},
    block::{Block, Product, Tile, UNROLLED},
    thresholds::DotThresholds,
};

/// Rows of left panel that are multiplied at once, with 16 of the right: 8 accumulators of 16.
const ROWS: usize = 4;

// As in `avx512vnni`.
avx2::ymm_multiply!("avx2,avxvnni", |sum, right, left| _mm256_dpbusd_avx_epi32(
    sum, right, left
));
