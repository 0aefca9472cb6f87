//! The libFuzzer entry point of [`hoist_fuzz::tus1_metadata`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hoist_fuzz::tus1_metadata(data));
