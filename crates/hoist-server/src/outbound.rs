//! A small HTTP client for requests of the server's own, to webhooks and recipients of events.
//!
//! Owns the pool of connections, TLS, and the bounds on an answer: its size, and the time until its end.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use hoist_proto::{base64, hex};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

/// The time after which an unused connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The most connections to one host that are kept unused.
const IDLE_MAX: usize = 32;
/// The time that a connection may take, so that a second address of the host is tried in time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends requests over connections that are used again. Follows no redirects. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Outbound(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// An `http` or `https` URL to send requests to. Its user and password, if any, are sent and never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// The error for text that is not a `Destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a URL that begins with http:// or https:// and has a host")]
pub struct BadDestination;

/// The bounds on an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The time from the beginning of the request to the end of the answer.
    pub(crate) timeout: Duration,
    pub(crate) bytes_max: usize,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Bytes,
}

/// The reason why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    /// The peer cannot be reached, or did not answer in HTTP to the end.
    #[error("{0}")]
    Network(String),
    #[error("did not answer within {0:?}")]
    TooSlow(Duration),
    #[error("answered with more than {0} bytes")]
    TooLarge(usize),
}

impl Outbound {
    /// Creates a client that trusts the certificates of the operating system, which it reads now.
    pub(crate) fn new() -> Self {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (accepted, _) = roots.add_parsable_certificates(found.certs);
        if accepted == 0 {
            let errors = found.errors;
            tracing::warn!(
                ?errors,
                "the operating system has no trusted certificates, so no https URL can be reached"
            );
        }
        Self::with_roots(roots)
    }

    fn with_roots(roots: RootCertStore) -> Self {
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Self(client)
    }

    /// Sends a `POST` request and reads the answer.
    ///
    /// # Errors
    /// Returns an error if there is no whole answer within the bounds. An answer of any status is an answer.
    ///
    /// # Cancellation
    /// If dropped, the peer may have received the request or not.
    pub(crate) async fn post(
        &self,
        to: &Destination,
        fields: HeaderMap,
        content: Bytes,
        bounds: Bounds,
    ) -> Result<Response, OutboundError> {
        let mut request = Request::new(Full::new(content));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = to.uri.clone();
        *request.headers_mut() = fields;
        if let Some(authorization) = &to.authorization {
            request.headers_mut().entry(header::AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        let sent = tokio::time::timeout(bounds.timeout, self.send(request, bounds.bytes_max)).await;
        sent.unwrap_or(Err(OutboundError::TooSlow(bounds.timeout)))
    }

    async fn send(&self, request: Request<Full<Bytes>>, bytes_max: usize) -> Result<Response, OutboundError> {
        let response = self.0.request(request).await;
        let (head, body) = response.map_err(|error| OutboundError::Network(chain(&error)))?.into_parts();
        let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return OutboundError::TooLarge(bytes_max);
            }
            OutboundError::Network(format!("the answer ends early: {}", chain(&*error)))
        })?;
        Ok(Response { status: head.status, fields: head.headers, content: body.to_bytes() })
    }
}

/// Returns an error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl FromStr for Destination {
    type Err = BadDestination;

    fn from_str(text: &str) -> Result<Self, BadDestination> {
        let mut parts = text.parse::<Uri>().map_err(|_| BadDestination)?.into_parts();
        let is_http = |scheme: &Scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
        if !parts.scheme.as_ref().is_some_and(is_http) {
            return Err(BadDestination);
        }
        let authority = parts.authority.take().ok_or(BadDestination)?;
        let mut authorization = None;
        let plain = match authority.as_str().rsplit_once('@') {
            None => authority,
            Some((user, host)) => {
                let mut value =
                    HeaderValue::try_from(format!("Basic {}", base64::encode(&percent_decoded(user))))
                        .map_err(|_| BadDestination)?;
                value.set_sensitive(true);
                authorization = Some(value);
                host.parse::<Authority>().map_err(|_| BadDestination)?
            }
        };
        if plain.host().is_empty() {
            return Err(BadDestination);
        }
        parts.authority = Some(plain);
        let uri = Uri::from_parts(parts).map_err(|_| BadDestination)?;
        Ok(Self { uri, authorization })
    }
}

/// Shows the URL without user and password.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let encoded = behind.get(..2).filter(|_| *first == b'%');
        let decoded = encoded.and_then(|digits| hex::decode(std::str::from_utf8(digits).ok()?));
        if let Some(octet) = decoded.as_deref().and_then(<[u8]>::first) {
            octets.push(*octet);
            rest = &behind[2..];
        } else {
            octets.push(*first);
            rest = behind;
        }
    }
    octets
}

#[cfg(test)]
mod tests;
