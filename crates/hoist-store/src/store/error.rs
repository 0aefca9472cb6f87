//! The errors of stores.

use std::time::Duration;

/// The reason for which a store failed. The texts are for operators.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The upload does not exist, or its content was discarded.
    #[error("no such upload")]
    Missing,
    /// The id is taken.
    #[error("the upload exists already")]
    Exists,
    /// A newer claim has taken over the upload, which the caller may no longer change.
    #[error("a newer request has taken the upload over")]
    Fenced,
    /// There is no space. What is stored stays stored.
    #[error("no space left for uploads")]
    Full,
    /// Record and content contradict each other, or one of them is corrupt. The store leaves them as they are, for an
    /// operator to inspect.
    #[error("the stored upload is damaged: {0}")]
    Damaged(String),
    /// A position of a listing is not one of this store.
    #[error("{}", super::BadPosition)]
    BadPosition,
    /// Another process uses the store.
    #[error("{0}")]
    Busy(String),
    /// The storage failed, or the call is not allowed in the upload's state.
    #[error("{doing}")]
    Io {
        /// The operation that failed, and the object it was for ("syncing open/1m6rt34g…/content").
        doing: String,
        /// The error of the operating system or service.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns the delay after which a retry may succeed without the operator's help; `None` if it cannot.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full => Some(Duration::from_mins(1)),
            Self::Io { .. } => Some(Duration::from_secs(5)),
            Self::Missing
            | Self::Exists
            | Self::Fenced
            | Self::Damaged(_)
            | Self::BadPosition
            | Self::Busy(_) => None,
        }
    }
}
