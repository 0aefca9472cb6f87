//! The reasons why a server that has never responded cannot be the one that the caller means: its name is unknown, or it
//! speaks another protocol. A retry would not help, while after a first response the same symptoms are those of a failure
//! that may pass.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connect::Connector;
use super::dial;
use super::exchange::USER_AGENT;
use super::tls_fault::handshake_failure;
use crate::error::Error;
use crate::origin::Origin;

/// The time to find out which protocol a server speaks.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl Connector {
    /// Returns the error that explains why an origin did not respond, or `error` if there is no better explanation or the
    /// origin has responded before.
    pub(super) fn first_contact_error(&self, origin: &Origin, error: Error) -> Error {
        if self.origins.get(origin).has_responded {
            return error;
        }
        let is_proxied = self.proxies.of(origin).is_some();
        match error {
            Error::Connect { source, .. } if source.kind() == ErrorKind::NotFound => {
                let proxy = self.proxies.of(origin);
                let host = proxy.as_ref().map_or(origin, |proxy| &proxy.origin).host().to_owned();
                Error::UnknownHost { host }
            }
            Error::Lost { source } if !is_proxied && is_parse_error(&*source) => {
                Error::NotHttp { authority: origin.authority(), source }
            }
            error => error,
        }
    }

    /// Finds out whether an origin that has closed a connection without any response speaks the protocol of the other
    /// scheme. Returns `error` if it does not.
    pub(super) async fn diagnose(&self, origin: &Origin, error: Error) -> Error {
        let is_candidate = match &error {
            Error::Lost { .. } | Error::Idle(_) => !origin.is_secure(),
            Error::Connect { source, .. } => {
                origin.is_secure() && source.kind() != ErrorKind::ConnectionRefused
            }
            _ => false,
        };
        let facts = self.origins.get(origin);
        let is_settled = facts.has_responded || facts.was_diagnosed;
        if !is_candidate || is_settled || self.proxies.of(origin).is_some() {
            return error;
        }
        self.origins.update(origin, |facts| facts.was_diagnosed = true);
        // Boxed, because the state of a TLS handshake would make every future around this one as large.
        let probe = Box::pin(async {
            let stream = dial::connect(&*self.resolver, origin.host(), origin.port()).await.ok()?;
            if origin.is_secure() {
                speaks_http(stream, origin).await
            } else {
                speaks_tls(stream, origin).await
            }
        });
        match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
            Ok(Some(true)) => {
                Error::Scheme { authority: origin.authority(), speaks_tls: !origin.is_secure() }
            }
            _ => error,
        }
    }
}

/// Returns whether a server that answered a cleartext request with silence or the end of the connection speaks TLS.
///
/// # Cancellation
/// Safe to drop; the connection is closed.
pub async fn requires_tls(origin: &Origin) -> bool {
    let probe = async {
        let stream = TcpStream::connect((origin.host(), origin.port())).await.ok()?;
        speaks_tls(stream, origin).await
    };
    matches!(tokio::time::timeout(PROBE_TIMEOUT, probe).await, Ok(Some(true)))
}

/// Sends a TLS greeting. Any answer in TLS will do: with no trusted certificates the handshake always fails.
async fn speaks_tls(stream: TcpStream, origin: &Origin) -> Option<bool> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(origin.host().to_owned()).ok()?;
    let Err(error) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else {
        return Some(true);
    };
    Some(matches!(handshake_failure(origin, error), Error::Tls { .. }))
}

/// Sends a cleartext request that names nothing but the host.
async fn speaks_http(mut stream: TcpStream, origin: &Origin) -> Option<bool> {
    let host = origin.host_field();
    let head = format!(
        "OPTIONS * HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.ok()?;
    let mut start = [0; 5];
    stream.read_exact(&mut start).await.ok()?;
    Some(start == *b"HTTP/")
}

fn is_parse_error(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}
