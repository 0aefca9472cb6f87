//! Scripted servers: one list of acts per connection, in the order in which connections are made.

use std::net::Ipv4Addr;
use std::time::Duration;

use hoist_client::{Client, ClientBuilder, Dialect, Form};
use http::Uri;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// One act of the server on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Reads the head of a request.
    Head,
    /// Reads this many bytes of content.
    Content(u64),
    /// Reads the rest of the content that the head declares.
    Rest,
    /// Reads chunked content to its end.
    Chunks,
    /// Writes a text.
    Write(String),
    /// Waits until the client closes the connection.
    Stall,
    /// Resets the connection at the end of the script, instead of closing it.
    Reset,
}

/// The request that a connection carried.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceivedRequest {
    pub(crate) head: String,
    pub(crate) content: Vec<u8>,
}

impl ReceivedRequest {
    /// Returns method and target.
    pub(crate) fn request(&self) -> &str {
        self.head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1")
    }

    /// Returns the value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Reads a whole request and responds.
pub(crate) fn respond(response: &str) -> Vec<Act> {
    vec![Act::Head, Act::Rest, write(response)]
}

/// Writes a response whose lines are separated by `|`, and its content after `||`.
pub(crate) fn write(response: &str) -> Act {
    let (head, content) = response.split_once("||").unwrap_or((response, ""));
    let head = head.replace('|', "\r\n");
    // Each script has its own connection.
    let framing = match head.get(..1) {
        Some("1") => String::new(),
        _ if head.starts_with("204") => "\r\nConnection: close".to_owned(),
        _ => format!("\r\nConnection: close\r\nContent-Length: {}", content.len()),
    };
    Act::Write(format!("HTTP/1.1 {head}{framing}\r\n\r\n{content}"))
}

/// Returns a response with a problem document.
pub(crate) fn problem(status: &str, fields: &str, detail: &str) -> String {
    format!(
        "{status}|Content-Type: application/problem+json{fields}||{{\"title\":\"No\",\"detail\":\"{detail}\"}}"
    )
}

pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) url: Uri,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("http://{}/uploads", listener.local_addr().expect("bound"));
        Self { listener, url: url.parse().expect("a URL") }
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().expect("bound").port()
    }

    /// Plays the scripts and returns the requests. Further connections are not accepted, so the test times out.
    pub(crate) async fn play(&self, scripts: Vec<Vec<Act>>) -> Vec<ReceivedRequest> {
        let mut seen = Vec::new();
        for script in scripts {
            let (mut stream, _) = self.listener.accept().await.expect("accepted");
            let (carried, resets) = perform(&mut stream, &script).await;
            seen.push(carried);
            if resets {
                stream.set_zero_linger().expect("set");
            }
        }
        seen
    }
}

/// Plays one script on one connection. Returns the request, and whether to reset the connection.
pub(crate) async fn perform(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    script: &[Act],
) -> (ReceivedRequest, bool) {
    let mut seen = ReceivedRequest::default();
    let mut resets = false;
    for act in script {
        match act {
            Act::Head => seen.head = head(stream).await,
            Act::Content(bytes) => content(stream, &mut seen, *bytes).await,
            Act::Rest => {
                let declared = seen.field("content-length").map_or(0, |text| text.parse().expect("a number"));
                let left = declared - seen.content.len() as u64;
                content(stream, &mut seen, left).await;
            }
            Act::Chunks => chunks(stream, &mut seen).await,
            Act::Write(text) => stream.write_all(text.as_bytes()).await.expect("the client reads"),
            Act::Stall => {
                let mut rest = [0; 4096];
                while stream.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
            }
            Act::Reset => resets = true,
        }
    }
    (seen, resets)
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
        assert!(head.len() < 16 * 1024, "a head without end");
    }
    String::from_utf8(head).expect("ASCII")
}

async fn chunks(stream: &mut (impl AsyncRead + Unpin), seen: &mut ReceivedRequest) {
    for _ in 0..10_000 {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.expect("a chunk"));
        }
        let digits = std::str::from_utf8(&line).expect("ASCII").trim();
        let bytes = u64::from_str_radix(digits, 16).expect("a size");
        content(stream, seen, bytes).await;
        stream.read_u16().await.expect("the end of a chunk");
        if bytes == 0 {
            return;
        }
    }
    panic!("chunks without end");
}

async fn content(stream: &mut (impl AsyncRead + Unpin), seen: &mut ReceivedRequest, bytes: u64) {
    let start = seen.content.len();
    seen.content.resize(start + usize::try_from(bytes).expect("small"), 0);
    stream.read_exact(&mut seen.content[start..]).await.expect("as much content as the script reads");
}

/// Returns a builder without retry pauses, for the token dialect.
pub(crate) fn token_builder() -> ClientBuilder {
    builder().dialect(Dialect::Token(Form::Seed))
}

/// Returns a builder without retry pauses.
pub(crate) fn builder() -> ClientBuilder {
    Client::builder().retry_pauses(Duration::ZERO, Duration::ZERO)
}

pub(crate) fn token_client() -> Client {
    token_builder().build().expect("a client")
}

/// Returns bytes without a short period.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("below 256")).collect()
}

/// Runs client and server concurrently, with a timeout.
pub(crate) async fn run_both<C, S>(
    client: impl Future<Output = C>,
    server: impl Future<Output = S>,
) -> (C, S) {
    let both = Box::pin(async { tokio::join!(client, server) });
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("both end in time")
}
