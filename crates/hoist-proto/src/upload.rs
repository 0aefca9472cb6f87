//! The upload resource: its persistent fields and its phases.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use crate::types::{Durable, Length, PartNumber, Principal, Timestamp, UploadId};

pub use event::{EventKind, EventRequest, GivenUp, NotAKey, NotAKind, PendingEvent, SinkKey};
pub use numbers::{IndexedParts, PartNumberSet};

mod event;
mod numbers;

/// An upload, as a store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// The id within the server.
    pub id: UploadId,
    /// The family of the dialect that created it. Requests of another family do not see it.
    pub family: Family,
    /// The dialect's rules for completion, excess and interruption.
    pub semantics: Semantics,
    /// The principal that created it, and the only one with access.
    pub owner: Option<Principal>,
    /// The source of its content.
    pub composition: Composition,
    /// The path of its URL below the endpoint, if a hook has chosen one in place of the id.
    pub alias: Option<String>,
    /// The path of its file below the directory of a target that has one: as a hook has chosen it, and once the file is
    /// there, as it is.
    pub file: Option<String>,
    /// The request that created it, for the target.
    pub origin: Origin,
    /// The time of its creation.
    pub created: Timestamp,
    /// The time of its last change: its creation, a stored byte, or its completion. The store raises it with each byte.
    pub touched: Timestamp,
    /// The time for which it, and later the target's response, is kept after its last change; forever if `None`.
    pub lifetime: Option<Duration>,
    /// The number of times that a request continued it after an interruption.
    pub resumes: u32,
    /// The length of the representation, once a request has stated it.
    pub length: Option<Length>,
    /// The number of stored bytes. Not part of the record: the store derives it from the content.
    pub offset: Durable,
    /// The phase between creation and the target's response.
    pub phase: Phase,
    /// The events that happened to it and are recorded for sinks, oldest first. Empty if no sink wants any.
    pub events: Vec<PendingEvent>,
}

impl Upload {
    /// Returns the time at which it expires, unless it changes before.
    pub fn expires(&self) -> Option<Timestamp> {
        self.lifetime.map(|lifetime| self.touched.plus(lifetime))
    }

    /// Returns the path of its URL below the endpoint. A token upload has no URL, and this is its id.
    pub fn url_path(&self) -> String {
        self.alias.clone().unwrap_or_else(|| self.id.to_string())
    }

    /// Returns whether it has expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|end| end <= now)
    }

    /// Returns the bytes of its record that the client chooses: header fields, and the ids of parts.
    pub fn record_bytes(&self) -> u64 {
        let fields = &self.origin.fields;
        let fields: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let parts = match &self.composition {
            Composition::Concatenated(parts) => parts.len() * UploadId::CHARS,
            Composition::Direct | Composition::Part | Composition::Indexed(_) => 0,
        };
        (fields + parts) as u64
    }

    /// Returns whether hooks and events tell of it. Numbered parts of a token have none, because their whole has.
    pub fn has_events(&self) -> bool {
        !(self.composition == Composition::Part && self.family == Family::Token)
    }

    /// Returns whether no more content can be appended.
    pub fn is_complete(&self) -> bool {
        !matches!(self.phase, Phase::Open)
    }

    /// Returns whether all bytes are stored but the upload was not delivered: the request with the last byte was
    /// interrupted, or the process died, before `settle`.
    //= TOK-APP-05a
    pub fn awaits_delivery(&self) -> bool {
        if self.phase == Phase::Open && self.composition.is_composed() && self.offset == Durable::ZERO {
            // The state of its parts is not known here.
            return false;
        }
        let by_length = match self.semantics.completion {
            Completion::AtLength | Completion::AtLengthOrEnd | Completion::ExplicitOrAtLength => true,
            Completion::Explicit => false,
        };
        match self.phase {
            Phase::Received => true,
            Phase::Open => {
                by_length && self.length.is_some_and(|length| length.is_reached(self.offset.offset()))
            }
            Phase::Delivered(_) | Phase::Failed(_) => false,
        }
    }
}

/// The source of an upload's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Composition {
    /// Requests on the upload.
    #[default]
    Direct,
    /// Requests on the upload, which is a part of others. It is not delivered by itself.
    Part,
    /// These parts, in order, once all of them are complete.
    Concatenated(Vec<UploadId>),
    /// Its numbered parts, from 0 on, once the last number is known and all are complete.
    Indexed(IndexedParts),
}

