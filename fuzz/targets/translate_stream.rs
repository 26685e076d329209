//! See `properties::translate_stream`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::translate_stream(input));
