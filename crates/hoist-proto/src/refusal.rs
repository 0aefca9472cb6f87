//! What a peer that asked for the wrong thing is told, and the one table that turns it into HTTP.
//!
//! A refusal is data: the peer did wrong and gets an answer. Status and problem document (RFC 9457) are decided here for
//! all dialects; a dialect adds only the fields its own text asks for.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;

use crate::types::{Length, Offset};
use crate::upload::State;

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A field of the header section is missing, malformed or out of place.
    Field {
        /// Its name.
        name: &'static str,
        /// What is wrong with it, and what would be right.
        wrong: Cow<'static, str>,
    },
    /// There is no such upload, for this peer.
    NotFound,
    /// There was such an upload: it expired, or was cancelled.
    Gone,
    /// Content for an upload that is made of others.
    Composed(State),
    /// A request on the parts of an upload that has none, or on the whole of one that has, or parts that contradict each
    /// other.
    Mixed(State),
    /// A part of a new upload is not there, or not a part.
    NoPart {
        /// What is wrong with which.
        wrong: Cow<'static, str>,
    },
    /// The method means nothing here.
    Method {
        /// Those that do.
        allow: &'static str,
    },
    /// The name of a new upload is taken.
    Taken(State),
    /// Content for another offset than the upload is at.
    Mismatch {
        /// Where it is.
        state: State,
        /// Where the content would have begun.
        provided: Offset,
    },
    /// Content for an upload that is complete, where that is a conflict.
    Completed(State),
    /// Any append to an upload that is complete, where that is an error.
    Finished {
        /// The upload.
        state: State,
        /// Whether the problem has a type of its own.
        typed: bool,
    },
    /// Content of another media type than the one that means appending.
    MediaType {
        /// That one.
        accept: &'static str,
    },
    /// Content that does not hash to what its sender says; none of it is kept.
    Digest(State),
    /// A request on an upload that is wrong in itself, and the upload's state beside it.
    Beside(Box<Refusal>, State),
    /// The lengths this request, or an earlier one, declared contradict each other.
    Inconsistent(Option<State>),
    /// Content beyond the declared length.
    Excess(Option<Length>),
    /// More than the server takes.
    TooLarge {
        /// The limit.
        limit: Limit,
        /// Its value in bytes.
        bytes: u64,
        /// The upload, where there is one.
        state: Option<State>,
    },
    /// A request that carries less than the server wants in one.
    TooSmall {
        /// The fewest bytes it wants.
        bytes: u64,
        /// The upload, where there is one.
        state: Option<State>,
    },
    /// The store has no room.
    Full(Option<State>),
    /// The content ended early.
    Interrupted {
        /// What happened to it.
        cause: Interrupted,
        /// The upload, as far as it came.
        state: Option<State>,
    },
    /// A running request did not yield in time.
    Busy,
    /// The server is shutting down, or its store fails at the moment.
    Unavailable(Duration),
    /// An invariant failed. The log has the cause.
    Internal,
    /// Nobody said who asks, or not convincingly.
    Unauthorized {
        /// The `WWW-Authenticate` challenge.
        challenge: &'static str,
    },
    /// Known, and not allowed; the words are the operator's.
    Forbidden(String),
    /// A rule of the operator's refuses it with a status of its own.
    Rejected {
        /// A 4xx or 5xx status.
        status: StatusCode,
        /// What to tell the peer.
        detail: String,
    },
    /// Too many uploads are open.
    TooMany {
        /// How many may be.
        uploads_max: usize,
    },
    /// A stored-bytes quota is used up.
    Quota {
        /// The quota in bytes.
        bytes_max: u64,
    },
    /// Part of a protocol this server does not speak.
    NotImplemented(&'static str),
    /// A tus 1.0 request without the version it must name.
    TusVersion,
}

/// Which limit a request exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// On the whole representation.
    Size,
    /// On the content of one request.
    Append,
}

/// Why content ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// The peer, or the network, ended it.
    Cut,
    /// A newer request took the upload over.
    Superseded,
    /// It came too slowly, or not at all, for too long.
    TooSlow,
    /// Its framing is broken.
    Malformed,
    /// The server is shutting down.
    Draining,
}

impl Refusal {
    /// A field that is missing, malformed or out of place.
    pub fn field(name: &'static str, wrong: impl Into<Cow<'static, str>>) -> Self {
        Self::Field { name, wrong: wrong.into() }
    }

    /// The upload's state, where the peer may know it.
    pub fn state(&self) -> Option<State> {
        self.clone().state_mut().copied()
    }

