//! What a server's problem document (RFC 9457) says to a person.

use http::header;
use serde::Deserialize;

use crate::http::FinalResponse;

/// Characters of a detail that are kept.
const DETAIL_CHARS: usize = 300;

#[derive(Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// The detail, or else the title, of an answer that is a problem document. Control characters are dropped, because the
/// text is meant for a terminal.
pub(crate) fn detail(answer: &FinalResponse) -> Option<String> {
    let media_type = answer.fields.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = media_type.split(';').next()?.trim();
    if !essence.eq_ignore_ascii_case("application/problem+json") {
        return None;
    }
    let Problem { title, detail } = serde_json::from_slice(&answer.content).ok()?;
    let text: String =
        detail.or(title)?.chars().filter(|char| !char.is_control()).take(DETAIL_CHARS).collect();
    (!text.is_empty()).then_some(text)
}
