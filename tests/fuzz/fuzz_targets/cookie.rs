//! libFuzzer's entrance to [`meridian_fuzz::cookie`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_fuzz::cookie(bytes));
