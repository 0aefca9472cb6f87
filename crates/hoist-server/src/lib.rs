//! Resumable uploads as a tower service: one endpoint for every dialect.
//!
//! [`Hoist`] is the endpoint: it executes what [`hoist_proto`] decides about a request on a
//! [`Store`](hoist_store::store::Store), and hands complete representations to a [`Target`](targets::Target). The life of a
//! request is in `service.rs` and fits on one screen.

pub mod admission;
mod answer;
pub mod auth;
mod backlog;
mod claim;
pub mod clock;
pub mod cors;
mod deliver;
mod digest;
mod discover;
mod download;
mod error;
mod execute;
mod filename;
mod form;
pub mod hook;
mod intake;
mod layer;
mod look;
mod parts;
mod pending_parts;
mod progress;
pub mod proxy;
mod route;
mod service;
mod sweep;
pub mod targets;
mod tombstones;
mod transport_handles;
mod unverified;
mod upload_id;

pub use answer::{Answer, Body};
pub use intake::Content;
pub use layer::{BadEndpoint, Builder, Hoist};
pub use sweep::Swept;
pub use transport_handles::{Interims, Locations};

/// An error of a body, whatever it is.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
