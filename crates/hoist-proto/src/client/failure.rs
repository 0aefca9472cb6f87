//! Why an upload ends without being complete.

use http::StatusCode;

use crate::types::{Length, Offset};

/// Why an upload cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server refuses it.
    #[error("the server answered {0}")]
    Rejected(StatusCode),
    /// The server does not tell offsets at this URL.
    #[error("the server does not say how much it has: this is not an upload url")]
    NotResumable,
    /// The token names an upload that this one did not create.
    #[error("the token already names another upload")]
    Taken,
    /// The server had part of the upload and has it no more: it expired, or was cancelled.
    #[error("the upload is gone from the server")]
    Gone,
    /// The token names an upload of another length.
    #[error("the server's upload has {told} bytes, the source has {length}")]
    Different {
        /// What the server says.
        told: u64,
        /// What the source has.
        length: Length,
    },
    /// The server claims an offset that cannot be.
    #[error("the server claims offset {told}, which cannot be: {sent} bytes were sent")]
    Impossible {
        /// What the server says.
        told: Offset,
        /// The end of what was sent.
        sent: Offset,
    },
    /// All of it was sent, the answer was lost, and there is no URL to ask at. Sending it again might do it twice.
    #[error("the server may have on_existing the upload, and left no way to ask")]
    Unanswered,
    /// The server names two places for one upload.
    #[error("the server names two places for one upload")]
    TwoPlaces,
    /// The server takes no uploads of this length.
    #[error("the server takes at most {most} bytes, the source has {length}")]
    TooLarge {
        /// What the server takes.
        most: u64,
        /// What the source has.
        length: Length,
    },
    /// The retries are used up.
    #[error("no progress after {attempts} attempts, the last one ended with: {last}")]
    Exhausted {
        /// How many there were without progress.
        attempts: u32,
        /// How the last one ended.
        last: Trouble,
    },
}

/// How an attempt ended that may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The connection could not be made, or was lost.
    #[error("a lost connection")]
    Lost,
    /// The server asked to come back later.
    #[error("{0}")]
    Status(StatusCode),
}
