//! `Abort::end_content`: a body ends after the bytes that have arrived, and misses none of them.

use std::io::Write as _;
use std::net::TcpStream as Blocking;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hoist_http::{Body, BodyError};
use http::Request;
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt as _;

use crate::support::*;

/// The peer's end of a connection, for the service to write to: bytes written to it have arrived in the kernel before
/// the runtime notices them.
type Peer = Arc<Mutex<Option<Blocking>>>;

/// Reads four bytes, sends `more` as the peer (and closes its side), ends the content, and reads to its end.
async fn read_after(request: Request<Body>, peer: Peer, more: Vec<u8>, closes: bool) -> Answer {
    let abort = abort_of(&request);
    let mut body = request.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "four");
    let mut peer = peer.lock().unwrap().take().expect("connected");
    peer.write_all(&more).unwrap();
    if closes {
        peer.shutdown(std::net::Shutdown::Write).unwrap();
    }
    abort.end_content();
    let mut bytes = 4;
    let end = loop {
        match soon(body.frame()).await {
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(error)) => break format!("{error:?}"),
            None => break "whole".to_owned(),
        }
    };
    text(200, format!("{bytes} {end}"))
}

async fn start_reading(more: Vec<u8>, closes: bool) -> (Running, Peer) {
    let peer = Peer::default();
    let sender = Arc::clone(&peer);
    let server =
        start(move |request: Request<Body>| read_after(request, Arc::clone(&sender), more.clone(), closes));
    let server = server.await;
    (server, peer)
}

/// Opens a connection, to whose peer's end the service can write.
async fn connect(server: &Running, peer: &Peer) -> Raw {
    let raw = Raw::connect(server.addr).await;
    let tcp = raw.tcp.into_std().unwrap();
    let writer = tcp.try_clone().unwrap();
    *peer.lock().unwrap() = Some(writer);
    Raw { tcp: tokio::net::TcpStream::from_std(tcp).unwrap(), seen: raw.seen }
}

#[tokio::test]
async fn an_h1_body_ends_with_the_bytes_in_the_kernel() {
    for (length, more, expected) in [
        ("content-length: 1000", vec![b'x'; 300], "304 Aborted"),
        ("content-length: 304", vec![b'x'; 300], "304 whole"),
        ("transfer-encoding: chunked", b"3\r\nabc\r\n5\r\nde".to_vec(), "9 Aborted"),
        ("transfer-encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n".to_vec(), "7 whole"),
        ("content-length: 1000", Vec::new(), "4 Aborted"),
    ] {
        let (server, peer) = start_reading(more, false).await;
        let mut raw = connect(&server, &peer).await;
        let first = if length.starts_with('t') { "4\r\nfour\r\n" } else { "four" };
        raw.send(format!("PUT / HTTP/1.1\r\nhost: a\r\n{length}\r\n\r\n{first}")).await;
        assert_eq!(raw.message().await.text(), expected, "{length}");
    }
}

#[tokio::test]
async fn an_h1_body_yields_all_bytes_before_a_disconnect() {
    let (server, peer) = start_reading(vec![b'x'; 300], true).await;
    let mut raw = connect(&server, &peer).await;
    raw.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nfour").await;
    assert_eq!(raw.message().await.text(), "304 Disconnected");
}

/// Returns the preface and the frames of a `PUT` on stream 1 with four bytes of content.
fn h2_put() -> Vec<u8> {
    let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    wire.extend(h2_frame(4, 0, 0, &[]));
    let mut fields = Vec::new();
    for (name, value) in [(":method", "PUT"), (":scheme", "http"), (":path", "/"), (":authority", "a")] {
        for text in [name, value] {
            if text == name {
                fields.push(0);
            }
            fields.push(u8::try_from(text.len()).unwrap());
            fields.extend(text.as_bytes());
        }
    }
    wire.extend(h2_frame(1, 4, 1, &fields));
    wire.extend(h2_frame(0, 0, 1, b"four"));
    wire
}

fn h2_frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], content].concat()
}

#[tokio::test]
async fn an_h2_body_ends_with_the_bytes_in_the_kernel() {
    let data = |flags, bytes| h2_frame(0, flags, 1, &vec![b'x'; bytes]);
    for (more, expected) in [
        ([data(0, 300), data(0, 10_000)].concat(), "10304 Aborted"),
        ([data(0, 300), data(1, 0)].concat(), "304 whole"),
        (Vec::new(), "4 Aborted"),
        // An incomplete frame is not yet content.
        ([data(0, 300), data(0, 10_000)[..5000].to_vec()].concat(), "304 Aborted"),
    ] {
        let (server, peer) = start_reading(more, false).await;
        let mut raw = connect(&server, &peer).await;
        raw.send(h2_put()).await;
        // Only the response's content has this form.
        while !String::from_utf8_lossy(&raw.seen).contains(expected) {
            let seen = String::from_utf8_lossy(&raw.seen).into_owned();
            assert!(soon(raw.tcp.read_buf(&mut raw.seen)).await.unwrap() > 0, "{expected}, but {seen:?}");
        }
    }
}

#[tokio::test]
async fn content_that_was_ended_early_gets_no_100() {
    let server = start(|request: Request<Body>| async move {
        abort_of(&request).end_content();
        let end = request.into_body().collect().await.map(|_| ());
        assert_eq!(end, Err(BodyError::Aborted));
        text(200, "ended")
    })
    .await;
    let mut raw = Raw::connect(server.addr).await;
    raw.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n").await;
    assert_eq!(raw.head().await.status, 200);
}
