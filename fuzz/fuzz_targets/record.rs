//! The libFuzzer entry point of [`hoist_fuzz::record`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hoist_fuzz::record(data));
