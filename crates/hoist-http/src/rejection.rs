//! [`Rejection`]: the responses that a connection gives itself, without its service.
//!
//! Owns their statuses and problem documents.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{Response, StatusCode};
use tracing::field::display;

use crate::date;
use crate::service::Sender;

/// The status and the detail of a response by the connection itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) status: StatusCode,
    detail: &'static str,
}

impl Rejection {
    pub(crate) const HEAD_TIMEOUT: Self =
        Self::new(StatusCode::REQUEST_TIMEOUT, "the request head took too long to arrive");
    pub(crate) const TARGET_TOO_LONG: Self =
        Self::new(StatusCode::URI_TOO_LONG, "the request target is too long");
    pub(crate) const UNKNOWN_EXPECTATION: Self =
        Self::new(StatusCode::EXPECTATION_FAILED, "the only supported expectation is 100-continue");
    pub(crate) const HEAD_TOO_LARGE: Self =
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large");
    pub(crate) const TOO_MANY_FIELDS: Self =
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many fields");
    pub(crate) const UNKNOWN_TRANSFER_CODING: Self =
        Self::new(StatusCode::NOT_IMPLEMENTED, "the only supported transfer coding is chunked");
    pub(crate) const CONNECT: Self = Self::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported");
    pub(crate) const UNKNOWN_VERSION: Self = Self::new(
        StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        "the supported versions are HTTP/1.0, HTTP/1.1 and HTTP/2",
    );
    /// The service failed, or returned an interim response as its final one.
    pub(crate) const SERVICE_FAILED: Self =
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be processed");

    const fn new(status: StatusCode, detail: &'static str) -> Self {
        Rejection { status, detail }
    }

    pub(crate) const fn malformed(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Logs the rejection. The client and the status come first, as in the lines of services about refused requests.
    pub(crate) fn log(self, sender: Sender) {
        let Rejection { status, detail } = self;
        let (client, status) = (sender.address().map(display), status.as_u16());
        tracing::info!(client, status, reason = "malformed-request", detail, "request refused");
    }

    /// Returns the response, whose content is a problem document (RFC 9457).
    pub(crate) fn response(self) -> Response<Bytes> {
        let Rejection { status, detail } = self;
        let title = status.canonical_reason().unwrap_or_default();
        let code = status.as_u16();
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{code},\"detail\":\"{detail}\"}}\n"
        );
        Response::builder()
            .status(status)
            .header(CONTENT_TYPE, "application/problem+json")
            .header(CONTENT_LENGTH, body.len())
            .header(DATE, date::now())
            .body(body.into())
            .expect("the fields are valid")
    }
}
