//! Resumable uploads as a tower service: one endpoint for every dialect.
//!
//! [`Hoist`] is the endpoint: it executes what [`hoist_proto`] decides about a request on a [`Store`](store::Store), and
//! hands complete representations to a [`Target`](targets::Target). The life of a request is in `service.rs`.
#![doc = include_str!("../README.md")]

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod admin;
pub mod admission;
mod alias;
mod answer;
pub mod auth;
mod backlog;
mod builder;
mod by_url;
mod claim;
pub mod clock;
pub mod cors;
mod digest;
mod discover;
mod dispatch;
mod download;
mod engage;
mod error;
mod execute;
mod expiries;
mod file_path;
mod filename;
mod finish;
mod form;
mod free_space;
mod gauge;
mod health;
pub mod hook;
mod hook_calls;
mod hook_progress;
mod intake;
mod meter;
mod nested;
pub mod observe;
pub mod operator;
mod orderly;
mod outbound;
pub mod outbox;
mod parts;
mod pause;
mod pending_parts;
mod program;
mod progress;
pub mod proxy;
mod readiness;
mod request_facts;
mod request_scope;
mod route;
mod running;
mod service;
mod shared;
mod stopwatch;
mod sweep;
pub mod targets;
mod tombstones;
mod transition;
mod transport_handles;
mod tusd_event;
mod unverified;
mod upload_id;
mod view;
mod whole;

pub use answer::{Answer, Body};
pub use builder::{BadEndpoint, Builder};
pub use intake::Content;
pub use nested::Nested;
pub use request_facts::RequestFacts;
pub use running::Running;
pub use shared::{Hoist, Interims, Locations, Settings};
pub use sweep::Swept;

pub use hoist_proto::{policy, refusal, types, upload};
pub use hoist_store::{fs, memory, store};
pub use {bytes, http};

/// The error of a request's or a response's body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Locks a mutex whose state no panic can leave half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
