//! Peers that stall, aborts, and services that respond early.

use super::*;

#[tokio::test]
async fn a_slow_head_is_rejected_and_an_idle_connection_closed() {
    let limits = Limits {
        head_time: Duration::from_millis(100),
        idle_time: Duration::from_millis(100),
        ..Default::default()
    };
    let server = start_limited(limits, echo).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.1\r\nHos").await;
    let answer = client.message().await;
    assert_eq!((answer.status, answer.field("connection")), (408, Some("close")));
    client.ends().await;

    Raw::connect(server.addr).await.ends().await;

    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.message().await.status, 200);
    client.ends().await;

    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTT").await;
    assert_eq!(client.message().await.status, 200);
    assert_eq!(client.message().await.status, 408);
    client.ends().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_response_is_disconnected() {
    let limits = Limits { write_idle: Duration::from_millis(100), ..Default::default() };
    let (gone, mut went) = mpsc::unbounded_channel();
    let server = start_limited(limits, move |_: Request<Body>| {
        let gone = gone.clone();
        async move {
            let body = Endless(gone);
            Ok::<_, io::Error>(Response::new(body))
        }
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    soon(went.recv()).await.expect("the body is dropped");
}

/// A body that yields data forever and reports when it is dropped.
struct Endless(mpsc::UnboundedSender<()>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<Frame<Bytes>>>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 8192])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn abort_resets_a_connection_whose_peer_stalls() {
    let (aborts, mut abortable) = mpsc::unbounded_channel();
    let (gone, mut went) = mpsc::unbounded_channel();
    let server = start(move |request: Request<Body>| {
        let (aborts, gone) = (aborts.clone(), gone.clone());
        async move {
            aborts.send(abort_of(&request)).unwrap();
            let body = match request.uri().path() {
                // The peer does not send, so the service waits for its body.
                "/read" => {
                    let _end = Endless(gone);
                    let error = request.into_body().collect().await.expect_err("the content never comes");
                    panic!("the future should have been dropped, not told of {error}");
                }
                // The peer does not read.
                _ => Endless(gone),
            };
            Ok::<_, io::Error>(Response::new(body))
        }
    })
    .await;
    for path in ["/read", "/write"] {
        let mut client = Raw::connect(server.addr).await;
        client.send(format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")).await;
        let abort = soon(abortable.recv()).await.unwrap();
        if path == "/write" {
            client.head().await;
        }
        let again = abort.clone();
        std::thread::spawn(move || abort.abort()).join().unwrap();
        soon(went.recv()).await.unwrap();
        while client.more_quietly().await {}
        again.abort();
    }
}

#[tokio::test]
async fn abort_after_the_response_has_no_effect() {
    let (aborts, mut abortable) = mpsc::unbounded_channel();
    let server = start(move |request: Request<Body>| {
        aborts.send(abort_of(&request)).unwrap();
        echo(request)
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    for _ in 0..3 {
        client.send("PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").await;
        assert_eq!(client.message().await.status, 200);
        soon(abortable.recv()).await.unwrap().abort();
    }
}

#[tokio::test]
async fn a_service_may_respond_while_it_reads() {
    let server =
        start(|request: Request<Body>| async move { Ok::<_, io::Error>(Response::new(request.into_body())) })
            .await;
    let mut client = Raw::connect(server.addr).await;
    for _ in 0..2 {
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert_eq!(client.head().await.field("transfer-encoding"), Some("chunked"));
        for word in ["ping", "pong"] {
            client.send(format!("4\r\n{word}\r\n")).await;
            client.until(&format!("4\r\n{word}\r\n")).await;
        }
        client.send("0\r\n\r\n").await;
        client.until("0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn an_empty_response_body_may_be_of_any_type() {
    let server = start(|request: Request<Body>| async move {
        assert!(http_body::Body::is_end_stream(request.body()));
        Ok::<_, io::Error>(Response::new(Empty::<Bytes>::new()))
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.message().await.field("content-length"), Some("0"));
}
