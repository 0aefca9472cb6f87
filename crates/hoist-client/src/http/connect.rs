//! Opening of connections: to the origin, to an alternative service or to a proxy, with or without TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Version, header};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Http2;
use super::alternative::Alternatives;
use super::dial::{self, Resolve};
use super::exchange::{ExchangeEnd, ExchangeError, ExpectContinue, InterimObserver};
use super::h1::H1Connection;
use super::h2::H2Connection;
use super::io::{Duplex, MonitoredStream, Stream, Traffic};
use super::proxy::{Proxies, Proxy};
use super::tls_fault::handshake_failure;
use super::trust::Trust;
use super::wire_log;
use crate::error::{Error, TlsFault};
use crate::origin::{Credentials, Origin, without_brackets};
use crate::origin_cache::OriginCache;
use crate::progress::ContentFlow;
use crate::response::FinalResponse;
use crate::source::RequestBody;

/// Opens connections, with the settings of one client.
pub(crate) struct Connector {
    pub(crate) trust: Trust,
    pub(crate) origins: Arc<OriginCache>,
    pub(crate) alternatives: Alternatives,
    pub(crate) proxies: Proxies,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) credentials: Credentials,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) http2: Http2,
}

pub(super) struct Connection {
    pub(super) traffic: Arc<Traffic>,
    version: ConnectionVersion,
}

enum ConnectionVersion {
    H1(H1Connection),
    H2(H2Connection),
}

impl Connection {
    pub(super) async fn is_reusable(&mut self) -> bool {
        match &mut self.version {
            ConnectionVersion::H1(connection) => connection.is_reusable().await,
            ConnectionVersion::H2(connection) => connection.is_reusable().await,
        }
    }

    pub(super) fn http_version(&self) -> Version {
        match &self.version {
            ConnectionVersion::H1(_) => Version::HTTP_11,
            ConnectionVersion::H2(_) => Version::HTTP_2,
        }
    }

    /// Sends a request and returns its end, and whether the connection can carry another request.
    pub(super) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        flow: &ContentFlow,
        expect: Option<ExpectContinue>,
        observer: &mut impl InterimObserver,
    ) -> Result<(ExchangeEnd, bool), ExchangeError> {
        match &mut self.version {
            ConnectionVersion::H1(connection) => connection.exchange(request, flow, expect, observer).await,
            ConnectionVersion::H2(connection) => connection.exchange(request, flow, expect, observer).await,
        }
    }
}

/// A byte stream to the server, and whether to use HTTP/2 over it.
type Connected = (Stream, bool);

impl Connector {
    /// Opens a connection to an origin within the connect timeout, and within `patience`.
    pub(super) async fn open(
        &self,
        origin: &Origin,
        now: Instant,
        patience: Duration,
    ) -> Result<Connection, Error> {
        // Boxed, because the state of a TLS handshake would make every future around this one as large.
        let connect = Box::pin(async {
            let (stream, uses_h2) = self.connect(origin, now).await?;
            let traffic = Arc::new(Traffic::default());
            let stream = MonitoredStream::new(stream, traffic.clone());
            let version = if uses_h2 {
                ConnectionVersion::H2(H2Connection::open(stream).await?)
            } else {
                ConnectionVersion::H1(H1Connection::open(stream).await?)
            };
            Ok(Connection { traffic, version })
        });
        let late =
            |_| Error::Connect { authority: origin.authority(), source: io::ErrorKind::TimedOut.into() };
        tokio::time::timeout(self.connect_timeout.min(patience), connect).await.map_err(late).flatten()
    }

    /// Returns the proxy that forwards requests to an origin, if there is one and it needs no tunnel.
    pub(super) fn forwarder(&self, origin: &Origin) -> Option<Proxy> {
        let is_forwarded = !origin.is_secure() && self.http2 != Http2::PriorKnowledge;
        if is_forwarded { self.proxies.of(origin) } else { None }
    }

    /// Remembers the alternative services that a response announces.
    pub(super) fn learn_alternatives(&self, origin: &Origin, response: &FinalResponse, now: Instant) {
        let field = hoist_proto::field::list(&response.fields, &header::ALT_SVC);
        let field = field.as_ref().and_then(|field| field.to_str().ok());
        if let (true, Some(field)) = (origin.is_secure(), field) {
            self.alternatives.learn_from_field(&origin.authority(), field, now);
        }
    }

