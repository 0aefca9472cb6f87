//! What a peer asks for, and what it is told: the two values every dialect translates to and from.
//!
//! Owns the vocabulary alone. Nothing behind a decoded [`Operation`] looks at a header field again.

use http::{HeaderMap, Method};

use crate::refusal::Refusal;
use crate::types::{Length, Offset, Token, UploadId};
use crate::upload::{Composition, Family, Origin, Part, Semantics, State, TargetResponse};

/// A request, understood: which upload, in which family of dialects, and what to do with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Which upload.
    pub subject: Subject,
    /// The family the request belongs to.
    pub family: Family,
    /// What to do.
    pub operation: Operation,
}

/// How a request names its upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// By the client's token, within its scope.
    Token(Token),
    /// By the client's token and the number of one of its parts.
    Part(Token, Part),
    /// By the URL this server minted.
    Id(UploadId),
    /// Not at all: the server names a new one.
    Fresh,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A new upload, with all, some or none of its content.
    Create(Create),
    /// More content behind what is there.
    Append(Append),
    /// The offset.
    Retrieve,
    /// The end of the upload, and of everything stored for it.
    Cancel,
    /// Nothing that makes sense. Who may see the upload is told what is wrong, and where the upload is; nobody's
    /// transfer ends for it.
    Reject(Refusal),
}

/// A request for a new upload.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// What complete and too long mean for it.
    pub semantics: Semantics,
    /// The length of the whole, if this request says it.
    pub length: Option<Length>,
    /// What this request says of its own content.
    pub content: Content,
    /// What is to happen when the name is taken.
    pub on_existing: OnExisting,
    /// What becomes of an upload below the smallest size that resuming is offered for.
    pub below_min_size: BelowMinSize,
    /// Where its content will come from.
    pub composition: Composition,
    /// Whether the parts it is to be made of may be incomplete still.
    pub waits_for_parts: bool,
    /// The request as its target will see it.
    pub origin: Origin,
}

/// What creating an upload under a taken name does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExisting {
    /// It is refused, and the upload that has the name is not disturbed.
    Refuse,
    /// It continues that upload if nothing is stored there yet, and is refused otherwise.
    ResumeAtZero,
}

/// What becomes of an upload below the smallest size that resuming is offered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BelowMinSize {
    /// It is an upload like any other.
    Resumes,
    /// When its only request is whole it is received as an ordinary request, and cannot be resumed.
    Ordinary,
}

/// A request to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The method that must have begun the upload; any may have, where the request's own means nothing but "append".
    pub like: Option<Method>,
    /// Where the content begins.
    pub at: Offset,
    /// The length of the whole, if this request says it.
    pub length: Option<Length>,
    /// What this request says of its own content.
    pub content: Content,
    /// What it gets when the upload is complete.
    pub when_complete: AppendToComplete,
}

/// What an append to a complete upload gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendToComplete {
    /// A conflict; the answer once more if it is empty and at the end.
    Conflicts,
    /// The answer once more if it is empty, at the end and says it is the last; otherwise its lengths are inconsistent.
    Replays,
    /// A refusal, whatever it carries.
    Rejects {
        /// Whether the refusal has a problem type of its own.
        typed: bool,
    },
    /// Success if it is empty; otherwise it goes beyond the length.
    Admits,
}

/// What a request's header section says of the content behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its size in bytes, if declared.
    pub bytes: Option<u64>,
    /// Whether the representation ends with it.
    pub finish: Finish,
}

/// Whether the representation ends with this request's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It does.
    Here,
    /// More will follow in a later request.
    Later,
}

/// What a peer that did nothing wrong is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The content was stored; more may follow.
    Stored {
        /// The upload.
        id: UploadId,
        /// Whether this request created it.
        created: bool,
        /// Where it is now.
        state: State,
    },
    /// The representation is whole, and this is what its target says.
    Complete {
        /// The upload.
        id: UploadId,
        /// Whether this request created it.
        created: bool,
        /// Where it is now.
        state: State,
        /// The target's answer, fresh or kept.
        answer: TargetResponse,
    },
    /// The offset, as asked for.
    State {
        /// The upload.
        id: UploadId,
        /// Where it is now.
        state: State,
        /// What its creator said of the representation.
        described: HeaderMap,
    },
    /// The upload is gone.
    Cancelled,
}

impl Reply {
    /// The upload's state, where it is told.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Stored { state, .. } | Self::Complete { state, .. } | Self::State { state, .. } => {
                Some(*state)
            }
            Self::Cancelled => None,
        }
    }

    /// The same, to be changed.
    pub fn state_mut(&mut self) -> Option<&mut State> {
        match self {
            Self::Stored { state, .. } | Self::Complete { state, .. } | Self::State { state, .. } => {
                Some(state)
            }
            Self::Cancelled => None,
        }
    }
}
