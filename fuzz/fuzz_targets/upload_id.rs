//! The libFuzzer entry point of [`hoist_fuzz::upload_id`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hoist_fuzz::upload_id(data));
