//! HTTP/2 exchanges, with the h2 crate's client and its informational responses.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use hoist_http::{Body, BodyError, Interim, Limits};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use crate::h1_bodies::read;
use crate::support::*;

mod resets;
mod windows;

pub async fn connect(server: &Running) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(16 << 20);
    let (client, connection) = builder.handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    client
}

fn put(path: &str) -> Request<()> {
    Request::put(format!("http://a{path}")).body(()).unwrap()
}

async fn informational(response: &mut ResponseFuture) -> Option<Response<()>> {
    soon(poll_fn(|cx| response.poll_informational(cx))).await.map(Result::unwrap)
}

async fn content(mut stream: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut content = Vec::new();
    while let Some(data) = soon(stream.data()).await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        content.extend_from_slice(&data);
    }
    Ok(content)
}

async fn string(response: Response<RecvStream>) -> String {
    String::from_utf8(content(response.into_body()).await.unwrap()).unwrap()
}

/// Sends as the window allows. Returns false if the stream ends first.
async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        // `poll_capacity` reports only changes.
        let capacity = match stream.capacity() {
            0 => match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(capacity)) => capacity,
                _ => return false,
            },
            capacity => capacity,
        };
        let piece = data.split_to(capacity.min(data.len()));
        if stream.send_data(piece, end && data.is_empty()).is_err() {
            return false;
        }
    }
    true
}

/// Returns a service that reads its body in another task, once it may `go` on, and reports its end.
fn observed(
    ends: mpsc::UnboundedSender<(Vec<u8>, Option<BodyError>)>,
    go: Arc<Semaphore>,
) -> impl FnMut(Request<Body>) -> std::future::Pending<Answer> + Clone + Send + 'static {
    move |request: Request<Body>| {
        let (ends, go) = (ends.clone(), Arc::clone(&go));
        tokio::spawn(async move {
            go.acquire().await.unwrap().forget();
            ends.send(read(request.into_body()).await).unwrap();
        });
        std::future::pending()
    }
}

#[tokio::test]
async fn interim_responses_are_sent_in_order_while_the_body_arrives() {
    let server = start(|request: Request<Body>| async move {
        let interim = interim_of(&request);
        interim.send(head(103)).unwrap();
        let mut body = request.into_body();
        let mut offset = 0;
        while let Some(frame) = body.frame().await {
            offset += frame.unwrap().into_data().unwrap().len();
            let mut head = progress(offset);
            head.headers_mut().insert("connection", "close".parse().unwrap());
            interim.progress(head).unwrap();
        }
        text(200, "done")
    })
    .await;
    let mut client = connect(&server).await;
    let request = Request::put("http://a/").header("expect", "100-continue").body(()).unwrap();
    let (mut response, mut stream) = client.send_request(request, false).unwrap();
    assert_eq!(informational(&mut response).await.unwrap().status(), 103);
    assert_eq!(informational(&mut response).await.unwrap().status(), 100);
    for offset in ["4", "8"] {
        stream.send_data("four".into(), false).unwrap();
        let head = informational(&mut response).await.unwrap();
        assert_eq!(
            (head.status().as_u16(), head.headers()["upload-offset"].to_str().unwrap()),
            (104, offset)
        );
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().contains_key("date")), (200, true));
    assert_eq!(string(response).await, "done");
}

#[tokio::test]
async fn an_interim_response_after_the_final_one_does_not_kill_the_stream() {
    let (late, mut lately) = mpsc::unbounded_channel();
    let more = Arc::new(Semaphore::new(0));
    let mut fed = 0;
    let gate = Arc::clone(&more);
    let server = start(move |request: Request<Body>| {
        late.send(interim_of(&request)).unwrap();
        let gate = Arc::clone(&gate);
        async move { Ok::<_, io::Error>(Response::new(Gated(gate, 0))) }
    })
    .await;
    let mut client = connect(&server).await;
    let (response, _) = client.send_request(put("/"), true).unwrap();
    let mut response = soon(response).await.unwrap().into_body();
    let interim: Interim = lately.recv().await.unwrap();
    assert_eq!(interim.progress(progress(1)), Err(hoist_http::InterimError::Answered));
    assert_eq!(interim.send(progress(1)), Err(hoist_http::InterimError::Answered));
    more.add_permits(2);
    while let Some(data) = soon(response.data()).await {
        fed += data.unwrap().len();
    }
    assert_eq!(fed, 2);
}

