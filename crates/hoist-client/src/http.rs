//! One request and its answer over one connection.
//!
//! Owns sockets, TLS and the idle timeout. The connection is driven by the future that waits for the answer, so that
//! dropping that future leaves nothing behind.

mod alternative;
mod io;
mod trust;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::error::Error;
use crate::progress::Meter;
use crate::source::Content;
#[cfg(feature = "dns")]
pub(crate) use alternative::Alternative;
pub(crate) use alternative::Alternatives;
use io::{Stream, Watched};
pub(crate) use trust::Trust;

/// The most content kept of an answer.
const ANSWER_BYTES: usize = 1024 * 1024;
/// How finely the idle timeout is measured.
const IDLE_SLICES: u32 = 8;

/// Everything a connection is made with.
pub(crate) struct Connector {
    pub(crate) trust: Trust,
    pub(crate) alternatives: Alternatives,
    /// Sent with every request.
    pub(crate) fields: HeaderMap,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
}

/// A final answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
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

/// Where a URL points to.
struct Place<'a> {
    secure: bool,
    host: &'a str,
    port: u16,
}

impl<'a> Place<'a> {
    fn of(url: &'a Uri) -> Result<Self, Error> {
        let wrong = |wrong| Error::Url { url: url.to_string(), wrong };
        let secure = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong("is not an http or https url")),
        };
        let authority = url.authority().ok_or_else(|| wrong("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("holds credentials: give them apart from the url"));
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host: authority.host(), port })
    }

    fn bare_host(&self) -> &'a str {
        bare(self.host)
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Connector {
    /// Sends a request to the host of `url` and reads the answer, also one that comes before all content was sent.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. The server may have the request, or part of it.
    pub(crate) async fn exchange(
        &self,
        url: &Uri,
        head: Request<()>,
        content: Content,
        now: Instant,
    ) -> Result<Answer, Broken> {
        let meter = content.meter();
        let unreached = |error| Broken { error, reached: false, sent: 0 };
        let place = Place::of(url).map_err(unreached)?;
        let request = self.complete(&place, head, content).map_err(unreached)?;

        let moved = Arc::new(AtomicU64::new(0));
        // Boxed, because the state of a TLS handshake would make every future around this one as large.
        let connect = Box::pin(async {
            let stream = self.connect(&place, now).await?;
            let stream = TokioIo::new(Watched::new(stream, moved.clone()));
            http1::handshake(stream).await.map_err(|error| Error::Lost { source: error.into() })
        });
        let late = |_| {
            let source = std::io::ErrorKind::TimedOut.into();
            Error::Connect { authority: place.authority(), source }
        };
        let connected = tokio::time::timeout(self.connect_timeout, connect).await;
        let (sender, connection) = connected.map_err(late).flatten().map_err(unreached)?;
        let talk = async {
            let mut driven = Driven { connection: Some(Box::pin(connection)), cause: None };
            converse(sender, &mut driven, request, &meter).await.map_err(|error| match driven.cause.take() {
                Some(cause) => Error::Lost { source: cause.into() },
                None => Error::Lost { source: error.into() },
            })
        };
        let answer = unless_idle(self.idle_timeout, &moved, talk).await;
        if let Ok(answer) = &answer {
            self.hear(&place, answer, now);
        }
        answer.map_err(|error| Broken { error, reached: true, sent: meter.bytes() })
    }

    /// Adds what every request of this client carries.
    fn complete(
        &self,
        place: &Place<'_>,
        head: Request<()>,
        content: Content,
    ) -> Result<Request<Content>, Error> {
        let (mut parts, ()) = head.into_parts();
        let standard = place.port == if place.secure { 443 } else { 80 };
        let host = if standard { place.host.to_owned() } else { place.authority() };
        let host = HeaderValue::try_from(host).map_err(|_| Error::Field("the host"))?;
        parts.headers.insert(header::HOST, host);
        let agent = HeaderValue::from_static(concat!("hoist-client/", env!("CARGO_PKG_VERSION")));
        parts.headers.insert(header::USER_AGENT, agent);
        parts.headers.extend(self.fields.clone());
        Ok(Request::from_parts(parts, content))
    }

    /// Remembers where else the server says it can be reached.
    fn hear(&self, place: &Place<'_>, answer: &Answer, now: Instant) {
        let field = answer.fields.get(header::ALT_SVC).and_then(|field| field.to_str().ok());
        if let (true, Some(field)) = (place.secure, field) {
            self.alternatives.hear(&place.authority(), field, now);
        }
    }

    /// Connects to where the origin is served, or, when that other place fails, to the origin itself.
    async fn connect(&self, place: &Place<'_>, now: Instant) -> Result<Stream, Error> {
        if !place.secure {
            return Ok(Box::new(socket(place, place.bare_host(), place.port).await?));
        }
        let authority = place.authority();
        if let Some(other) = self.alternatives.of(&authority, now) {
            let host = other.host.as_deref().map_or(place.bare_host(), bare);
            let attempt = self.connect_securely(place, host, other.port);
            // Half of the time is the origin's.
            if let Ok(Ok(stream)) = tokio::time::timeout(self.connect_timeout / 2, attempt).await {
                return Ok(stream);
            }
            tracing::debug!(host, port = other.port, "another place does not serve the origin as it should");
            self.alternatives.forget(&authority);
        }
        self.connect_securely(place, place.bare_host(), place.port).await
    }

    async fn connect_securely(&self, place: &Place<'_>, host: &str, port: u16) -> Result<Stream, Error> {
        let untrusted = |source| Error::Tls { authority: place.authority(), source };
        let name = ServerName::try_from(place.bare_host().to_owned())
            .map_err(|error| untrusted(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(self.trust.config().await?);
        let stream = connector.connect(name, socket(place, host, port).await?).await.map_err(|source| {
            // Certificates and versions do not get better by waiting; a connection that was cut does.
            let distrust =
                source.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>);
            if distrust { untrusted(source) } else { Error::Connect { authority: place.authority(), source } }
        })?;
        Ok(Box::new(stream))
    }
}

async fn socket(place: &Place<'_>, host: &str, port: u16) -> Result<TcpStream, Error> {
    let failed = |source| Error::Connect { authority: place.authority(), source };
    let socket = TcpStream::connect((host, port)).await.map_err(failed)?;
    // Without it the last, small segment of each request waits for the acknowledgement of the one before.
    socket.set_nodelay(true).map_err(failed)?;
    Ok(socket)
}

/// A host without the brackets around a literal IPv6 address.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

type Connection = http1::Connection<TokioIo<Watched>, Content>;

/// The connection, as long as it lives, and why it ended.
struct Driven {
    /// Dropped when it ends, which tells whoever waits for it.
    connection: Option<Pin<Box<Connection>>>,
    cause: Option<hyper::Error>,
}

impl Driven {
    /// Awaits `work`, which the connection makes possible.
    async fn run<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        while let Some(connection) = &mut self.connection {
            tokio::select! {
                biased;
                done = &mut work => return done,
                ended = connection => {
                    self.cause = ended.err();
                    self.connection = None;
                }
            }
        }
        work.await
    }
}

