//! One request and its answer, over a connection that is kept for the next.
//!
//! Owns sockets, TLS and the idle timeout. The connection is driven by the future that waits for the answer, so that
//! dropping that future leaves nothing behind.

mod alternative;
mod driven;
mod h1;
mod h2;
mod io;
mod trust;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hoist_proto::client::Heard;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::error::Error;
use crate::origin::{Credentials, Origin, bare};
use crate::progress::Flow;
use crate::source::{Content, Gate};
#[cfg(feature = "dns")]
pub(crate) use alternative::Alternative;
pub(crate) use alternative::Alternatives;
use io::{Moved, Stream, Watched};
pub use trust::Trust;

/// The most content kept of an answer.
const ANSWER_BYTES: usize = 1024 * 1024;
/// How finely the idle timeout is measured.
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
    /// Fields the caller has given.
    pub(crate) credentials: Credentials,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) http2: Http2,
}

/// A final answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Bytes,
    /// Bytes of the request's content handed to the connection when the answer came.
    pub(crate) sent: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) error: Error,
    /// Whether anything of the request can have reached the server.
    pub(crate) reached: bool,
    /// Bytes of the request's content handed to the connection.
    pub(crate) sent: u64,
}

/// How an exchange ended that was not broken off.
#[derive(Debug)]
pub(crate) enum Ended {
    /// With the final answer.
    Answered(Answer),
    /// By the wish of who heard an interim response.
    Stopped {
        /// Bytes of the request's content handed to the connection.
        sent: u64,
    },
}

/// A sign that is awaited before content is sent, and for how long.
pub(crate) struct Awaited {
    pub(crate) gate: Gate,
    pub(crate) limit: Duration,
}

/// What goes out in one request.
pub(crate) struct Outgoing {
    pub(crate) head: Request<()>,
    pub(crate) content: Content,
    pub(crate) awaited: Option<Awaited>,
    /// The origin of the URL that the caller has given, which alone gets the caller's fields.
    pub(crate) given: Origin,
}

impl Outgoing {
    /// A request without content.
    pub(crate) fn question(head: Request<()>, given: Origin) -> Self {
        Self { head, content: Content::none(), awaited: None, given }
    }
}

/// Whether a request goes over TLS, as one of its extensions: HTTP/2 spells it.
#[derive(Clone, Copy)]
struct Secure(bool);

/// Who is told of interim responses.
pub(crate) trait Hears: Send {
    /// One came, when `sent` bytes of the request's content had been handed over.
    fn hear<'a>(&'a mut self, status: StatusCode, fields: &'a HeaderMap, sent: u64) -> Hearing<'a>;
}

/// What is to become of the request, once that is known.
pub(crate) type Hearing<'a> = Pin<Box<dyn Future<Output = Heard> + Send + 'a>>;

/// To whom they say nothing.
pub(crate) struct Deaf;

impl Hears for Deaf {
    fn hear<'a>(&'a mut self, _: StatusCode, _: &'a HeaderMap, _: u64) -> Hearing<'a> {
        Box::pin(std::future::ready(Heard::GoOn))
    }
}

/// A connection, open, as the version of HTTP it speaks has it.
enum Wire {
    H1(h1::Kept),
    H2(h2::Kept),
}

/// A connection to wherever the next request goes: the one of the last, if it is still good.
#[derive(Default)]
pub(crate) struct Line {
    kept: Option<(Origin, Wire)>,
}

/// Why a request over an open connection has no answer.
struct Unanswered {
    error: Error,
    /// Whether anything of the request can have reached the server.
    reached: bool,
}

impl Connector {
    /// Asks something without content, over a connection of its own.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. The server may have the request.
    pub(crate) async fn ask(&self, url: &Uri, question: Outgoing, now: Instant) -> Result<Answer, Broken> {
        match Line::default().exchange(self, url, question, now, &mut Deaf).await? {
            Ended::Answered(answer) => Ok(answer),
            Ended::Stopped { .. } => unreachable!("no interim response stops it"),
        }
    }

    /// Remembers where else the server says it can be reached.
    fn hear(&self, place: &Origin, answer: &Answer, now: Instant) {
        let field = hoist_proto::field::list(&answer.fields, &header::ALT_SVC);
        let field = field.as_ref().and_then(|field| field.to_str().ok());
        if let (true, Some(field)) = (place.is_secure(), field) {
            self.alternatives.hear(&place.authority(), field, now);
        }
    }

    /// Connects, within the time for it.
    async fn open(&self, place: &Origin, now: Instant) -> Result<Wire, Error> {
        // Boxed, because the state of a TLS handshake would make every future around this one as large.
        let connect = Box::pin(async {
            let (stream, speaks_h2) = self.connect(place, now).await?;
            let moved = Arc::new(Moved::default());
            let stream = Watched::new(stream, moved.clone());
            if speaks_h2 {
                h2::Kept::open(stream, moved).await.map(Wire::H2)
            } else {
                h1::Kept::open(stream, moved).await.map(Wire::H1)
            }
        });
        let late = |_| {
            let source = std::io::ErrorKind::TimedOut.into();
            Error::Connect { authority: place.authority(), source }
        };
        tokio::time::timeout(self.connect_timeout, connect).await.map_err(late).flatten()
    }

