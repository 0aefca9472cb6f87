//! Receivers that answer nonsense, too much, too late or not at all.

use crate::harness::{ServerDir, TestRequest, Transport};

use super::{EACH, How, Receiver, Reply, logged, server, stored, tus_creation};

const H1: Transport = Transport::H1;

fn flood() -> Reply {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n".to_vec();
    bytes.resize(10 << 20, b' ');
    Reply::Raw(bytes)
}

#[tokio::test]
async fn each_bad_answer_is_a_failure_that_the_log_explains() {
    const JSON: &str = "Content-Type: application/json";
    let cases: [(Reply, &str); 12] = [
        (Reply::raw("garbage"), "network"),
        (Reply::raw(""), "network"),
        (Reply::Never, "did not answer within 400ms"),
        (flood(), "answered with more than 5120 bytes"),
        (Reply::raw(&format!("HTTP/1.1 200 OK|{JSON}|Content-Length: 90||{{\"Re")), "the answer ends early"),
        (Reply::raw("HTTP/1.1 200 OK|Content-Length: 2||{}"), "without a media type"),
        (Reply::raw("HTTP/1.1 200 OK|Content-Type: text/html|Content-Length: 2||{}"), "text/html"),
        (Reply::raw(&format!("HTTP/1.1 200 OK|{JSON}|Content-Length: 0||")), "not valid JSON"),
        (Reply::json("hello"), "not valid JSON"),
        (Reply::json(r#"{"RejectUpload": "yes"}"#), "RejectUpload in the answer is not true or false"),
        (Reply::raw(&format!("HTTP/1.1 403 Forbidden|{JSON}|Content-Length: 2||{{}}")), "answered 403"),
        (Reply::raw("HTTP/1.1 302 Found|Location: http://127.0.0.1:1/|Content-Length: 0||"), "answered 302"),
    ];
    for (reply, why) in cases {
        let answer = reply.clone();
        let receiver = Receiver::start(move |_, _| answer.clone()).await;
        let home = ServerDir::new();
        let server = server(&home, &receiver, &["--hooks-http-timeout", "400ms"]);
        let got = server.request(H1, tus_creation(5)).await;
        assert_eq!((got.status, stored(&home)), (500, 0), "{why}: {got:?}");
        logged(&server, "the hook failed").await;
        if why != "network" {
            logged(&server, why).await;
        }
        let log = server.log();
        assert!(log.contains(&receiver.url) && log.contains("pre-create"), "{log}");
    }
}

#[tokio::test]
async fn an_error_of_the_receiver_is_tried_again_and_a_refusal_is_not() {
    let broken = "HTTP/1.1 503 Unavailable|Content-Length: 0||";
    let receiver = Receiver::start(move |number, _| match number {
        0 => Reply::raw(broken),
        1 => Reply::raw(""),
        _ => Reply::agrees(),
    })
    .await;
    let home = ServerDir::new();
    let server = server(&home, &receiver, &[]);
    assert_eq!(server.request(H1, tus_creation(5)).await.status, 201);
    receiver.first("post-create").await;
    assert_eq!(receiver.hooks()[..3], ["pre-create", "pre-create", "pre-create"]);

    let receiver = Receiver::start(move |_, _| Reply::raw(broken)).await;
    let home = ServerDir::new();
    let server = self::server(&home, &receiver, &["--hooks-http-retry", "2"]);
    assert_eq!(server.request(H1, tus_creation(5)).await.status, 500);
    assert_eq!(receiver.hooks(), ["pre-create", "pre-create"]);
    logged(&server, "answered 503").await;
}

#[tokio::test]
async fn a_receiver_that_is_down_refuses_creations_only() {
    let gone = Receiver::agreeing().await.url.clone();
    let home = ServerDir::new();
    let flags = ["--hooks-http", &gone, "--hooks-http-backoff", "10ms", "--hooks-events"];
    let server = crate::harness::Server::start(&home, &[&flags[..], &["pre-create"]].concat());
    for how in EACH {
        assert_eq!(server.request(H1, how.whole(b"hello", "a")).await.status, 500, "{how:?}");
    }
    drop(server);
    let home = ServerDir::new();
    let server = crate::harness::Server::start(&home, &[&flags[..], &["post-create,post-finish"]].concat());
    for how in EACH {
        let got = server.request(H1, how.whole(b"hello", "a")).await;
        assert!((200..300).contains(&got.status), "{how:?} {got:?}");
    }
    server.stop().await;
    assert!(home.log().contains("the hook failed"), "{}", home.log());
}

#[tokio::test]
async fn a_refused_ordinary_upload_reads_no_content_for_nothing() {
    let receiver = Receiver::start(|_, _| Reply::json(r#"{"RejectUpload": true}"#)).await;
    let home = ServerDir::new();
    let server = server(&home, &receiver, &[]);
    let big = vec![7; 1 << 20];
    for _ in 0..3 {
        let request = TestRequest::to("POST", "/uploads").sized(&big);
        assert_eq!(server.request(H1, request).await.status, 400);
    }
    assert_eq!(stored(&home), 0);
    assert_eq!(server.request(H1, How::Token.whole(&big, "a-token")).await.status, 400);
}
