//! The one table from (reason, dialect and version) to status and problem type.

use std::time::Duration;

use http::StatusCode;

use super::ietf::IetfCodec;
use super::interop::Interop;
use super::{Dialect, tus1};
use crate::refusal::{InterruptCause, Reason, Refusal};

/// The `type` of a problem document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemType {
    /// No more than the status says.
    Blank,
    /// The offset of an append is not the upload's.
    MismatchingUploadOffset,
    /// The upload is complete.
    CompletedUpload,
    /// Declared lengths contradict each other.
    InconsistentUploadLength,
}

impl ProblemType {
    /// The URI of the type.
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Blank => "about:blank",
            Self::MismatchingUploadOffset => {
                "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
            }
            Self::CompletedUpload => "https://iana.org/assignments/http-problem-types#completed-upload",
            Self::InconsistentUploadLength => {
                "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
            }
        }
    }
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `type`.
    pub problem_type: ProblemType,
    /// `title`.
    pub title: &'static str,
    /// `status`.
    pub status: StatusCode,
    /// `detail`.
    pub detail: String,
    /// The extension members, all of which are numbers.
    pub numbers: Vec<(&'static str, u64)>,
}

impl Refusal {
    /// The problem document of the response to a request in `dialect`; `None` stands for a request in no dialect.
    pub fn problem(&self, dialect: Option<Dialect>) -> Problem {
        let (status, problem_type) = self.reason.row(dialect);
        // The title that the draft gives this type.
        let is_completed = problem_type == ProblemType::CompletedUpload;
        let title = if is_completed { "Upload Is Completed" } else { self.title() };
        let detail = match dialect {
            Some(Dialect::Conventional) => self.ordinary_detail(),
            _ => self.detail(),
        };
        Problem { problem_type, title, status, detail, numbers: self.numbers() }
    }

    /// Returns the status of the response to a request in `dialect`; `None` stands for a request in no dialect.
    pub fn status(&self, dialect: Option<Dialect>) -> StatusCode {
        self.reason.row(dialect).0
    }

    /// Returns the value of `Retry-After`, if the same request may succeed later.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.reason {
            Reason::Busy | Reason::Interrupted(InterruptCause::ShuttingDown | InterruptCause::ByOperator) => {
                Some(Duration::from_secs(1))
            }
            Reason::Unavailable(after) => Some(after),
            Reason::StorageFull | Reason::TooManyUploads { .. } | Reason::QuotaExceeded { .. } => {
                Some(Duration::from_mins(1))
            }
            _ => None,
        }
    }
}

