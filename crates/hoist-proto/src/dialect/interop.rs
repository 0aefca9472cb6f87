//! The versions of "Resumable Uploads for HTTP": one row of properties each.
//!
//! All differences between versions are here, except that the status of a refusal may depend on the version
//! (`dialect/refusal_table.rs`). No other code compares version numbers, so a new version is a new variant, its number and its row.

mod versions;

use std::fmt;

use http::{HeaderName, StatusCode};

pub use self::versions::{NotVersions, Versions};
use super::{UPLOAD_COMPLETE, UPLOAD_INCOMPLETE};
use crate::operation::{AppendToComplete, Finish};
use crate::upload::Completion;

/// A version of the draft, named by its interop version.
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
    /// A version newer than this release, by its number. It has the properties of the newest known version.
    Later(u64),
    /// The text without version numbers, which the RFC will be.
    Rfc,
}

/// The differences between versions.
#[expect(clippy::struct_excessive_bools, reason = "a row of independent properties")]
#[derive(Clone, Debug)]
pub(super) struct Properties {
    /// The number, which every response repeats.
    pub(super) number: Option<u64>,
    pub(super) completeness: HeaderName,
    /// The value of the completeness field that means "complete".
    pub(super) complete_is: bool,
    pub(super) completion: Completion,
    /// True if appends must have the media type of appends.
    pub(super) append_type: bool,
    /// The meaning of an append without the completeness field; `None` if that is an error.
    pub(super) append_default: Option<Finish>,
    /// The status of an append that does not complete the upload.
    pub(super) appended: StatusCode,
    /// True if the response to a creation that completes the upload has `Location` whatever its status.
    pub(super) locates_whole: bool,
    pub(super) progress: bool,
    pub(super) limits: LimitKeys,
    /// True if upload fields in requests without content are errors.
    pub(super) rejects_upload_fields: bool,
    pub(super) when_complete: AppendToComplete,
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

/// The keys of the lifetime in `Upload-Limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitKeys {
    /// The version has no such field.
    None,
    /// `expires`, and `max-age` for clients that already use the newer name.
    Both,
    /// `max-age`.
    MaxAge,
}

impl Interop {
    /// All known versions, oldest first. Every other list of versions is made from this one.
    pub const ALL: [Self; 9] =
        [Self::V3, Self::V4, Self::V5, Self::V6, Self::V7, Self::V8, Self::V9, Self::V10, Self::Rfc];

    /// The oldest version.
    pub const OLDEST: Self = Self::ALL[0];

    /// The newest version that has a number.
    pub const NEWEST: Self = Self::ALL[Self::ALL.len() - 2];

    /// The numbers of all known versions that have one, in the syntax of [`Versions`].
    pub const RANGE: &str = "3-10";

    /// Returns the numbers of all known versions that have one, smallest first.
    pub fn numbers() -> impl Iterator<Item = u64> {
        Self::ALL.into_iter().filter_map(Self::number)
    }

    /// Returns the version with a number, if it is known.
    pub fn of_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == Some(number))
    }

    /// Returns the number; `None` for the text without versions.
    pub const fn number(self) -> Option<u64> {
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

    /// Returns the properties for servers that accept clients which send all content without marking the last request.
    /// tus-js-client is one, in the two versions it implements: it does not complete an empty file, a file that it reads from
    /// disk in chunks (release 4), or an upload whose content is already on the server.
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
            rejects_upload_fields: false,
            when_complete: AppendToComplete::Replays,
            completion_signal: CompletionSignal::Field,
        };
        match self {
            Self::V9 | Self::V10 | Self::Later(_) | Self::Rfc => newest,
            Self::V8 => Properties { completion_signal: CompletionSignal::CreationSuccess, ..newest },
            Self::V7 => Properties {
                when_complete: AppendToComplete::Rejects,
                completion_signal: CompletionSignal::CreationSuccess,
                ..newest
            },
            Self::V6 => Properties {
                append_default: Some(Finish::Later),
                appended: StatusCode::CREATED,
                limits: LimitKeys::Both,
                rejects_upload_fields: true,
                when_complete: AppendToComplete::Rejects,
                completion_signal: CompletionSignal::AnySuccess,
                ..newest
            },
            Self::V5 | Self::V4 => Properties {
                append_type: false,
                append_default: Some(Finish::Later),
                appended: StatusCode::CREATED,
                progress: self == Self::V5,
                limits: LimitKeys::None,
                rejects_upload_fields: true,
                when_complete: AppendToComplete::Rejects,
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
                rejects_upload_fields: true,
                when_complete: AppendToComplete::Rejects,
                completion_signal: CompletionSignal::AnySuccess,
                ..newest
            },
        }
    }
}

/// Writes the number, or `rfc`.
impl fmt::Display for Interop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => number.fmt(f),
            None => f.write_str("rfc"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_versions_agree() {
        assert_eq!(Interop::NEWEST.number(), Interop::numbers().max());
        assert_eq!(Interop::OLDEST.number(), Interop::numbers().min());
        assert!(Interop::ALL.is_sorted());
        assert_eq!(Interop::RANGE, Versions::KNOWN.to_string());
        assert_eq!(Interop::ALL.map(|version| version.to_string()).join(" "), "3 4 5 6 7 8 9 10 rfc");
    }

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
