//! The libFuzzer entry point of [`hoist_fuzz::h1_head`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hoist_fuzz::h1_head(data));
