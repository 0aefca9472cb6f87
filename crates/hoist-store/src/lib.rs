//! Durable, fenced stores for resumable uploads.

pub mod store;