impl Reason {
    /// The table. A row for one dialect or version precedes the row of the same reason for all others.
    //= IETF-PRB-01, IETF-PRB-02, IETF-PRB-03, IETF-APP-08
    #[expect(clippy::match_same_arms, reason = "one row for each reason")]
    fn row(&self, dialect: Option<Dialect>) -> (StatusCode, ProblemType) {
        use Interop::{V3, V4, V5, V6, V7};
        use ProblemType::{Blank, CompletedUpload, InconsistentUploadLength, MismatchingUploadOffset};

        match (self, dialect) {
            (Self::InvalidField { .. }, _) => (StatusCode::BAD_REQUEST, Blank),
            (Self::NotFound, _) => (StatusCode::NOT_FOUND, Blank),
            // Only tus 1.0 tells uploads that are gone from uploads that never existed.
            (Self::Gone, Some(Dialect::Tus1(_)) | None) => (StatusCode::GONE, Blank),
            (Self::Gone, Some(_)) => (StatusCode::NOT_FOUND, Blank),
            (Self::MethodNotAllowed { .. }, _) => (StatusCode::METHOD_NOT_ALLOWED, Blank),
            (Self::UploadExists, _) => (StatusCode::CONFLICT, Blank),
            (Self::OffsetMismatch { .. }, _) => (StatusCode::CONFLICT, MismatchingUploadOffset),
            (Self::AlreadyComplete, Some(Dialect::Ietf(IetfCodec { version: V3 | V4 | V5, .. }))) => {
                (StatusCode::BAD_REQUEST, Blank)
            }
            (Self::AlreadyComplete, Some(Dialect::Ietf(IetfCodec { version: V6 | V7, .. }))) => {
                (StatusCode::BAD_REQUEST, CompletedUpload)
            }
            (Self::AlreadyComplete, _) => (StatusCode::CONFLICT, Blank),
            (Self::AppendToComposed, _) => (StatusCode::FORBIDDEN, Blank),
            (Self::AppendToEndpoint, _) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Blank),
            (Self::ConflictingParts, _) => (StatusCode::CONFLICT, Blank),
            (Self::UnusablePart { .. }, _) => (StatusCode::BAD_REQUEST, Blank),
            (Self::NotAppendMediaType { .. }, _) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Blank),
            (Self::FormContent, _) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Blank),
            (Self::FieldsTooLarge { .. }, _) => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Blank),
            (Self::DigestMismatch, Some(Dialect::Tus1(_))) => (tus1::checksum_mismatch(), Blank),
            (Self::DigestMismatch, _) => (StatusCode::BAD_REQUEST, Blank),
            (Self::InconsistentLength, _) => (StatusCode::BAD_REQUEST, InconsistentUploadLength),
            (Self::LengthExceeded(_), Some(Dialect::Tus1(_))) => (StatusCode::PAYLOAD_TOO_LARGE, Blank),
            (Self::LengthExceeded(_), _) => (StatusCode::BAD_REQUEST, InconsistentUploadLength),
            (Self::TooLarge { .. }, _) => (StatusCode::PAYLOAD_TOO_LARGE, Blank),
            (Self::TooSmall { .. }, _) => (StatusCode::BAD_REQUEST, Blank),
            (Self::StorageFull, _) => (StatusCode::INSUFFICIENT_STORAGE, Blank),
            (Self::Interrupted(InterruptCause::Disconnected | InterruptCause::Malformed), _) => {
                (StatusCode::BAD_REQUEST, Blank)
            }
            (Self::Interrupted(InterruptCause::Stopped), _) => (StatusCode::BAD_REQUEST, Blank),
            (Self::Interrupted(InterruptCause::Superseded), _) => (StatusCode::CONFLICT, Blank),
            // Clients of tus retry after a 5xx, and give up after a 408.
            (Self::Interrupted(InterruptCause::TooSlow), Some(Dialect::Tus1(_))) => {
                (StatusCode::SERVICE_UNAVAILABLE, Blank)
            }
            (Self::Interrupted(InterruptCause::TooSlow), _) => (StatusCode::REQUEST_TIMEOUT, Blank),
            (Self::Interrupted(InterruptCause::ShuttingDown | InterruptCause::ByOperator), _) => {
                (StatusCode::SERVICE_UNAVAILABLE, Blank)
            }
            (Self::Busy, Some(Dialect::Tus1(_))) => (StatusCode::LOCKED, Blank),
            (Self::Busy, _) => (StatusCode::SERVICE_UNAVAILABLE, Blank),
            (Self::Unavailable(_), _) => (StatusCode::SERVICE_UNAVAILABLE, Blank),
            (Self::Internal, _) => (StatusCode::INTERNAL_SERVER_ERROR, Blank),
            (Self::Unauthorized { .. }, _) => (StatusCode::UNAUTHORIZED, Blank),
            (Self::Forbidden(_), _) => (StatusCode::FORBIDDEN, Blank),
            (Self::Rejected { status, .. }, _) => (*status, Blank),
            (Self::Declined { amendment, .. }, _) => {
                (amendment.status.unwrap_or(StatusCode::BAD_REQUEST), Blank)
            }
            (Self::TooManyUploads { .. }, _) => (StatusCode::TOO_MANY_REQUESTS, Blank),
            (Self::QuotaExceeded { .. }, _) => (StatusCode::INSUFFICIENT_STORAGE, Blank),
            (Self::ContentNotStored, _) => (StatusCode::GONE, Blank),
            (Self::RangeNotSatisfiable, _) => (StatusCode::RANGE_NOT_SATISFIABLE, Blank),
            (Self::PreconditionFailed, _) => (StatusCode::PRECONDITION_FAILED, Blank),
            (Self::NotImplemented(_), _) => (StatusCode::NOT_IMPLEMENTED, Blank),
            (Self::UnsupportedTusVersion, _) => (StatusCode::PRECONDITION_FAILED, Blank),
        }
    }
}