/// A body that yields one byte per permit, two in all.
struct Gated(Arc<Semaphore>, usize);

impl http_body::Body for Gated {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        if self.1 == 2 {
            return std::task::Poll::Ready(None);
        }
        let mut permit = Box::pin(Arc::clone(&self.0).acquire_owned());
        match permit.as_mut().poll(cx) {
            std::task::Poll::Ready(permit) => {
                permit.unwrap().forget();
                self.1 += 1;
                std::task::Poll::Ready(Some(Ok(http_body::Frame::data("x".into()))))
            }
            std::task::Poll::Pending => {
                // Dropping the future gives its place in the queue up, so poll again.
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_concurrent_streams_succeed() {
    let server = start(echo).await;
    let client = connect(&server).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..100usize {
        let client = client.clone();
        tasks.spawn(async move {
            let mut client = client.ready().await.unwrap();
            let (response, mut stream) = client.send_request(put(&format!("/{n}")), false).unwrap();
            let data: Bytes = (0..100_000 + n).map(|at| (at * n).to_le_bytes()[1]).collect::<Vec<_>>().into();
            assert!(soon(send_all(&mut stream, data.clone(), true)).await);
            let wanted = format!("PUT /{n} {} {:08x}\n", data.len(), checksum(&data));
            assert_eq!(string(soon(response).await.unwrap()).await, wanted);
        });
    }
    while let Some(done) = soon(tasks.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn sixty_four_mebibytes_pass_flow_control() {
    let server = start(echo).await;
    let mut client = connect(&server).await;
    let piece: Vec<u8> = (0..1u32 << 20).map(|n| n.to_le_bytes()[0]).collect();
    let (response, mut stream) = client.send_request(put("/"), false).unwrap();
    for _ in 0..64 {
        assert!(soon(send_all(&mut stream, piece.clone().into(), false)).await);
    }
    stream.send_data(Bytes::new(), true).unwrap();
    let answer = string(soon(response).await.unwrap()).await;
    assert_eq!(answer, format!("PUT / {} {:08x}\n", 64 << 20, checksum(&piece.repeat(64))));
}

#[tokio::test]
async fn large_content_and_trailers_pass_both_ways() {
    let server =
        start(|request: Request<Body>| async move { Ok::<_, io::Error>(Response::new(request.into_body())) })
            .await;
    let mut client = connect(&server).await;
    let (response, mut stream) = client.send_request(put("/"), false).unwrap();
    let sent: Bytes = (0..5_000_000u32).map(|n| n.to_le_bytes()[1]).collect::<Vec<_>>().into();
    let data = sent.clone();
    let sending = tokio::spawn(async move {
        assert!(send_all(&mut stream, data, false).await);
        let mut trailers = HeaderMap::new();
        trailers.insert("repr-digest", "x".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    });
    let mut response = soon(response).await.unwrap().into_body();
    let mut received = Vec::new();
    while let Some(data) = soon(response.data()).await {
        let data = data.unwrap();
        response.flow_control().release_capacity(data.len()).unwrap();
        received.extend_from_slice(&data);
    }
    assert!(received == sent);
    assert_eq!(soon(response.trailers()).await.unwrap().unwrap()["repr-digest"], "x");
    soon(sending).await.unwrap();
}

#[tokio::test]
async fn responses_have_no_connection_fields_and_the_right_length() {
    let server = start(|request: Request<Body>| async move {
        assert!(http_body::Body::is_end_stream(request.body()) || request.method() == "CONNECT");
        let full = |text: &'static str| http_body_util::Full::new(Bytes::from(text));
        Ok::<_, io::Error>(match request.uri().path() {
            "/204" => Response::builder().status(204).header("content-length", "0").body(full("")).unwrap(),
            "/fields" => Response::builder()
                .header("connection", "keep-alive")
                .header("transfer-encoding", "chunked")
                .header("keep-alive", "x")
                .header("upgrade", "x")
                .body(full("hello"))
                .unwrap(),
            "/fails" => return Err(io::Error::other("on purpose")),
            "/103" => Response::builder().status(103).body(full("")).unwrap(),
            _ => Response::new(full("hello")),
        })
    })
    .await;
    let mut client = connect(&server).await;
    for (method, path, status, length, body) in [
        ("GET", "/", 200, Some("5"), "hello"),
        ("HEAD", "/", 200, Some("5"), ""),
        ("GET", "/204", 204, None, ""),
        ("GET", "/fields", 200, Some("5"), "hello"),
        ("GET", "/fails", 500, None, "problem"),
        ("GET", "/103", 500, None, "problem"),
        ("CONNECT", "", 501, None, "problem"),
    ] {
        let target = if method == "CONNECT" { "a:80".to_owned() } else { format!("http://a{path}") };
        let request = Request::builder().method(method).uri(target).body(()).unwrap();
        let (response, _stream) = client.send_request(request, method != "CONNECT").unwrap();
        let response = soon(response).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        if body == "problem" {
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            assert!(string(response).await.contains(&format!("\"status\":{status}")));
            continue;
        }
        assert_eq!(response.headers().get("content-length").map(|value| value.to_str().unwrap()), length);
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(string(response).await, body, "{method} {path}");
    }
}

#[tokio::test]
async fn an_invalid_port_is_rejected_in_the_authority_and_in_host() {
    let server = start(|_: Request<Body>| async { text(200, "hello") }).await;
    let mut client = connect(&server).await;
    for (target, host, status) in [
        ("http://a:65535/", None, 200),
        ("http://a:/", Some("a:"), 200),
        ("http://a:65536/", None, 400),
        ("http://[::1]:99999/", None, 400),
        ("http://a/", Some("a:65536"), 400),
        ("http://a/", Some("a:x"), 400),
    ] {
        let mut request = Request::get(target);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(soon(response).await.unwrap().status(), status, "{target} {host:?}");
    }
}

#[tokio::test]
async fn cookie_crumbs_are_joined() {
    let server = start(|request: Request<Body>| async move {
        let cookies: Vec<_> = request.headers().get_all("cookie").iter().collect();
        text(200, format!("{cookies:?}"))
    })
    .await;
    let mut client = connect(&server).await;
    let request = Request::get("http://a/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(string(soon(response).await.unwrap()).await, "[\"a=1; b=2\"]");
}

#[tokio::test]
async fn unread_streams_do_not_stall_the_others() {
    let limits = Limits {
        h2_connection_window_bytes: 512 << 10,
        h2_stream_window_bytes: 256 << 10,
        ..Default::default()
    };
    let stalled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&stalled);
    let server = start_limited(limits, move |request: Request<Body>| {
        let count = Arc::clone(&count);
        async move {
            if request.uri().path() == "/stall" {
                // Keeps the first frame and reads no more.
                let mut body = request.into_body();
                let held = body.frame().await;
                count.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
                drop((held, body));
                return text(200, "");
            }
            Ok(echo(request).await.unwrap())
        }
    })
    .await;
    let client = connect(&server).await;
    let mut stalls = Vec::new();
    for n in 1..=8 {
        let mut client = client.clone().ready().await.unwrap();
        let (response, mut stream) = client.send_request(put("/stall"), false).unwrap();
        stalls.push(response);
        tokio::spawn(async move { send_all(&mut stream, vec![0; 1 << 20].into(), true).await });
        soon(async {
            while stalled.load(Ordering::Relaxed) < n {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let mut client = client.ready().await.unwrap();
    let (response, mut stream) = client.send_request(put("/"), false).unwrap();
    assert!(soon(send_all(&mut stream, vec![1; 3 << 20].into(), true)).await);
    assert!(string(soon(response).await.unwrap()).await.starts_with("PUT / 3145728 "));
}

#[tokio::test]
async fn the_window_is_given_back_when_bytes_are_dropped() {
    const WINDOW: usize = 64 << 10;
    let (frames, mut framed) = mpsc::channel(1);
    let more = Arc::new(Semaphore::new(0));
    let go = Arc::clone(&more);
    let limits = Limits {
        h2_stream_window_bytes: 64 << 10,
        h2_stream_window_bytes_max: 64 << 10,
        ..Default::default()
    };
    let server = start_limited(limits, move |request: Request<Body>| {
        let (frames, go) = (frames.clone(), Arc::clone(&go));
        async move {
            let mut body = request.into_body();
            loop {
                go.acquire().await.unwrap().forget();
                let Some(frame) = body.frame().await else { break };
                frames.send(frame.unwrap().into_data().unwrap()).await.unwrap();
            }
            text(200, "")
        }
    })
    .await;
    let mut client = connect(&server).await;
    let (response, mut stream) = client.send_request(put("/"), false).unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        for _ in 0..64 {
            assert!(send_all(&mut stream, vec![0; 16 << 10].into(), false).await);
            count.fetch_add(16 << 10, Ordering::Relaxed);
        }
        stream.send_data(Bytes::new(), true).unwrap();
    });
    let (mut held, mut bytes) = (Vec::<Bytes>::new(), 0);
    while bytes < WINDOW {
        more.add_permits(1);
        held.push(soon(framed.recv()).await.unwrap());
        bytes += held.last().unwrap().len();
    }
    // The service holds the whole window and does not ask for more, so the peer can send nothing.
    assert_eq!((bytes, sent.load(Ordering::Relaxed)), (WINDOW, WINDOW));
    drop(held);
    soon(async {
        while sent.load(Ordering::Relaxed) < 2 * WINDOW {
            tokio::task::yield_now().await;
        }
    })
    .await;
    more.add_permits(1000);
    while bytes < 1 << 20 {
        bytes += soon(framed.recv()).await.unwrap().len();
    }
    soon(sending).await.unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_silent_peer_is_idle() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let limits = Limits { body_idle: Duration::from_millis(80), ..Default::default() };
    let server = start_limited(limits, observed(ends, Arc::new(Semaphore::new(9)))).await;
    let mut client = connect(&server).await;
    let (_response, mut stream) = client.send_request(put("/"), false).unwrap();
    stream.send_data("hello".into(), false).unwrap();
    assert_eq!(soon(ended.recv()).await.unwrap(), (b"hello".to_vec(), Some(BodyError::Idle)));
}

#[tokio::test]
async fn a_panic_resets_one_stream() {
    let server = start(|request: Request<Body>| async move {
        assert!(request.uri().path() != "/panic", "on purpose");
        echo(request).await
    })
    .await;
    let mut client = connect(&server).await;
    let (response, _stream) = client.send_request(put("/panic"), false).unwrap();
    assert!(soon(response).await.unwrap_err().is_reset());
    let (response, _) = client.send_request(put("/"), true).unwrap();
    assert_eq!(soon(response).await.unwrap().status(), 200);
}

#[tokio::test]
async fn both_versions_share_a_port_for_any_segments_of_the_preface() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = start(echo).await;
    let mut h1 = Raw::connect(server.addr).await;
    h1.send("P").await;
    h1.send("RI / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(h1.message().await.text().starts_with("PRI / 0 "));
    let mut tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
        tcp.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut settings = [0; 9];
    soon(tcp.read_exact(&mut settings)).await.unwrap();
    assert_eq!((settings[3], settings[4]), (4, 0), "a SETTINGS frame comes first");
}
