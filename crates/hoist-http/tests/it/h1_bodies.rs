//! Bodies of HTTP/1.1 requests: framing, interruptions, and readers in other tasks.

use std::time::Duration;

use bytes::Bytes;
use hoist_http::{Body, BodyError, Limits};
use http::Request;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::support::*;

type End = (Vec<u8>, Option<BodyError>);

/// Reads a body to its end. Returns its content and the error that ended it.
pub async fn read(mut body: Body) -> End {
    let mut content = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => content.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..])),
            Err(error) => return (content, Some(error)),
        }
    }
    (content, None)
}

/// Returns a service that reads its body in another task and reports its end.
fn observer(
    ends: mpsc::UnboundedSender<End>,
) -> impl FnMut(Request<Body>) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send>> + Clone + Send + 'static
{
    move |request: Request<Body>| {
        let ends = ends.clone();
        Box::pin(async move {
            let task = tokio::spawn(async move { ends.send(read(request.into_body()).await).unwrap() });
            task.await.unwrap();
            text(200, "read")
        })
    }
}

#[tokio::test]
async fn an_interrupted_body_yields_all_bytes_that_arrived() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let server = start(observer(ends)).await;
    let content = vec![42; 3 << 20];
    for (framing, front) in [("Content-Length: 4000000", ""), ("Transfer-Encoding: chunked", "400000\r\n")] {
        // A FIN loses no byte.
        let mut client = Raw::connect(server.addr).await;
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{front}")).await;
        client.send(&content).await;
        client.tcp.shutdown().await.unwrap();
        let (arrived, error) = soon(ended.recv()).await.unwrap();
        assert_eq!((arrived.len(), error), (content.len(), Some(BodyError::Disconnected)));
        let answer = client.message().await;
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
        client.ends().await;
    }
}

