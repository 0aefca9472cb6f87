//! From a failure of the store to what a peer is told of it, logged once and here.

use hoist_proto::refusal::{Interrupted, Refusal};
use hoist_proto::types::UploadId;
use hoist_store::store::Error;

/// Logs a failure and makes it something to tell a peer.
pub(crate) fn refusal(doing: &'static str, id: UploadId, failure: &Error) -> Refusal {
    match failure {
        Error::Missing => Refusal::NotFound,
        Error::Full => {
            tracing::warn!(upload = %id.short(), doing, "no space left for uploads");
            Refusal::Full(None)
        }
        Error::Fenced => Refusal::Interrupted { cause: Interrupted::Superseded, state: None },
        // Its sender was promised bytes that are not there any more: to it the upload is gone, and only a person can say
        // what became of them.
        Error::Damaged(_) => {
            tracing::error!(upload = %id.short(), doing, error = %failure, "the upload is damaged, and left as it is");
            Refusal::NotFound
        }
        other => {
            tracing::error!(upload = %id.short(), doing, error = %chain(other), "the store failed");
            Refusal::Internal
        }
    }
}

/// A failure with all its causes.
pub(crate) fn chain(failure: &dyn std::error::Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
