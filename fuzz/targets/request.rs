//! See `properties::request`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::request(input));
