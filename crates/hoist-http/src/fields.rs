//! The rules for header fields that HTTP/2 and HTTP/3 share.
//!
//! Owns the checks of a request that their libraries leave to the server, and the fields of responses. Pure: heads in,
//! heads out.

use http::header::{CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, response};
use http_body::SizeHint;

use crate::date;
use crate::rejection::{Rejection, is_sound};

/// Checks a request, which the connection rejects if this returns an error.
pub(crate) fn check<C>(request: &Request<C>) -> Result<(), Rejection> {
    if *request.method() == Method::CONNECT {
        return Err(Rejection::Connect);
    }
    let host = request.headers().get(HOST).filter(|host| !host.is_empty());
    let host = host.map(|host| Authority::try_from(host.as_bytes()));
    let has_sound_authority = request.uri().authority().is_none_or(is_sound)
        && host.is_none_or(|host| host.is_ok_and(|host| is_sound(&host)));
    if !has_sound_authority {
        return Err(Rejection::Malformed("the authority is malformed"));
    }
    let unknown = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if request.headers().get_all(EXPECT).iter().any(unknown) {
        return Err(Rejection::UnknownExpectation);
    }
    Ok(())
}

/// Returns the length that a request states for its content.
pub(crate) fn content_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Joins the cookie crumbs that a client may split a `Cookie` field into (RFC 9113, Compressing the Cookie Header
/// Field). Applications expect one field.
pub(crate) fn join_cookies(fields: &mut HeaderMap) {
    let crumbs: Vec<_> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        fields.insert(COOKIE, joined);
    }
}

/// Removes the fields that describe an HTTP/1.1 connection, which are errors in later versions.
pub(crate) fn remove_connection_fields(fields: &mut HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"] {
        fields.remove(name);
    }
}

/// Makes the head of an interim response fit to be sent.
pub(crate) fn finish_interim(head: &mut Response<()>) {
    remove_connection_fields(head.headers_mut());
    head.headers_mut().remove(CONTENT_LENGTH);
}

/// Completes the head of a final response: `Date`, `Content-Length`, no connection fields. Returns whether content
/// follows it.
pub(crate) fn finish_head(
    head: &mut response::Parts,
    is_head_request: bool,
    size: &SizeHint,
    is_end_stream: bool,
) -> bool {
    remove_connection_fields(&mut head.headers);
    if !head.headers.contains_key(DATE) {
        head.headers.insert(DATE, date::now());
    }
    let length = size.exact();
    // The content of these is left out, and an empty body does not mean that its length is zero.
    let left_out = is_head_request || head.status == StatusCode::NOT_MODIFIED;
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(CONTENT_LENGTH);
    } else if let Some(length) = length
        && !(left_out && (length == 0 || head.headers.contains_key(CONTENT_LENGTH)))
    {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    !(left_out || head.status == StatusCode::NO_CONTENT || length == Some(0) && is_end_stream)
}

/// Returns the head and the content of the connection's own response.
pub(crate) fn problem(rejection: Rejection) -> (Response<()>, String) {
    let (status, body) = rejection.problem();
    let head = Response::builder()
        .status(status)
        .header("content-type", "application/problem+json")
        .header(CONTENT_LENGTH, body.len())
        .header(DATE, date::now())
        .body(())
        .expect("the fields are valid");
    (head, body)
}
