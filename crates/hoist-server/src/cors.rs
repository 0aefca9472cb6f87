//! What browsers on other origins may send and see (Fetch, CORS protocol).
//!
//! Owns the `Access-Control-*` fields, on every response alike: an error that a page cannot read is an upload that a page
//! cannot resume.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// Which origins may use the server from a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Every origin, without credentials of the browser's own (cookies). The default.
    #[default]
    Any,
    /// These origins, spelled as browsers do: `https://example.org`.
    Origins(Vec<HeaderValue>),
    /// These origins, and their pages may send the browser's own credentials: cookies, client certificates, passwords it
    /// has been given. For what stands in front of the server; the server itself knows none of these.
    Credentialed(Vec<HeaderValue>),
    /// None: no such field is ever sent.
    Off,
}

/// Lists of names are spelled out, because `*` never covers `Authorization`.
//= TUS1-DF-19, TUS1-HDR-11
const ALLOW_HEADERS: &str = "Authorization, If-Match, If-None-Match, If-Range, Range, Content-Type, Content-Disposition, Content-Encoding, Content-Language, \
    Content-Digest, Repr-Digest, Want-Repr-Digest, Incremental, X-Requested-With, X-Request-ID, \
    X-HTTP-Method-Override, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, Upload-Defer-Length, \
    Upload-Concat, Upload-Checksum, Upload-Complete, Upload-Incomplete, Upload-Draft-Interop-Version, \
    Upload-Draft-Version, Upload-Token, Upload-Index, Client-Upload-Token, Upload-Resumption-Offset";
//= TUS1-DF-11, TUS1-DF-19
const EXPOSE_HEADERS: &str = "Location, Upload-Offset, Upload-Length, Upload-Complete, Upload-Incomplete, Upload-Limit, \
    Upload-Index, Upload-Draft-Interop-Version, Upload-Draft-Version, Upload-Resumption-Offset, Upload-Metadata, \
    Upload-Defer-Length, Upload-Concat, Upload-Expires, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, \
    Tus-Checksum-Algorithm, Repr-Digest, Content-Location, Accept-Patch, Retry-After, Accept-Ranges, Content-Range, \
    Content-Disposition, ETag, WWW-Authenticate";
const ALLOW_METHODS: &str = "POST, PUT, PATCH, HEAD, GET, DELETE, OPTIONS";

/// What of a request decides about the fields of its response.
pub(crate) struct Asked {
    origin: Option<HeaderValue>,
    preflight: bool,
}

impl Asked {
    pub(crate) fn of(method: &Method, fields: &HeaderMap) -> Self {
        let preflight =
            method == Method::OPTIONS && fields.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Self { origin: fields.get(header::ORIGIN).cloned(), preflight }
    }
}

/// The fields a page may send: those of every dialect, and `more`.
pub(crate) fn allowed(more: &[HeaderName]) -> HeaderValue {
    let names: Vec<&str> =
        std::iter::once(ALLOW_HEADERS).chain(more.iter().map(HeaderName::as_str)).collect();
    HeaderValue::try_from(names.join(", ")).expect("names of fields are visible ASCII")
}

impl Cors {
    /// Adds what a browser needs to let a page see the response, and send the fields of `sendable`.
    pub(crate) fn apply(&self, asked: &Asked, sendable: &HeaderValue, fields: &mut HeaderMap) {
        if let Self::Origins(_) | Self::Credentialed(_) = self {
            // Also without `Origin`, or a cache would give a page the answer of a request that had none.
            fields.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = &asked.origin else { return };
        let allowed = match self {
            Self::Any => HeaderValue::from_static("*"),
            Self::Origins(origins) | Self::Credentialed(origins) if origins.contains(origin) => {
                origin.clone()
            }
            // No status of its own: without these fields the browser keeps the answer from the page, and what is not a
            // browser is not held by CORS.
            Self::Origins(_) | Self::Credentialed(_) | Self::Off => return,
        };
        fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if let Self::Credentialed(_) = self {
            fields.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if asked.preflight {
            fields.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOW_METHODS));
            fields.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, sendable.clone());
            fields.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        } else {
            fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSE_HEADERS));
        }
    }
}
