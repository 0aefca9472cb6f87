//! `Body::splice`: content that goes into a pipe arrives once, in order, and together with frames.

use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::Poll;

use hoist_http::{Body, BodyError, Limits, Splice};
use http::Request;
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::support::*;

/// Receives content through a pipe where that is possible, and in frames otherwise. Returns it, the bytes of it that went
/// through the pipe, and the error.
async fn receive(mut body: Body, splice: Splice) -> (Vec<u8>, usize, Option<BodyError>) {
    let (from, to) = rustix::pipe::pipe().unwrap();
    let (mut content, mut spliced) = (Vec::new(), 0);
    while !body.is_end_stream() {
        let next = std::future::poll_fn(|cx| match splice.poll_splice(cx, to.as_fd(), 50_000) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(bytes)) => Poll::Ready(Ok(bytes.get())),
            Poll::Ready(None) => Pin::new(&mut body).poll_frame(cx).map(Err),
        });
        match soon(next).await {
            Ok(bytes) => {
                let mut buf = vec![0; bytes];
                let read = rustix::io::read(&from, &mut buf).unwrap();
                assert_eq!(read, bytes);
                content.extend_from_slice(&buf);
                spliced += bytes;
            }
            Err(Some(Ok(frame))) => content.extend_from_slice(frame.data_ref().unwrap()),
            Err(Some(Err(error))) => return (content, spliced, Some(error)),
            Err(None) => break,
        }
    }
    (content, spliced, None)
}

async fn answer(request: Request<Body>) -> Answer {
    let body = request.into_body();
    let Some(splice) = body.splice() else {
        let content = body.collect().await.map(|content| content.to_bytes().len());
        return text(200, format!("not spliced: {content:?}"));
    };
    let (content, spliced, error) = receive(body, splice).await;
    text(200, format!("{} {:08x} {} {error:?}", content.len(), checksum(&content), spliced > 0))
}

#[tokio::test]
async fn content_of_a_stated_length_arrives_intact() {
    let server = start(answer).await;
    let content: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
    let mut client = Raw::connect(server.addr).await;
    // Twice, because the connection has to be usable again.
    for _ in 0..2 {
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", content.len())).await;
        client.send(&content).await;
        let expected = format!("3000000 {:08x} true None", checksum(&content));
        assert_eq!(client.message().await.text(), expected);
    }
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n").await;
    assert_eq!(client.message().await.text(), "not spliced: Ok(2)");
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.message().await.text(), "not spliced: Ok(0)");
}

#[tokio::test]
async fn all_bytes_before_a_disconnect_arrive() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let server = start(move |request: Request<Body>| {
        let sender = sender.clone();
        async move {
            let body = request.into_body();
            let splice = body.splice().unwrap();
            sender.send(receive(body, splice).await).await.unwrap();
            text(200, "")
        }
    });
    let server = server.await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await;
    client.send(vec![b'x'; 400_000]).await;
    drop(client);
    let (content, spliced, error) = soon(receiver.recv()).await.unwrap();
    assert_eq!((content, error), (vec![b'x'; 400_000], Some(BodyError::Disconnected)));
    assert!(spliced > 0);
}

#[tokio::test]
async fn a_peer_that_sends_nothing_more_is_an_error() {
    let limits = Limits { body_idle: std::time::Duration::from_millis(50), ..Limits::default() };
    let server = start_limited(limits, answer).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
    assert!(client.message().await.text().ends_with("Some(Idle)"));
}
