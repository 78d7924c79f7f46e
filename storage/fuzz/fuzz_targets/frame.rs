//! Runs `frame` on what libFuzzer comes up with.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| inkstone_storage_fuzz::frame(input));
