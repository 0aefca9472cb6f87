//! The head of an HTTP/1.1 request: request line and fields, strictly as in RFC 9112.
//!
//! Pure: bytes in, [`Head`] or [`Reject`] out. `httparse` reads the grammar; what it is lenient about, and
//! everything that could make two servers disagree about where a message ends, is refused here.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, StatusCode, Uri, Version};

use super::body::Framing;
use crate::Limits;

/// A request head that has been understood.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
    pub(crate) framing: Framing,
    /// The peer would use the connection again.
    pub(crate) keep_alive: bool,
    /// The peer waits for 100 (Continue) before it sends the content.
    pub(crate) expects_continue: bool,
}

/// Why a request is refused by the connection itself, before any service sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    Malformed(&'static str),
    TargetTooLong,
    HeadTooLarge,
    FieldsTooMany,
    Timeout,
    Expectation,
    Coding,
    Connect,
    Version,
    /// The service failed, or answered with what is no final response.
    Service,
}

impl Reject {
    /// The answer: a status, and a problem document (RFC 9457).
    pub(crate) fn problem(self) -> (StatusCode, String) {
        let (status, detail) = self.answer();
        let title = status.canonical_reason().unwrap_or_default();
        let code = status.as_u16();
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{code},\"detail\":\"{detail}\"}}\n"
        );
        (status, body)
    }

    fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Reject::Malformed(detail) => (StatusCode::BAD_REQUEST, detail),
            Reject::Timeout => (StatusCode::REQUEST_TIMEOUT, "the request head took too long to arrive"),
            Reject::TargetTooLong => (StatusCode::URI_TOO_LONG, "the request target is too long"),
            Reject::Expectation => {
                (StatusCode::EXPECTATION_FAILED, "the only expectation understood is 100-continue")
            }
            Reject::HeadTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large")
            }
            Reject::FieldsTooMany => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has too many fields")
            }
            Reject::Coding => (StatusCode::NOT_IMPLEMENTED, "the only transfer coding understood is chunked"),
            Reject::Service => (StatusCode::INTERNAL_SERVER_ERROR, "the request could not be processed"),
            Reject::Connect => (StatusCode::NOT_IMPLEMENTED, "this server is no proxy"),
            Reject::Version => {
                (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.0, HTTP/1.1 and HTTP/2 are understood")
            }
        }
    }
}

/// Finds heads in a connection's bytes, however they are cut into segments.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// Bytes of the buffer already searched for the end of the head.
    scanned: usize,
    begun: bool,
    empty_lines: u8,
}

impl Heads {
    /// Takes one head from the front of `buf`; `None` needs more bytes.
    pub(crate) fn next(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Option<Head>, Reject> {
        if !self.begun {
            // Old clients send an empty line after a body; more than a few is an attack.
            while self.empty_lines < 4 && buf.starts_with(b"\r\n") {
                buf.advance(2);
                self.empty_lines += 1;
            }
            match buf.first() {
                None => return Ok(None),
                Some(b'\r') if buf.len() == 1 && self.empty_lines < 4 => return Ok(None),
                // Find out at once about TLS on a cleartext port and the like.
                Some(byte) if !is_token(*byte) => {
                    return Err(Reject::Malformed("the request line does not begin with a method"));
                }
                Some(_) => self.begun = true,
            }
        }
        let seen = &buf[..buf.len().min(limits.head_bytes_max)];
        match section_end(seen, &mut self.scanned) {
            Ok(Some(end)) => {
                // One copy keeps the large read buffer free to be used again while the fields are alive.
                let bytes = Bytes::copy_from_slice(&buf[..end]);
                buf.advance(end);
                *self = Heads::default();
                parse(&bytes, limits).map(Some)
            }
            Ok(None) if buf.len() >= limits.head_bytes_max => {
                let line_ended = seen.contains(&b'\n');
                Err(if line_ended { Reject::HeadTooLarge } else { Reject::TargetTooLong })
            }
            Ok(None) => Ok(None),
            Err(()) => Err(Reject::Malformed("a line ends in a bare LF")),
        }
    }
}

/// The end of a section of lines that an empty line closes, from `scanned` on. A bare LF is an error.
///
/// `scanned` keeps a peer that sends single bytes from making this quadratic.
pub(super) fn section_end(seen: &[u8], scanned: &mut usize) -> Result<Option<usize>, ()> {
    let mut at = (*scanned).min(seen.len());
    while let Some(newline) = seen[at..].iter().position(|byte| *byte == b'\n').map(|offset| at + offset) {
        if newline == 0 || seen[newline - 1] != b'\r' {
            return Err(());
        }
        at = newline + 1;
        if newline == 1 || seen[..newline - 1].ends_with(b"\n") {
            return Ok(Some(at));
        }
    }
    *scanned = seen.len();
    Ok(None)
}

fn parse(bytes: &Bytes, limits: &Limits) -> Result<Head, Reject> {
    let mut slots = vec![httparse::EMPTY_HEADER; limits.fields_max];
    let mut request = httparse::Request::new(&mut slots);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Reject::Malformed("the head is incomplete")),
        Err(error) => return Err(reject(error)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Reject::Malformed("the request line is malformed"));
    };
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| Reject::Malformed("the method is malformed"))?;
    let mut fields = collect(bytes, request.headers)?;
    let uri = self::target(&method, target)?;
    host(&uri, version, &mut fields)?;
    let framing = framing(version, &fields)?;
    if method == Method::CONNECT {
        return Err(Reject::Connect);
    }
    let expects_continue = expects_continue(version, &fields)? && framing != Framing::Done;
    let keep_alive = keep_alive(version, &fields);
    Ok(Head { method, uri, version, fields, framing, keep_alive, expects_continue })
}

