//! HTTP/1.1 exchanges: interim responses, framing of responses, persistence, rejections, abort.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hoist_http::{Body, Interim, InterimError, Limits, Peer};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use tokio::sync::mpsc;

use crate::support::*;

mod aborts;

/// Returns a response body and a channel that feeds it.
fn fed() -> (mpsc::UnboundedSender<io::Result<Frame<Bytes>>>, BoxBody<Bytes, io::Error>) {
    let (feed, mut fed) = mpsc::unbounded_channel();
    let body = BodyExt::boxed(Fed(Box::new(move |cx: &mut std::task::Context<'_>| fed.poll_recv(cx))));
    (feed, body)
}

type Poller =
    dyn FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<io::Result<Frame<Bytes>>>> + Send + Sync;

struct Fed(Box<Poller>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<Frame<Bytes>>>> {
        (self.0)(cx)
    }
}

#[tokio::test]
async fn a_100_follows_interim_responses_sent_before_the_body_was_polled() {
    let server = start(|request: Request<Body>| async move {
        interim_of(&request).send(progress(0)).unwrap();
        echo(request).await
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(client.head().await.status, 104);
    assert_eq!(client.head().await.head, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    let answer = client.message().await;
    assert_eq!((answer.status, answer.text()), (200, "PUT /x 5 4f9f2cab\n"));
    assert_eq!(answer.field("connection"), None);
}

#[tokio::test]
async fn an_unread_body_gets_no_100() {
    let server = start(|_: Request<Body>| async { text(403, "no") }).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    let answer = client.message().await;
    // The content may or may not follow, so the connection cannot be reused.
    assert_eq!((answer.status, answer.field("connection")), (403, Some("close")));
    client.ends().await;
}

#[tokio::test]
async fn content_that_has_arrived_or_is_empty_gets_no_100() {
    let server = start(echo).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.message().await.status, 200);
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.message().await.status, 200);
}

#[tokio::test]
async fn http_1_0_gets_no_interim_responses() {
    let server = start(|request: Request<Body>| async move {
        assert!(request.extensions().get::<Interim>().is_none());
        echo(request).await
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT /x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello").await;
    let answer = client.message().await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    client.ends().await;
}

#[tokio::test]
async fn interim_responses_are_sent_while_the_body_arrives() {
    let server = start(|request: Request<Body>| async move {
        let interim = interim_of(&request);
        let mut body = request.into_body();
        let mut offset = 0;
        while let Some(frame) = body.frame().await {
            offset += frame.unwrap().into_data().unwrap().len();
            interim.progress(progress(offset)).unwrap();
        }
        text(200, "done")
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n").await;
    for offset in ["4", "8"] {
        client.send("four").await;
        let head = client.head().await;
        assert_eq!((head.status, head.field("upload-offset")), (104, Some(offset)));
        assert_eq!(head.field("content-length"), None);
    }
    client.send("four").await;
    // The final response may come first, which drops the last progress.
    let mut last = client.message().await;
    if last.status == 104 {
        last = client.message().await;
    }
    assert_eq!((last.status, last.text()), (200, "done"));
}

#[tokio::test]
async fn interim_responses_stay_with_their_request_when_pipelined() {
    let late = Arc::new(std::sync::Mutex::new(None));
    let kept = Arc::clone(&late);
    let server = start(move |request: Request<Body>| {
        let kept = Arc::clone(&kept);
        async move {
            let interim = interim_of(&request);
            if let Some(earlier) = kept.lock().unwrap().replace(interim.clone()) {
                let earlier: Interim = earlier;
                assert_eq!(earlier.send(head(103)), Err(InterimError::Answered));
                assert_eq!(earlier.progress(head(104)), Err(InterimError::Answered));
            }
            tokio::task::yield_now().await;
            interim.send(head(103)).unwrap();
            interim.send(progress(request.uri().path().len())).unwrap();
            text(200, request.uri().path().to_owned())
        }
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    let paths = ["/a", "/bb", "/ccc", "/dddd"];
    let requests = paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.send(requests.concat()).await;
    for path in paths {
        assert_eq!(client.head().await.status, 103);
        let offset = client.head().await;
        assert_eq!(offset.field("upload-offset"), Some(path.len().to_string().as_str()));
        assert_eq!(client.message().await.text(), path);
    }
}

#[tokio::test]
async fn a_peer_that_reads_no_interim_responses_can_still_send() {
    const BYTES: usize = 48 << 20;
    let server = start(|request: Request<Body>| async move {
        let interim = interim_of(&request);
        let mut body = request.into_body();
        let (mut offset, mut full) = (0, 0);
        while let Some(frame) = body.frame().await {
            offset += frame.unwrap().into_data().unwrap().len();
            let large =
                Response::builder().status(104).header("padding", "x".repeat(60_000)).body(()).unwrap();
            interim.progress(large.clone()).unwrap();
            full += usize::from(interim.send(large) == Err(InterimError::Full));
        }
        assert!(full > 0, "the queue should have been full");
        text(200, offset.to_string())
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n")).await;
    let piece = vec![7; 1 << 20];
    for _ in 0..BYTES / piece.len() {
        client.send(&piece).await;
    }
    let answer = loop {
        let message = client.message().await;
        if message.status == 200 {
            break message;
        }
    };
    assert_eq!(answer.text(), BYTES.to_string());
}

#[tokio::test]
async fn connections_persist_as_the_request_asks() {
    let server = start(echo).await;
    for (request, again, field) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, None),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false, Some("close")),
        ("GET / HTTP/1.0\r\n\r\n", false, Some("close")),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, Some("keep-alive")),
    ] {
        let mut client = Raw::connect(server.addr).await;
        client.send(request).await;
        assert_eq!(client.message().await.field("connection"), field, "{request}");
        if again {
            client.send(request).await;
            assert_eq!(client.message().await.status, 200);
        } else {
            client.ends().await;
        }
    }
}

#[tokio::test]
async fn a_half_closed_peer_gets_its_response() {
    use tokio::io::AsyncWriteExt;
    let server = start(echo).await;
    let mut client = Raw::connect(server.addr).await;
    client
        .send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    client.tcp.shutdown().await.unwrap();
    assert!(client.message().await.text().starts_with("PUT /a 2 "));
    assert!(client.message().await.text().starts_with("GET /b 0 "));
    client.ends().await;
}

#[tokio::test]
async fn the_service_sees_its_peer_and_both_forms_of_a_target() {
    let server = start(|request: Request<Body>| async move {
        let peer = *request.extensions().get::<Peer>().unwrap();
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        text(200, format!("{} {} {} {host}", peer.addr, peer.tls, request.uri()))
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    let addr = client.tcp.local_addr().unwrap();
    client.send("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nGET http://y/a?b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.message().await.text(), format!("{addr} false /a?b x"));
    assert_eq!(client.message().await.text(), format!("{addr} false http://y/a?b y"));
    client.send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.message().await.text(), format!("{addr} false * x"));
}

#[tokio::test]
async fn responses_are_framed_by_length_chunks_or_close() {
    let server = start(|request: Request<Body>| async move {
        let (feed, streamed) = fed();
        let full = |text: &'static str| BoxBody::new(Full::new(Bytes::from(text)).map_err(io::Error::other));
        let response = match request.uri().path() {
            "/length" => Response::new(full("hello")),
            "/streamed" => {
                feed.send(Ok(Frame::data("hello ".into()))).unwrap();
                feed.send(Ok(Frame::data(Bytes::new()))).unwrap();
                feed.send(Ok(Frame::data("world".into()))).unwrap();
                Response::new(streamed)
            }
            "/trailers" => {
                feed.send(Ok(Frame::data("hi".into()))).unwrap();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("repr-digest", "x".parse().unwrap());
                trailers.insert("content-length", "9".parse().unwrap());
                feed.send(Ok(Frame::trailers(trailers))).unwrap();
                Response::new(streamed)
            }
            "/stated" => {
                feed.send(Ok(Frame::data("hello".into()))).unwrap();
                Response::builder().header("content-length", "5").body(streamed).unwrap()
            }
            "/left-out" => Response::builder().header("content-length", "77").body(full("")).unwrap(),
            "/204" => Response::builder().status(204).header("content-length", "0").body(full("")).unwrap(),
            "/304" => Response::builder().status(304).header("content-length", "77").body(full("")).unwrap(),
            "/fields" => Response::builder()
                .header("transfer-encoding", "gzip")
                .header("keep-alive", "timeout=5")
                .header("date", "never")
                .body(full("x"))
                .unwrap(),
            "/close" => Response::builder().header("connection", "close").body(full("x")).unwrap(),
            path => panic!("{path}"),
        };
        Ok::<_, io::Error>(response)
    })
    .await;
    let chunked = "6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n";
    for (request, head, body) in [
        ("GET /length HTTP/1.1", "Content-Length: 5", "hello"),
        ("HEAD /length HTTP/1.1", "Content-Length: 5", ""),
        ("GET /streamed HTTP/1.1", "Transfer-Encoding: chunked", chunked),
        ("HEAD /streamed HTTP/1.1", "", ""),
        ("GET /streamed HTTP/1.0", "Connection: close", "hello world"),
        ("GET /trailers HTTP/1.1", "Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\nRepr-Digest: x\r\n\r\n"),
        ("GET /stated HTTP/1.1", "Content-Length: 5", "hello"),
        ("HEAD /left-out HTTP/1.1", "Content-Length: 77", ""),
        ("GET /204 HTTP/1.1", "", ""),
        ("GET /304 HTTP/1.1", "Content-Length: 77", ""),
        ("GET /fields HTTP/1.1", "Content-Length: 1\r\n", "x"),
        ("GET /close HTTP/1.1", "Content-Length: 1\r\nConnection: close", "x"),
    ] {
        let mut client = Raw::connect(server.addr).await;
        let close = if request.ends_with("1.1") { "Connection: close\r\n" } else { "" };
        client.send(format!("{request}\r\nHost: a\r\n{close}\r\n")).await;
        let all = client.rest().await;
        let (got, content) = all.split_once("\r\n\r\n").unwrap();
        let got = format!("{got}\r\n");
        let fields: Vec<_> = got
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with("Date: ") && *line != "Connection: close")
            .collect();
        let wanted: Vec<_> = head.lines().filter(|line| *line != "Connection: close").collect();
        assert_eq!((fields, content), (wanted, body), "{request}");
        assert_eq!(got.matches("Date: ").count(), 1);
        assert_eq!(got.contains("Date: never"), request.contains("/fields"));
    }
}

#[tokio::test]
async fn a_failed_response_resets_the_connection() {
    let server = start(|request: Request<Body>| async move {
        let (feed, streamed) = fed();
        feed.send(Ok(Frame::data("hello".into()))).unwrap();
        let response = Response::builder();
        match request.uri().path() {
            "/error" => feed.send(Err(io::Error::other("no more"))).unwrap(),
            "/short" => return Ok(response.header("content-length", "6").body(streamed).unwrap()),
            "/long" => return Ok(response.header("content-length", "4").body(streamed).unwrap()),
            "/service" => return Err("failed"),
            _ => panic!("on purpose"),
        }
        Ok(response.body(streamed).unwrap())
    })
    .await;
    for (path, end) in [("/error", ""), ("/short", ""), ("/panic", ""), ("/long", "\r\n\r\nhell")] {
        let mut client = Raw::connect(server.addr).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let all = client.rest().await;
        assert!(all.ends_with(end) && !all.ends_with("0\r\n\r\n"), "{path}: {all}");
        assert!(path != "/panic" || all.is_empty(), "{all}");
    }
    let mut client = Raw::connect(server.addr).await;
    client.send("GET /service HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.message().await;
    assert_eq!((answer.status, answer.field("content-type")), (500, Some("application/problem+json")));
}

#[tokio::test]
async fn an_interim_status_as_final_response_is_a_500() {
    let server = start(|_: Request<Body>| async { text(103, "") }).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.message().await.status, 500);
}

#[tokio::test]
async fn a_rejection_is_a_problem_document_and_closes_the_connection() {
    let called = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&called);
    let server = start(move |_: Request<Body>| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { text(200, "") }
    })
    .await;
    let long = "a".repeat(70_000);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            400,
        ),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned(), 505),
        ("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(), 501),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 501),
        ("PUT / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n".to_owned(), 417),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100)), 431),
        ("\x16\x03\x01\x02".to_owned(), 400),
    ] {
        let mut client = Raw::connect(server.addr).await;
        client.send(&request).await;
        let answer = client.message().await;
        assert_eq!(answer.status, status, "{request:.80}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        assert_eq!(answer.field("connection"), Some("close"));
        assert!(answer.text().contains(&format!("\"status\":{status}")), "{}", answer.text());
        client.ends().await;
    }
    assert_eq!(called.load(Ordering::Relaxed), 0);
}
