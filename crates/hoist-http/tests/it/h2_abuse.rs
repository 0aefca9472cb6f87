//! Frames that no well-behaved client sends: each is an error of its stream or connection, and the server survives.

use hoist_http::{Body, Limits};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Encodes fields as HPACK literals that are never indexed.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const PUT: [(&str, &str); 4] = [(":method", "PUT"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

pub fn with(extra: &[(&'static str, &'static str)]) -> Vec<u8> {
    fields(&[&PUT[..], extra].concat())
}

/// Sends frames and returns the frames that the server sends until it closes the connection or has answered several
/// pings in a row. One ping is not enough: the server answers it before it writes the frames of streams, and it lets
/// other connections go before safe requests.
async fn exchange(server: &Running, frames: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut tcp = TcpStream::connect(server.addr).await.unwrap();
    let mut sent = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    sent.extend_from_slice(frames);
    let mut pings_left = 8;
    sent.extend_from_slice(&frame(PING, 0, 0, b"a ping.."));
    // The server may close before it has read all frames.
    let _ = tcp.write_all(&sent).await;
    let mut seen = Vec::new();
    loop {
        let mut head = [0; 9];
        if soon(tcp.read_exact(&mut head)).await.is_err() {
            return seen;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if soon(tcp.read_exact(&mut payload)).await.is_err() {
            return seen;
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if head[3] == PING && head[4] == 1 {
            pings_left -= 1;
            if pings_left == 0 {
                return seen;
            }
            let _ = tcp.write_all(&frame(PING, 0, 0, b"a ping..")).await;
        }
        seen.push((head[3], stream, payload));
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    /// The server ends the connection with this error.
    Connection(u8),
    /// The server resets the stream with this error.
    Stream(u8),
    /// The server responds.
    Answered,
}

async fn verdict(server: &Running, frames: &[u8]) -> Option<Verdict> {
    let seen = exchange(server, frames).await;
    let find = |kind| seen.iter().find(move |(seen, _, _)| *seen == kind);
    if let Some((_, _, payload)) = find(GOAWAY) {
        return Some(Verdict::Connection(payload[7]));
    }
    if let Some((_, _, payload)) = find(RST_STREAM) {
        return Some(Verdict::Stream(payload[3]));
    }
    find(HEADERS).map(|_| Verdict::Answered)
}

const PROTOCOL_ERROR: u8 = 1;
const FLOW_CONTROL_ERROR: u8 = 3;
const STREAM_CLOSED: u8 = 5;
const FRAME_SIZE_ERROR: u8 = 6;
const COMPRESSION_ERROR: u8 = 9;
const ENHANCE_YOUR_CALM: u8 = 11;

#[tokio::test]
async fn hostile_frames_are_errors_and_the_server_survives() {
    let server = start(echo).await;
    let end = END_STREAM | END_HEADERS;
    let open = frame(HEADERS, END_HEADERS, 1, &fields(&PUT));
    let after = |frames: &[u8]| [&open[..], frames].concat();
    let table: Vec<(&str, Vec<u8>, Verdict)> = vec![
        (
            "a frame larger than allowed",
            frame(DATA, 0, 1, &vec![0; 70_000]),
            Verdict::Connection(FRAME_SIZE_ERROR),
        ),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x"), Verdict::Connection(PROTOCOL_ERROR)),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x"), Verdict::Connection(PROTOCOL_ERROR)),
        ("HEADERS on stream 0", frame(HEADERS, end, 0, &fields(&GET)), Verdict::Connection(PROTOCOL_ERROR)),
        ("an even stream", frame(HEADERS, end, 2, &fields(&GET)), Verdict::Connection(PROTOCOL_ERROR)),
        ("no pseudo fields", frame(HEADERS, end, 1, &fields(&[("a", "b")])), Verdict::Stream(PROTOCOL_ERROR)),
        (
            "no path, which the h2 crate takes for the root",
            frame(HEADERS, end, 1, &fields(&GET[..2])),
            Verdict::Answered,
        ),
        (
            "an upper-case name",
            frame(HEADERS, end, 1, &with(&[("Upper", "b")])),
            Verdict::Stream(PROTOCOL_ERROR),
        ),
        (
            "a Connection field",
            frame(HEADERS, end, 1, &with(&[("connection", "b")])),
            Verdict::Stream(PROTOCOL_ERROR),
        ),
        (
            "a TE that is not trailers",
            frame(HEADERS, end, 1, &with(&[("te", "gzip")])),
            Verdict::Stream(PROTOCOL_ERROR),
        ),
        (
            "a late pseudo field",
            frame(HEADERS, end, 1, &with(&[("a", "b"), (":path", "/")])),
            Verdict::Stream(PROTOCOL_ERROR),
        ),
        (
            "an unknown pseudo field",
            frame(HEADERS, end, 1, &with(&[(":odd", "b")])),
            Verdict::Stream(PROTOCOL_ERROR),
        ),
        (
            "broken HPACK",
            frame(HEADERS, end, 1, &[0xff, 0xff, 0xff, 0xff, 0xff]),
            Verdict::Connection(COMPRESSION_ERROR),
        ),
        (
            "CONTINUATION out of place",
            frame(CONTINUATION, END_HEADERS, 1, &[]),
            Verdict::Connection(PROTOCOL_ERROR),
        ),
        (
            "a window that overflows",
            after(&frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])),
            Verdict::Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "the connection's too",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            Verdict::Connection(FLOW_CONTROL_ERROR),
        ),
        ("an empty window update", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), Verdict::Connection(PROTOCOL_ERROR)),
        ("a short PING", frame(PING, 0, 0, b"x"), Verdict::Connection(FRAME_SIZE_ERROR)),
        ("odd SETTINGS", frame(SETTINGS, 0, 0, b"x"), Verdict::Connection(FRAME_SIZE_ERROR)),
        (
            "RST_STREAM on an idle stream",
            frame(RST_STREAM, 0, 9, &[0; 4]),
            Verdict::Connection(PROTOCOL_ERROR),
        ),
        (
            "more than the Content-Length",
            [
                frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "2")])),
                frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
            Verdict::Stream(PROTOCOL_ERROR),
        ),
        (
            "less than the Content-Length",
            [
                frame(HEADERS, END_HEADERS, 1, &with(&[("content-length", "9")])),
                frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
            Verdict::Stream(PROTOCOL_ERROR),
        ),
        (
            "a second head in mid-content",
            after(&frame(HEADERS, END_HEADERS, 1, &fields(&PUT))),
            Verdict::Stream(PROTOCOL_ERROR),
        ),
        (
            "DATA after the end",
            [frame(HEADERS, end, 1, &fields(&PUT)), frame(DATA, 0, 1, b"x")].concat(),
            Verdict::Connection(PROTOCOL_ERROR),
        ),
        (
            "an unknown frame",
            [frame(0xbe, 0, 0, b"?"), frame(HEADERS, end, 1, &fields(&GET))].concat(),
            Verdict::Answered,
        ),
    ];
    let mut wrong = Vec::new();
    for (name, frames, wanted) in table {
        let got = verdict(&server, &frames).await;
        let fits = match (&got, &wanted) {
            (Some(got), wanted) if got == wanted => true,
            // A server may treat a stream's error as the connection's, and use the general error code.
            (Some(Verdict::Connection(code)), Verdict::Stream(wanted) | Verdict::Connection(wanted)) => {
                code == wanted || [PROTOCOL_ERROR, STREAM_CLOSED].contains(code)
            }
            (Some(Verdict::Stream(STREAM_CLOSED)), Verdict::Connection(PROTOCOL_ERROR)) => true,
            _ => false,
        };
        if !fits {
            wrong.push((name, got, wanted));
        }
        let mut client = Raw::connect(server.addr).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.message().await.status, 200, "after {name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_bad_preface_closes_the_connection() {
    let server = start(echo).await;
    let mut tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.write_all(PREFACE).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let _ = soon(tcp.read_to_end(&mut all)).await;
    assert!(all.windows(2).any(|window| window[0] == GOAWAY) || all.len() < 100, "{all:?}");
}