impl Composition {
    /// Returns whether the content comes from other uploads.
    pub fn is_composed(&self) -> bool {
        match self {
            Self::Direct | Self::Part => false,
            Self::Concatenated(_) | Self::Indexed(_) => true,
        }
    }
}

/// A family of dialects whose requests may address the same upload. The engine only compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// No dialect: an ordinary request, which is received like an upload and cannot be resumed.
    Conventional,
    /// `Upload-Token`.
    Token,
    /// "Resumable Uploads for HTTP".
    Ietf,
    /// tus 1.0.
    Tus1,
}

impl Family {
    /// Returns the name for logs and events. The names are those of the well-known document, and `conventional`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conventional => "conventional",
            Self::Token => "upload-token",
            Self::Ietf => "resumable-upload",
            Self::Tus1 => "tus",
        }
    }
}

/// A dialect's rules for completion, excess and interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Semantics {
    /// The rule for completion.
    pub completion: Completion,
    /// The effect of a request that would exceed the length.
    pub excess: Excess,
    /// The effect of an interrupted request.
    pub interruption: Interruption,
}

/// The effect on an upload of a request that is interrupted before the end of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Keeps the content that arrived, and a later request may continue.
    Resumes,
    /// Discards the upload, because no request can continue it.
    Discards,
}

/// The condition on which an upload is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Its offset has reached its length.
    AtLength,
    /// Its offset has reached its length; while that is unknown, a request that does not announce more was received to
    /// its end.
    AtLengthOrEnd,
    /// A request marked as the last was received to its end. Reaching the length is not enough.
    Explicit,
    /// A request marked as the last was received to its end, or its offset has reached its length.
    ExplicitOrAtLength,
}

impl Completion {
    /// Returns whether requests mark themselves as the last, so that the mark can contradict the offset.
    pub fn is_explicit(self) -> bool {
        match self {
            Self::Explicit | Self::ExplicitOrAtLength => true,
            Self::AtLength | Self::AtLengthOrEnd => false,
        }
    }
}

/// The effect on an upload of a request that would exceed its known length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Invalidates the upload: one of the two lengths is wrong, so the stored bytes may be, too.
    Invalidates,
    /// Keeps the bytes that fit, and the upload continues.
    Keeps,
}

/// The state of an upload, as a response may report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// The number of durable bytes.
    pub offset: Durable,
    /// The length of the representation, if known.
    pub length: Option<Length>,
    /// True if the upload is complete.
    pub complete: bool,
    /// The time at which it expires.
    pub expires: Option<Timestamp>,
    /// True if it awaits its parts, so that it has no offset yet.
    pub awaits_parts: bool,
    /// The part that the response is about, if any. `complete` is about the whole upload nevertheless.
    pub part: Option<Part>,
}

/// One of the numbered parts of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number of the part.
    pub number: PartNumber,
    /// True if the client marked it as the last.
    pub last: bool,
}

impl From<&Upload> for State {
    fn from(upload: &Upload) -> Self {
        let Upload { offset, length, .. } = *upload;
        //= IETF-RET-03
        // With an explicit completion, the upload is reported as complete only once the target has answered.
        let waits = upload.phase == Phase::Received && upload.semantics.completion.is_explicit();
        let complete = upload.is_complete() && !waits;
        let awaits_parts = upload.composition.is_composed() && !upload.is_complete();
        Self { offset, length, complete, expires: upload.expires(), awaits_parts, part: None }
    }
}

/// The phase of an upload between its creation and the target's response.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// More may be appended.
    Open,
    /// All bytes are stored, and the target has not answered yet.
    Received,
    /// The target has answered. The response is kept for clients that lost it.
    Delivered(TargetResponse),
    /// The upload failed permanently, with this response.
    Failed(TargetResponse),
}

/// A target's response to a complete representation, kept for replay.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetResponse {
    /// The status.
    pub status: StatusCode,
    /// The header section, without connection fields.
    pub fields: HeaderMap,
    /// The content, truncated to a bound that the server sets.
    pub content: Vec<u8>,
}

impl TargetResponse {
    /// Returns a response with a status and no content.
    pub fn of(status: StatusCode) -> Self {
        Self { status, fields: HeaderMap::new(), content: Vec::new() }
    }
}

/// The request that created an upload. The target sees it when the representation is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The method.
    pub method: Method,
    /// The request target: path and query.
    pub target: String,
    /// The untrusted fields of the creation request that are kept: those that describe the representation and,
    /// in the IETF dialect, those of applications (`X-…`, `User-Agent`, `Link` and the like).
    pub fields: HeaderMap,
}
