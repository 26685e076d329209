//! See `properties::hints`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::hints(input));
