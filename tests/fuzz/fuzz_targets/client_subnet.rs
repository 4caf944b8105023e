//! libFuzzer's entrance to [`meridian_fuzz::client_subnet`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_fuzz::client_subnet(bytes));
