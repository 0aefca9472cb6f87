//! One request and its answer, over a connection that is kept for the next.
//!
//! Owns sockets, TLS and the idle timeout. The connection is driven by the future that waits for the answer, so that
//! dropping that future leaves nothing behind.

mod alternative;
mod connect;
mod dial;
mod driven;
mod h1;
mod h2;
mod io;
mod proxy;
mod trust;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hoist_proto::client::Heard;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header};
use tokio::time::Instant;

use crate::error::Error;
use crate::origin::{Credentials, Origin};
use crate::progress::ContentFlow;
use crate::redirect::{self, Hops};
use crate::source::{Gate, RequestBody};
#[cfg(feature = "dns")]
pub(crate) use alternative::Alternative;
pub(crate) use alternative::Alternatives;
pub use connect::handshake_failure;
pub(crate) use dial::{Resolve, System};
use h1::H1Connection;
use h2::H2Connection;
use io::Traffic;
pub use proxy::Proxies;
use proxy::Proxy;
pub use trust::Trust;

/// The most content kept of an answer.
const ANSWER_BYTES: usize = 1024 * 1024;
/// The program, as servers and proxies are told.
const AGENT: &str = concat!("hoist-client/", env!("CARGO_PKG_VERSION"));
/// The number of slices in which the idle timeout is measured.
const IDLE_SLICES: u32 = 8;

/// Which version of HTTP to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2 {
    /// HTTP/2 where a server chooses it over TLS, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/2, without asking, also in cleartext.
    PriorKnowledge,
    /// HTTP/1.1.
    Never,
}

/// Everything a connection is made with.
pub(crate) struct Connector {
    pub(crate) trust: Trust,
    pub(crate) alternatives: Alternatives,
    pub(crate) proxies: Proxies,
    pub(crate) resolver: Arc<dyn Resolve>,
    /// Fields the caller has given.
    pub(crate) credentials: Credentials,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) http2: Http2,
}

/// A final answer.
#[derive(Debug)]
pub(crate) struct FinalResponse {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Bytes,
    /// Bytes of the request's content handed to the connection when the answer came.
    pub(crate) sent: u64,
}

/// The reason why there is no answer.
#[derive(Debug)]
pub(crate) struct ExchangeError {
    pub(crate) error: Error,
    /// True if anything of the request can have reached the server.
    pub(crate) reached: bool,
    /// Bytes of the request's content handed to the connection.
    pub(crate) sent: u64,
}

/// The end of an exchange that was not broken off.
#[derive(Debug)]
pub(crate) enum ExchangeEnd {
    /// With the final answer.
    Response(FinalResponse),
    /// The listener ended it after an interim response.
    Stopped {
        /// Bytes of the request's content handed to the connection.
        sent: u64,
    },
}

/// A sign that is awaited before content is sent, and for how long.
pub(crate) struct ExpectContinue {
    pub(crate) gate: Gate,
    pub(crate) limit: Duration,
}

/// One request as it goes out.
pub(crate) struct OutgoingRequest {
    pub(crate) head: Request<()>,
    pub(crate) content: RequestBody,
    pub(crate) awaited: Option<ExpectContinue>,
    /// The origin of the URL that the caller has given, which alone gets the caller's fields.
    pub(crate) given: Origin,
}

impl OutgoingRequest {
    /// A request without content.
    pub(crate) fn without_content(head: Request<()>, given: Origin) -> Self {
        Self { head, content: RequestBody::none(), awaited: None, given }
    }
}

/// The scheme of a request, as one of its extensions. HTTP/2 sends it; it is true for `https`.
#[derive(Clone, Copy)]
struct SchemeIsHttps(bool);

/// A listener to interim responses.
pub(crate) trait InterimObserver: Send {
    /// Receives each interim response, with the number of content bytes sent before it.
    fn on_interim<'a>(
        &'a mut self,
        status: StatusCode,
        fields: &'a HeaderMap,
        sent: u64,
    ) -> ObserverFuture<'a>;
}

