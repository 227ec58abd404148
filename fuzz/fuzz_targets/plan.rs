#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lshjoin_fuzz::plan::run(data));
