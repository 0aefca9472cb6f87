//! Durable, fenced stores for resumable uploads.

#[cfg(feature = "contract")]
pub mod contract;
pub mod fs;
pub mod memory;
pub mod record;
pub mod store;
