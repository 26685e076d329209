//! See `properties::translate_answer`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| properties::translate_answer(input));
