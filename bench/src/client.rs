//! Connections of the load generator. A client costs little: few threads, large writes, no copies of the content.

pub(crate) mod h1;
pub(crate) mod h2;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// Connections from one address of this machine, below the number of its ports.
const CONNECTIONS_OF_ADDRESS: u32 = 10_000;

/// The byte stream under a connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The way to a server.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) addr: SocketAddr,
    /// The configuration of TLS, if the server expects it.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Address {
    /// Connects. Connections of different numbers may come from different addresses of this machine.
    pub(crate) async fn connect(&self, number: u32) -> Result<Box<dyn Io>> {
        let socket = TcpSocket::new_v4()?;
        if number >= CONNECTIONS_OF_ADDRESS {
            let host = u8::try_from(2 + number / CONNECTIONS_OF_ADDRESS).context("too many connections")?;
            socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))?;
        }
        let tcp: TcpStream = socket.connect(self.addr).await.context("the server refuses connections")?;
        tcp.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = ServerName::try_from("localhost")?;
        let tls = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
        Ok(Box::new(tls.context("no TLS connection")?))
    }
}