    /// Connects to an alternative service of the origin, or to the origin itself if there is none or it fails.
    async fn connect(&self, origin: &Origin, now: Instant) -> Result<Connected, Error> {
        if let Some(proxy) = self.proxies.of(origin) {
            return self.connect_through(&proxy, origin).await;
        }
        if !origin.is_secure() {
            let stream = self.dial(&origin.authority(), origin.host(), origin.port()).await?;
            return Ok((Box::new(stream), self.http2 == Http2::PriorKnowledge));
        }
        let authority = origin.authority();
        if let Some(other) = self.alternatives.get(&authority, now) {
            let host = other.host.as_deref().map_or(origin.host(), without_brackets);
            let attempt = self.connect_tls(origin, host, other.port);
            // Leaves half of the connect timeout for the origin itself.
            if let Ok(Ok(stream)) = tokio::time::timeout(self.connect_timeout / 2, attempt).await {
                return Ok(stream);
            }
            tracing::debug!(host, port = other.port, "the alternative service failed, using the origin");
            self.alternatives.remove(&authority);
        }
        self.connect_tls(origin, origin.host(), origin.port()).await
    }

    async fn connect_tls(&self, origin: &Origin, host: &str, port: u16) -> Result<Connected, Error> {
        let config = self.trust.config(self.http2).await?;
        let stream = self.dial(&origin.authority(), host, port).await?;
        self.negotiate(origin, config, stream).await
    }

    /// Connects to a proxy, and through a tunnel to the origin unless the proxy forwards requests.
    async fn connect_through(&self, proxy: &Proxy, origin: &Origin) -> Result<Connected, Error> {
        let to = &proxy.origin;
        let socket = self.dial(&proxy.name(), to.host(), to.port()).await?;
        let stream: Stream = if to.is_secure() {
            let mut config = ClientConfig::clone(&*self.trust.config(self.http2).await?);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Box::new(handshake(to, Arc::new(config), socket).await?)
        } else {
            Box::new(socket)
        };
        if self.forwarder(origin).is_some() {
            return Ok((stream, false));
        }
        let stream = proxy.tunnel(stream, origin).await?;
        if !origin.is_secure() {
            return Ok((stream, true));
        }
        let config = self.trust.config(self.http2).await?;
        self.negotiate(origin, config, stream).await
    }

    /// Performs a TLS handshake, in which the server may select HTTP/2.
    async fn negotiate<S: Duplex + 'static>(
        &self,
        origin: &Origin,
        config: Arc<ClientConfig>,
        stream: S,
    ) -> Result<Connected, Error> {
        let stream = handshake(origin, config, stream).await?;
        let selected_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), selected_h2 || self.http2 == Http2::PriorKnowledge))
    }

    /// Opens a TCP connection. `name` names the peer in errors.
    async fn dial(&self, name: &str, host: &str, port: u16) -> Result<TcpStream, Error> {
        let failed = |source| Error::Connect { authority: name.to_owned(), source };
        let socket = dial::connect(&*self.resolver, host, port).await.map_err(failed)?;
        // Otherwise the last, short segment of each request waits for the acknowledgement of the one before (Nagle).
        socket.set_nodelay(true).map_err(failed)?;
        if let Ok(address) = socket.peer_addr() {
            tracing::debug!(target: wire_log::TARGET, to = name, %address, "connected");
        }
        Ok(socket)
    }
}

async fn handshake<S: Duplex>(
    origin: &Origin,
    config: Arc<ClientConfig>,
    stream: S,
) -> Result<TlsStream<S>, Error> {
    let name = ServerName::try_from(origin.host().to_owned());
    let name = name.map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, error);
        Error::Tls { authority: origin.authority(), fault: TlsFault::Other, source }
    })?;
    let connected = TlsConnector::from(config).connect(name, stream).await;
    let stream = connected.map_err(|source| handshake_failure(origin, source))?;
    let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
    tracing::debug!(target: wire_log::TARGET, to = %origin.authority(), version, "TLS handshake complete");
    Ok(stream)
}
