//! The iterations of "Resumable Uploads for HTTP", one row of properties each.
//!
//! Owns every difference between them. `ietf.rs` reads a row once and never asks for a number again, so that the next
//! iteration is one more row.

mod versions;

use http::{HeaderName, StatusCode};

pub use self::versions::{NotVersions, Versions};
use super::{UPLOAD_COMPLETE, UPLOAD_INCOMPLETE};
use crate::operation::{AppendToComplete, Finish};
use crate::upload::Completion;

/// An iteration a peer may speak, by its interop version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interop {
    /// draft-ietf-httpbis-resumable-upload-01.
    V3,
    /// -02.
    V4,
    /// -03.
    V5,
    /// -04 and -05.
    V6,
    /// -06 to -08.
    V7,
    /// -09 to -11.
    V8,
    /// -12.
    V9,
    /// -13 and later.
    V10,
    /// An iteration after this release, by its number; it has the properties of the newest that is known.
    Later(u64),
    /// The text without version numbers, as the RFC will be.
    Rfc,
}

/// What an iteration does differently from the others.
#[expect(clippy::struct_excessive_bools, reason = "a row of independent properties")]
#[derive(Clone, Debug)]
pub(super) struct Properties {
    /// Its number, repeated in every response.
    pub(super) number: Option<u64>,
    /// The field that says whether the representation is complete.
    pub(super) completeness: HeaderName,
    /// The value of that field for "complete".
    pub(super) complete_is: bool,
    /// When an upload it creates is complete.
    pub(super) completion: Completion,
    /// Whether appends have a media type of their own.
    pub(super) append_type: bool,
    /// What an append without the completeness field means; `None` where that is an error.
    pub(super) append_default: Option<Finish>,
    /// The status of an append that does not complete.
    pub(super) appended: StatusCode,
    /// Whether the answer to a whole creation says where the upload is, whatever its status.
    pub(super) locates_whole: bool,
    /// Whether interim responses tell progress.
    pub(super) progress: bool,
    /// Which limits are told.
    pub(super) limits: LimitKeys,
    /// Whether upload fields on questions and cancellations are errors.
    pub(super) strict_questions: bool,
    /// What an append to a complete upload gets.
    pub(super) when_complete: AppendToComplete,
    /// The sign by which a client recognizes the target's answer.
    pub(super) completion_signal: CompletionSignal,
}

/// The sign by which a client recognizes the target's answer to the whole representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompletionSignal {
    /// An offset at the length; there is no field.
    Offset,
    /// The completeness field except on a conflict, or its absence from a success.
    AnySuccess,
    /// The completeness field, or its absence from the success of a creation or of a replay.
    CreationSuccess,
    /// The completeness field; its absence from a success only if the server shows no support for the protocol, and so
    /// accepted an ordinary request.
    Field,
}

/// The keys of `Upload-Limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitKeys {
    /// The field does not exist.
    None,
    /// The life time is called `expires`, and by some already `max-age`.
    Both,
    /// The life time is called `max-age`.
    MaxAge,
}

impl Interop {
    /// All that are known, oldest first.
    pub const ALL: [Self; 9] =
        [Self::V3, Self::V4, Self::V5, Self::V6, Self::V7, Self::V8, Self::V9, Self::V10, Self::Rfc];

    /// The newest that has a number.
    pub const NEWEST: Self = Self::V10;

    /// The iteration of a number, if it is known.
    pub fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == Some(number))
    }

    /// Its number.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::V3 => Some(3),
            Self::V4 => Some(4),
            Self::V5 => Some(5),
            Self::V6 => Some(6),
            Self::V7 => Some(7),
            Self::V8 => Some(8),
            Self::V9 => Some(9),
            Self::V10 => Some(10),
            Self::Later(number) => Some(number),
            Self::Rfc => None,
        }
    }

    /// The properties for an operator who tolerates clients that send everything and never say that it was everything.
    /// tus-js-client is one, in the two versions it speaks: it completes no empty file, no file it reads from disk in
    /// chunks (release 4), and nothing of which it finds all bytes on the server.
    pub(super) fn properties_at_length(self) -> Properties {
        let properties = self.properties();
        match self {
            Self::V5 | Self::V6 => Properties { completion: Completion::ExplicitOrAtLength, ..properties },
            Self::V3 | Self::V4 | Self::V7 | Self::V8 | Self::V9 | Self::V10 | Self::Later(_) | Self::Rfc => {
                properties
            }
        }
    }

    pub(super) fn properties(self) -> Properties {
        let newest = Properties {
            number: self.number(),
            completeness: UPLOAD_COMPLETE,
            complete_is: true,
            completion: Completion::Explicit,
            append_type: true,
            append_default: None,
            appended: StatusCode::NO_CONTENT,
            locates_whole: false,
            progress: true,
            limits: LimitKeys::MaxAge,
            strict_questions: false,
            when_complete: AppendToComplete::Replays,
            completion_signal: CompletionSignal::Field,
        };
        let numbered_by_text = |typed| AppendToComplete::Rejects { typed };
        match self {
            Self::V9 | Self::V10 | Self::Later(_) | Self::Rfc => newest,
            Self::V8 => Properties { completion_signal: CompletionSignal::CreationSuccess, ..newest },
            Self::V7 => Properties {
                when_complete: numbered_by_text(true),
                completion_signal: CompletionSignal::CreationSuccess,
                ..newest
            },
            Self::V6 => Properties {
                append_default: Some(Finish::Later),
                appended: StatusCode::CREATED,
                limits: LimitKeys::Both,
                strict_questions: true,
                when_complete: numbered_by_text(true),
                completion_signal: CompletionSignal::AnySuccess,
                ..newest
            },
            Self::V5 | Self::V4 => Properties {
                append_type: false,
                append_default: Some(Finish::Later),
                appended: StatusCode::CREATED,
                progress: self == Self::V5,
                limits: LimitKeys::None,
                strict_questions: true,
                when_complete: numbered_by_text(false),
                completion_signal: CompletionSignal::AnySuccess,
                ..newest
            },
            Self::V3 => Properties {
                completeness: UPLOAD_INCOMPLETE,
                complete_is: false,
                append_type: false,
                append_default: Some(Finish::Here),
                appended: StatusCode::CREATED,
                locates_whole: true,
                progress: false,
                limits: LimitKeys::None,
                strict_questions: true,
                when_complete: numbered_by_text(false),
                completion_signal: CompletionSignal::AnySuccess,
                ..newest
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: IETF-CMP-03
    #[test]
    fn the_length_completes_only_where_an_operator_wants_it_and_clients_need_it() {
        for version in Interop::ALL {
            let (by_text, lenient) = (version.properties(), version.properties_at_length());
            assert_eq!(by_text.completion, Completion::Explicit, "{version:?}");
            if matches!(version, Interop::V5 | Interop::V6) {
                assert_eq!(lenient.completion, Completion::ExplicitOrAtLength);
                let rest = Properties { completion: by_text.completion, ..lenient };
                assert_eq!(format!("{rest:?}"), format!("{by_text:?}"), "{version:?}");
            } else {
                assert_eq!(format!("{lenient:?}"), format!("{by_text:?}"), "{version:?}");
            }
        }
    }
}
