//! Responses with their content: problem documents, a target's answer, stored content, or nothing.

mod body;

use bytes::Bytes;
use hoist_proto::operation::Reply;
use hoist_proto::refusal::Refusal;
use hoist_proto::upload::TargetResponse;
use http::{HeaderValue, Response, header};

pub use body::Body;

/// What this server answers with.
pub type Answer = Response<Body>;

/// The answer to a request that was carried out, under the head a dialect made for it.
pub(crate) fn reply(head: Response<()>, reply: Reply) -> Answer {
    match reply {
        Reply::Complete { answer, .. } if !answer.content.is_empty() => {
            head.map(|()| Body::from(answer.content))
        }
        _ => empty(head),
    }
}

/// The answer to a request that was refused, under the head a dialect made for it.
pub(crate) fn problem(mut head: Response<()>, refusal: &Refusal) -> Answer {
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    head.map(|()| Body::from(spelled(refusal)))
}

/// The same for clients that show it to somebody as it is.
pub(crate) fn plain(mut head: Response<()>, refusal: &Refusal) -> Answer {
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    head.map(|()| Body::from(format!("{}\n", refusal.problem().detail)))
}

/// A refusal as the last answer of an upload, to be kept with it.
pub(crate) fn kept(refusal: &Refusal) -> TargetResponse {
    let mut answer = TargetResponse::of(refusal.status());
    answer.fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    answer.content = spelled(refusal).into_bytes();
    answer
}

const PROBLEM: &str = "application/problem+json";

/// A refusal as a problem document (RFC 9457).
fn spelled(refusal: &Refusal) -> String {
    let problem = refusal.problem();
    let mut document = serde_json::Map::new();
    document.insert("type".into(), problem.kind.into());
    document.insert("title".into(), problem.title.into());
    document.insert("status".into(), problem.status.as_u16().into());
    document.insert("detail".into(), problem.detail.into());
    for (name, number) in problem.numbers {
        document.insert(name.into(), number.into());
    }
    serde_json::Value::Object(document).to_string()
}

/// An answer without content.
pub(crate) fn empty(head: Response<()>) -> Answer {
    head.map(|()| Body::default())
}

/// A short document of some media type.
pub(crate) fn document(media_type: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(content));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
