//! Resumable uploads as a tower layer.

pub mod auth;
pub mod hook;
