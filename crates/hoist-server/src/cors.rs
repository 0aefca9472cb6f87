//! Cross-origin requests from browsers (Fetch, CORS protocol).
//!
//! Owns the `Access-Control-*` fields. They are on every response, errors included, because a page that cannot read an
//! error cannot resume its upload.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// The origins whose pages may use the server from a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Every origin, without credentials of the browser's own (cookies). The default.
    #[default]
    Any,
    /// These origins, spelled as browsers do: `https://example.org`.
    Origins(Vec<HeaderValue>),
    /// These origins, and their pages may send the browser's own credentials: cookies, client certificates, HTTP
    /// passwords. For a proxy in front that checks them; this server does not.
    Credentialed(Vec<HeaderValue>),
    /// No origin: no CORS field is ever sent.
    Off,
}

/// Spelled out, because `*` does not cover `Authorization`.
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

pub(crate) struct CorsRequest {
    origin: Option<HeaderValue>,
    preflight: bool,
}

impl CorsRequest {
    pub(crate) fn of(method: &Method, fields: &HeaderMap) -> Self {
        let preflight =
            method == Method::OPTIONS && fields.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Self { origin: fields.get(header::ORIGIN).cloned(), preflight }
    }
}

/// Returns the fields that a page may send: those of every dialect, and `more`.
pub(crate) fn allowed(more: &[HeaderName]) -> HeaderValue {
    let names: Vec<&str> =
        std::iter::once(ALLOW_HEADERS).chain(more.iter().map(HeaderName::as_str)).collect();
    HeaderValue::try_from(names.join(", ")).expect("names of fields are visible ASCII")
}

impl Cors {
    /// Adds the fields with which a browser lets a page read the response, and send the fields in `sendable`.
    pub(crate) fn apply(&self, asked: &CorsRequest, sendable: &HeaderValue, fields: &mut HeaderMap) {
        if let Self::Origins(_) | Self::Credentialed(_) = self {
            // Also without `Origin`: otherwise a cache could serve the response of a request without one to a page.
            fields.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = &asked.origin else { return };
        let allowed = match self {
            Self::Any => HeaderValue::from_static("*"),
            Self::Origins(origins) | Self::Credentialed(origins) if origins.contains(origin) => {
                origin.clone()
            }
            // The status stays the same: without these fields a browser withholds the response from the page, and other
            // clients do not apply CORS.
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
