//! libFuzzer's entrance to [`meridian_fuzz::zone_yaml`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_fuzz::zone_yaml(bytes));