/// Parses a section of fields that ends in an empty line.
pub(super) fn fields(section: &Bytes, max: usize) -> Result<HeaderMap, Reject> {
    let mut slots = vec![httparse::EMPTY_HEADER; max];
    match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((_, parsed))) => collect(section, parsed),
        Ok(httparse::Status::Partial) => Err(Reject::Malformed("a field is incomplete")),
        Err(error) => Err(reject(error)),
    }
}

fn reject(error: httparse::Error) -> Reject {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => Reject::FieldsTooMany,
        Error::Version => Reject::Version,
        Error::HeaderName => Reject::Malformed("a field name is malformed"),
        Error::HeaderValue => Reject::Malformed("a field value is malformed"),
        Error::NewLine => Reject::Malformed("a line ends in a bare CR"),
        Error::Token | Error::Status => Reject::Malformed("the request line is malformed"),
    }
}

fn collect(bytes: &Bytes, parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, Reject> {
    let mut fields = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Reject::Malformed("a field name is malformed"))?;
        let value = if field.value.is_empty() { Bytes::new() } else { bytes.slice_ref(field.value) };
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| Reject::Malformed("a field value is malformed"))?;
        fields.try_append(name, value).map_err(|_| Reject::FieldsTooMany)?;
    }
    Ok(fields)
}

/// The four forms of a target (RFC 9112, Request Target).
fn target(method: &Method, target: &str) -> Result<Uri, Reject> {
    const MALFORMED: Reject = Reject::Malformed("the request target is malformed");
    if target.contains('#') {
        return Err(Reject::Malformed("the request target has a fragment"));
    }
    let uri: Uri = target.parse().map_err(|_| MALFORMED)?;
    let form_fits = match target.as_bytes().first() {
        Some(b'/') => *method != Method::CONNECT,
        Some(b'*') => *method == Method::OPTIONS && target == "*",
        _ if *method == Method::CONNECT => uri.scheme().is_none() && uri.port().is_some(),
        _ => matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some(),
    };
    if !form_fits || uri.authority().is_some_and(|authority| !is_sound(authority)) {
        return Err(MALFORMED);
    }
    Ok(uri)
}

/// Exactly one sound `Host` in HTTP/1.1. That of an absolute target wins (RFC 9112, absolute-form).
fn host(uri: &Uri, version: Version, fields: &mut HeaderMap) -> Result<(), Reject> {
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Reject::Malformed("more than one Host")),
        (None, _) if version == Version::HTTP_11 => return Err(Reject::Malformed("no Host")),
        (None, _) => {}
        (Some(host), None) => {
            let sound = host.is_empty()
                || Authority::try_from(host.as_bytes()).is_ok_and(|authority| is_sound(&authority));
            if !sound {
                return Err(Reject::Malformed("the Host is malformed"));
            }
        }
    }
    if uri.scheme().is_some()
        && let Some(authority) = uri.authority()
    {
        let value = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Reject::Malformed("the request target is malformed"))?;
        fields.insert(header::HOST, value);
    }
    Ok(())
}

/// A host and, where there is one, a port from 0 to 65535. An empty port is allowed and means the default one (RFC 3986, Port).
//= IETF-CRE-21
pub(crate) fn is_sound(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host());
    port.is_some_and(|port| matches!(port, "" | ":") || authority.port_u16().is_some())
}

/// Where the content ends (RFC 9112, Message Body Length): by one unmistakable statement, or not at all.
fn framing(version: Version, fields: &HeaderMap) -> Result<Framing, Reject> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Reject::Malformed("more than one Content-Length"));
    }
    if fields.contains_key(header::TRANSFER_ENCODING) {
        if length.is_some() {
            return Err(Reject::Malformed("both Content-Length and Transfer-Encoding"));
        }
        if version != Version::HTTP_11 {
            return Err(Reject::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        return transfer_encoding(fields);
    }
    let Some(length) = length else { return Ok(Framing::Done) };
    let digits = length.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Reject::Malformed("the Content-Length is not a number"));
    }
    let length = length.to_str().ok().and_then(|digits| digits.parse().ok());
    length.map(Framing::length).ok_or(Reject::Malformed("the Content-Length is too large"))
}

fn transfer_encoding(fields: &HeaderMap) -> Result<Framing, Reject> {
    let mut codings = Vec::new();
    for value in fields.get_all(header::TRANSFER_ENCODING) {
        let value = value.to_str().map_err(|_| Reject::Coding)?;
        codings.extend(value.split(',').map(|coding| coding.trim_matches([' ', '\t'])));
    }
    let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
    match codings.as_slice() {
        [only] if is_chunked(only) => Ok(Framing::chunked()),
        [front @ .., last] if is_chunked(last) && !front.iter().any(&is_chunked) => Err(Reject::Coding),
        all if all.iter().any(is_chunked) => {
            Err(Reject::Malformed("chunked is not the last transfer coding, once"))
        }
        _ => Err(Reject::Coding),
    }
}

fn expects_continue(version: Version, fields: &HeaderMap) -> Result<bool, Reject> {
    let mut expects = false;
    for value in fields.get_all(header::EXPECT) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Reject::Expectation);
        }
        expects = true;
    }
    // HTTP/1.0 has no interim responses (RFC 9110, Expect).
    Ok(expects && version == Version::HTTP_11)
}

fn keep_alive(version: Version, fields: &HeaderMap) -> bool {
    let says = |option: &str| {
        fields
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(option))
    };
    !says("close") && (version == Version::HTTP_11 || says("keep-alive"))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
