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
        // Bytes that the client was promised are not there any more: to it the upload is gone, and only an operator can find
        // out what became of them.
        Error::Damaged(_) => {
            tracing::error!(upload = %id.short(), doing, error = %failure, "the upload is damaged, and left as it is");
            Refusal::NotFound
        }
        other => {
            tracing::error!(upload = %id.short(), doing, error = %chain(other), "the store failed");
            // A disk that fails, or a process out of file descriptors, may do better soon. What is acknowledged is safe, so
            // the client is to come back to this upload and not to begin another.
            other.retry_after().map_or(Refusal::Internal, Refusal::Unavailable)
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failing_system_call_is_no_reason_to_give_up() {
        // EIO, ENFILE, EMFILE.
        for code in [5, 23, 24] {
            let failure =
                Error::Io { doing: "reading".to_owned(), source: io::Error::from_raw_os_error(code) };
            let refusal = refusal("load", UploadId::from_bits([0; 16]), &failure);
            assert_eq!(refusal, Refusal::Unavailable(Duration::from_secs(5)), "{code}");
            assert_eq!((refusal.status().as_u16(), refusal.retry_after()), (503, failure.retry_after()));
        }
    }
}