#[tokio::test]
async fn a_reset_body_yields_the_bytes_in_the_kernel() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (begun, mut begins) = mpsc::unbounded_channel();
    let server = start(move |request: Request<Body>| {
        let (ends, begun) = (ends.clone(), begun.clone());
        async move {
            let mut body = request.into_body();
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            begun.send(first.len()).unwrap();
            ends.send(read(body).await).unwrap();
            text(200, "")
        }
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nhello").await;
    let first = soon(begins.recv()).await.unwrap();
    client.reset();
    let (rest, error) = soon(ended.recv()).await.unwrap();
    assert_eq!((first + rest.len(), error), (5, Some(BodyError::Disconnected)));
}

#[tokio::test]
async fn chunked_content_and_trailers_reach_the_service() {
    let server = start(|request: Request<Body>| async move {
        assert_eq!(request.body().size_hint().exact(), None);
        let collected = request.into_body().collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let content = collected.to_bytes();
        text(200, format!("{} {} {:?}", content.len(), trailers.len(), trailers.get("repr-digest")))
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client
        .send(
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n00a\r\n0123456789\r\n\
             0\r\nRepr-Digest: z\r\nHost: evil\r\nContent-Length: 5\r\n\r\n\
             PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(client.message().await.text(), "13 1 Some(\"z\")");
    assert_eq!(client.message().await.text(), "0 0 None");
}

#[tokio::test]
async fn malformed_chunks_are_an_error_and_close_the_connection() {
    let server = start(|request: Request<Body>| async move {
        match read(request.into_body()).await {
            (content, Some(BodyError::Malformed(_))) => text(400, content),
            other => panic!("{other:?}"),
        }
    })
    .await;
    for chunks in ["3\r\nabcd\r\n", "3\r\nabc\r\nx\r\n", "3\r\nabc\n0\r\n\r\n", "3\r\nabc\r\n0\r\nx\r\n\r\n"]
    {
        let mut client = Raw::connect(server.addr).await;
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")).await;
        let answer = client.message().await;
        assert_eq!((answer.status, answer.text(), answer.field("connection")), (400, "abc", Some("close")));
        client.ends().await;
    }
}

#[tokio::test]
async fn size_hints_are_exact_for_a_content_length() {
    let server = start(|request: Request<Body>| async move {
        let mut body = request.into_body();
        let before = body.size_hint().exact();
        let frame = body.frame().await;
        let data = frame.map(|frame| frame.unwrap().into_data().unwrap().len());
        text(200, format!("{before:?} {data:?} {:?} {}", body.size_hint().exact(), body.is_end_stream()))
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.message().await.text(), "Some(5) Some(5) Some(0) true");
    client.send("PUT / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.message().await.text(), "Some(0) None Some(0) true");
}

#[tokio::test]
async fn a_peer_that_is_still_sending_can_read_an_early_response() {
    let server = start(|_: Request<Body>| async { text(413, "too large") }).await;
    for framing in ["Content-Length: 67108864", "Transfer-Encoding: chunked"] {
        let mut client = Raw::connect(server.addr).await;
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n4000000\r\n")).await;
        let (reader, mut writer) = client.tcp.into_split();
        let writing = tokio::spawn(async move {
            let piece = vec![0; 1 << 20];
            let mut sent = 0;
            while sent < 64 << 20 && writer.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
            writer.forget();
            sent
        });
        let mut answer = Vec::new();
        let mut reader = reader;
        // Reads the response while it is still sending, until the connection ends.
        let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut answer)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("too large"),
            "{framing}: {answer:?}"
        );
        assert!(soon(writing).await.unwrap() < 64 << 20, "the server read all of the refused content");
    }
}

#[tokio::test]
async fn the_connection_survives_a_small_unread_body() {
    let server = start(|request: Request<Body>| async move {
        drop(request);
        text(404, "")
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    for _ in 0..3 {
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
        assert_eq!(client.message().await.field("connection"), None);
        client.send(vec![b'x'; 100_000]).await;
        client
            .send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .await;
        assert_eq!(client.message().await.field("connection"), None);
    }
}

#[tokio::test]
async fn waiting_for_an_unread_body_is_bounded() {
    let limits = Limits { drain_time: Duration::from_millis(50), ..Default::default() };
    let server = start_limited(limits, |_: Request<Body>| async { text(404, "") }).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n").await;
    assert_eq!(client.message().await.status, 404);
    client.ends().await;
}

#[tokio::test]
async fn a_silent_or_slow_peer_is_an_error_and_a_slow_service_is_not() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let idle = Limits { body_idle: Duration::from_millis(80), ..Default::default() };
    let server = start_limited(idle, observer(ends.clone())).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello").await;
    assert_eq!(soon(ended.recv()).await.unwrap(), (b"hello".to_vec(), Some(BodyError::Idle)));
    let answer = client.message().await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));

    let slow =
        Limits { body_rate_min: 1000, body_rate_window: Duration::from_millis(200), ..Default::default() };
    let server = start_limited(slow, observer(ends)).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n").await;
    let (mut reader, mut writer) = client.tcp.split();
    let drip = async {
        while writer.write_all(b"x").await.is_ok() {
            // time itself is tested: a byte every 5 ms is too slow.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = drip => {}
        end = soon(ended.recv()) => assert_eq!(end.unwrap().1, Some(BodyError::TooSlow)),
    }
    let _ = tokio::io::AsyncReadExt::read(&mut reader, &mut [0; 10]).await;

    // Here the service is slow.
    let idle = Limits {
        body_idle: Duration::from_millis(50),
        body_rate_window: Duration::from_millis(50),
        ..Default::default()
    };
    let server = start_limited(idle, |request: Request<Body>| async move {
        let mut body = request.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        // time itself is tested: the service is slower than the peer may be.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (rest, error) = read(body).await;
        text(200, format!("{} {error:?}", first.len() + rest.len()))
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n").await;
    client.send(vec![0; 300_000]).await;
    assert_eq!(client.message().await.text(), "300000 None");
}

#[tokio::test]
async fn a_body_ends_with_the_response() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let server = start(move |request: Request<Body>| {
        let ends = ends.clone();
        tokio::spawn(async move { ends.send(read(request.into_body()).await).unwrap() });
        async { text(200, "early") }
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await;
    assert_eq!(client.message().await.text(), "early");
    assert_eq!(soon(ended.recv()).await.unwrap(), (vec![], Some(BodyError::Aborted)));
    // The rest was small, so the connection is reused.
    client.send("too late!").await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.message().await.text(), "early");
}

#[tokio::test]
async fn an_abort_ends_a_body_in_another_task() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (aborts, mut abortable) = mpsc::unbounded_channel();
    let (gone, mut went) = mpsc::unbounded_channel();
    let server = start(move |request: Request<Body>| {
        let (ends, gone) = (ends.clone(), gone.clone());
        aborts.send((abort_of(&request), interim_of(&request))).unwrap();
        tokio::spawn(async move { ends.send(read(request.into_body()).await).unwrap() });
        async move {
            let _dropped = DropReport(gone);
            std::future::pending::<Answer>().await
        }
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello").await;
    let (abort, interim) = soon(abortable.recv()).await.unwrap();
    interim.send(head(103)).unwrap();
    assert_eq!(client.head().await.status, 103);
    abort.abort();
    soon(went.recv()).await.unwrap();
    let (content, error) = soon(ended.recv()).await.unwrap();
    assert!(content == b"hello" || content.is_empty());
    assert_eq!(error, Some(BodyError::Aborted));
    assert_eq!(interim.send(head(103)), Err(hoist_http::InterimError::Disconnected));
    client.ends().await;
}

/// A guard that reports when it is dropped.
struct DropReport(mpsc::UnboundedSender<()>);

impl Drop for DropReport {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn no_byte_is_lost_when_the_peer_disconnects() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let (gone, mut went) = mpsc::unbounded_channel();
    let (starts, mut started) = mpsc::unbounded_channel();
    let (go, _) = tokio::sync::broadcast::channel::<()>(1);
    let (going, kept) = (go.clone(), go.clone());
    let server = start(move |request: Request<Body>| {
        let (ends, gone, mut go) = (ends.clone(), gone.clone(), going.subscribe());
        starts.send(interim_of(&request)).unwrap();
        tokio::spawn(async move {
            go.recv().await.unwrap();
            ends.send(read(request.into_body()).await).unwrap();
        });
        async move {
            let _dropped = DropReport(gone);
            std::future::pending::<Answer>().await
        }
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello").await;
    let interim = soon(started.recv()).await.unwrap();
    // The peer disconnects with an unread response, so the next write fails while its bytes are still unread here.
    interim.send(head(103)).unwrap();
    client.head().await;
    client.tcp.shutdown().await.unwrap();
    drop(client);
    soon(async {
        while interim.progress(progress(0)) != Err(hoist_http::InterimError::Disconnected) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    kept.send(()).unwrap();
    let (content, error) = soon(ended.recv()).await.unwrap();
    assert_eq!((&content[..], error), (&b"hello"[..], Some(BodyError::Disconnected)));
    soon(went.recv()).await.expect("the service's future is dropped");
}

#[tokio::test]
async fn a_large_body_arrives_intact() {
    let server = start(echo).await;
    let content: Vec<u8> = (0..20_000_000u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
    let mut client = Raw::connect(server.addr).await;
    client.send(format!("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", content.len())).await;
    client.send(&content).await;
    let wanted = format!("PUT /x {} {:08x}\n", content.len(), checksum(&content));
    assert_eq!(client.message().await.text(), wanted);
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for piece in content.chunks(77_777) {
        client.send(format!("{:x}\r\n", piece.len())).await;
        client.send(piece).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.message().await.text(), wanted);
}

#[tokio::test]
async fn frames_do_not_change_while_later_ones_arrive() {
    // A consumer may keep frames; later reads must not change them.
    let server = start(|request: Request<Body>| async move {
        let mut body = request.into_body();
        let mut frames: Vec<Bytes> = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        let content = frames.concat();
        text(200, format!("{:08x}", checksum(&content)))
    })
    .await;
    let content: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut client = Raw::connect(server.addr).await;
    client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", content.len())).await;
    client.send(&content).await;
    assert_eq!(client.message().await.text(), format!("{:08x}", checksum(&content)));
}
