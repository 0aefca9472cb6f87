//! Observers: recipients of what happens to uploads and of how requests end, such as the log.
//!
//! `transition.rs` reports every change in the life of an upload, `intake.rs` every transfer, and `service.rs` every
//! request. What an observer does with an event is its own business; [`Log`] writes it to the log, [`Metrics`] counts it. The
//! live feed of the operator is an observer of every endpoint.

mod feed;
mod log;
mod metrics;
mod transfer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::dialect::interop::Interop;
use hoist_proto::refusal::{InterruptCause, Refusal};
use hoist_proto::types::Timestamp;
use hoist_proto::upload::{EventKind, Family, Upload};
use http::{Method, StatusCode, Version};

pub use feed::{LiveEvent, RefusedRequest};
pub use log::Log;
pub use metrics::Metrics;
pub(crate) use metrics::{Format, Sample};
pub(crate) use transfer::ActiveTransfer;

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
    /// The content of a request is about to be received.
    TransferBegan(Transport),
    /// The content of a request has ended. There is one such event for each that began.
    TransferEnded(Transport, TransferEnding),
    /// The store has taken this many bytes of content. There is one such event for each piece of content, so it must cost
    /// next to nothing.
    Stored(u64),
    /// A transfer continues the upload, whose last transfer was interrupted. The bytes before its offset need not be sent
    /// again.
    Resumed(UploadEvent<'a>),
    /// A request has waited this long for the end of the transfer that it superseded.
    TookOver(Duration),
    /// The end of a transfer has waited this long until its content was durable.
    Synced(Duration),
    /// A target that does not leave content in the store has taken this long for an upload.
    Targeted(TargetOutcome, Duration),
    /// The answer to an upload that was complete already was sent again.
    Replayed,
    /// An interim response was handed to the transport.
    InterimSent,
    /// A request to the endpoint or to an upload has arrived.
    Arrived(&'a Method),
    /// A request in the IETF draft has arrived, in this version.
    Interop(Interop),
    /// A request was refused.
    Refused(&'a RequestEvent, &'a Refusal),
    /// A request has ended, refused or not.
    Answered(&'a RequestEvent),
    /// An attempt to deliver an event to a sink has ended.
    Delivery(&'a EventDelivery<'a>),
    /// A receiver of hooks was called.
    HookCalled(&'a HookEvent),
}

impl Event<'_> {
    /// Returns whether the event is a measure: a number that only counts together with others.
    pub(crate) fn is_measure(&self) -> bool {
        match self {
            Self::TransferBegan(_)
            | Self::TransferEnded(..)
            | Self::Stored(_)
            | Self::Resumed(_)
            | Self::TookOver(_)
            | Self::Synced(_)
            | Self::Targeted(..)
            | Self::Replayed
            | Self::InterimSent
            | Self::Arrived(_)
            | Self::Interop(_)
            | Self::HookCalled(_) => true,
            Self::Created(_)
            | Self::Received(_)
            | Self::Ended(..)
            | Self::Removed(..)
            | Self::Interrupted(..)
            | Self::Refused(..)
            | Self::Delivery(_)
            | Self::Answered(_) => false,
        }
    }
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

/// The version of HTTP that brings content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// HTTP/1.1 or HTTP/1.0.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

impl Transport {
    pub(crate) fn of(version: Version) -> Self {
        match version {
            Version::HTTP_2 => Self::Http2,
            Version::HTTP_3 => Self::Http3,
            _ => Self::Http1,
        }
    }

    /// Returns the name for metrics, that of ALPN. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "h2",
            Self::Http3 => "h3",
        }
    }
}

/// The end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransferEnding {
    /// All content of the request has arrived. It need not complete the upload.
    Complete,
    /// The client closed the connection, the network failed, or the framing was malformed.
    Cut,
    /// A newer request took the upload over.
    Superseded,
    /// No content arrived for too long.
    Idle,
    /// Content arrived too slowly.
    Slow,
    /// The server did not take all of it: a limit, a quota, a digest, or a failure of the store.
    Refused,
    /// The server is shutting down.
    Shutdown,
    /// The operator ended it.
    Operator,
}

impl TransferEnding {
    /// Returns the name for metrics. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cut => "cut",
            Self::Superseded => "superseded",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
            Self::Operator => "operator",
        }
    }
}

impl From<InterruptCause> for TransferEnding {
    fn from(cause: InterruptCause) -> Self {
        match cause {
            InterruptCause::Disconnected | InterruptCause::Malformed => Self::Cut,
            InterruptCause::Superseded => Self::Superseded,
            InterruptCause::TooSlow => Self::Slow,
            InterruptCause::ShuttingDown => Self::Shutdown,
            InterruptCause::ByOperator => Self::Operator,
            InterruptCause::Stopped => Self::Refused,
        }
    }
}

/// The outcome of a delivery to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetOutcome {
    /// The target has taken the content.
    Accepted,
    /// The target has rejected it, for good.
    Rejected,
    /// The target could not be asked, or could not take the content now.
    Failed,
}

impl TargetOutcome {
    /// Returns the name for metrics. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
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

/// An attempt to deliver an event of the outbox to a sink.
#[derive(Clone, Copy, Debug)]
pub struct EventDelivery<'a> {
    /// The sink, without what may be secret.
    pub sink: &'a str,
    /// The type of the event.
    pub kind: EventKind,
    /// The outcome of the attempt.
    pub outcome: EventOutcome,
    /// The duration of the attempt.
    pub took: Duration,
    /// The time since the event.
    pub age: Duration,
}

/// The outcome of an attempt to deliver an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOutcome {
    /// The sink has taken the event.
    Delivered,
    /// It has not; the attempt is repeated.
    Failed,
    /// It has not, for a week, and no further attempt is made.
    GivenUp,
}

/// A call of a receiver of hooks.
#[derive(Clone, Copy, Debug)]
pub struct HookEvent {
    /// The name of the hook, such as `pre-create`.
    pub hook: &'static str,
    /// True if the receiver gave an answer that can be understood.
    pub is_success: bool,
    /// The time until its answer.
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

    /// Reports an event.
    pub(crate) fn tell(&self, event: &Event<'_>) {
        for observer in &*self.observers {
            observer.observe(event);
        }
        self.feed.observe(event);
    }
}
