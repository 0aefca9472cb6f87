//! The rules for header fields that several versions of HTTP share.
//!
//! Owns the checks of a request that the libraries of HTTP/2 and HTTP/3 leave to the server, and the fields of their
//! responses. Pure: heads in, heads out.

use http::header::{CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, response};
use http_body::SizeHint;

use crate::date;
use crate::rejection::Rejection;

/// Checks the head of a request in HTTP/2 or HTTP/3. Returns whether the peer waits for a `100 (Continue)`.
pub(crate) fn check<C>(request: &Request<C>) -> Result<bool, Rejection> {
    if *request.method() == Method::CONNECT {
        return Err(Rejection::CONNECT);
    }
    let host = request.headers().get(HOST);
    if !(request.uri().authority().is_none_or(is_sound) && host.is_none_or(is_sound_host)) {
        return Err(Rejection::malformed("the authority is malformed"));
    }
    expects_continue(request.headers())
}

/// Returns whether an authority has a host and either no port or one from 0 to 65535.
///
/// An empty port is allowed and means the default one (RFC 3986, Port).
//= IETF-CRE-21
pub(crate) fn is_sound(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host());
    port.is_some_and(|port| matches!(port, "" | ":") || authority.port_u16().is_some())
}

/// Returns whether the value of a `Host` field is empty or a sound authority.
pub(crate) fn is_sound_host(host: &HeaderValue) -> bool {
    host.is_empty() || Authority::try_from(host.as_bytes()).is_ok_and(|authority| is_sound(&authority))
}

/// Returns whether the peer waits for a `100 (Continue)`. Other expectations are rejected.
pub(crate) fn expects_continue(fields: &HeaderMap) -> Result<bool, Rejection> {
    let is_known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !fields.get_all(EXPECT).iter().all(is_known) {
        return Err(Rejection::UNKNOWN_EXPECTATION);
    }
    Ok(fields.contains_key(EXPECT))
}

/// Returns the length that a message states for its content.
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
    head.headers.entry(DATE).or_insert_with(date::now);
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
