//! Requests over HTTP/1.1 or HTTP/2 that can be stopped at any byte of the connection and ended in different ways.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, SendStream};
use http::{HeaderMap, Request};
use rustls::pki_types::ServerName;
use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::Server;
use super::raw::ReadBuffer;

mod limited;

pub(crate) use limited::LimitedStream;
use limited::SendGate;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    H1,
    H2,
}

pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::H1, Transport::H2];

/// The way in which a client ends its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It closes the connection.
    Fin,
    /// It resets the connection.
    Rst,
    /// It closes its sending side and keeps reading.
    HalfClose,
    /// It resets the stream, over HTTP/2.
    Stream,
}

/// A request to send.
#[derive(Clone)]
pub(crate) struct TestRequest {
    method: &'static str,
    path: String,
    fields: Vec<(String, String)>,
    content: Bytes,
    /// The declared length of the content. `None` if the length is not declared.
    declared: Option<u64>,
    /// True if neither more content nor its end is sent after `content`.
    stalls: bool,
}

impl std::fmt::Debug for TestRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { method, fields, content, declared, stalls, .. } = self;
        write!(
            f,
            "{method} {fields:?} {} of {declared:?}{}",
            content.len(),
            if *stalls { ", stalls" } else { "" }
        )
    }
}

impl TestRequest {
    /// Returns a request for the upload of a token.
    pub(crate) fn new(method: &'static str, token: &str) -> Self {
        Self::to(method, "/uploads").field("upload-token", token)
    }

    pub(crate) fn to(method: &'static str, path: &str) -> Self {
        let content = Bytes::new();
        Self { method, path: path.into(), fields: Vec::new(), content, declared: Some(0), stalls: false }
    }

    /// Returns an append at an offset.
    pub(crate) fn append(token: &str, at: usize) -> Self {
        Self::new("PATCH", token).field("upload-offset", at)
    }

    pub(crate) fn field(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }

    pub(crate) fn with(self, (name, value): (&str, &str)) -> Self {
        self.field(name, value)
    }

    /// Sets content with a declared length.
    pub(crate) fn sized(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = Bytes::copy_from_slice(content.as_ref());
        self.declared = Some(self.content.len() as u64);
        self
    }

    /// Like `sized`, without copying the content.
    pub(crate) fn shared(mut self, content: Bytes) -> Self {
        self.declared = Some(content.len() as u64);
        self.content = content;
        self
    }

    /// Sets content without a declared length.
    pub(crate) fn chunked(mut self, content: impl AsRef<[u8]>) -> Self {
        self.content = Bytes::copy_from_slice(content.as_ref());
        self.declared = None;
        self
    }

    /// Declares more content than is sent.
    pub(crate) fn stalls(mut self, declared: Option<usize>) -> Self {
        self.declared = declared.map(|bytes| bytes as u64);
        self.stalls = true;
        self
    }

    /// Returns the request as sent over HTTP/1.1.
    pub(crate) fn h1(&self) -> Vec<u8> {
        let mut octets = self.h1_head();
        if self.declared.is_some() {
            octets.extend_from_slice(&self.content);
            return octets;
        }
        for chunk in self.content.chunks(7919) {
            octets.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            octets.extend_from_slice(chunk);
            octets.extend_from_slice(b"\r\n");
        }
        if !self.stalls {
            octets.extend_from_slice(b"0\r\n\r\n");
        }
        octets
    }

    fn h1_head(&self) -> Vec<u8> {
        let Self { method, path, fields, .. } = self;
        let mut octets = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in fields {
            octets.extend([name, ": ", value, "\r\n"]);
        }
        match self.declared {
            Some(0) if matches!(*method, "HEAD" | "GET" | "DELETE" | "OPTIONS") => octets.push_str("\r\n"),
            Some(length) => octets.extend(["Content-Length: ", &length.to_string(), "\r\n\r\n"]),
            None => octets.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        }
        octets.into_bytes()
    }

    pub(crate) fn h2(&self) -> Request<()> {
        let mut request =
            Request::builder().method(self.method).uri(format!("http://localhost{}", self.path));
        for (name, value) in &self.fields {
            request = request.header(name, value);
        }
        if let Some(length) = self.declared.filter(|length| *length > 0) {
            request = request.header("content-length", length);
        }
        request.body(()).expect("a sound request")
    }
}

