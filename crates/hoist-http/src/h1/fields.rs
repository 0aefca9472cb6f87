//! Sections of header fields and trailers in HTTP/1.1.
//!
//! Pure: bytes in, a [`HeaderMap`] or a [`Rejection`] out.

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};

use crate::rejection::Rejection;

/// Returns the end of a section of lines that an empty line closes, searching from `scanned`. A bare LF is an error.
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

/// Parses a section of fields that ends in an empty line.
pub(super) fn parse(section: &Bytes, max: usize) -> Result<HeaderMap, Rejection> {
    let mut slots = vec![httparse::EMPTY_HEADER; max];
    match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((_, parsed))) => collect(section, parsed),
        Ok(httparse::Status::Partial) => Err(Rejection::malformed("a field is incomplete")),
        Err(error) => Err(rejection(error)),
    }
}

pub(super) fn rejection(error: httparse::Error) -> Rejection {
    use httparse::Error;
    match error {
        Error::TooManyHeaders => Rejection::TOO_MANY_FIELDS,
        Error::Version => Rejection::UNKNOWN_VERSION,
        Error::HeaderName => Rejection::malformed("a field name is malformed"),
        Error::HeaderValue => Rejection::malformed("a field value is malformed"),
        Error::NewLine => Rejection::malformed("a line ends in a bare CR"),
        Error::Token | Error::Status => Rejection::malformed("the request line is malformed"),
    }
}

/// Collects the fields parsed from `bytes`. The values share its memory.
pub(super) fn collect(bytes: &Bytes, parsed: &[httparse::Header<'_>]) -> Result<HeaderMap, Rejection> {
    let mut fields = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Rejection::malformed("a field name is malformed"))?;
        let value = if field.value.is_empty() { Bytes::new() } else { bytes.slice_ref(field.value) };
        let value = HeaderValue::from_maybe_shared(value)
            .map_err(|_| Rejection::malformed("a field value is malformed"))?;
        fields.try_append(name, value).map_err(|_| Rejection::TOO_MANY_FIELDS)?;
    }
    Ok(fields)
}

/// Returns whether the `Connection` field has an option, such as `close`.
pub(super) fn has_connection_option(fields: &HeaderMap, option: &str) -> bool {
    let values = fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(option))
}

/// Returns whether a field must not be a trailer, because it frames, routes, authenticates or reinterprets the message
/// (RFC 9110, Limitations on Use of Trailers).
pub(super) fn is_forbidden_trailer(name: &str) -> bool {
    const FORBIDDEN: [&str; 28] = [
        "age",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "location",
        "max-forwards",
        "proxy-authorization",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    FORBIDDEN.binary_search(&name).is_ok()
}
