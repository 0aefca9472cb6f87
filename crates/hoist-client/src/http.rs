//! Requests and their responses, over connections that are reused.
//!
//! Owns sockets, TLS and the idle timeout. A connection makes progress only while a caller awaits a response, so dropping
//! that future leaves no task behind.

mod alternative;
mod connect;
mod diagnosis;
mod dial;
mod driven;
mod exchange;
mod h1;
mod h2;
mod io;
mod proxy;
mod tls_fault;
mod trust;
mod wire_log;

use std::pin::pin;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Uri, header};
use tokio::time::Instant;

#[cfg(feature = "dns")]
pub(crate) use self::alternative::Alternative;
pub(crate) use self::alternative::Alternatives;
use self::connect::Connection;
pub(crate) use self::connect::Connector;
pub use self::diagnosis::requires_tls;
pub(crate) use self::dial::{Resolve, SystemResolver};
pub(crate) use self::exchange::{
    ExchangeEnd, ExchangeError, ExpectContinue, InterimObserver, OutgoingRequest,
};
use self::exchange::{NoObserver, USER_AGENT};
use self::h2::SchemeIsHttps;
use self::io::Traffic;
pub use self::proxy::Proxies;
use self::proxy::Proxy;
pub use self::tls_fault::handshake_failure;
pub(crate) use self::trust::Roots;
pub use self::trust::Trust;
use self::wire_log::{LoggedInterims, WireLog};
use crate::error::Error;
use crate::location;
use crate::origin::Origin;
use crate::progress::ContentFlow;
use crate::redirect::Redirects;
use crate::response::FinalResponse;
use crate::source::RequestBody;

/// The number of intervals at which a connection is checked for traffic within its idle timeout.
const IDLE_CHECKS: u32 = 8;

/// The version of HTTP to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2 {
    /// HTTP/2 if the server selects it during the TLS handshake, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/2 without negotiation, in cleartext too.
    PriorKnowledge,
    /// HTTP/1.1.
    Never,
}

/// The connection of the last request, used again if the next one goes to the same origin and it is still open.
#[derive(Default)]
pub(crate) struct ReusedConnection {
    open: Option<(Origin, Connection)>,
}

impl ReusedConnection {
    /// Sends a request without content and follows redirects. `patience` is the longest time to wait for the server.
    /// Dropping the future closes the connection.
    pub(crate) async fn query(
        &mut self,
        connector: &Connector,
        url: &Uri,
        mut head: Request<()>,
        caller_origin: &Origin,
        now: Instant,
        patience: Duration,
    ) -> Result<FinalResponse, ExchangeError> {
        let (mut url, mut redirects) = (url.clone(), Redirects::default());
        loop {
            let request = OutgoingRequest::without_content(head.clone(), caller_origin.clone(), patience);
            let ended = self.exchange(connector, &url, request, now, &mut NoObserver).await;
            let response = match ended {
                Err(failed) => {
                    let origin = Origin::of(&url).map_err(|error| ExchangeError { error, ..failed })?;
                    return Err(ExchangeError {
                        error: connector.diagnose(&origin, failed.error).await,
                        ..failed
                    });
                }
                Ok(ended) => ended,
            };
            let response = match response {
                ExchangeEnd::Response(response) => response,
                ExchangeEnd::Stopped { .. } => unreachable!("the observer stops no request"),
            };
            let next = redirects.next(&head, &url, &response);
            match next.map_err(|error| ExchangeError { error, reached: true, sent: 0 })? {
                Some(next) => url = next,
                None => return Ok(response),
            }
            *head.uri_mut() = location::request_uri(&url);
        }
    }

