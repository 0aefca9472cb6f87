//! Tracing events with the heads of requests and responses, for subscribers that show them, such as `hoist put -v`.
//!
//! The target is [`TARGET`]. Each line of a head is one event: `kind` is `request`, `interim` or `response`, `exchange`
//! numbers the request, and either `line` is the first line, or `name` and `value` are those of a field. Values that may be
//! secrets are `...`.

use std::sync::atomic::{AtomicU64, Ordering};

use hoist_proto::client::OnInterim;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};
use http_body::Body as _;

use super::exchange::InterimObserver;
use crate::response::FinalResponse;
use crate::source::RequestBody;

/// The target of the events.
pub(super) const TARGET: &str = "hoist_client::wire";
/// Fields that may have secrets in requests and responses, besides those that the caller adds.
const SECRET: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    HeaderName::from_static("upload-token"),
];

/// The log of one request and its responses.
pub(super) struct WireLog {
    exchange: u64,
    version: Version,
    /// The fields that the caller of this library adds, any of which may be a secret.
    callers: Vec<HeaderName>,
}

impl WireLog {
    /// Returns a log if a subscriber wants it. `callers` has the fields of the caller.
    pub(super) fn new(version: Version, callers: &HeaderMap) -> Option<Self> {
        static EXCHANGES: AtomicU64 = AtomicU64::new(1);
        if !tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            return None;
        }
        let exchange = EXCHANGES.fetch_add(1, Ordering::Relaxed);
        Some(Self { exchange, version, callers: callers.keys().cloned().collect() })
    }

    pub(super) fn request(&self, request: &Request<RequestBody>) {
        let line = format!("{} {} {}", request.method(), request.uri(), self.version_name());
        self.head("request", &line, request.headers());
        // hyper adds the field that tells the server where the content ends.
        if self.version == Version::HTTP_11 && !request.headers().contains_key(header::CONTENT_LENGTH) {
            match request.body().size_hint().exact() {
                Some(0) if *request.method() != Method::POST && *request.method() != Method::PUT => {}
                Some(bytes) => self.field("request", &header::CONTENT_LENGTH, &bytes.to_string()),
                None => self.field("request", &header::TRANSFER_ENCODING, "chunked"),
            }
        }
    }

    pub(super) fn response(&self, response: &FinalResponse) {
        self.status("response", response.status, &response.fields);
    }

    fn status(&self, kind: &str, status: StatusCode, fields: &HeaderMap) {
        let reason = match status.as_u16() {
            104 => "Upload Resumption Supported",
            _ => status.canonical_reason().unwrap_or_default(),
        };
        let line = format!("{} {} {reason}", self.version_name(), status.as_u16());
        self.head(kind, line.trim_end(), fields);
    }

    fn head(&self, kind: &str, line: &str, fields: &HeaderMap) {
        let exchange = self.exchange;
        tracing::debug!(target: TARGET, exchange, kind, line);
        for (name, value) in fields {
            self.field(kind, name, &self.shown(name, value));
        }
    }

    fn field(&self, kind: &str, name: &HeaderName, value: &str) {
        let (exchange, name) = (self.exchange, name.as_str());
        tracing::debug!(target: TARGET, exchange, kind, name, value);
    }

    /// Returns a value as visible ASCII, or `...` if it may be a secret.
    fn shown(&self, name: &HeaderName, value: &HeaderValue) -> String {
        if value.is_sensitive() || SECRET.contains(name) || self.callers.contains(name) {
            return "...".to_owned();
        }
        value.to_str().map_or_else(|_| value.as_bytes().escape_ascii().to_string(), ToOwned::to_owned)
    }

    fn version_name(&self) -> &'static str {
        if self.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }
    }
}

/// An observer that also logs the interim responses.
pub(super) struct LoggedInterims<'a, O> {
    pub(super) observer: &'a mut O,
    pub(super) log: Option<&'a WireLog>,
}

impl<O: InterimObserver> InterimObserver for LoggedInterims<'_, O> {
    async fn on_interim(&mut self, status: StatusCode, fields: &HeaderMap, sent: u64) -> OnInterim {
        if let Some(log) = self.log {
            log.status("interim", status, fields);
        }
        self.observer.on_interim(status, fields, sent).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_may_be_secrets_are_not_shown() {
        let log = WireLog {
            exchange: 1,
            version: Version::HTTP_11,
            callers: vec![HeaderName::from_static("x-api-key")],
        };
        let mut sensitive = HeaderValue::from_static("hush");
        sensitive.set_sensitive(true);
        let plain = |text: &'static [u8]| HeaderValue::from_bytes(text).expect("a value");
        let cases = [
            ("authorization", plain(b"Bearer hush"), "..."),
            ("proxy-authorization", plain(b"Basic hush"), "..."),
            ("cookie", plain(b"a=hush"), "..."),
            ("set-cookie", plain(b"a=hush"), "..."),
            ("upload-token", plain(b":aHVzaA==:"), "..."),
            ("x-api-key", plain(b"hush"), "..."),
            ("x-other", sensitive, "..."),
            ("upload-offset", plain(b"7"), "7"),
            ("etag", plain(b"\"a\xc2\x9b\""), r#"\"a\xc2\x9b\""#),
        ];
        for (name, value, expected) in cases {
            let name = HeaderName::from_static(name);
            assert_eq!(log.shown(&name, &value), expected, "{name}");
        }
    }
}
