//! The text of refusals: the title, the detail and the numbers of their problem documents (RFC 9457).

use super::{Declined, InterruptCause, Reason, Refusal, SizeLimit};

impl Reason {
    /// Returns the name of the reason for logs and metrics. A name never changes.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "invalid-field",
            Self::NotFound => "not-found",
            Self::Gone => "gone",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::UploadExists => "upload-exists",
            Self::OffsetMismatch { .. } => "offset-mismatch",
            Self::AlreadyComplete => "already-complete",
            Self::AppendToComposed => "append-to-composed",
            Self::AppendToEndpoint => "append-to-endpoint",
            Self::ConflictingParts => "conflicting-parts",
            Self::UnusablePart { .. } => "unusable-part",
            Self::NotAppendMediaType { .. } => "not-append-media-type",
            Self::FormContent => "form-content",
            Self::FieldsTooLarge { .. } => "fields-too-large",
            Self::DigestMismatch => "digest-mismatch",
            Self::InconsistentLength => "inconsistent-length",
            Self::LengthExceeded(_) => "length-exceeded",
            Self::TooLarge { .. } => "too-large",
            Self::TooSmall { .. } => "too-small",
            Self::StorageFull => "storage-full",
            Self::Interrupted(cause) => cause.name(),
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Internal => "internal",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::Rejected { .. } => "rejected",
            Self::Declined { what: Declined::Creation, .. } => "creation-declined",
            Self::Declined { what: Declined::Content, .. } => "content-declined",
            Self::Declined { what: Declined::Cancellation, .. } => "cancellation-declined",
            Self::TooManyUploads { .. } => "too-many-uploads",
            Self::QuotaExceeded { .. } => "quota-exceeded",
            Self::ContentNotStored => "content-not-stored",
            Self::RangeNotSatisfiable => "range-not-satisfiable",
            Self::PreconditionFailed => "precondition-failed",
            Self::NotImplemented(_) => "not-implemented",
            Self::UnsupportedTusVersion => "unsupported-tus-version",
        }
    }
}

impl InterruptCause {
    /// Returns the name of the cause for logs and metrics. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Superseded => "superseded",
            Self::TooSlow => "too-slow",
            Self::Malformed => "malformed",
            Self::ShuttingDown => "shutting-down",
            Self::ByOperator => "operator",
            Self::Stopped => "stopped",
        }
    }
}

impl Declined {
    /// Returns the text that tusd has for it, which clients look for.
    const fn text(self) -> &'static str {
        match self {
            Self::Creation => "ERR_UPLOAD_REJECTED: upload has been rejected by server",
            Self::Content => "ERR_UPLOAD_STOPPED: upload has been stopped by server",
            Self::Cancellation => {
                "ERR_UPLOAD_TERMINATION_REJECTED: upload termination has been rejected by server"
            }
        }
    }
}