    /// Connects to where the origin is served, or, when that other place fails, to the origin itself.
    async fn connect(&self, place: &Origin, now: Instant) -> Result<(Stream, bool), Error> {
        if !place.is_secure() {
            let stream = socket(place, place.host(), place.port()).await?;
            return Ok((Box::new(stream), self.http2 == Http2::PriorKnowledge));
        }
        let authority = place.authority();
        if let Some(other) = self.alternatives.of(&authority, now) {
            let host = other.host.as_deref().map_or(place.host(), bare);
            let attempt = self.connect_securely(place, host, other.port);
            // Half of the time is the origin's.
            if let Ok(Ok(stream)) = tokio::time::timeout(self.connect_timeout / 2, attempt).await {
                return Ok(stream);
            }
            tracing::debug!(host, port = other.port, "another place does not serve the origin as it should");
            self.alternatives.forget(&authority);
        }
        self.connect_securely(place, place.host(), place.port()).await
    }

    async fn connect_securely(&self, place: &Origin, host: &str, port: u16) -> Result<(Stream, bool), Error> {
        let untrusted = |source| Error::Tls { authority: place.authority(), source };
        let name = ServerName::try_from(place.host().to_owned())
            .map_err(|error| untrusted(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(self.trust.config(self.http2).await?);
        let stream = connector.connect(name, socket(place, host, port).await?).await.map_err(|source| {
            // Certificates and versions do not get better by waiting; a connection that was cut does.
            let distrust =
                source.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>);
            if distrust { untrusted(source) } else { Error::Connect { authority: place.authority(), source } }
        })?;
        let speaks_h2 =
            stream.get_ref().1.alpn_protocol() == Some(b"h2") || self.http2 == Http2::PriorKnowledge;
        Ok((Box::new(stream), speaks_h2))
    }
}

async fn socket(place: &Origin, host: &str, port: u16) -> Result<TcpStream, Error> {
    let failed = |source| Error::Connect { authority: place.authority(), source };
    let socket = TcpStream::connect((host, port)).await.map_err(failed)?;
    // Without it the last, small segment of each request waits for the acknowledgement of the one before.
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}

/// Adds what every request of this client carries.
fn complete(
    place: &Origin,
    head: Request<()>,
    content: Content,
    fields: HeaderMap,
) -> Result<Request<Content>, Error> {
    let (mut parts, ()) = head.into_parts();
    let host = HeaderValue::try_from(place.host_field()).map_err(|_| Error::Field("the host"))?;
    parts.headers.insert(header::HOST, host);
    let agent = HeaderValue::from_static(concat!("hoist-client/", env!("CARGO_PKG_VERSION")));
    parts.headers.insert(header::USER_AGENT, agent);
    parts.headers.extend(fields);
    parts.extensions.insert(Secure(place.is_secure()));
    Ok(Request::from_parts(parts, content))
}

impl Line {
    /// Sends a request to the host of `url` and reads the answer, also one that comes before all content was sent.
    /// `hears` is told of each interim response.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. The server may have the request, or part of it.
    pub(crate) async fn exchange(
        &mut self,
        connector: &Connector,
        url: &Uri,
        outgoing: Outgoing,
        now: Instant,
        hears: &mut dyn Hears,
    ) -> Result<Ended, Broken> {
        let flow = outgoing.content.meter().flow();
        let unreached = |error| Broken { error, reached: false, sent: 0 };
        let place = Origin::of(url).map_err(unreached)?;
        let Outgoing { head, content, awaited, given } = outgoing;
        let fields = connector.credentials.fields(&given, &place);
        let request = complete(&place, head, content, fields).map_err(unreached)?;
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
                Wire::H1(kept) => kept.converse(request, &flow, awaited, hears).await,
                Wire::H2(kept) => kept.converse(request, &flow, awaited, hears).await,
            }
        };
        let ended = unless_idle(connector.idle_timeout, &moved, &flow, talk).await;
        let (ended, is_good) =
            ended.map_err(|Unanswered { error, reached }| Broken { error, reached, sent: flow.bytes() })?;
        if let Ended::Answered(answer) = &ended {
            connector.hear(&place, answer, now);
        }
        if is_good && !moved.is_deaf() {
            self.kept = Some((place, wire));
        }
        Ok(ended)
    }
}

impl Wire {
    fn moved(&self) -> Arc<Moved> {
        match self {
            Self::H1(kept) => kept.moved(),
            Self::H2(kept) => kept.moved(),
        }
    }

    /// Finds out whether the connection is still there, which nobody looked at since the last answer.
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
    moved: &Moved,
    flow: &Flow,
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
