//! See `properties::translate_request`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::translate_request(input));
