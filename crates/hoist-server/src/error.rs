//! Converts failures of the store to refusals, and logs each of them once.

use hoist_proto::refusal::{InterruptCause, Reason, Refusal};
use hoist_proto::types::UploadId;
use hoist_store::store::Error;

/// Logs a failure of the store and returns the refusal for it.
pub(crate) fn refusal(doing: &'static str, id: UploadId, failure: &Error) -> Refusal {
    match failure {
        Error::Missing => Reason::NotFound.into(),
        Error::Full => {
            tracing::warn!(upload = %id.short(), doing, "no space left for uploads");
            Reason::StorageFull.into()
        }
        Error::Fenced => Reason::Interrupted(InterruptCause::Superseded).into(),
        // Acknowledged bytes are missing. The client has to start over, and the operator has to find the cause.
        Error::Damaged(_) => {
            tracing::error!(outcome = "damaged", upload = %id.short(), doing, error = %failure, "the upload is damaged; its files are left for inspection");
            Reason::NotFound.into()
        }
        other => {
            tracing::error!(upload = %id.short(), doing, error = %chain(other), "the store failed");
            // An I/O error or a lack of file descriptors may be temporary. Acknowledged bytes are safe, so the client should
            // retry this upload instead of starting another.
            other.retry_after().map_or(Reason::Internal, Reason::Unavailable).into()
        }
    }
}

/// Returns what converts a failure of the store while `doing` something.
pub(crate) fn during(doing: &'static str, id: UploadId) -> impl FnOnce(Error) -> Refusal {
    move |failure| refusal(doing, id, &failure)
}

pub(crate) fn chain(failure: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(failure), |failure| failure.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failed_system_call_is_answered_503_with_a_retry_time() {
        // EIO, ENFILE, EMFILE.
        for code in [5, 23, 24] {
            let failure =
                Error::Io { doing: "reading".to_owned(), source: io::Error::from_raw_os_error(code) };
            let refusal = refusal("load", UploadId::from_bits([0; 16]), &failure);
            assert_eq!(refusal.reason, Reason::Unavailable(Duration::from_secs(5)), "{code}");
            assert_eq!((refusal.status(None).as_u16(), refusal.retry_after()), (503, failure.retry_after()));
        }
    }
}
