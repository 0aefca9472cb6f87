//! Observers: recipients of what happens to uploads and of how requests end, such as the log.
//!
//! `transition.rs` reports every change in the life of an upload, `intake.rs` every interrupted transfer, and `service.rs`
//! every request. What an observer does with an event is its own business; [`Log`] writes it to the log. The live feed of the
//! operator is an observer of every endpoint.

mod feed;
mod log;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::refusal::{InterruptCause, Refusal};
use hoist_proto::types::Timestamp;
use hoist_proto::upload::{Family, Upload};
use http::{Method, StatusCode};

pub use feed::{LiveEvent, RefusedRequest};
pub use log::Log;

pub(crate) use feed::{Feed, Subscription};

use crate::filename;

/// The `tracing` target of the lines about uploads that have ended, for filters.
pub const UPLOADS: &str = "hoist_server::uploads";

/// The `tracing` target of the lines about every request, for filters.
pub const REQUESTS: &str = "hoist_server::requests";

/// A recipient of events.
pub trait Observer: Send + Sync + 'static {
    /// Receives an event, after it has happened. Called on the threads that serve requests, in the span of the request if
    /// there is one, so it must return quickly and must not block.
    fn observe(&self, event: &Event<'_>);
}

/// An event in the life of an upload or a request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An upload was created.
    Created(UploadEvent<'a>),
    /// The content of an upload is complete. The target has not answered yet.
    Received(UploadEvent<'a>),
    /// An upload has ended. There is exactly one such event for each upload, unless the process ends first.
    Ended(UploadEvent<'a>, Outcome),
    /// A complete upload was removed, by a client or because its time was over.
    Removed(UploadEvent<'a>, Outcome),
    /// The content of a request ended early. Whether the upload can be resumed depends on its dialect.
    Interrupted(UploadEvent<'a>, InterruptCause),
    /// A request was refused.
    Refused(&'a RequestEvent, &'a Refusal),
    /// A request has ended, refused or not.
    Answered(&'a RequestEvent),
}

/// The upload of an event.
#[derive(Clone, Copy, Debug)]
pub struct UploadEvent<'a> {
    /// The upload after the event, or before it if the event removed it.
    pub upload: &'a Upload,
    /// The time since the creation of the upload.
    pub age: Duration,
    endpoint: &'a str,
}

impl<'a> UploadEvent<'a> {
    pub(crate) fn new(upload: &'a Upload, now: Timestamp, endpoint: &'a str) -> Self {
        Self { upload, age: now.until(upload.created), endpoint }
    }

    /// Returns the name that the client gave the content, made safe for file systems.
    pub fn name(&self) -> Option<String> {
        filename::of(&self.upload.origin, self.endpoint)
    }
}

/// The end of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The content is complete and stays in the store.
    Complete,
    /// The target has taken the content.
    Delivered,
    /// The target has rejected the content, it did not match its digest, or a part of it is gone.
    Failed,
    /// A client or the operator cancelled the upload.
    Cancelled,
    /// The lifetime of the upload was over.
    Expired,
    /// The content ended early, and no request can continue the upload.
    Discarded,
}

impl Outcome {
    /// Returns the name for logs and metrics. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Discarded => "discarded",
        }
    }
}

/// A request and its response.
#[derive(Clone, Debug)]
pub struct RequestEvent {
    /// The address of the client, as far as trusted proxies know it.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: Method,
    /// The path without its query, and with the ids of uploads shortened, because they may be capabilities.
    pub path: String,
    /// The family of the dialect, if the request was in one.
    pub dialect: Option<Family>,
    /// The status of the response; `None` if the request ended without one.
    pub status: Option<StatusCode>,
    /// The bytes of content that were received.
    pub bytes_received: u64,
    /// The bytes of content that were sent.
    pub bytes_sent: u64,
    /// The time from the head of the request to the end of the response.
    pub duration: Duration,
}

/// The observers of an endpoint.
#[derive(Clone)]
pub(crate) struct Observers {
    observers: Arc<[Arc<dyn Observer>]>,
    feed: Feed,
}

impl Observers {
    pub(crate) fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { observers: observers.into(), feed: Feed::default() }
    }

    /// Returns these observers with the live feed of others.
    pub(crate) fn with_feed_of(self, others: &Self) -> Self {
        Self { feed: others.feed.clone(), ..self }
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        for observer in &*self.observers {
            observer.observe(event);
        }
        self.feed.observe(event);
    }
}