/// Sends the request and reads its answer; hyper passes over interim ones. The answer counts from its head on: what a peer that has answered does to the
/// connection afterwards is no failure of the request.
//= TDR-104-04
async fn converse(
    mut sender: http1::SendRequest<Content>,
    connection: &mut Driven,
    request: Request<Content>,
    meter: &Meter,
) -> Result<Answer, hyper::Error> {
    let response = connection.run(sender.send_request(request)).await?;
    let sent = meter.bytes();
    let (parts, mut body) = response.into_parts();
    let content = connection.run(read(&mut body)).await;
    Ok(Answer { status: parts.status, fields: parts.headers, content, sent })
}

async fn read(body: &mut Incoming) -> Bytes {
    let mut content = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(bytes) = frame.data_ref() {
            content.extend_from_slice(&bytes[..bytes.len().min(ANSWER_BYTES - content.len())]);
        }
        if content.len() == ANSWER_BYTES {
            break;
        }
    }
    content.freeze()
}

/// Awaits `work` as long as bytes move.
async fn unless_idle<T>(
    limit: Duration,
    moved: &AtomicU64,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut work = pin!(work);
    let (mut seen, mut quiet) = (0, 0);
    loop {
        if let Ok(done) = tokio::time::timeout(limit / IDLE_SLICES, &mut work).await {
            return done;
        }
        let now = moved.load(Ordering::Relaxed);
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
        if quiet == IDLE_SLICES {
            return Err(Error::Idle(limit));
        }
    }
}