    /// The same, to be changed.
    pub fn state_mut(&mut self) -> Option<&mut State> {
        match self {
            Self::Taken(state)
            | Self::Mismatch { state, .. }
            | Self::Completed(state)
            | Self::Digest(state)
            | Self::Composed(state)
            | Self::Mixed(state)
            | Self::Finished { state, .. }
            | Self::Beside(_, state) => Some(state),
            Self::Inconsistent(state)
            | Self::Full(state)
            | Self::TooLarge { state, .. }
            | Self::TooSmall { state, .. }
            | Self::Interrupted { state, .. } => state.as_mut(),
            Self::Field { .. }
            | Self::NotFound
            | Self::Gone
            | Self::NoPart { .. }
            | Self::Method { .. }
            | Self::MediaType { .. }
            | Self::Excess(_)
            | Self::Busy
            | Self::Unavailable(_)
            | Self::Internal
            | Self::Unauthorized { .. }
            | Self::Forbidden(_)
            | Self::Rejected { .. }
            | Self::TooMany { .. }
            | Self::Quota { .. }
            | Self::NotImplemented(_)
            | Self::TusVersion => None,
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Field { .. }
            | Self::Inconsistent(_)
            | Self::Digest(_)
            | Self::Finished { .. }
            | Self::Excess(_)
            | Self::NoPart { .. }
            | Self::TooSmall { .. } => StatusCode::BAD_REQUEST,
            Self::MediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Beside(refusal, _) => refusal.status(),
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Gone => StatusCode::GONE,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Taken(_) | Self::Mixed(_) | Self::Mismatch { .. } | Self::Completed(_) => {
                StatusCode::CONFLICT
            }
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Full(_) | Self::Quota { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::Interrupted { cause, .. } => match cause {
                Interrupted::Cut | Interrupted::Malformed => StatusCode::BAD_REQUEST,
                Interrupted::Superseded => StatusCode::CONFLICT,
                Interrupted::TooSlow => StatusCode::REQUEST_TIMEOUT,
                Interrupted::Draining => StatusCode::SERVICE_UNAVAILABLE,
            },
            Self::Busy | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::Composed(_) => StatusCode::FORBIDDEN,
            Self::Rejected { status, .. } => *status,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::TusVersion => StatusCode::PRECONDITION_FAILED,
        }
    }

    /// When asking again may help, without anything else having changed.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy | Self::Interrupted { cause: Interrupted::Draining, .. } => {
                Some(Duration::from_secs(1))
            }
            Self::Unavailable(after) => Some(*after),
            Self::Full(_) | Self::TooMany { .. } | Self::Quota { .. } => Some(Duration::from_mins(1)),
            _ => None,
        }
    }

    /// The problem document that goes with the status.
    pub fn problem(&self) -> Problem {
        //= IETF-PRB-01, IETF-PRB-02, IETF-PRB-03, IETF-APP-08
        let (kind, title) = match self {
            Self::Mismatch { .. } => (MISMATCHING, "Mismatching Upload Offset"),
            Self::Inconsistent(_) | Self::Excess(_) => (INCONSISTENT, "Inconsistent Upload Length Values"),
            Self::Field { .. } => (BLANK, "Malformed Header Field"),
            Self::Taken(_) => (BLANK, "Upload Exists"),
            Self::Completed(_) | Self::Finished { typed: false, .. } => (BLANK, "Upload Is Complete"),
            Self::Finished { typed: true, .. } => (COMPLETED, "Upload Is Completed"),
            Self::Digest(_) => (BLANK, "Digest Mismatch"),
            Self::Beside(refusal, _) => return refusal.problem(),
            Self::TooLarge { .. } => (BLANK, "Content Too Large"),
            Self::TooSmall { .. } => (BLANK, "Content Too BelowMinSize"),
            Self::Full(_) => (BLANK, "Storage Is Full"),
            Self::Interrupted { .. } => (BLANK, "Content Ended Early"),
            Self::Busy => (BLANK, "Upload Is Busy"),
            Self::Unavailable(_) => (BLANK, "Not Available Now"),
            Self::TooMany { .. } => (BLANK, "Too Many Open Uploads"),
            Self::Quota { .. } => (BLANK, "Quota Exceeded"),
            Self::TusVersion => (BLANK, "Unsupported tus Version"),
            Self::Composed(_) => (BLANK, "Upload Is Made of Parts"),
            Self::Mixed(_) => (BLANK, "Parts Contradict Each Other"),
            Self::NoPart { .. } => (BLANK, "No Such Part"),
            Self::NotFound
            | Self::Gone
            | Self::Method { .. }
            | Self::MediaType { .. }
            | Self::Internal
            | Self::Unauthorized { .. }
            | Self::Forbidden(_)
            | Self::Rejected { .. }
            | Self::NotImplemented(_) => (BLANK, self.status().canonical_reason().unwrap_or("Refused")),
        };
        Problem { kind, title, status: self.status(), detail: self.detail(), numbers: self.numbers() }
    }

    fn detail(&self) -> String {
        match self {
            Self::Field { name, wrong } => format!("{name}: {wrong}"),
            Self::NotFound => "there is no such upload".into(),
            Self::Gone => "the upload has expired or was cancelled: begin a new one".into(),
            Self::Composed(_) => "the upload is made of others, and takes no content of its own".into(),
            Self::Mixed(_) => {
                "an upload has numbered parts or none, and none of them behind the one that is the last"
                    .into()
            }
            Self::NoPart { wrong } => wrong.to_string(),
            Self::Method { allow } => format!("this resource answers {allow}"),
            Self::Taken(_) => {
                "the token names an upload already: ask for its offset, or use a new token".into()
            }
            Self::Mismatch { state, provided } => {
                format!("the upload is at offset {}, the content begins at {provided}", state.offset)
            }
            Self::Completed(_) | Self::Finished { .. } => {
                "the upload is complete: nothing can be appended".into()
            }
            Self::MediaType { accept } => format!("content to append is of type {accept}"),
            Self::Digest(_) => "the content is not what its digest says; none of it is kept".into(),
            Self::Beside(refusal, _) => refusal.detail(),
            Self::Inconsistent(_) => "the declared lengths contradict each other".into(),
            Self::Excess(Some(length)) => {
                format!(
                    "the content goes beyond the upload's length of {length} bytes; the upload is no longer valid"
                )
            }
            Self::Excess(None) => "the content is longer than the upload".into(),
            Self::TooLarge { limit: Limit::Size, bytes, .. } => {
                format!("an upload may have at most {bytes} bytes")
            }
            Self::TooLarge { limit: Limit::Append, bytes, .. } => {
                format!("one request may carry at most {bytes} bytes: send the rest in further ones")
            }
            Self::TooSmall { bytes, .. } => {
                format!("a request that is not the last must carry at least {bytes} bytes")
            }
            Self::Full(_) => {
                "no space is left; what is stored stays, and the upload can go on once there is space".into()
            }
            Self::Interrupted { cause, .. } => match cause {
                Interrupted::Cut => "the content ended before its declared end".into(),
                Interrupted::Superseded => "a newer request took the upload over".into(),
                Interrupted::TooSlow => "the content came too slowly".into(),
                Interrupted::Malformed => "the framing of the content is broken".into(),
                Interrupted::Draining => "the server is shutting down; what arrived is stored".into(),
            },
            Self::Busy => "a request on this upload is still being finished".into(),
            Self::Unavailable(_) => {
                "the server cannot do this at the moment; what it acknowledged is safe, so try again later"
                    .into()
            }
            Self::Internal => "the server failed to store the upload; what it acknowledged is safe".into(),
            Self::Unauthorized { .. } => "authentication is needed".into(),
            Self::Forbidden(detail) | Self::Rejected { detail, .. } => detail.clone(),
            Self::TooMany { uploads_max } => format!("{uploads_max} uploads are open, which is the limit"),
            Self::Quota { bytes_max } => format!("the quota of {bytes_max} bytes is used up"),
            Self::NotImplemented(what) => format!("this server does not speak {what}"),
            Self::TusVersion => "Tus-Resumable must name a version this server speaks".into(),
        }
    }

    fn numbers(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Mismatch { state, provided } => {
                vec![("expected-offset", state.offset.offset().get()), ("provided-offset", provided.get())]
            }
            _ => Vec::new(),
        }
    }
}

const BLANK: &str = "about:blank";
const MISMATCHING: &str = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset";
const COMPLETED: &str = "https://iana.org/assignments/http-problem-types#completed-upload";
const INCONSISTENT: &str = "https://iana.org/assignments/http-problem-types#inconsistent-upload-length";

/// A problem document (RFC 9457), not yet spelled in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `type`: a URI.
    pub kind: &'static str,
    /// `title`.
    pub title: &'static str,
    /// `status`.
    pub status: StatusCode,
    /// `detail`.
    pub detail: String,
    /// Extension members, all of them numbers.
    pub numbers: Vec<(&'static str, u64)>,
}
