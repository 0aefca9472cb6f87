//! Durable, fenced stores for resumable uploads.

pub mod fs;
pub mod memory;
pub mod record;
pub mod store;
