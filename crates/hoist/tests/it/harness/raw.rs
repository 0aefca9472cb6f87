//! A raw HTTP/1.1 client that sends given bytes and exposes every received byte.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Server, TestResponse, TransportError, within_timeout};

pub(crate) struct Raw {
    pub(crate) tcp: TcpStream,
    seen: ReadBuffer,
}

impl Raw {
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::to(server.addr).await
    }

    pub(crate) async fn to(addr: SocketAddr) -> Self {
        let tcp = within_timeout("a connection", TcpStream::connect(addr)).await.expect("a connection");
        tcp.set_nodelay(true).expect("a socket");
        Self { tcp, seen: ReadBuffer::default() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within_timeout("room to send", self.tcp.write_all(bytes.as_ref())).await.expect("an open connection");
    }

    /// Reads the next response head, interim or final, without its content.
    pub(crate) async fn head(&mut self) -> Result<(u16, HeaderMap), TransportError> {
        within_timeout("a head", self.seen.head(&mut self.tcp)).await
    }

    /// Reads the next final response, with the interim responses before it.
    pub(crate) async fn answer(&mut self, is_head: bool) -> Result<TestResponse, TransportError> {
        within_timeout("an answer", self.seen.answer(&mut self.tcp, is_head)).await
    }

    /// Returns whether the connection ends without further bytes.
    pub(crate) async fn ends(&mut self) -> bool {
        let mut left = std::mem::take(&mut self.seen.0);
        let read = within_timeout("the end of the connection", self.tcp.read_to_end(&mut left)).await;
        read.is_ok_and(|_| left.is_empty()) || left.is_empty()
    }

    /// Closes the connection with a reset.
    pub(crate) fn reset(self) {
        self.tcp.set_zero_linger().expect("a socket");
    }
}

/// The bytes read and not yet parsed.
#[derive(Default)]
pub(super) struct ReadBuffer(Vec<u8>);

impl ReadBuffer {
    async fn more(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<(), TransportError> {
        let mut buf = [0; 4096];
        match from.read(&mut buf).await {
            Ok(0) if self.0.is_empty() => Err(TransportError("the connection was closed".into())),
            Ok(0) => Err(TransportError(format!("the connection was closed after {:?}", self.text()))),
            Err(error) => Err(TransportError(error.to_string())),
            Ok(count) => {
                self.0.extend_from_slice(&buf[..count]);
                Ok(())
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    pub(super) async fn head(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<(u16, HeaderMap), TransportError> {
        let end = loop {
            match self.0.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end,
                None => self.more(from).await?,
            }
        };
        let rest = self.0.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.0, rest)).expect("ASCII");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).expect("a status line");
        let fields = lines.filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(": ").expect("a field");
            let name: HeaderName = name.parse().expect("a field name");
            (name, HeaderValue::from_str(value).expect("a field value"))
        });
        Ok((status[..3].parse().expect("a status"), fields.collect()))
    }

    pub(super) async fn answer(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        is_head: bool,
    ) -> Result<TestResponse, TransportError> {
        let mut interims = Vec::new();
        let (status, fields) = loop {
            match self.head(from).await? {
                interim if interim.0 < 200 => interims.push(interim),
                last => break last,
            }
        };
        let length = fields.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
        let length = if is_head || status == 204 { 0 } else { length.unwrap_or(0) };
        while self.0.len() < length {
            self.more(from).await?;
        }
        let rest = self.0.split_off(length);
        let content = Bytes::from(std::mem::replace(&mut self.0, rest));
        Ok(TestResponse { status, fields, content, interims })
    }
}