/// A response.
#[derive(Clone, Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Bytes,
    /// The interim responses before the final one.
    pub(crate) interims: Vec<(u16, HeaderMap)>,
}

impl TestResponse {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("visible ASCII"))
    }

    pub(crate) fn offset(&self) -> Option<usize> {
        self.field("upload-offset").map(|text| text.parse().expect("an integer"))
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.field("upload-complete") == Some("?1")
    }
}

/// The reason why no response was received.
#[derive(Debug)]
pub(crate) struct TransportError(pub(crate) String);

impl From<h2::Error> for TransportError {
    fn from(error: h2::Error) -> Self {
        Self(error.to_string())
    }
}

/// A running request on its own connection. Dropping it closes the connection.
pub(crate) struct Exchange {
    task: JoinSet<Result<TestResponse, TransportError>>,
    gate: Arc<SendGate>,
    socket: Socket,
    reset: Option<oneshot::Sender<()>>,
}

impl Exchange {
    /// Starts a request, sending at most `limit` bytes on the connection.
    pub(crate) async fn begin(
        server: &Server,
        transport: Transport,
        request: TestRequest,
        limit: u64,
    ) -> Result<Self, TransportError> {
        Self::connect(server.addr, server.tls.clone(), transport, request, limit).await
    }

    /// Starts a request to a server that may have ended.
    pub(crate) async fn to(
        addr: SocketAddr,
        transport: Transport,
        request: TestRequest,
    ) -> Result<Self, TransportError> {
        Self::connect(addr, None, transport, request, u64::MAX).await
    }

    async fn connect(
        addr: SocketAddr,
        tls: Option<TlsConnector>,
        transport: Transport,
        request: TestRequest,
        limit: u64,
    ) -> Result<Self, TransportError> {
        let (line, gate, socket) = LimitedStream::connect(addr, limit).await?;
        let (reset, resetting) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            match tls {
                None => run(line, transport, request, resetting).await,
                Some(tls) => {
                    run(encrypted(&tls, line, transport).await?, transport, request, resetting).await
                }
            }
        });
        Ok(Self { task, gate, socket, reset: Some(reset) })
    }

    /// Waits for the response.
    pub(crate) async fn answer(&mut self) -> Result<TestResponse, TransportError> {
        self.task.join_next().await.expect("asked once").expect("no panic")
    }

    /// Waits until the limit is reached. Returns the response if it comes first.
    pub(crate) async fn reached(&mut self) -> Option<Result<TestResponse, TransportError>> {
        tokio::select! {
            biased;
            got = self.task.join_next() => Some(got.expect("asked once").expect("no panic")),
            () = self.gate.reached.notified() => None,
        }
    }

    /// Lifts the limit, so that the rest is sent.
    pub(crate) fn send_rest(&self) {
        self.gate.open();
    }

    /// Waits for the response while nothing more can be sent.
    pub(crate) async fn last(mut self) -> Result<TestResponse, TransportError> {
        // h2 does not read while it cannot write.
        self.gate.fail();
        super::within_timeout("the end of a connection", self.answer()).await
    }

    /// Ends the connection. Returns the response to a client that only stops sending.
    pub(crate) async fn cut(mut self, how: Cut) -> Option<Result<TestResponse, TransportError>> {
        match how {
            Cut::Fin => self.task.shutdown().await,
            Cut::Rst => {
                self.socket.set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
                self.task.shutdown().await;
            }
            Cut::HalfClose => {
                // Fails if the server has closed first.
                let _ = self.socket.shutdown(std::net::Shutdown::Write);
                return Some(self.last().await);
            }
            Cut::Stream => {
                self.gate.open();
                let _ = self.reset.take().expect("reset once").send(());
                // The response may have arrived first.
                return Some(super::within_timeout("the end of a reset stream", self.answer()).await);
            }
        }
        None
    }
}

async fn run<T>(
    line: T,
    transport: Transport,
    request: TestRequest,
    reset: oneshot::Receiver<()>,
) -> Result<TestResponse, TransportError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match transport {
        Transport::H1 => over_h1(line, request).await,
        Transport::H2 => H2::on(line).await?.exchange(request, reset).await,
    }
}

