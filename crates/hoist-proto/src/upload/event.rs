//! The events of an upload that its record keeps until they are delivered.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::hex;
use crate::types::{Length, Offset, Timestamp, UploadId};

/// An event that happened to an upload, and that sinks have yet to receive.
///
/// Its offset and length are those of the moment at which it happened, because the record tells later ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEvent {
    /// The kind.
    pub kind: EventKind,
    /// The time at which it happened.
    pub at: Timestamp,
    /// The number of stored bytes.
    pub offset: Offset,
    /// The length of the representation, if it was known.
    pub length: Option<Length>,
    /// The sinks that the event is for.
    pub sinks: Vec<SinkKey>,
    /// The request that caused it, if one did. Contains no credential.
    pub request: Option<Arc<EventRequest>>,
    /// The end of the attempts to deliver it, if they have ended.
    pub given_up: Option<GivenUp>,
    /// The time at which an operator asked for new attempts.
    pub retried: Option<Timestamp>,
}

impl PendingEvent {
    /// Returns the id, which is the same in every attempt to deliver the event.
    pub fn id(&self, upload: UploadId) -> String {
        format!("{upload}.{}", self.kind)
    }
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// The upload was created.
    Created,
    /// All content is stored, and the target has accepted it.
    Finished,
    /// A client or an operator has ended the upload.
    Terminated,
    /// The upload expired before it was complete.
    Expired,
    /// The target has rejected the content, or the upload can never become complete.
    Failed,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Created, Self::Finished, Self::Terminated, Self::Expired, Self::Failed];

    /// Returns the name. The names are part of the format of records, and of the ids of events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Finished => "finished",
            Self::Terminated => "terminated",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EventKind {
    type Err = NotAKind;

    fn from_str(text: &str) -> Result<Self, NotAKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(NotAKind)
    }
}

/// The text is not an [`EventKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a type of event: it is `created`, `finished`, `terminated`, `expired` or `failed`")]
pub struct NotAKind;

/// The short name of a sink in records, which does not change while its URL stays the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkKey([u8; 8]);

impl SinkKey {
    /// The number of characters of the written form.
    pub const CHARS: usize = 16;

    /// Returns the key with these bits.
    pub const fn from_bits(bits: [u8; 8]) -> Self {
        Self(bits)
    }
}

impl fmt::Display for SinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for SinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkKey({self})")
    }
}

impl FromStr for SinkKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let bits = hex::decode(text).and_then(|bits| bits.try_into().ok()).map(Self);
        bits.filter(|key| key.to_string() == text).ok_or(NotAKey)
    }
}

/// The text is not a [`SinkKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the key of a sink: it is {} lower-case hexadecimal digits", SinkKey::CHARS)]
pub struct NotAKey;

/// A request that caused an event, as far as it is kept: without query and without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRequest {
    /// The method.
    pub method: Method,
    /// The request target as received, without its query.
    pub uri: String,
    /// The address of the peer, `ip:port`; empty if it has none.
    pub remote: String,
    /// The fields that describe the content and the client.
    pub fields: HeaderMap,
}

/// The end of the attempts to deliver an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The time.
    pub at: Timestamp,
    /// The number of attempts, as far as it is known.
    pub attempts: u32,
    /// The failure of the last attempt.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_keys_are_read_back() {
        for kind in EventKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        for text in ["", "Created", "created ", "progress"] {
            assert_eq!(text.parse::<EventKind>(), Err(NotAKind), "{text:?}");
        }
        let key = SinkKey::from_bits([0, 1, 2, 3, 0xab, 0xcd, 0xef, 0xff]);
        assert_eq!(key.to_string(), "00010203abcdefff");
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "00010203ABCDEFFF", "00010203abcdef", "00010203abcdefff00", "0x010203abcdefff"] {
            assert_eq!(text.parse::<SinkKey>(), Err(NotAKey), "{text:?}");
        }
    }
}
