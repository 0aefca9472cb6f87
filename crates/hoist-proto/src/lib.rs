//! Resumable uploads as pure functions.

pub mod types;
pub mod upload;
