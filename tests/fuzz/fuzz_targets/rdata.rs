//! libFuzzer's entrance to [`meridian_fuzz::rdata`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_fuzz::rdata(bytes));