/// The listener's decision about the request, once there is one.
pub(crate) type ObserverFuture<'a> = Pin<Box<dyn Future<Output = Heard> + Send + 'a>>;

/// A listener that ignores them.
pub(crate) struct NoObserver;

impl InterimObserver for NoObserver {
    fn on_interim<'a>(&'a mut self, _: StatusCode, _: &'a HeaderMap, _: u64) -> ObserverFuture<'a> {
        Box::pin(std::future::ready(Heard::GoOn))
    }
}

/// A connection, open, as the version of HTTP it speaks has it.
enum Connection {
    H1(H1Connection),
    H2(H2Connection),
}

/// A connection to wherever the next request goes: the one of the last, if it is still good.
#[derive(Default)]
pub(crate) struct ReusedConnection {
    kept: Option<(Origin, Connection)>,
}

/// The reason why a request over an open connection has no answer.
struct Unanswered {
    error: Error,
    /// True if anything of the request can have reached the server.
    reached: bool,
}

impl Connector {
    /// Remembers where else the server says it can be reached.
    fn hear(&self, place: &Origin, answer: &FinalResponse, now: Instant) {
        let field = hoist_proto::field::list(&answer.fields, &header::ALT_SVC);
        let field = field.as_ref().and_then(|field| field.to_str().ok());
        if let (true, Some(field)) = (place.is_secure(), field) {
            self.alternatives.hear(&place.authority(), field, now);
        }
    }
}

