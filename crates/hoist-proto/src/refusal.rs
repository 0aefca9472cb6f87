//! Refusals: the reason for which a request is declined, and the state of the upload where the client may know it.
//!
//! The status and the problem type of every refusal come from one table, in `dialect/refusal_table.rs`; the title and
//! the detail from `refusal/text.rs`. A dialect adds only the header fields that its own specification asks for.

mod text;

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use crate::amendment::Amendment;
use crate::types::{Length, Offset};
use crate::upload::State;

/// A declined request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The state of the upload; `None` if there is no upload, or if the client may not know its state.
    pub state: Option<State>,
}

impl Refusal {
    /// A refusal without the state of an upload.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, state: None }
    }

    /// A header field that is missing, malformed or not allowed.
    pub fn field(name: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Reason::InvalidField { name, problem: problem.into() })
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

/// The reason for which a request is declined.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A header field is missing, malformed or not allowed.
    InvalidField {
        /// The name of the field.
        name: &'static str,
        /// The problem, and what would be valid.
        problem: Cow<'static, str>,
    },
    /// The upload does not exist, or belongs to another client.
    NotFound,
    /// The upload has expired or was cancelled.
    Gone,
    /// The method is not allowed on this resource.
    MethodNotAllowed {
        /// The allowed methods, for `Allow`.
        allow: &'static str,
    },
    /// A creation under a token that already names an upload.
    UploadExists,
    /// An append at another offset than the upload's.
    OffsetMismatch {
        /// The offset in the request.
        provided: Offset,
    },
    /// An append to a complete upload.
    AlreadyComplete,
    /// An append to an upload whose content comes from other uploads.
    AppendToComposed,
    /// An append sent to the URL that creates uploads.
    AppendToEndpoint,
    /// A numbered part of an upload that has no numbered parts, has another last part, or ends before this part.
    ConflictingParts,
    /// A part of a new upload that does not exist or cannot be used.
    UnusablePart {
        /// The number of the part in the request and the problem with it.
        detail: Cow<'static, str>,
    },
    /// Content without the media type of appends.
    NotAppendMediaType {
        /// The media type of appends, for `Accept-Patch`.
        accept: &'static str,
    },
    /// A form in place of the file in it.
    FormContent,
    /// More header fields to keep with the upload than fit into its record.
    FieldsTooLarge {
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// Content whose digest differs from the declared one. None of the content is kept.
    DigestMismatch,
    /// The lengths that requests have declared contradict each other.
    InconsistentLength,
    /// Content beyond the length of the upload.
    LengthExceeded(Option<Length>),
    /// Content beyond a limit of the server.
    TooLarge {
        /// The limit.
        limit: SizeLimit,
        /// Its value in bytes.
        bytes_max: u64,
    },
    /// Content of a request that is not the last one, and below the smallest size of an append.
    TooSmall {
        /// That size in bytes.
        bytes_min: u64,
    },
    /// The store has no space left.
    StorageFull,
    /// The content ended early.
    Interrupted(InterruptCause),
    /// Another request on the upload did not finish in time.
    Busy,
    /// The server cannot serve the request now. Holds the time after which the client should retry.
    Unavailable(Duration),
    /// An internal error. Its cause is in the log.
    Internal,
    /// The request has no valid credentials.
    Unauthorized {
        /// The challenge, for `WWW-Authenticate`.
        challenge: &'static str,
    },
    /// The client is not allowed to do this. Holds the detail for the client.
    Forbidden(String),
    /// A hook or a target declined the request with a status of its own.
    Rejected {
        /// A 4xx or 5xx status.
        status: StatusCode,
        /// The detail for the client.
        detail: String,
    },
    /// A hook declined the request, and may want another answer than the usual one.
    Declined {
        /// The thing that it declined.
        what: Declined,
        /// Its changes to the answer.
        amendment: Box<Amendment>,
    },
    /// Too many uploads are open.
    TooManyUploads {
        /// The limit.
        uploads_max: usize,
    },
    /// The quota of stored bytes is used up.
    QuotaExceeded {
        /// The quota in bytes.
        bytes_max: u64,
    },
    /// A download of content that the store does not keep.
    ContentNotStored,
    /// A download of a range that the content does not have.
    RangeNotSatisfiable,
    /// A download under a condition that the content does not meet.
    PreconditionFailed,
    /// A part of a protocol that the server does not support. Holds its name.
    NotImplemented(&'static str),
    /// A tus request without `Tus-Resumable: 1.0.0`.
    UnsupportedTusVersion,
}

impl Reason {
    /// A refusal for this reason, with the state of the upload.
    pub fn with_state(self, state: impl Into<State>) -> Refusal {
        Refusal { reason: self, state: Some(state.into()) }
    }
}

/// A thing that a hook declines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declined {
    /// The creation of an upload.
    Creation,
    /// More content of an upload, which is removed.
    Content,
    /// The cancellation of an upload.
    Cancellation,
}

/// A limit on sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeLimit {
    /// The largest representation.
    Representation,
    /// The largest content of one request.
    Append,
}

/// The cause for which content ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptCause {
    /// The client closed the connection, or the network failed.
    Disconnected,
    /// A newer request took over the upload.
    Superseded,
    /// The content arrived too slowly.
    TooSlow,
    /// The framing of the content is malformed.
    Malformed,
    /// The server is shutting down.
    ShuttingDown,
    /// The operator of the server ended the transfer. The client may continue at once.
    ByOperator,
    /// A hook stopped the upload.
    Stopped,
}
