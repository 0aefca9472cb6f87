//! The example of the README, which is an unchanged axum application.

use crate::support::{Raw, soon};

#[path = "../../examples/early_hints.rs"]
#[allow(dead_code, reason = "the test does not run main")]
mod axum_example;

#[tokio::test]
async fn an_axum_router_sends_interim_responses() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(hoist_http::serve(listener, axum_example::app()));
    let mut client = Raw::connect(addr).await;
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello").await;
    let hint = client.head().await;
    assert_eq!((hint.status, hint.field("link")), (103, Some("</done.css>; rel=preload; as=style")));
    let progress = client.head().await;
    assert_eq!((progress.status, progress.field("upload-offset")), (104, Some("5")));
    assert_eq!(progress.head.lines().next(), Some("HTTP/1.1 104 Upload Resumption Supported"));
    client.send("world").await;
    let answer = loop {
        let message = client.message().await;
        if message.status != 104 {
            break message;
        }
    };
    assert_eq!((answer.status, answer.text()), (200, "10 bytes\n"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(soon(client.message()).await.status, 405);
}
