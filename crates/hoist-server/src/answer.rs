//! The responses of the endpoint: problem documents, a target's answer, stored content, or nothing.

mod body;

use bytes::Bytes;
use hoist_proto::amendment::Amendment;
use hoist_proto::dialect::{self, Context, Dialect};
use hoist_proto::operation::Reply;
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::upload::TargetResponse;
use http::{HeaderValue, Response, header};

pub use body::Body;

pub(crate) use body::Pieces;

use crate::meter::Summary;
use crate::request_scope::RequestScope;

/// A response of the endpoint.
pub type Answer = Response<Body>;

/// Encodes the outcome of a request in its dialect.
pub(crate) fn encode(
    dialect: Option<Dialect>,
    outcome: Result<Reply, Refusal>,
    context: &Context<'_>,
    scope: &RequestScope,
) -> Answer {
    let alias = scope.alias();
    let context = &Context { alias: alias.as_deref(), ..*context };
    let (dialect, reply) = match (dialect, outcome) {
        (Some(dialect), Ok(reply)) => (dialect, reply),
        (None, Ok(_)) => return refused(None, &Reason::Internal.into(), context),
        (dialect, Err(refusal)) => return refused(dialect, &refusal, context),
    };
    let mut answer = dialect.encode(&reply, context).map(|()| match reply {
        Reply::Complete { answer, .. } => Body::from(answer.content),
        _ => Body::default(),
    });
    answer.extensions_mut().insert(Summary { dialect: Some(dialect.family()), refusal: None });
    amended(answer, &scope.amendment())
}

/// Makes the changes of a hook to an answer.
fn amended(mut answer: Answer, amendment: &Amendment) -> Answer {
    let Amendment { status, fields, .. } = amendment;
    if let Some(status) = status {
        *answer.status_mut() = *status;
    }
    if let Some(content) = amendment.content_with(answer.status()) {
        answer.headers_mut().insert(header::CONTENT_TYPE, TEXT);
        answer = answer.map(|_| Body::from(content.to_owned()));
    }
    for name in fields.keys() {
        answer.headers_mut().remove(name);
    }
    answer.headers_mut().extend(fields.clone());
    answer
}

/// Encodes a refusal in the dialect of the request, if it has one.
pub(crate) fn refused(dialect: Option<Dialect>, refusal: &Refusal, context: &Context<'_>) -> Answer {
    let answer = described(dialect, refusal, context);
    match &refusal.reason {
        Reason::Declined { amendment, .. } => amended(answer, amendment),
        _ => answer,
    }
}

fn described(dialect: Option<Dialect>, refusal: &Refusal, context: &Context<'_>) -> Answer {
    let head =
        dialect.map_or_else(|| dialect::refused(None, refusal), |dialect| dialect.refuse(refusal, context));
    if !dialect.is_some_and(|dialect| dialect.uses_plain_text_errors()) {
        return problem(head, dialect, refusal);
    }
    // For clients that show it to the user.
    let mut answer = head.map(|()| Body::from(format!("{}\n", refusal.detail())));
    answer.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    summarize(&mut answer, dialect, refusal);
    answer
}

pub(crate) fn problem(mut head: Response<()>, dialect: Option<Dialect>, refusal: &Refusal) -> Answer {
    summarize(&mut head, dialect, refusal);
    head.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    head.map(|()| Body::from(problem_document(dialect, refusal)))
}

fn summarize<B>(response: &mut Response<B>, dialect: Option<Dialect>, refusal: &Refusal) {
    let dialect = dialect.map(|dialect| dialect.family());
    response.extensions_mut().insert(Summary { dialect, refusal: Some(refusal.clone()) });
}

pub(crate) fn kept(refusal: &Refusal) -> TargetResponse {
    let mut answer = TargetResponse::of(refusal.status(None));
    answer.fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    answer.content = problem_document(None, refusal).into_bytes();
    answer
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(crate) const PROBLEM: &str = "application/problem+json";

/// Writes a refusal as a problem document (RFC 9457).
fn problem_document(dialect: Option<Dialect>, refusal: &Refusal) -> String {
    let problem = refusal.problem(dialect);
    let mut document = serde_json::json!({
        "type": problem.problem_type.uri(),
        "title": problem.title,
        "status": problem.status.as_u16(),
        "detail": problem.detail,
    });
    for (name, number) in problem.numbers {
        document[name] = number.into();
    }
    document.to_string()
}

pub(crate) fn document(media_type: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Body::from(content));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
