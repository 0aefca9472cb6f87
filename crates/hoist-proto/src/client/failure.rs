//! The reasons why an upload ends without being complete.

use http::StatusCode;

use crate::types::{Length, Offset};

/// The reason why an upload cannot be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server rejected a request.
    #[error("the server answered {0}")]
    Rejected(StatusCode),
    /// The server returns no offset at this URL.
    #[error("the server does not say how much it has: this is not an upload url")]
    NotResumable,
    /// The token names an upload that this client did not create.
    #[error("the token already names another upload")]
    Taken,
    /// The server had part of the upload and does not have it any more: it expired, or was cancelled.
    #[error("the upload is gone from the server")]
    Gone,
    /// The upload on the server has another size than the source.
    #[error("the server's upload has {remote} bytes, the source has {length}")]
    Different {
        /// Bytes of the upload on the server.
        remote: u64,
        /// Bytes of the source.
        length: Length,
    },
    /// The server acknowledged bytes that it cannot have.
    #[error("the server claims offset {offset}, which cannot be: {sent} bytes were sent")]
    Impossible {
        /// The server's offset.
        offset: Offset,
        /// The end of what was sent.
        sent: Offset,
    },
    /// All content was sent, the answer was lost, and there is no URL to query. Another attempt might create a second
    /// upload.
    #[error("the server may have taken the upload, and left no way to ask")]
    Unanswered,
    /// The server named two URLs for one upload.
    #[error("the server names two urls for one upload")]
    TwoUrls,
    /// The server accepts no uploads of this length.
    #[error("the server takes at most {max} bytes, the source has {length}")]
    TooLarge {
        /// Bytes of the largest upload that the server accepts.
        max: u64,
        /// Bytes of the source.
        length: Length,
    },
    /// The retries are used up.
    #[error("no progress after {attempts} attempt{}, the last one ended with: {last}", if *attempts == 1 { "" } else { "s" })]
    Exhausted {
        /// The number of attempts without progress.
        attempts: u32,
        /// The end of the last one.
        last: AttemptError,
    },
}

/// The end of an attempt that may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttemptError {
    /// The connection could not be made, or was lost.
    #[error("a lost connection")]
    Lost,
    /// The server answered with this status.
    #[error("{0}")]
    Status(StatusCode),
}
