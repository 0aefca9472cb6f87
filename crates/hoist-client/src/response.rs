//! The final response to a request, and the problem document in it.

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, StatusCode, Version, header};
use serde::Deserialize;

/// Characters of a problem's detail that are kept.
const DETAIL_CHARS_MAX: usize = 300;

/// A final response, as opposed to an interim one.
#[derive(Debug)]
pub(crate) struct FinalResponse {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Bytes,
    /// Bytes of the request's content that had been handed to the connection when the response arrived.
    pub(crate) sent: u64,
}

/// The members of a problem document (RFC 9457) that are written for people.
#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl FinalResponse {
    pub(crate) fn new(head: Parts, content: Bytes, sent: u64) -> Self {
        let Parts { status, version, headers: fields, .. } = head;
        Self { status, version, fields, content, sent }
    }

    /// Returns the `detail`, or else the `title`, if the content is a problem document. Control characters are removed,
    /// because the text is printed on terminals.
    pub(crate) fn problem_detail(&self) -> Option<String> {
        let media_type = self.fields.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let essence = media_type.split(';').next()?.trim();
        if !essence.eq_ignore_ascii_case("application/problem+json") {
            return None;
        }
        let Problem { title, detail } = serde_json::from_slice(&self.content).ok()?;
        let text: String =
            detail.or(title)?.chars().filter(|char| !char.is_control()).take(DETAIL_CHARS_MAX).collect();
        (!text.is_empty()).then_some(text)
    }
}
