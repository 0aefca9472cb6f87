//! The error responses of the admin service: problem documents (RFC 9457).

use std::borrow::Cow;

use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::answer::{self, Answer};

/// Returns a problem document without a type of its own: the status says which problem it is, `detail` what to do.
pub(super) fn problem(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Answer {
    problem_with(status, detail, &Map::new())
}

/// Returns a problem document with members of its own.
pub(super) fn problem_with(
    status: StatusCode,
    detail: impl Into<Cow<'static, str>>,
    members: &Map<String, Value>,
) -> Answer {
    let mut document = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail.into(),
    });
    for (name, value) in members {
        document[name] = value.clone();
    }
    let mut answer = answer::document(answer::PROBLEM, format!("{document}\n"));
    *answer.status_mut() = status;
    answer
}

pub(super) fn not_found() -> Answer {
    problem(StatusCode::NOT_FOUND, "the admin service has nothing at this path")
}

/// Refuses a method. `allow` lists those that the path has.
pub(super) fn method_not_allowed(allow: &str) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, format!("this path has the methods {allow}"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_str(allow).expect("methods are ASCII"));
    answer
}

pub(super) fn unauthorized(challenge: &'static str) -> Answer {
    let detail = if challenge.contains("invalid_token") {
        "the bearer token is not valid"
    } else {
        "send a token of --admin-token-file as `Authorization: Bearer TOKEN`"
    };
    let mut answer = problem(StatusCode::UNAUTHORIZED, detail);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}
