//! See `properties::classify`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::classify(input));