#[tokio::test]
async fn streams_beyond_the_maximum_are_refused() {
    let limits = Limits { h2_streams_max: 3, ..Default::default() };
    let server = start_limited(limits, |_: Request<Body>| std::future::pending::<Answer>()).await;
    let frames: Vec<u8> =
        (0..5).flat_map(|n| frame(HEADERS, END_HEADERS, 2 * n + 1, &fields(&PUT))).collect();
    let seen = exchange(&server, &frames).await;
    let refused: Vec<_> = seen
        .iter()
        .filter(|(kind, _, _)| *kind == RST_STREAM)
        .map(|(_, stream, why)| (*stream, why[3]))
        .collect();
    assert_eq!(refused, [(7, 7), (9, 7)]);
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let server = start(echo).await;
    let mut tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    let (mut reader, mut writer) = tcp.into_split();
    let attack = tokio::spawn(async move {
        let block = fields(&PUT);
        for n in 0..20_000u32 {
            let mut frames = frame(HEADERS, END_HEADERS, 2 * n + 1, &block);
            frames.extend_from_slice(&frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]));
            if writer.write_all(&frames).await.is_err() {
                return n;
            }
            // Lets the server open each stream, which makes the attack expensive.
            tokio::task::yield_now().await;
        }
        writer.forget();
        20_000
    });
    let mut all = Vec::new();
    let _ = soon(reader.read_to_end(&mut all)).await;
    let goaway = all
        .windows(17)
        .any(|window| window[3] == GOAWAY && window[5..9] == [0; 4] && window[16] == ENHANCE_YOUR_CALM);
    assert!(goaway, "no GOAWAY among {} bytes", all.len());
    drop(reader);
    soon(attack).await.unwrap();
    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.message().await.status, 200);
}