impl Refusal {
    /// The short summary of the reason.
    pub fn title(&self) -> &'static str {
        match &self.reason {
            Reason::InvalidField { .. } => "Malformed Header Field",
            Reason::NotFound => "Not Found",
            Reason::Gone => "Gone",
            Reason::MethodNotAllowed { .. } => "Method Not Allowed",
            Reason::UploadExists => "Upload Exists",
            Reason::OffsetMismatch { .. } => "Mismatching Upload Offset",
            Reason::AlreadyComplete => "Upload Is Complete",
            Reason::AppendToComposed => "Upload Is Made of Parts",
            Reason::AppendToEndpoint | Reason::NotAppendMediaType { .. } | Reason::FormContent => {
                "Unsupported Media Type"
            }
            Reason::ConflictingParts => "Parts Contradict Each Other",
            Reason::UnusablePart { .. } => "No Such Part",
            Reason::FieldsTooLarge { .. } => "Request Header Fields Too Large",
            Reason::DigestMismatch => "Digest Mismatch",
            Reason::InconsistentLength | Reason::LengthExceeded(_) => "Inconsistent Upload Length Values",
            Reason::TooLarge { .. } => "Content Too Large",
            Reason::TooSmall { .. } => "Content Too Small",
            Reason::StorageFull => "Storage Is Full",
            Reason::Interrupted(_) => "Content Ended Early",
            Reason::Busy => "Upload Is Busy",
            Reason::Unavailable(_) => "Not Available Now",
            Reason::Internal => "Internal Server Error",
            Reason::Unauthorized { .. } => "Unauthorized",
            Reason::Forbidden(_) => "Forbidden",
            Reason::Rejected { status, .. } => status.canonical_reason().unwrap_or("Refused"),
            Reason::Declined { what: Declined::Creation, .. } => "Upload Rejected",
            Reason::Declined { what: Declined::Content, .. } => "Upload Stopped",
            Reason::Declined { what: Declined::Cancellation, .. } => "Upload Termination Rejected",
            Reason::TooManyUploads { .. } => "Too Many Open Uploads",
            Reason::QuotaExceeded { .. } => "Quota Exceeded",
            Reason::ContentNotStored => "Content Is Not Stored",
            Reason::RangeNotSatisfiable => "Range Not Satisfiable",
            Reason::PreconditionFailed => "Precondition Failed",
            Reason::NotImplemented(_) => "Not Implemented",
            Reason::UnsupportedTusVersion => "Unsupported tus Version",
        }
    }

    /// The explanation for the client, and what it can do.
    pub fn detail(&self) -> String {
        match &self.reason {
            Reason::InvalidField { name, problem } => format!("{name}: {problem}"),
            Reason::NotFound => "there is no such upload".into(),
            Reason::Gone => "the upload has expired or was cancelled: create a new one".into(),
            Reason::MethodNotAllowed { allow } => format!("the methods of this resource are {allow}"),
            Reason::UploadExists => {
                "the token names an upload already: ask for its offset, or use a new token".into()
            }
            Reason::OffsetMismatch { provided } => match &self.state {
                Some(state) => {
                    format!("the upload is at offset {}, the content begins at {provided}", state.offset)
                }
                None => format!("the content begins at {provided}, which is not the offset of the upload"),
            },
            Reason::AlreadyComplete => "the upload is complete: nothing can be appended".into(),
            Reason::AppendToComposed => {
                "the content of this upload comes from other uploads: nothing can be appended".into()
            }
            Reason::AppendToEndpoint => "an append must be sent to the URL of its upload".into(),
            Reason::ConflictingParts => {
                "the part contradicts what is known of the upload: either all content is in numbered parts or none, \
                 and no part comes after the last one"
                    .into()
            }
            Reason::UnusablePart { detail } => detail.to_string(),
            Reason::NotAppendMediaType { accept } => format!("the Content-Type of an append must be {accept}"),
            Reason::FormContent => {
                "the content is a form: send the file alone as the content of the request, as `curl -T FILE` does"
                    .into()
            }
            Reason::FieldsTooLarge { bytes_max } => {
                format!("the header fields that describe the upload have more than {bytes_max} bytes")
            }
            Reason::DigestMismatch => {
                "the content does not have the declared digest; none of it is kept".into()
            }
            Reason::InconsistentLength => "the declared lengths contradict each other".into(),
            Reason::LengthExceeded(Some(length)) => {
                format!(
                    "the content exceeds the length of the upload, {length} bytes; the upload is no longer valid"
                )
            }
            Reason::LengthExceeded(None) => "the content is longer than the upload".into(),
            Reason::TooLarge { limit: SizeLimit::Representation, bytes_max } => {
                format!("an upload may have at most {bytes_max} bytes")
            }
            Reason::TooLarge { limit: SizeLimit::Append, bytes_max } => {
                format!("one request may carry at most {bytes_max} bytes: send the rest in further requests")
            }
            Reason::TooSmall { bytes_min } => {
                format!("a request that is not the last one must carry at least {bytes_min} bytes")
            }
            Reason::StorageFull => {
                "the server has no space left; stored content is kept, and the upload can be resumed when there is \
                 space again"
                    .into()
            }
            Reason::Interrupted(cause) => match cause {
                InterruptCause::Disconnected => "the content ended before its declared end".into(),
                InterruptCause::Superseded => "a newer request took over the upload".into(),
                InterruptCause::TooSlow => "the content arrived too slowly".into(),
                InterruptCause::Malformed => "the framing of the content is malformed".into(),
                InterruptCause::ShuttingDown => {
                    "the server is shutting down; ask for the offset and continue when it is back".into()
                }
                InterruptCause::ByOperator => {
                    "the operator of the server ended the transfer; ask for the offset and continue".into()
                }
                InterruptCause::Stopped => Declined::Content.text().into(),
            },
            Reason::Busy => "another request on this upload has not finished yet".into(),
            Reason::Unavailable(_) => {
                "the server is not available now; acknowledged content is safe, so try again later".into()
            }
            Reason::Internal => "the server failed to store the upload; acknowledged content is safe".into(),
            Reason::Unauthorized { .. } => "authentication is required".into(),
            Reason::Forbidden(detail) | Reason::Rejected { detail, .. } => detail.clone(),
            Reason::Declined { what, .. } => what.text().into(),
            Reason::TooManyUploads { uploads_max } => {
                format!("{uploads_max} uploads are open, which is the limit")
            }
            Reason::QuotaExceeded { bytes_max } => format!("the quota of {bytes_max} bytes is used up"),
            Reason::ContentNotStored => "the content of this upload is not kept here".into(),
            Reason::RangeNotSatisfiable => {
                "the content does not have this range; Content-Range names its length".into()
            }
            Reason::PreconditionFailed => "the content has another entity tag".into(),
            Reason::NotImplemented(protocol) => format!("this server does not support {protocol}"),
            Reason::UnsupportedTusVersion => "Tus-Resumable must name a version that this server supports".into(),
        }
    }

    /// The explanation for the client of an ordinary request, of which nothing is kept if it does not succeed.
    pub(crate) fn ordinary_detail(&self) -> String {
        match &self.reason {
            Reason::StorageFull => {
                "the server has no space left, and nothing of this request is stored: send it again when there is space"
                    .into()
            }
            Reason::Interrupted(InterruptCause::ShuttingDown) => {
                "the server is shutting down, and nothing of this request is stored: send it again".into()
            }
            Reason::Unavailable(_) => "the server is not available now: send the request again later".into(),
            Reason::Internal => "the server failed to store the upload, and nothing of this request is stored".into(),
            _ => self.detail(),
        }
    }

    pub(crate) fn numbers(&self) -> Vec<(&'static str, u64)> {
        match (&self.reason, &self.state) {
            (Reason::OffsetMismatch { provided }, Some(state)) => {
                vec![("expected-offset", state.offset.offset().get()), ("provided-offset", provided.get())]
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dialect::Dialect;

    #[test]
    fn an_ordinary_request_is_not_promised_a_resumption() {
        for reason in [
            Reason::StorageFull,
            Reason::Unavailable(Duration::from_secs(1)),
            Reason::Interrupted(InterruptCause::ShuttingDown),
            Reason::Internal,
        ] {
            let refusal = Refusal::from(reason);
            let ordinary = refusal.problem(Some(Dialect::Conventional)).detail;
            assert!(
                !["resume", "offset", "acknowledged", "is kept"].iter().any(|word| ordinary.contains(word)),
                "{ordinary}"
            );
            assert_eq!(refusal.problem(None).detail, refusal.detail());
        }
    }
}
