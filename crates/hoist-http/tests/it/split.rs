//! The service sees the same requests and bodies for any segmentation of the stream.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use hoist_http::Body;
use http::Request;
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use crate::support::*;

#[derive(Clone, Debug)]
enum Content {
    None,
    Length(Vec<u8>),
    Chunked(Vec<Vec<u8>>, bool),
}

fn content() -> impl Strategy<Value = Content> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        Just(Content::None),
        bytes().prop_map(Content::Length),
        (proptest::collection::vec(bytes(), 0..6), any::<bool>())
            .prop_map(|(chunks, trailers)| Content::Chunked(chunks, trailers)),
    ]
}

/// Returns the bytes of a request, and the line that the service logs for it.
fn wire(number: usize, content: &Content) -> (Vec<u8>, String) {
    let mut bytes = format!("PUT /{number} HTTP/1.1\r\nHost: a\r\nX-Padding: {number:040}\r\n").into_bytes();
    let mut whole = Vec::new();
    match content {
        Content::None => bytes.extend_from_slice(b"\r\n"),
        Content::Length(content) => {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
            bytes.extend_from_slice(content);
            whole.clone_from(content);
        }
        Content::Chunked(chunks, trailers) => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                bytes.extend_from_slice(format!("{:X};x=\"y\"\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
                whole.extend_from_slice(chunk);
            }
            bytes.extend_from_slice(if *trailers { b"0\r\nDigest: z\r\n\r\n" } else { b"0\r\n\r\n" });
        }
    }
    let trailers = usize::from(matches!(content, Content::Chunked(_, true)));
    (bytes, format!("/{number} {} {:08x} {trailers}\n", whole.len(), checksum(&whole)))
}

#[test]
fn requests_arrive_intact_in_any_segments() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = Arc::new(Mutex::new(String::new()));
    let log = Arc::clone(&seen);
    let server = runtime.block_on(start(move |request: Request<Body>| {
        let log = Arc::clone(&log);
        async move {
            let path = request.uri().path().to_owned();
            let collected = request.into_body().collect().await.unwrap();
            let trailers = collected.trailers().map_or(0, http::HeaderMap::len);
            let content = collected.to_bytes();
            let line = format!("{path} {} {:08x} {trailers}", content.len(), checksum(&content));
            writeln!(log.lock().unwrap(), "{line}").unwrap();
            text(204, "")
        }
    }));
    let cases = (proptest::collection::vec(content(), 1..5), proptest::collection::vec(1usize..400, 1..20));
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() };
    proptest!(config, |((contents, cuts) in cases)| {
        let (mut bytes, mut wanted) = (Vec::new(), String::new());
        for (number, content) in contents.iter().enumerate() {
            let (request, line) = wire(number, content);
            bytes.extend_from_slice(&request);
            wanted.push_str(&line);
        }
        seen.lock().unwrap().clear();
        runtime.block_on(async {
            let mut client = Raw::connect(server.addr).await;
            let mut cuts = cuts.iter().cycle();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (segment, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                client.send(segment).await;
                tokio::task::yield_now().await;
                rest = after;
            }
            client.tcp.shutdown().await.unwrap();
            for _ in &contents {
                assert_eq!(client.message().await.status, 204);
            }
            client.ends().await;
        });
        prop_assert_eq!(&*seen.lock().unwrap(), &wanted);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_entry_points_of_fuzzers_accept_any_bytes(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..9).boxed(),
                proptest::sample::select(vec![
                    "GET / HTTP/1.1\r\n", "Host: a\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
                    "\r\n", "\r", "\n", "5\r\nhello\r\n", "0\r\n", "5;a=b\r\n", "A: b\r\n", "ffffffffffffffff",
                ]).prop_map(|text| text.as_bytes().to_vec()).boxed(),
            ],
            0..12,
        )
    ) {
        let data = pieces.concat();
        hoist_http::fuzz::head(&data);
        hoist_http::fuzz::chunked(&data);
    }
}
