//! Refusals, resets and aborts of streams.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::h2_abuse::{DATA, END_HEADERS, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, with};

#[tokio::test]
async fn a_refused_upload_is_answered_and_then_reset_with_no_error() {
    let limits = Limits { drain_time: Duration::from_millis(20), ..Default::default() };
    let server = start_limited(limits, |_: Request<Body>| async { text(413, "too large") }).await;
    let mut client = connect(&server).await;
    // A small upload is drained, and its stream ends in order.
    let (response, mut stream) = client.send_request(put("/"), false).unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 413);
    assert!(soon(send_all(&mut stream, vec![0; 100_000].into(), true)).await);
    for _ in 0..5 {
        let (response, mut stream) = client.send_request(put("/"), false).unwrap();
        let response = soon(response).await.unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(string(response).await, "too large");
        assert_eq!(soon(poll_fn(|cx| stream.poll_reset(cx))).await.unwrap(), Reason::NO_ERROR);
    }
}

#[tokio::test]
async fn a_refused_upload_is_reset_only_after_the_drain_time() {
    let limits = Limits { drain_time: TEST_TIMEOUT, drain_bytes_max: 100_000, ..Default::default() };
    let server = start_limited(limits, |_: Request<Body>| async { text(413, "too large") }).await;
    let mut client = connect(&server).await;
    let (response, mut stream) = client.send_request(put("/"), false).unwrap();
    // Sends a whole window, which is more than the server discards, before reading the response.
    let window = vec![0; 1 << 20];
    assert!(soon(send_all(&mut stream, window.into(), false)).await);
    let response = soon(response).await.unwrap();
    assert_eq!((response.status().as_u16(), string(response).await.as_str()), (413, "too large"));
    assert!(poll_fn(|cx| std::task::Poll::Ready(stream.poll_reset(cx).is_pending())).await, "it was reset");
    stream.send_reset(Reason::NO_ERROR);
    // The connection continues and has its window back.
    for _ in 0..8 {
        let (response, mut stream) = client.send_request(put("/"), false).unwrap();
        assert!(soon(send_all(&mut stream, vec![0; 50_000].into(), true)).await);
        assert_eq!(soon(response).await.unwrap().status(), 413);
    }
}

#[tokio::test]
async fn no_byte_is_lost_when_a_stream_or_connection_is_reset() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let go = Arc::new(Semaphore::new(0));
    let server = start(observed(ends, Arc::clone(&go))).await;
    for lose_connection in [false, true] {
        let tcp = TcpStream::connect(server.addr).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
        let mut connection = Box::pin(connection);
        let (response, mut stream) = client.send_request(put("/"), false).unwrap();
        stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let (other, _) = client.send_request(Request::get("http://a/").body(()).unwrap(), true).unwrap();
        // Drives the connection until the server has the data, because it acknowledges a ping sent after it.
        let mut pings = connection.ping_pong().unwrap();
        tokio::select! {
            _ = &mut connection => panic!("the connection ended"),
            pong = pings.ping(h2::Ping::opaque()) => { pong.unwrap(); }
        }
        if lose_connection {
            drop(connection);
        } else {
            stream.send_reset(Reason::CANCEL);
            let mut second = tokio::spawn(async move { drop(connection.await) });
            assert!(soon(response).await.is_err());
            go.add_permits(2);
            let mut lengths = [0; 2];
            for length in &mut lengths {
                let (content, error) = soon(ended.recv()).await.unwrap();
                *length = content.len();
                assert_eq!(error, (!content.is_empty()).then_some(BodyError::Disconnected));
            }
            lengths.sort_unstable();
            assert_eq!(lengths, [0, 5]);
            second.abort();
            let _ = (&mut second).await;
            drop(other);
            continue;
        }
        go.add_permits(2);
        let mut ends = [soon(ended.recv()).await.unwrap(), soon(ended.recv()).await.unwrap()];
        ends.sort_by_key(|(content, _)| content.len());
        assert_eq!(ends[1], (b"hello".to_vec(), Some(BodyError::Disconnected)));
    }
}

#[tokio::test]
async fn abort_resets_one_stream_and_leaves_the_others() {
    let (aborts, mut abortable) = mpsc::unbounded_channel();
    let (ends, mut ended) = mpsc::unbounded_channel();
    let server = start(move |request: Request<Body>| {
        let (aborts, ends) = (aborts.clone(), ends.clone());
        async move {
            if request.uri().path() == "/abort" {
                aborts.send(abort_of(&request)).unwrap();
                tokio::spawn(async move { ends.send(read(request.into_body()).await).unwrap() });
                return std::future::pending().await;
            }
            echo(request).await
        }
    })
    .await;
    let mut client = connect(&server).await;
    let (other, mut content) = client.send_request(put("/other"), false).unwrap();
    let (response, _stream) = client.send_request(put("/abort"), false).unwrap();
    let abort = soon(abortable.recv()).await.unwrap();
    abort.abort();
    abort.abort();
    let error = soon(response).await.unwrap_err();
    assert_eq!((error.is_reset(), error.reason()), (true, Some(Reason::CANCEL)));
    assert_eq!(soon(ended.recv()).await.unwrap(), (vec![], Some(BodyError::Aborted)));
    content.send_data("hello".into(), true).unwrap();
    assert_eq!(string(soon(other).await.unwrap()).await, "PUT /other 5 4f9f2cab\n");
}

#[tokio::test]
async fn content_that_arrives_together_with_the_end_is_read_by_a_service_that_starts_slowly() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let server = start(move |request: Request<Body>| {
        let (ends, gate) = (ends.clone(), Arc::clone(&gate));
        async move {
            // As a server does that looks an upload up before it reads.
            gate.acquire().await.unwrap().forget();
            ends.send(read(request.into_body()).await).unwrap();
            text(200, "")
        }
    })
    .await;
    let request = |id: u32, end: bool| {
        let reset = if end { frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()) } else { Vec::new() };
        [frame(HEADERS, END_HEADERS, id, &with(&[])), frame(DATA, 0, id, b"hello"), reset].concat()
    };
    for is_reset in [false, true] {
        let mut tcp = TcpStream::connect(server.addr).await.unwrap();
        let requests = [1, 3, 5].map(|id| request(id, is_reset)).concat();
        let sent = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &requests].concat();
        tcp.write_all(&sent).await.unwrap();
        if !is_reset {
            tcp.shutdown().await.unwrap();
            // The server closes, or resets because it had something to say.
            let _ = soon(tcp.read_to_end(&mut Vec::new())).await;
        }
        for _ in 0..3 {
            go.add_permits(1);
            let read = soon(ended.recv()).await.unwrap();
            assert_eq!(read, (b"hello".to_vec(), Some(BodyError::Disconnected)), "reset: {is_reset}");
        }
    }
}
