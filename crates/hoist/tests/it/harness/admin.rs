//! A client of the admin listener.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::raw::ReadBuffer;
use super::{Server, ServerDir, TestResponse, poll_until, within_timeout};

/// The place of an admin listener.
pub(crate) enum AdminAt {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl AdminAt {
    /// Returns the unix socket `admin` in a directory, for `--admin` of its server.
    pub(crate) fn socket(home: &ServerDir) -> Self {
        Self::Unix(home.path("admin"))
    }

    /// Returns the TCP address that a server has written to its log.
    pub(crate) async fn logged(server: &Server) -> Self {
        const LINE: &str = "admin listening on http://";
        let address = poll_until("the address of the admin listener", || {
            let log = server.log();
            let rest = log.split_once(LINE)?.1;
            rest.split(|c: char| c.is_whitespace()).next()?.parse().ok()
        });
        Self::Tcp(address.await)
    }

    /// Returns the value of `--admin`.
    pub(crate) fn flag(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Tcp(address) => address.to_string(),
        }
    }

    /// Sends a request on a new connection, and returns the response.
    pub(crate) async fn request(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> TestResponse {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n");
        for (name, value) in fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        match self {
            Self::Unix(socket) => {
                Box::pin(exchange(UnixStream::connect(socket).await.expect("a connection"), &head)).await
            }
            Self::Tcp(address) => {
                Box::pin(exchange(TcpStream::connect(address).await.expect("a connection"), &head)).await
            }
        }
    }

    /// Returns the samples of `/metrics`.
    pub(crate) async fn scrape(&self) -> Scrape {
        let got = self.request("GET", "/metrics", &[]).await;
        assert_eq!(got.status, 200, "{got:?}");
        Scrape::parse(str::from_utf8(&got.content).expect("text"))
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> TestResponse {
    let answered = async {
        stream.write_all(head.as_bytes()).await.expect("sent");
        ReadBuffer::default().answer(&mut stream, head.starts_with("HEAD ")).await
    };
    within_timeout(head, answered).await.expect("a response")
}

/// The samples of a scrape, by their name and labels as they are written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scrape(pub(crate) BTreeMap<String, f64>);

impl Scrape {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// Returns the value of a sample.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn of(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("no sample {series}: {:#?}", self.0))
    }
}
