//! Making connections: to the origin, to another place that serves it or to a proxy, with TLS or without.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, InvalidMessage};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::h1::H1Connection;
use super::h2::H2Connection;
use super::io::{Duplex, MonitoredStream, Stream, Traffic};
use super::proxy::Proxy;
use super::{Connection, Connector, Http2, dial};
use crate::error::Error;
use crate::origin::{Origin, bare};

/// A byte stream to the server, and whether HTTP/2 is spoken over it.
type Connected = (Stream, bool);

impl Connector {
    /// Connects within the connect timeout.
    pub(super) async fn open(&self, place: &Origin, now: Instant) -> Result<Connection, Error> {
        // Boxed, because the state of a TLS handshake would make every future around this one as large.
        let connect = Box::pin(async {
            let (stream, speaks_h2) = self.connect(place, now).await?;
            let moved = Arc::new(Traffic::default());
            let stream = MonitoredStream::new(stream, moved.clone());
            if speaks_h2 {
                H2Connection::open(stream, moved).await.map(Connection::H2)
            } else {
                H1Connection::open(stream, moved).await.map(Connection::H1)
            }
        });
        let late =
            |_| Error::Connect { authority: place.authority(), source: io::ErrorKind::TimedOut.into() };
        tokio::time::timeout(self.connect_timeout, connect).await.map_err(late).flatten()
    }

    /// The proxy that requests to an origin are sent to as they are, instead of through a tunnel.
    pub(super) fn forwarder(&self, place: &Origin) -> Option<Proxy> {
        let is_plain = !place.is_secure() && self.http2 != Http2::PriorKnowledge;
        if is_plain { self.proxies.of(place) } else { None }
    }

    /// Connects to where the origin is served, or, when that other place fails, to the origin itself.
    async fn connect(&self, place: &Origin, now: Instant) -> Result<Connected, Error> {
        if let Some(proxy) = self.proxies.of(place) {
            return self.connect_through(&proxy, place).await;
        }
        if !place.is_secure() {
            let stream = self.socket(&place.authority(), place.host(), place.port()).await?;
            return Ok((Box::new(stream), self.http2 == Http2::PriorKnowledge));
        }
        let authority = place.authority();
        if let Some(other) = self.alternatives.of(&authority, now) {
            let host = other.host.as_deref().map_or(place.host(), bare);
            let attempt = self.connect_securely(place, host, other.port);
            // Keeps half of the time for the origin itself.
            if let Ok(Ok(stream)) = tokio::time::timeout(self.connect_timeout / 2, attempt).await {
                return Ok(stream);
            }
            tracing::debug!(host, port = other.port, "another place does not serve the origin as it should");
            self.alternatives.forget(&authority);
        }
        self.connect_securely(place, place.host(), place.port()).await
    }

    async fn connect_securely(&self, place: &Origin, host: &str, port: u16) -> Result<Connected, Error> {
        let config = self.trust.config(self.http2).await?;
        let stream = self.socket(&place.authority(), host, port).await?;
        self.secured(place, config, stream).await
    }

    /// A connection to the proxy, or through it where the server is to be spoken to itself.
    async fn connect_through(&self, proxy: &Proxy, place: &Origin) -> Result<Connected, Error> {
        let to = &proxy.origin;
        let socket = self.socket(&proxy.name(), to.host(), to.port()).await?;
        let stream: Stream = if to.is_secure() {
            let mut config = ClientConfig::clone(&*self.trust.config(self.http2).await?);
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Box::new(handshake(to, Arc::new(config), socket).await?)
        } else {
            Box::new(socket)
        };
        if self.forwarder(place).is_some() {
            return Ok((stream, false));
        }
        let stream = proxy.tunnel(stream, place).await?;
        if !place.is_secure() {
            return Ok((stream, true));
        }
        let config = self.trust.config(self.http2).await?;
        self.secured(place, config, stream).await
    }

    async fn secured<S: Duplex + 'static>(
        &self,
        place: &Origin,
        config: Arc<ClientConfig>,
        stream: S,
    ) -> Result<Connected, Error> {
        let stream = handshake(place, config, stream).await?;
        let has_chosen = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((Box::new(stream), has_chosen || self.http2 == Http2::PriorKnowledge))
    }

    async fn socket(&self, name: &str, host: &str, port: u16) -> Result<TcpStream, Error> {
        let failed = |source| Error::Connect { authority: name.to_owned(), source };
        let socket = dial::connect(&*self.resolver, host, port).await.map_err(failed)?;
        // Without it the last, small segment of each request waits for the acknowledgement of the one before.
        socket.set_nodelay(true).map_err(failed)?;
        Ok(socket)
    }
}

async fn handshake<S: Duplex>(
    place: &Origin,
    config: Arc<ClientConfig>,
    stream: S,
) -> Result<TlsStream<S>, Error> {
    let name = ServerName::try_from(place.host().to_owned());
    let name = name.map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, error);
        Error::Tls { authority: place.authority(), source }
    })?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|source| handshake_failure(place, source))
}

/// Classifies the error of a TLS handshake with the server at an origin.
pub fn handshake_failure(place: &Origin, source: io::Error) -> Error {
    let authority = place.authority();
    match source.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            Error::Scheme { authority, speaks_tls: false }
        }
        // Certificates and versions do not get better by waiting; a connection that was cut does.
        Some(_) => Error::Tls { authority, source },
        None => Error::Connect { authority, source },
    }
}
