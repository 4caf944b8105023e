//! libFuzzer's entrance to [`meridian_fuzz::master_file`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_fuzz::master_file(bytes));
