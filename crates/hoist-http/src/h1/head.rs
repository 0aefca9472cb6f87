//! The head of an HTTP/1.1 request: request line and fields, strictly as in RFC 9112.
//!
//! Pure: bytes in, a [`Head`] or a [`Rejection`] out. `httparse` parses the grammar. This module rejects input that it
//! tolerates, and everything that could make two servers disagree about the end of a message.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri, Version};

use super::body::Framing;
use super::fields;
use crate::fields::{expects_continue, is_sound, is_sound_host};
use crate::limits::Limits;
use crate::rejection::Rejection;

/// The parsed head of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
    pub(crate) framing: Framing,
    /// True if the peer may use the connection again.
    pub(crate) keep_alive: bool,
    /// True if the peer waits for `100 (Continue)` before it sends the content.
    pub(crate) expects_continue: bool,
}

/// The parser of the heads in a connection's bytes, however they are cut into segments.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// Bytes of the buffer already searched for the end of the head.
    scanned: usize,
    has_begun: bool,
    empty_lines: u8,
}

impl Heads {
    /// Takes one head from the front of `buf`. Returns `None` if it is incomplete.
    pub(crate) fn next(&mut self, buf: &mut BytesMut, limits: &Limits) -> Result<Option<Head>, Rejection> {
        if !self.has_begun {
            // Old clients send an empty line after a body. More than a few are an attack.
            while self.empty_lines < 4 && buf.starts_with(b"\r\n") {
                buf.advance(2);
                self.empty_lines += 1;
            }
            match buf.first() {
                None => return Ok(None),
                Some(b'\r') if buf.len() == 1 && self.empty_lines < 4 => return Ok(None),
                // Detects TLS on a cleartext port and the like at once.
                Some(byte) if !is_token(*byte) => {
                    return Err(Rejection::malformed("the request line does not begin with a method"));
                }
                Some(_) => self.has_begun = true,
            }
        }
        let seen = &buf[..buf.len().min(limits.head_bytes_max)];
        match fields::section_end(seen, &mut self.scanned) {
            Ok(Some(end)) => {
                // Copied, so that fields do not keep the large read buffer from being used again.
                let bytes = Bytes::copy_from_slice(&buf[..end]);
                buf.advance(end);
                *self = Heads::default();
                parse(&bytes, limits).map(Some)
            }
            Ok(None) if buf.len() >= limits.head_bytes_max => {
                let line_ended = seen.contains(&b'\n');
                Err(if line_ended { Rejection::HEAD_TOO_LARGE } else { Rejection::TARGET_TOO_LONG })
            }
            Ok(None) => Ok(None),
            Err(()) => Err(Rejection::malformed("a line ends in a bare LF")),
        }
    }
}

/// The number of fields for which a head needs no allocation while it is parsed.
const FEW_FIELDS: usize = 128;

fn parse(bytes: &Bytes, limits: &Limits) -> Result<Head, Rejection> {
    let mut few = [const { MaybeUninit::uninit() }; FEW_FIELDS];
    let mut many;
    let slots = if limits.fields_max <= FEW_FIELDS {
        &mut few[..limits.fields_max]
    } else {
        many = vec![MaybeUninit::uninit(); limits.fields_max];
        &mut many[..]
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Rejection::malformed("the head is incomplete")),
        Err(error) => return Err(fields::rejection(error)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Rejection::malformed("the request line is malformed"));
    };
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| Rejection::malformed("the method is malformed"))?;
    let mut fields = fields::collect(bytes, request.headers)?;
    let uri = self::target(&method, target)?;
    host(&uri, version, &mut fields)?;
    let framing = framing(version, &fields)?;
    if method == Method::CONNECT {
        return Err(Rejection::CONNECT);
    }
    // HTTP/1.0 has no interim responses (RFC 9110, Expect).
    let expects_continue =
        expects_continue(&fields)? && version == Version::HTTP_11 && framing != Framing::Done;
    let keep_alive = keep_alive(version, &fields);
    Ok(Head { method, uri, version, fields, framing, keep_alive, expects_continue })
}

/// Parses one of the four forms of a target (RFC 9112, Request Target).
fn target(method: &Method, target: &str) -> Result<Uri, Rejection> {
    const MALFORMED: Rejection = Rejection::malformed("the request target is malformed");
    if target.contains('#') {
        return Err(Rejection::malformed("the request target has a fragment"));
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

/// Checks that an HTTP/1.1 request has one sound `Host`. The host of an absolute target replaces it (RFC 9112,
/// absolute-form).
fn host(uri: &Uri, version: Version, fields: &mut HeaderMap) -> Result<(), Rejection> {
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Rejection::malformed("more than one Host")),
        (None, _) if version == Version::HTTP_11 => return Err(Rejection::malformed("no Host")),
        (Some(host), None) if !is_sound_host(host) => {
            return Err(Rejection::malformed("the Host is malformed"));
        }
        (_, None) => {}
    }
    if uri.scheme().is_some()
        && let Some(authority) = uri.authority()
    {
        let value = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Rejection::malformed("the request target is malformed"))?;
        fields.insert(header::HOST, value);
    }
    Ok(())
}

/// Returns the framing of the content (RFC 9112, Message Body Length), which must be stated once.
fn framing(version: Version, fields: &HeaderMap) -> Result<Framing, Rejection> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Rejection::malformed("more than one Content-Length"));
    }
    if fields.contains_key(header::TRANSFER_ENCODING) {
        if length.is_some() {
            return Err(Rejection::malformed("both Content-Length and Transfer-Encoding"));
        }
        if version != Version::HTTP_11 {
            return Err(Rejection::malformed("Transfer-Encoding in HTTP/1.0"));
        }
        return transfer_encoding(fields);
    }
    let Some(length) = length else { return Ok(Framing::Done) };
    let digits = length.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Rejection::malformed("the Content-Length is not a number"));
    }
    let length = length.to_str().ok().and_then(|digits| digits.parse().ok());
    length.map(Framing::length).ok_or(Rejection::malformed("the Content-Length is too large"))
}

fn transfer_encoding(fields: &HeaderMap) -> Result<Framing, Rejection> {
    let mut codings = Vec::new();
    for value in fields.get_all(header::TRANSFER_ENCODING) {
        let value = value.to_str().map_err(|_| Rejection::UNKNOWN_TRANSFER_CODING)?;
        codings.extend(value.split(',').map(|coding| coding.trim_matches([' ', '\t'])));
    }
    let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
    match codings.as_slice() {
        [only] if is_chunked(only) => Ok(Framing::chunked()),
        [front @ .., _] if front.iter().any(is_chunked) => {
            Err(Rejection::malformed("chunked is not the last transfer coding, once"))
        }
        _ => Err(Rejection::UNKNOWN_TRANSFER_CODING),
    }
}

fn keep_alive(version: Version, fields: &HeaderMap) -> bool {
    let has = |option| fields::has_connection_option(fields, option);
    !has("close") && (version == Version::HTTP_11 || has("keep-alive"))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