/// Adds what every request of this client carries. A proxy that forwards it is sent the whole URL.
fn complete(
    place: &Origin,
    forwarder: Option<&Proxy>,
    head: Request<()>,
    content: RequestBody,
    fields: HeaderMap,
) -> Result<Request<RequestBody>, Error> {
    let (mut parts, ()) = head.into_parts();
    let host = HeaderValue::try_from(place.host_field()).map_err(|_| Error::Field("the host"))?;
    parts.headers.insert(header::HOST, host);
    parts.headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
    parts.headers.extend(fields);
    if let Some(proxy) = forwarder {
        let whole = format!("{place}{}", parts.uri).parse();
        parts.uri = whole.map_err(|_| Error::Field("the path of the url"))?;
        if let Some(authorization) = &proxy.authorization {
            parts.headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
    }
    parts.extensions.insert(SchemeIsHttps(place.is_secure()));
    Ok(Request::from_parts(parts, content))
}

impl ReusedConnection {
    /// Asks something without content, and asks again where the server leads with 307 or 308.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. The server may have the request.
    pub(crate) async fn ask(
        &mut self,
        connector: &Connector,
        url: &Uri,
        mut head: Request<()>,
        given: &Origin,
        now: Instant,
    ) -> Result<FinalResponse, ExchangeError> {
        let (mut url, mut hops) = (url.clone(), Hops::default());
        loop {
            let request = OutgoingRequest::without_content(head.clone(), given.clone());
            let answer = match self.exchange(connector, &url, request, now, &mut NoObserver).await? {
                ExchangeEnd::Response(answer) => answer,
                ExchangeEnd::Stopped { .. } => unreachable!("no interim response stops it"),
            };
            let next = hops.next(&head, &url, &answer);
            match next.map_err(|error| ExchangeError { error, reached: true, sent: 0 })? {
                Some(next) => url = next,
                None => return Ok(answer),
            }
            *head.uri_mut() = redirect::target(&url);
        }
    }

    /// Sends a request to the host of `url` and reads the answer, also one that comes before all content was sent.
    /// `observer` is told of each interim response.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. The server may have the request, or part of it.
    pub(crate) async fn exchange(
        &mut self,
        connector: &Connector,
        url: &Uri,
        outgoing: OutgoingRequest,
        now: Instant,
        observer: &mut dyn InterimObserver,
    ) -> Result<ExchangeEnd, ExchangeError> {
        let flow = outgoing.content.meter().flow();
        let unreached = |error| ExchangeError { error, reached: false, sent: 0 };
        let place = Origin::of(url).map_err(unreached)?;
        let OutgoingRequest { head, content, awaited, given } = outgoing;
        let fields = connector.credentials.fields(&given, &place);
        let forwarder = connector.forwarder(&place);
        let request = complete(&place, forwarder.as_ref(), head, content, fields).map_err(unreached)?;
        let mut kept = self.kept.take().filter(|(to, _)| *to == place).map(|(_, wire)| wire);
        if let Some(wire) = &mut kept
            && !wire.is_there().await
        {
            kept = None;
        }
        let mut wire = match kept {
            Some(wire) => wire,
            None => connector.open(&place, now).await.map_err(unreached)?,
        };
        let moved = wire.moved();
        let talk = async {
            match &mut wire {
                Connection::H1(kept) => kept.converse(request, &flow, awaited, observer).await,
                Connection::H2(kept) => kept.converse(request, &flow, awaited, observer).await,
            }
        };
        let ended = unless_idle(connector.idle_timeout, &moved, &flow, talk).await;
        let (ended, is_good) = ended.map_err(|Unanswered { error, reached }| {
            let error =
                if !place.is_secure() && moved.received_tls_alert() { speaks_tls(&place) } else { error };
            ExchangeError { error, reached, sent: flow.bytes() }
        })?;
        if let ExchangeEnd::Response(answer) = &ended {
            if let Some(error) = misdirected(&place, forwarder.as_ref(), answer) {
                return Err(unreached(error));
            }
            connector.hear(&place, answer, now);
        }
        if is_good && !moved.peer_stopped_reading() {
            self.kept = Some((place, wire));
        }
        Ok(ended)
    }
}

fn speaks_tls(place: &Origin) -> Error {
    Error::Scheme { authority: place.authority(), speaks_tls: true }
}

/// Finds the error in an answer that does not come from the service at the URL: a proxy asks for credentials, or a server
/// that expects TLS answers in cleartext.
fn misdirected(place: &Origin, forwarder: Option<&Proxy>, answer: &FinalResponse) -> Option<Error> {
    /// The words of nginx, Go and Apache.
    const WANTS_TLS: [&str; 3] =
        ["sent to HTTPS port", "HTTP request to an HTTPS server", "plain HTTP to an SSL-enabled"];
    if let (Some(proxy), 407) = (forwarder, answer.status.as_u16()) {
        return Some(proxy.refused(answer.status));
    }
    let is_plain = !place.is_secure() && answer.status.as_u16() == 400;
    let says = |words: &str| answer.content.windows(words.len()).any(|window| window == words.as_bytes());
    (is_plain && WANTS_TLS.into_iter().any(says)).then(|| speaks_tls(place))
}

impl Connection {
    fn moved(&self) -> Arc<Traffic> {
        match self {
            Self::H1(kept) => kept.moved(),
            Self::H2(kept) => kept.moved(),
        }
    }

    /// Checks that the connection is still open, which it may have ceased to be since the last answer.
    async fn is_there(&mut self) -> bool {
        match self {
            Self::H1(kept) => kept.is_there().await,
            Self::H2(kept) => kept.is_there().await,
        }
    }
}

/// Awaits `work` as long as bytes move, or it is the source that has none.
async fn unless_idle<T>(
    limit: Duration,
    moved: &Traffic,
    flow: &ContentFlow,
    work: impl Future<Output = Result<T, Unanswered>>,
) -> Result<T, Unanswered> {
    let mut work = pin!(work);
    let (mut seen, mut quiet) = (0, 0);
    loop {
        if let Ok(done) = tokio::time::timeout(limit / IDLE_SLICES, &mut work).await {
            return done;
        }
        let now = moved.bytes();
        quiet = if now == seen && !flow.is_starved() { quiet + 1 } else { 0 };
        seen = now;
        if quiet == IDLE_SLICES {
            return Err(Unanswered { error: Error::Idle(limit), reached: true });
        }
    }
}