    /// Sends a request to the origin of `url` and returns the final response, which may arrive before all content has
    /// been sent. `observer` is called for each interim response.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. The server may have received the request, or part of it.
    pub(crate) async fn exchange(
        &mut self,
        connector: &Connector,
        url: &Uri,
        outgoing: OutgoingRequest,
        now: Instant,
        observer: &mut impl InterimObserver,
    ) -> Result<ExchangeEnd, ExchangeError> {
        let flow = outgoing.content.meter.flow.clone();
        let not_sent = |error| ExchangeError { error, reached: false, sent: 0 };
        let origin = Origin::of(url).map_err(not_sent)?;
        let OutgoingRequest { head, content, expect_continue, caller_origin, patience } = outgoing;
        let credentials = connector.credentials.fields(&caller_origin, &origin);
        let forwarder = connector.forwarder(&origin);
        let request = with_connection_fields(&origin, forwarder.as_ref(), head, content, &credentials)
            .map_err(not_sent)?;
        let mut connection = if let Some(connection) = self.reusable(&origin).await {
            connection
        } else {
            let opened = connector.open(&origin, now, patience).await;
            opened.map_err(|error| not_sent(connector.first_contact_error(&origin, error)))?
        };
        let traffic = connection.traffic.clone();
        let log = WireLog::new(connection.http_version(), &credentials);
        if let Some(log) = &log {
            log.request(&request);
        }
        let mut observer = LoggedInterims { observer, log: log.as_ref() };
        let exchange = connection.exchange(request, &flow, expect_continue, &mut observer);
        let ended = unless_idle(connector.idle_timeout.min(patience), &traffic, &flow, exchange).await;
        let (end, is_reusable) = ended.map_err(|failed| {
            let got_alert = !origin.is_secure() && traffic.received_tls_alert();
            let error = if got_alert { speaks_tls(&origin) } else { failed.error };
            ExchangeError { error: connector.first_contact_error(&origin, error), ..failed }
        })?;
        connector.origins.update(&origin, |facts| facts.has_responded = true);
        if let ExchangeEnd::Response(response) = &end {
            if let Some(log) = &log {
                log.response(response);
            }
            if let Some(error) = foreign_response_error(&origin, forwarder.as_ref(), response) {
                return Err(not_sent(error));
            }
            connector.learn_alternatives(&origin, response, now);
        }
        if is_reusable && !traffic.peer_stopped_reading() {
            self.open = Some((origin, connection));
        }
        Ok(end)
    }

    /// Takes the connection of the last request if it leads to this origin and is still open.
    async fn reusable(&mut self, origin: &Origin) -> Option<Connection> {
        let (to, mut connection) = self.open.take()?;
        (to == *origin && connection.is_reusable().await).then_some(connection)
    }
}

/// Adds the header fields that every request needs. A request that a proxy forwards has an absolute URL.
fn with_connection_fields(
    origin: &Origin,
    forwarder: Option<&Proxy>,
    head: Request<()>,
    content: RequestBody,
    credentials: &HeaderMap,
) -> Result<Request<RequestBody>, Error> {
    let (mut parts, ()) = head.into_parts();
    let host = HeaderValue::try_from(origin.host_field()).map_err(|_| Error::Field("the host"))?;
    parts.headers.insert(header::HOST, host);
    parts.headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    parts.headers.extend(credentials.clone());
    if let Some(proxy) = forwarder {
        let absolute = format!("{origin}{}", parts.uri).parse();
        parts.uri = absolute.map_err(|_| Error::Field("the path of the url"))?;
        if let Some(authorization) = &proxy.authorization {
            parts.headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
    }
    parts.extensions.insert(SchemeIsHttps(origin.is_secure()));
    Ok(Request::from_parts(parts, content))
}

fn speaks_tls(origin: &Origin) -> Error {
    Error::Scheme { authority: origin.authority(), speaks_tls: true }
}

/// Returns the error for a response that does not come from the service at the URL: a proxy requires credentials, or a
/// server that expects TLS answers a cleartext request.
fn foreign_response_error(
    origin: &Origin,
    forwarder: Option<&Proxy>,
    response: &FinalResponse,
) -> Option<Error> {
    /// Phrases of nginx, Go and Apache.
    const WANTS_TLS: [&str; 3] =
        ["sent to HTTPS port", "HTTP request to an HTTPS server", "plain HTTP to an SSL-enabled"];
    if let (Some(proxy), 407) = (forwarder, response.status.as_u16()) {
        return Some(proxy.refused(response.status));
    }
    let is_candidate = !origin.is_secure() && response.status.as_u16() == 400;
    let contains =
        |phrase: &str| response.content.windows(phrase.len()).any(|part| part == phrase.as_bytes());
    (is_candidate && WANTS_TLS.into_iter().any(contains)).then(|| speaks_tls(origin))
}

/// Awaits an exchange until no byte has moved for the idle timeout. Time spent waiting for the source does not count.
async fn unless_idle<T>(
    limit: Duration,
    traffic: &Traffic,
    flow: &ContentFlow,
    exchange: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    let mut exchange = pin!(exchange);
    let (mut last, mut idle_checks) = (0, 0);
    loop {
        if let Ok(ended) = tokio::time::timeout(limit / IDLE_CHECKS, &mut exchange).await {
            return ended;
        }
        let bytes = traffic.bytes();
        idle_checks = if bytes == last && !flow.is_starved() { idle_checks + 1 } else { 0 };
        last = bytes;
        if idle_checks == IDLE_CHECKS {
            return Err(ExchangeError { error: Error::Idle(limit), reached: true, sent: flow.bytes() });
        }
    }
}
