//! The server under test: its URL, the fields sent with every request, and the connection.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hoist_client::{Error, Http2, Origin, Trust};
use http::{HeaderName, HeaderValue, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Transport;

/// The server under test.
#[derive(Clone)]
pub struct Endpoint {
    origin: Origin,
    path: String,
    fields: Vec<(String, String)>,
    tls: Option<Arc<Tls>>,
}

/// The name to verify and the trusted certificates, per version of HTTP because ALPN differs.
struct Tls {
    name: ServerName<'static>,
    h1: Trust,
    h2: Trust,
}

/// A TCP or TLS connection.
pub(crate) type Stream = Box<dyn Duplex>;

/// A bidirectional byte stream.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Duplex for T {}

impl Endpoint {
    /// Returns the server at a URL. `ca` is a PEM file of the only certificates to trust; without it, the system's are
    /// trusted.
    ///
    /// # Errors
    /// Returns [`Error::Url`] if the URL is not an `http` or `https` URL with a host.
    pub fn new(url: &Uri, ca: Option<&Path>) -> Result<Self, Error> {
        let origin = Origin::of(url)?;
        let tls = if origin.is_secure() {
            let wrong =
                |_| Error::Url { url: url.to_string(), wrong: "names a host that no certificate can name" };
            let name = ServerName::try_from(origin.host().to_owned()).map_err(wrong)?;
            let trust = || Trust::new(ca.map(Path::to_owned));
            Some(Arc::new(Tls { name, h1: trust(), h2: trust() }))
        } else {
            None
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { origin, path, fields: Vec::new(), tls })
    }

    /// Adds a field to every request.
    pub fn with_field(mut self, name: &HeaderName, value: &HeaderValue) -> Self {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        self.fields.push((name.as_str().to_owned(), value));
        self
    }

    /// Accepts any certificate of the server.
    pub fn accepting_any_certificate(mut self) -> Self {
        let any = |tls: &Arc<Tls>| Tls { name: tls.name.clone(), h1: Trust::any(), h2: Trust::any() };
        self.tls = self.tls.as_ref().map(any).map(Arc::new);
        self
    }

    /// Returns the value of the `Host` field.
    pub(crate) fn authority(&self) -> String {
        self.origin.host_field()
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Returns the path of the URL.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the fields sent with every request.
    pub(crate) fn fields(&self) -> &[(String, String)] {
        &self.fields
    }

    /// Opens a connection for one version of HTTP.
    ///
    /// # Cancellation
    /// Safe to drop; the connection is closed.
    pub(crate) async fn connect(&self, transport: Transport) -> io::Result<Stream> {
        let stream = TcpStream::connect((self.origin.host(), self.origin.port())).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let config = tls.config(transport).await.map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(tls.name.clone(), stream).await;
        let failed = |source| io::Error::other(hoist_client::handshake_failure(&self.origin, source));
        let stream = stream.map_err(failed)?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if transport == Transport::H2 && !is_h2 {
            return Err(io::Error::other("the server does not offer HTTP/2 (ALPN h2)"));
        }
        Ok(Box::new(stream))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl Tls {
    async fn config(&self, transport: Transport) -> Result<Arc<ClientConfig>, Error> {
        match transport {
            Transport::H1 => self.h1.config(Http2::Never).await,
            Transport::H2 => self.h2.config(Http2::PriorKnowledge).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_into_host_port_and_path() {
        let cases = [
            ("http://localhost:8080/uploads", "localhost", 8080, "/uploads"),
            ("http://[::1]", "::1", 80, "/"),
            ("https://example.org/files/?a=b", "example.org", 443, "/files/?a=b"),
        ];
        for (url, host, port, path) in cases {
            let endpoint = Endpoint::new(&Uri::from_static(url), None).expect(url);
            assert_eq!(
                (endpoint.origin.host(), endpoint.origin.port(), endpoint.path()),
                (host, port, path),
                "{url}"
            );
            assert_eq!(endpoint.tls.is_some(), url.starts_with("https"), "{url}");
        }
        for url in ["ftp://localhost/", "/uploads", "http://localhost:65616/uploads"] {
            assert!(Endpoint::new(&Uri::from_static(url), None).is_err(), "{url}");
        }
    }
}
