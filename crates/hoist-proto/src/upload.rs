//! The upload resource: everything a server must remember of one, and the states it can be in.
//!
//! Owns no behaviour but what follows from the fields alone; how a request changes an upload is
//! [`engine`](crate::engine)'s, how it is written to a disk is a store's.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use crate::types::{Durable, Length, PartNumber, Principal, Timestamp, UploadId};

pub use numbers::{IndexedParts, PartNumberSet};

mod numbers;

/// One upload, as a store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// Its name inside the server.
    pub id: UploadId,
    /// Which family of dialects created it. Requests of another family do not see it.
    pub family: Family,
    /// When it counts as complete, and what exceeding its length does.
    pub semantics: Semantics,
    /// Who created it; only they may touch it.
    pub owner: Option<Principal>,
    /// Where its content comes from.
    pub composition: Composition,
    /// The request that created it, as its target will see it.
    pub origin: Origin,
    /// When it was created.
    pub created: Timestamp,
    /// When it last changed: it was created, a byte was stored, or it became complete.
    ///
    /// Stored with the record, and raised by the store to the moment it last stored a byte.
    pub touched: Timestamp,
    /// How long it lives after its last change; for ever when absent. In the open phase the time an abandoned upload is
    /// kept, afterwards the time its answer (and with the `keep` target its content) is.
    pub lifetime: Option<Duration>,
    /// Bytes of the whole representation, once somebody said.
    pub length: Option<Length>,
    /// Bytes stored. Not part of the stored record: the store knows it from the bytes it has.
    pub offset: Durable,
    /// Where it is between creation and the target's answer.
    pub phase: Phase,
}

impl Upload {
    /// When it ends by itself, if nothing more happens to it.
    pub fn expires(&self) -> Option<Timestamp> {
        self.lifetime.map(|lifetime| self.touched.plus(lifetime))
    }

    /// Whether its time is over at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires().is_some_and(|end| end <= now)
    }

    /// Bytes of what is kept of its creation at its creator's will: the fields, and the ids of parts.
    pub fn record_bytes(&self) -> u64 {
        let fields = &self.origin.fields;
        let fields: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let parts = match &self.composition {
            Composition::Concatenated(parts) => parts.len() * UploadId::CHARS,
            Composition::Direct | Composition::Part | Composition::Indexed(_) => 0,
        };
        (fields + parts) as u64
    }

    /// Whether nothing can be appended any more.
    pub fn is_complete(&self) -> bool {
        !matches!(self.phase, Phase::Open)
    }

    /// Whether every byte is here though no request has been told so yet: the one that brought the last byte was cut,
    /// or the process died, before it could be settled.
    //= TOK-APP-05a
    pub fn awaits_delivery(&self) -> bool {
        if self.phase == Phase::Open && self.composition.is_composed() && self.offset == Durable::ZERO {
            // Whether its parts are complete is not to be seen here.
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

/// Where an upload's content comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Composition {
    /// From requests on it.
    #[default]
    Direct,
    /// From requests on it, and it is for others to be made of: no target sees it by itself.
    Part,
    /// From these parts, one after the other, once all of them are complete.
    Concatenated(Vec<UploadId>),
    /// From its numbered parts, from 0 on, once the last is known and all are complete.
    Indexed(IndexedParts),
}

impl Composition {
    /// Whether the content comes from other uploads.
    pub fn is_composed(&self) -> bool {
        match self {
            Self::Direct | Self::Part => false,
            Self::Concatenated(_) | Self::Indexed(_) => true,
        }
    }
}

/// A family of dialects whose requests may meet on one upload. The engine compares it and knows no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// No dialect: an ordinary request that is received like an upload and never resumed.
    Conventional,
    /// `Upload-Token`.
    Token,
    /// "Resumable Uploads for HTTP".
    Ietf,
    /// tus 1.0.
    Tus1,
}

/// What a dialect means by "complete" and by "too long".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Semantics {
    /// When the upload is complete.
    pub completion: Completion,
    /// What becomes of an upload whose length a request would exceed.
    pub excess: Excess,
    /// What becomes of an upload whose request is cut.
    pub interruption: Interruption,
}

/// What becomes of an upload whose request is cut before the end of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// What arrived stays, and a later request goes on behind it.
    Resumes,
    /// Nobody could ever go on, so nothing of it stays.
    Discards,
}

/// When an upload is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// When its offset has reached its length, whatever requests say.
    AtLength,
    /// When its offset has reached its length; while that is unknown, when a request that does not announce more was
    /// received to its end.
    AtLengthOrEnd,
    /// When a request that says it is the last was received to its end. Reaching the length completes nothing.
    Explicit,
    /// When a request that says it is the last was received to its end, or when its offset has reached its length.
    ExplicitOrAtLength,
}

impl Completion {
    /// Whether requests say that they are the last, so that one that says so and is not contradicts itself.
    pub fn is_said(self) -> bool {
        match self {
            Self::Explicit | Self::ExplicitOrAtLength => true,
            Self::AtLength | Self::AtLengthOrEnd => false,
        }
    }
}

/// What becomes of an upload whose known length a request would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// It is invalid from then on: one of the two lengths was a lie, and nobody can tell which bytes are right.
    Invalidates,
    /// What fits stays and the upload goes on.
    Keeps,
}

/// What a peer may know of an upload's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// How many bytes are stored for good.
    pub offset: Durable,
    /// How many it will be, if known.
    pub length: Option<Length>,
    /// Whether it is complete.
    pub complete: bool,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// Whether it has yet to be made of its parts, so that there is no offset to tell.
    pub awaits_parts: bool,
    /// The part that is spoken of, where it is one; `complete` is of the whole all the same.
    pub part: Option<Part>,
}

/// One of the numbered parts of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: PartNumber,
    /// Whether it is said to be the last.
    pub last: bool,
}

impl From<&Upload> for State {
    fn from(upload: &Upload) -> Self {
        let Upload { offset, length, .. } = *upload;
        //= IETF-RET-03
        // Whoever completes an upload in so many words is told that it is when the target has answered.
        let waits = upload.phase == Phase::Received && upload.semantics.completion.is_said();
        let complete = upload.is_complete() && !waits;
        let awaits_parts = upload.composition.is_composed() && !upload.is_complete();
        Self { offset, length, complete, expires: upload.expires(), awaits_parts, part: None }
    }
}

/// Where an upload is between creation and its target's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// More may be appended.
    Open,
    /// All bytes are here; the target has not answered yet.
    Received,
    /// The target has answered; the answer is kept for clients that lost it.
    Delivered(TargetResponse),
    /// The upload failed for good, with this answer.
    Failed(TargetResponse),
}

/// A target's answer to a whole representation, kept to be given again.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its header section, without fields of the connection.
    pub fields: HeaderMap,
    /// Its content, cut at a bound the server sets.
    pub content: Vec<u8>,
}

impl TargetResponse {
    /// An answer of a status alone.
    pub fn of(status: StatusCode) -> Self {
        Self { status, fields: HeaderMap::new(), content: Vec::new() }
    }
}

/// The request that created an upload: what its target will see once the representation is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its method.
    pub method: Method,
    /// Its target: path and query.
    pub target: String,
    /// The fields that describe the representation, or that the target asked for. Untrusted, to the last octet.
    pub fields: HeaderMap,
}
