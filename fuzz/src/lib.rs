//! What the fuzz targets do with bytes: each a function that panics where an answer is wrong.
//!
//! The targets of `fuzz_targets/` call them with what libFuzzer comes up with,
//! `lsh/tests/joins/fuzz_regressions.rs`, which includes this file, with what it found that counts.

pub mod index_open;
pub mod joins;
pub mod kernels;
pub mod keys;
pub mod manifest;
pub mod plan;

mod input;
mod saved;
