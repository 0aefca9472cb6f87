//! Graceful shutdown.

use std::time::Duration;

use hoist_http::{Body, BodyError, Limits};
use http::Request;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use crate::support::*;

#[tokio::test]
async fn idle_connections_close_and_requests_in_flight_are_answered() {
    let server = start(echo).await;
    let mut idle = Raw::connect(server.addr).await;
    idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(idle.message().await.status, 200);
    let mut fresh = Raw::connect(server.addr).await;
    let mut busy = Raw::connect(server.addr).await;
    busy.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(busy.head().await.status, 100);

    server.drain.cancel();
    idle.ends().await;
    fresh.ends().await;
    busy.send("hello").await;
    let answer = busy.message().await;
    assert_eq!((answer.status, answer.field("connection")), (200, Some("close")));
    busy.ends().await;
    soon(server.task).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn requests_that_outlive_the_grace_time_are_aborted() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let limits = Limits { drain_grace: Duration::from_millis(50), ..Default::default() };
    let server = start_limited(limits, move |request: Request<Body>| {
        let ends = ends.clone();
        tokio::spawn(async move { ends.send(request.into_body().collect().await.err()).unwrap() });
        std::future::pending::<Answer>()
    })
    .await;
    let mut client = Raw::connect(server.addr).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.head().await.status, 100);
    server.drain.cancel();
    soon(server.task).await.unwrap().unwrap();
    client.ends().await;
    assert_eq!(soon(ended.recv()).await.unwrap(), Some(BodyError::Aborted));
}

#[tokio::test]
async fn h2_streams_in_flight_are_answered_and_new_ones_are_rejected() {
    let server = start(echo).await;
    let tcp = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = |path: &str| Request::put(format!("http://a{path}")).body(()).unwrap();
    let (answer, mut content) = client.send_request(request("/a"), false).unwrap();
    // The first stream has reached the server once a second one has been answered.
    let (other, _) = client.send_request(request("/b"), true).unwrap();
    assert_eq!(soon(other).await.unwrap().status(), 200);

    server.drain.cancel();
    soon(async {
        while client.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    content.send_data("hello".into(), true).unwrap();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
    drop((client, content));
    soon(connection).await.unwrap().unwrap();
    soon(server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_h2_connection_is_closed() {
    for drain in [true, false] {
        let limits = Limits {
            idle_time: Duration::from_millis(if drain { 60_000 } else { 50 }),
            ..Default::default()
        };
        let server = start_limited(limits, echo).await;
        let tcp = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get("http://a/").body(()).unwrap();
        assert_eq!(soon(client.send_request(request, true).unwrap().0).await.unwrap().status(), 200);
        if drain {
            server.drain.cancel();
        }
        soon(connection).await.unwrap().unwrap();
        if drain {
            soon(server.task).await.unwrap().unwrap();
        }
    }
}
