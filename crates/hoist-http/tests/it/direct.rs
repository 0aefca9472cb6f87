//! Bodies that send their content to the socket themselves: when they do, and what happens if they or the peer stall.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hoist_http::{Body, Direct, DirectBody, Limits};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::support::*;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The behavior of a [`Content`] that is asked to send itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Sends `direct`.
    Send,
    /// Sends `dir`.
    SendHalf,
    Refuse,
    Fail,
    /// Fills the socket and waits.
    Fill,
    /// Waits, and sends at the tenth poll.
    Wait,
}

/// Content that tells how it was sent: `frames` or `direct`. Reports each time it is asked to send itself, and its drop.
struct Content {
    does: Does,
    sent: u64,
    polls: u64,
    has_yielded: bool,
    events: mpsc::UnboundedSender<&'static str>,
}

impl Content {
    fn send(&mut self, socket: &Arc<OwnedFd>, bytes: &[u8]) -> io::Result<()> {
        let mut socket = TcpStream::from(socket.try_clone()?);
        self.sent += socket.write(bytes)? as u64;
        Ok(())
    }
}

impl DirectBody for Content {
    fn poll_send(&mut self, _: &mut Context<'_>, socket: &Arc<OwnedFd>) -> Poll<Result<bool, BoxError>> {
        let _ = self.events.send("asked");
        self.polls += 1;
        match self.does {
            Does::Send => self.send(socket, b"direct")?,
            Does::SendHalf => self.send(socket, b"dir")?,
            Does::Refuse => return Poll::Ready(Ok(false)),
            Does::Fail => return Poll::Ready(Err("broken".into())),
            Does::Fill => loop {
                match self.send(socket, &[7; 8 << 10]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                    sent => sent?,
                }
            },
            Does::Wait if self.polls == 10 => self.send(socket, b"direct")?,
            // Not woken: the server polls again whenever it has looked for a stall.
            Does::Wait => return Poll::Pending,
        }
        Poll::Ready(Ok(true))
    }

    fn sent(&self) -> u64 {
        self.sent
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let has_yielded = std::mem::replace(&mut self.has_yielded, true);
        Poll::Ready((!has_yielded).then(|| Ok(Frame::data(Bytes::from_static(b"frames")))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(6)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let _ = self.events.send("dropped");
    }
}

/// Serves content with the behavior that the path names.
async fn start_content(limits: Limits) -> (Running, mpsc::UnboundedReceiver<&'static str>) {
    let (sender, events) = mpsc::unbounded_channel();
    let server = start_limited(limits, move |request: Request<Body>| {
        let does = match request.uri().path() {
            "/send" => Does::Send,
            "/half" => Does::SendHalf,
            "/refuse" => Does::Refuse,
            "/fail" => Does::Fail,
            "/fill" => Does::Fill,
            "/wait" => Does::Wait,
            path => panic!("{path}"),
        };
        let content = Content { does, sent: 0, polls: 0, has_yielded: false, events: sender.clone() };
        let mut response = Response::new(content);
        let direct = Direct::to(response.body());
        response.extensions_mut().insert(direct);
        async move { Ok::<_, Infallible>(response) }
    })
    .await;
    (server, events)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[tokio::test]
async fn a_body_sends_itself_on_a_connection_that_goes_on() {
    let (server, mut events) = start_content(Limits::default()).await;
    let mut client = Raw::connect(server.addr).await;
    client.send([get("/send"), get("/refuse"), get("/send")].concat()).await;
    for expected in ["direct", "frames", "direct"] {
        let message = client.message().await;
        assert_eq!((message.text(), message.field("content-length")), (expected, Some("6")));
        assert_eq!((soon(events.recv()).await, soon(events.recv()).await), (Some("asked"), Some("dropped")));
    }
    client.send("HEAD /send HTTP/1.1\r\nHost: a\r\n\r\nGET /send HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.head().await.field("content-length"), Some("6"));
    assert_eq!(soon(events.recv()).await, Some("dropped"));
    assert_eq!(client.message().await.text(), "direct");
    client.ends().await;
}

#[tokio::test]
async fn incomplete_content_resets_the_connection() {
    let (server, _events) = start_content(Limits::default()).await;
    for (path, content) in [("/half", "dir"), ("/fail", "")] {
        let mut client = Raw::connect(server.addr).await;
        client.send(get(path)).await;
        client.head().await;
        // A reset may overtake the content.
        let rest = client.rest().await;
        assert!(content.starts_with(&rest), "{path}: {rest:?}");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_disconnected_and_a_slow_body_is_not() {
    let limits = Limits { write_idle: Duration::from_millis(100), ..Default::default() };
    let (server, mut events) = start_content(limits).await;
    let mut client = Raw::connect(server.addr).await;
    client.send(get("/fill")).await;
    while soon(events.recv()).await != Some("dropped") {}
    // Ten polls take more than twice the time that a peer may stall.
    let mut client = Raw::connect(server.addr).await;
    client.send(get("/wait")).await;
    assert_eq!(client.message().await.text(), "direct");
}

#[tokio::test]
async fn a_disconnected_client_ends_the_body() {
    let (server, mut events) =
        start_content(Limits { write_idle: Duration::from_millis(200), ..Default::default() }).await;
    let mut client = Raw::connect(server.addr).await;
    client.send(get("/fill")).await;
    client.head().await;
    client.reset();
    while soon(events.recv()).await != Some("dropped") {}
    drop(server);
}

/// A layer between the service and the server that changes the content.
#[tokio::test]
async fn a_replaced_body_is_sent_in_frames() {
    let (sender, mut events) = mpsc::unbounded_channel();
    let server = start(move |_: Request<Body>| {
        let content =
            Content { does: Does::Send, sent: 0, polls: 0, has_yielded: false, events: sender.clone() };
        let mut response = Response::new(content);
        let direct = Direct::to(response.body());
        response.extensions_mut().insert(direct);
        let upper = |frame: Frame<Bytes>| frame.map_data(|data| Bytes::from(data.to_ascii_uppercase()));
        async move { Ok::<_, Infallible>(response.map(|body| body.map_frame(upper))) }
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.message().await.text(), "FRAMES");
    assert_eq!(soon(events.recv()).await, Some("dropped"));
}

#[tokio::test]
async fn http2_takes_frames() {
    let (server, mut events) = start_content(Limits::default()).await;
    let tcp = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let (response, _) = client.send_request(Request::get("http://a/send").body(()).unwrap(), true).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "frames");
    assert_eq!(soon(events.recv()).await, Some("dropped"));
}
