//! [`Rejection`]: the responses that a connection gives itself, without its service.
//!
//! Owns their statuses and problem documents, and the rule for a sound authority, which every version of HTTP applies.

use http::StatusCode;
use http::uri::Authority;

/// The reason why the connection itself answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    Malformed(&'static str),
    TargetTooLong,
    HeadTooLarge,
    TooManyFields,
    HeadTimeout,
    UnknownExpectation,
    UnknownTransferCoding,
    Connect,
    UnknownVersion,
    /// The service failed, or returned an interim response as its final one.
    ServiceFailed,
}

impl Rejection {
    /// Returns the status and the problem document (RFC 9457) of the response.
    pub(crate) fn problem(self) -> (StatusCode, String) {
        let (status, detail) = self.status_and_detail();
        let title = status.canonical_reason().unwrap_or_default();
        let code = status.as_u16();
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{code},\"detail\":\"{detail}\"}}\n"
        );
        (status, body)
    }

    fn status_and_detail(self) -> (StatusCode, &'static str) {
        match self {
            Rejection::Malformed(detail) => (StatusCode::BAD_REQUEST, detail),
            Rejection::HeadTimeout => {
                (StatusCode::REQUEST_TIMEOUT, "the request head took too long to arrive")
            }
            Rejection::TargetTooLong => (StatusCode::URI_TOO_LONG, "the request target is too long"),
            Rejection::UnknownExpectation => {
                (StatusCode::EXPECTATION_FAILED, "the only supported expectation is 100-continue")
            }
            Rejection::HeadTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large")
            }
            Rejection::TooManyFields => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many fields")
            }
            Rejection::UnknownTransferCoding => {
                (StatusCode::NOT_IMPLEMENTED, "the only supported transfer coding is chunked")
            }
            Rejection::ServiceFailed => {
                (StatusCode::INTERNAL_SERVER_ERROR, "the request could not be processed")
            }
            Rejection::Connect => (StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"),
            Rejection::UnknownVersion => (
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "the supported versions are HTTP/1.0, HTTP/1.1 and HTTP/2",
            ),
        }
    }
}

/// Returns whether an authority has a host and either no port or one from 0 to 65535.
///
/// An empty port is allowed and means the default one (RFC 3986, Port).
//= IETF-CRE-21
pub(crate) fn is_sound(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host());
    port.is_some_and(|port| matches!(port, "" | ":") || authority.port_u16().is_some())
}
