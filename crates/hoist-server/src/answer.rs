//! The responses of the endpoint: problem documents, a target's answer, stored content, or nothing.

mod body;

use bytes::Bytes;
use hoist_proto::dialect::{self, Context, Dialect};
use hoist_proto::operation::Reply;
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::upload::TargetResponse;
use http::{HeaderValue, Response, header};

pub use body::Body;

/// A response of the endpoint.
pub type Answer = Response<Body>;

/// Encodes the outcome of a request in its dialect.
pub(crate) fn encode(
    dialect: Option<Dialect>,
    outcome: Result<Reply, Refusal>,
    context: &Context<'_>,
) -> Answer {
    match (dialect, outcome) {
        (dialect, Err(refusal)) => refused(dialect, &refusal, context),
        (None, Ok(_)) => refused(None, &Reason::Internal.into(), context),
        (Some(dialect), Ok(reply)) => {
            let head = dialect.encode(&reply, context);
            match reply {
                Reply::Complete { answer, .. } if !answer.content.is_empty() => {
                    head.map(|()| Body::from(answer.content))
                }
                _ => empty(head),
            }
        }
    }
}

/// Encodes a refusal in the dialect of the request, if it has one.
pub(crate) fn refused(dialect: Option<Dialect>, refusal: &Refusal, context: &Context<'_>) -> Answer {
    tracing::debug!(status = refusal.status(dialect).as_u16(), refusal = refusal.title(), "refused");
    match dialect {
        None => problem(dialect::refused(None, refusal), None, refusal),
        Some(dialect) if dialect.uses_plain_text_errors() => plain(dialect.refuse(refusal, context), refusal),
        Some(dialect) => problem(dialect.refuse(refusal, context), Some(dialect), refusal),
    }
}

/// Adds a problem document to a head.
pub(crate) fn problem(mut head: Response<()>, dialect: Option<Dialect>, refusal: &Refusal) -> Answer {
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    head.map(|()| Body::from(problem_document(dialect, refusal)))
}

/// Adds plain text to a head, for clients that show it to the user.
fn plain(mut head: Response<()>, refusal: &Refusal) -> Answer {
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    head.map(|()| Body::from(format!("{}\n", refusal.detail())))
}

/// Returns a refusal as the final answer of an upload, to be stored with it.
pub(crate) fn kept(refusal: &Refusal) -> TargetResponse {
    let mut answer = TargetResponse::of(refusal.status(None));
    answer.fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    answer.content = problem_document(None, refusal).into_bytes();
    answer
}

const PROBLEM: &str = "application/problem+json";

/// Writes a refusal as a problem document (RFC 9457).
fn problem_document(dialect: Option<Dialect>, refusal: &Refusal) -> String {
    let problem = refusal.problem(dialect);
    let mut document = serde_json::Map::new();
    document.insert("type".into(), problem.problem_type.uri().into());
    document.insert("title".into(), problem.title.into());
    document.insert("status".into(), problem.status.as_u16().into());
    document.insert("detail".into(), problem.detail.into());
    for (name, number) in problem.numbers {
        document.insert(name.into(), number.into());
    }
    serde_json::Value::Object(document).to_string()
}

/// Returns an answer without content.
pub(crate) fn empty(head: Response<()>) -> Answer {
    head.map(|()| Body::default())
}

/// Returns a document that must not be cached.
pub(crate) fn document(media_type: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(content));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
