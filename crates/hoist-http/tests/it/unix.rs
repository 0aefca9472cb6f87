//! Unix sockets: both versions of HTTP, interim responses, and a connection that ends early.

use bytes::Bytes;
use hoist_http::{Body, Peer, Server, UnixPeer};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// A server on a unix socket whose service announces progress and echoes.
struct Running {
    folder: tempfile::TempDir,
    drain: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let drain = CancellationToken::new();
    let service = Fn(|request: Request<Body>| async move {
        assert_eq!(request.extensions().get::<UnixPeer>(), Some(&UnixPeer { tls: false }));
        assert!(request.extensions().get::<Peer>().is_none());
        if request.uri().path() == "/abort" {
            abort_of(&request).abort();
        }
        interim_of(&request).send(progress(0)).unwrap();
        echo(request).await
    });
    let task = tokio::spawn(Server::new().serve(listener, service, drain.clone()));
    Running { folder, drain, task }
}

impl Running {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.folder.path().join("socket")).await.unwrap()
    }
}

async fn exchange(stream: &mut UnixStream, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        let read = soon(stream.read_buf(&mut seen)).await.unwrap();
        assert!(read > 0, "the connection ends after {:?}", String::from_utf8_lossy(&seen));
    }
    String::from_utf8(seen).unwrap()
}

#[tokio::test]
async fn http1_is_served_on_a_unix_socket() {
    let server = start();
    let mut stream = server.connect().await;
    for path in ["/first", "/second"] {
        let request = format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        let seen = exchange(&mut stream, &request, "4f9f2cab\n").await;
        assert!(seen.starts_with("HTTP/1.1 104 ") && seen.contains(&format!("PUT {path} 5 ")), "{seen}");
    }
    server.drain.cancel();
    assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0, "an idle connection is closed");
    soon(server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn http2_is_served_on_a_unix_socket() {
    let server = start();
    let (mut client, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    tokio::spawn(connection);
    let request = Request::put("http://a/t").body(()).unwrap();
    let (mut response, mut stream) = client.send_request(request, false).unwrap();
    let head = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
    assert_eq!(head.status(), 104);
    stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    assert_eq!(soon(body.data()).await.unwrap().unwrap(), "PUT /t 5 4f9f2cab\n");
}

#[tokio::test]
async fn an_aborted_request_on_a_unix_socket_has_no_final_response() {
    let server = start();
    let mut stream = server.connect().await;
    stream.write_all(b"PUT /abort HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel").await.unwrap();
    let mut seen = Vec::new();
    // The end, or an error because the server left content unread.
    let _ = soon(stream.read_to_end(&mut seen)).await;
    let seen = String::from_utf8(seen).unwrap();
    assert!(!seen.contains("HTTP/1.1 2") && !seen.contains("HTTP/1.1 5"), "{seen}");
}
