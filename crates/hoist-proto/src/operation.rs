//! Operations and replies: the two values between which a dialect and HTTP translate.
//!
//! A dialect decodes a request into an [`Operation`] and encodes a [`Reply`] into a response. No code after the decoding reads
//! a header field of the request.

use http::{HeaderMap, Method};

use crate::refusal::Refusal;
use crate::types::{Length, Offset, Token, UploadId};
use crate::upload::{Composition, Family, Origin, Part, Semantics, State, TargetResponse};

/// A decoded request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The name of the upload.
    pub subject: Subject,
    /// The family of the request's dialect.
    pub family: Family,
    /// The requested operation.
    pub operation: Operation,
}

/// The name of an upload in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The client's token, unique within the principal and the endpoint.
    Token(Token),
    /// The client's token and the number of a part.
    Part(Token, Part),
    /// The id from a URL that the server assigned.
    Id(UploadId),
    /// None: the server assigns an id to a new upload.
    Fresh,
}

/// An operation on an upload.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Creates an upload, with all, some or none of its content.
    Create(Create),
    /// Appends content.
    Append(Append),
    /// Retrieves the offset.
    Retrieve,
    /// Cancels the upload and removes its content.
    Cancel,
    /// A malformed request. It is answered with the refusal and the upload's state, and interrupts no transfer.
    Reject(Refusal),
}

/// A request that creates an upload.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// The rules for completion, excess and interruption.
    pub semantics: Semantics,
    /// The length of the representation, if the request declares it.
    pub length: Option<Length>,
    /// The declared content of the request.
    pub content: Content,
    /// The effect if the upload already exists.
    pub on_existing: OnExisting,
    /// The treatment of an upload below the smallest size for which the server offers resumption.
    pub below_min_size: BelowMinSize,
    /// The source of the content.
    pub composition: Composition,
    /// True if the parts of a concatenation may be incomplete.
    pub waits_for_parts: bool,
    /// The request as the target will see it.
    pub origin: Origin,
}

impl Create {
    /// Returns a creation that is refused if the upload exists, and whose content comes with requests on the upload.
    pub fn new(semantics: Semantics, length: Option<Length>, content: Content, origin: Origin) -> Self {
        Self {
            semantics,
            length,
            content,
            on_existing: OnExisting::Refuse,
            below_min_size: BelowMinSize::Resumes,
            composition: Composition::Direct,
            waits_for_parts: false,
            origin,
        }
    }
}

/// The effect of a creation whose upload already exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExisting {
    /// It is refused and does not disturb the existing upload.
    Refuse,
    /// It resumes the existing upload if that has no content yet, and is refused otherwise.
    ResumeAtZero,
}

/// The treatment of an upload below the smallest size for which the server offers resumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BelowMinSize {
    /// It can be resumed like any other upload.
    Resumes,
    /// If one request carries all of it, it is received like an ordinary request and cannot be resumed.
    Ordinary,
}

/// A request to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The method that must have created the upload; `None` if any method may have.
    pub like: Option<Method>,
    /// The offset at which the content begins.
    pub at: Offset,
    /// The length of the representation, if the request declares it.
    pub length: Option<Length>,
    /// The declared content of the request.
    pub content: Content,
    /// The response if the upload is already complete.
    pub when_complete: AppendToComplete,
}

/// The response to an append whose upload is already complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendToComplete {
    /// The target's response again if the append is empty and at the end; otherwise a refusal.
    Conflicts,
    /// The target's response again if the append is empty, at the end and the last one; otherwise its lengths are
    /// inconsistent.
    Replays,
    /// A refusal in any case.
    Rejects,
    /// Success if the append is empty; otherwise it exceeds the length.
    Admits,
}

/// The content of a request, as its header section declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// The size in bytes, if declared.
    pub bytes: Option<u64>,
    /// The end of the representation, here or later.
    pub finish: Finish,
}

impl Content {
    /// Returns the length of a representation that is the content of one request with a declared size.
    pub fn whole_length(self) -> Option<Length> {
        self.bytes.filter(|_| self.finish == Finish::Here).map(Length::new)
    }
}

/// The end of the representation, seen from the content of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    /// The representation ends with this content.
    Here,
    /// More content follows in a later request.
    #[default]
    Later,
}

/// The outcome of a request that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The content is stored; more may follow.
    Stored {
        /// The id of the upload.
        id: UploadId,
        /// True if this request created the upload.
        created: bool,
        /// Its current state.
        state: State,
    },
    /// The representation is complete.
    Complete {
        /// The id of the upload.
        id: UploadId,
        /// True if this request created the upload.
        created: bool,
        /// Its current state.
        state: State,
        /// The response of the target, now or when the upload became complete.
        answer: TargetResponse,
    },
    /// The state of the upload, as requested.
    State {
        /// The id of the upload.
        id: UploadId,
        /// Its current state.
        state: State,
        /// The fields with which the creation described the representation.
        described: HeaderMap,
    },
    /// The upload is cancelled and removed.
    Cancelled,
}

impl Reply {
    /// Returns the state of the upload, if the reply reports it.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Stored { state, .. } | Self::Complete { state, .. } | Self::State { state, .. } => {
                Some(*state)
            }
            Self::Cancelled => None,
        }
    }

    /// Returns the state of the upload for modification.
    pub fn state_mut(&mut self) -> Option<&mut State> {
        match self {
            Self::Stored { state, .. } | Self::Complete { state, .. } | Self::State { state, .. } => {
                Some(state)
            }
            Self::Cancelled => None,
        }
    }
}
