//! libFuzzer's entrance to [`meridian_fuzz::replay`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_fuzz::replay(bytes));
