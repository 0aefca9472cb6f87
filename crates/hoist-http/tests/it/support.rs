//! A server under test, services made of closures, and a client that sees every byte.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hoist_http::{Abort, Body, Interim, Limits, Server};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

pub type Answer = Result<Response<Full<Bytes>>, Infallible>;
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The time a test waits: long enough for a loaded machine, short enough to detect a hang.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Waits for a future, or fails the test.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(TEST_TIMEOUT, future).await.expect("the test timed out")
}

#[derive(Clone)]
pub struct Fn<F>(pub F);

impl<F, Fut, B, E> Service<Request<Body>> for Fn<F>
where
    F: FnMut(Request<Body>) -> Fut,
    Fut: Future<Output = Result<Response<B>, E>> + Send + 'static,
{
    type Response = Response<B>;
    type Error = E;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Fut {
        (self.0)(request)
    }
}

pub struct Running {
    pub addr: SocketAddr,
    pub drain: CancellationToken,
    pub task: JoinHandle<std::io::Result<()>>,
}

pub async fn start<F, Fut, B, E>(service: F) -> Running
where
    F: FnMut(Request<Body>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
    E: Into<Error> + 'static,
{
    start_with(Server::new(), service).await
}

pub async fn start_limited<F, Fut, B, E>(limits: Limits, service: F) -> Running
where
    F: FnMut(Request<Body>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
    E: Into<Error> + 'static,
{
    start_with(Server::new().limits(limits), service).await
}

pub async fn start_with<F, Fut, B, E>(server: Server, service: F) -> Running
where
    F: FnMut(Request<Body>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
    E: Into<Error> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let drain = CancellationToken::new();
    let serve = server.serve(listener, Fn(service), drain.clone());
    Running { addr, drain, task: tokio::spawn(serve) }
}

pub fn text(status: u16, text: impl Into<Bytes>) -> Answer {
    Ok(Response::builder().status(status).body(Full::new(text.into())).unwrap())
}

/// Responds with the method, the path, and the number and a checksum of the content's bytes.
pub async fn echo(request: Request<Body>) -> Result<Response<Full<Bytes>>, hoist_http::BodyError> {
    let (head, body) = request.into_parts();
    let content = body.collect().await?.to_bytes();
    let line = format!("{} {} {} {:08x}\n", head.method, head.uri.path(), content.len(), checksum(&content));
    Ok(Response::new(Full::new(line.into())))
}

pub fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

pub fn interim_of<B>(request: &Request<B>) -> Interim {
    request.extensions().get::<Interim>().expect("an Interim").clone()
}

pub fn abort_of<B>(request: &Request<B>) -> Abort {
    request.extensions().get::<Abort>().expect("an Abort").clone()
}

pub fn progress(offset: usize) -> Response<()> {
    Response::builder().status(104).header("upload-offset", offset).body(()).unwrap()
}

pub fn head(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

/// A client that writes raw bytes and reads raw responses.
pub struct Raw {
    pub tcp: TcpStream,
    pub seen: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub struct Message {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Message {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Raw {
    pub async fn connect(addr: SocketAddr) -> Raw {
        let tcp = TcpStream::connect(addr).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Raw { tcp, seen: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.tcp.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Reads more bytes. Returns false at the end of the connection, orderly or not.
    async fn more(&mut self) -> bool {
        matches!(soon(self.tcp.read_buf(&mut self.seen)).await, Ok(bytes) if bytes > 0)
    }

    pub async fn more_quietly(&mut self) -> bool {
        let more = self.more().await;
        self.seen.clear();
        more
    }

    /// Reads exactly `text`.
    pub async fn until(&mut self, text: &str) {
        while self.seen.len() < text.len() {
            assert!(self.more().await, "the connection ends before {text:?}");
        }
        assert_eq!(String::from_utf8(self.seen.drain(..text.len()).collect()).unwrap(), text);
    }

    /// Reads all bytes until the server closes.
    pub async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.seen)).unwrap()
    }

    /// Asserts that the server closes without sending more.
    pub async fn ends(&mut self) {
        assert_eq!(self.rest().await, "");
    }

    /// Reads the next head, interim or final.
    pub async fn head(&mut self) -> Message {
        loop {
            if let Some(end) = self.seen.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.seen.split_off(end + 4);
                let head = String::from_utf8(std::mem::replace(&mut self.seen, rest)).unwrap();
                let status = head.strip_prefix("HTTP/1.1 ").expect("a status line")[..3].parse().unwrap();
                return Message { status, head, body: Vec::new() };
            }
            assert!(self.more().await, "no head, but {:?}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Reads the next message with its content. A response to HEAD has to be read with `head`.
    pub async fn message(&mut self) -> Message {
        let mut message = self.head().await;
        if message.status < 200 || matches!(message.status, 204 | 304) {
            return message;
        }
        if let Some(length) = message.field("content-length") {
            let length: usize = length.parse().unwrap();
            while self.seen.len() < length {
                assert!(self.more().await, "the content ends early");
            }
            let rest = self.seen.split_off(length);
            message.body = std::mem::replace(&mut self.seen, rest);
        } else if message.field("transfer-encoding").is_some() {
            while !self.seen.ends_with(b"0\r\n\r\n") {
                assert!(self.more().await, "the content ends early");
            }
            message.body = std::mem::take(&mut self.seen);
        } else {
            while self.more().await {}
            message.body = std::mem::take(&mut self.seen);
        }
        message
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.tcp.set_zero_linger().unwrap();
    }
}
