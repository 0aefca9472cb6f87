//! The libFuzzer entry point of [`hoist_fuzz::token_decode`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hoist_fuzz::token_decode(data));