async fn encrypted(
    tls: &TlsConnector,
    line: LimitedStream,
    transport: Transport,
) -> Result<tokio_rustls::client::TlsStream<LimitedStream>, TransportError> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut config = (**tls.config()).clone();
    config.alpn_protocols =
        vec![if transport == Transport::H2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let tls = TlsConnector::from(Arc::new(config));
    let stream = tls.connect(name, line).await.map_err(|error| TransportError(error.to_string()))?;
    let agreed = stream.get_ref().1.alpn_protocol().expect("a protocol is agreed on");
    assert_eq!(agreed == b"h2", transport == Transport::H2);
    Ok(stream)
}

async fn over_h1(
    line: impl AsyncRead + AsyncWrite,
    request: TestRequest,
) -> Result<TestResponse, TransportError> {
    let (mut read, mut write) = tokio::io::split(line);
    let mut seen = ReadBuffer::default();
    // Avoids a copy of large content.
    let is_large = request.declared.is_some() && request.content.len() > 1 << 20;
    let (head, content) =
        if is_large { (request.h1_head(), &request.content[..]) } else { (request.h1(), &[][..]) };
    let sending = async {
        // A server that refuses the request stops reading and responds.
        if write.write_all(&head).await.is_ok() && write.write_all(content).await.is_ok() {
            let _ = write.flush().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        got = seen.answer(&mut read, request.method == "HEAD") => got,
        () = sending => unreachable!("it stays"),
    }
}

/// An HTTP/2 connection on which streams can be opened.
pub(crate) struct H2 {
    pub(crate) streams: SendRequest<Bytes>,
    /// The task that drives the connection.
    _connection: JoinSet<()>,
}

impl H2 {
    pub(crate) async fn connect(server: &Server) -> Self {
        let (line, _, _) = LimitedStream::connect(server.addr, u64::MAX).await.expect("a connection");
        Self::on(line).await.expect("an h2 connection")
    }

    pub(crate) async fn on(
        line: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, TransportError> {
        let (streams, connection) = h2::client::handshake(line).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Errors are reported by the streams.
            let _ = connection.await;
        });
        Ok(Self { streams, _connection: task })
    }

    pub(crate) async fn request(&self, request: TestRequest) -> Result<TestResponse, TransportError> {
        let (_stays, reset) = oneshot::channel();
        self.exchange(request, reset).await
    }

    /// Sends a request on a stream, which is reset when `reset` fires.
    pub(crate) async fn exchange(
        &self,
        request: TestRequest,
        reset: oneshot::Receiver<()>,
    ) -> Result<TestResponse, TransportError> {
        let mut streams = self.streams.clone().ready().await?;
        let ends = request.content.is_empty() && !request.stalls;
        let (mut response, mut stream) = streams.send_request(request.h2(), ends)?;
        drop(streams);
        let sending = async {
            // A server that refuses the request resets the stream after its response.
            if !ends {
                let _ = h2_send(&mut stream, request.content.clone(), !request.stalls).await;
            }
            if reset.await.is_ok() {
                stream.send_reset(Reason::CANCEL);
            }
            std::future::pending::<()>().await;
        };
        let answering = async {
            let mut interims = Vec::new();
            while let Some(interim) = poll_fn(|cx| response.poll_informational(cx)).await {
                let (head, ()) = interim?.into_parts();
                interims.push((head.status.as_u16(), head.headers));
            }
            let (head, mut body) = response.await?.into_parts();
            let mut content = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                let _ = body.flow_control().release_capacity(data.len());
                content.extend_from_slice(&data);
            }
            let (status, fields, content) = (head.status.as_u16(), head.headers, content.into());
            Ok(TestResponse { status, fields, content, interims })
        };
        tokio::select! {
            biased;
            got = answering => got,
            () = sending => unreachable!("it stays"),
        }
    }
}

/// Sends content as flow control allows.
pub(crate) async fn h2_send(
    stream: &mut SendStream<Bytes>,
    mut content: Bytes,
    ends: bool,
) -> Result<(), TransportError> {
    if content.is_empty() {
        return stream.send_data(content, ends).map_err(TransportError::from);
    }
    while !content.is_empty() {
        stream.reserve_capacity(content.len().min(1 << 20));
        let capacity = match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(capacity) => capacity?,
            None => return Err(TransportError("the stream was closed".into())),
        };
        let piece = content.split_to(capacity.min(content.len()));
        stream.send_data(piece, ends && content.is_empty())?;
    }
    Ok(())
}
