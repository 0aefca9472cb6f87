//! Slow clients: limits on heads, idle time and rate. Bytes received in time are kept.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::harness::{
    Exchange, Raw, Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, within_timeout,
};

// proves: TOK-SEC-04
#[tokio::test]
async fn an_incomplete_head_times_out() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--head-timeout", "1s"]);
    for part in [
        "",
        "POST",
        "POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: slow\r\nX-Slow: ",
        "PRI * HTTP/2.0\r\n",
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.send(part).await;
        if let Ok(got) = raw.answer(false).await {
            assert_eq!(got.status, 408, "{part:?}");
            assert!(raw.ends().await);
        }
    }
    // A field now and then does not extend the time.
    let mut raw = Raw::connect(&server).await;
    raw.send("POST /uploads HTTP/1.1\r\n").await;
    let (mut read, mut write) = raw.tcp.split();
    let trickle = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while write.write_all(b"X-Slow: 1\r\n").await.is_ok() {
            ticks.tick().await;
        }
    };
    let answer = async {
        let mut seen = Vec::new();
        // The connection may also end with a reset after the response.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut seen).await;
        seen
    };
    let (seen, ()) = within_timeout("the end of a slow head", async { tokio::join!(answer, trickle) }).await;
    assert!(seen.is_empty() || seen.starts_with(b"HTTP/1.1 408 "), "{}", seen.escape_ascii());
    assert_eq!(home.uploads("open") + home.uploads("done"), 0);
}

// proves: TOK-SEC-04, TOK-CRE-01, TOK-APP-05
#[tokio::test]
async fn idle_content_times_out_and_its_bytes_are_kept() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--idle-timeout", "1s"]);
    let content = bytes(1, 30_000);
    for transport in TRANSPORTS {
        let token = format!("{transport:?}");
        let request = TestRequest::new("POST", &token).sized(&content[..10_000]).stalls(Some(30_000));
        let mut exchange =
            Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        let got =
            within_timeout("the end of a stalled creation", exchange.answer()).await.expect("an answer");
        assert_eq!((got.status, got.offset()), (408, Some(10_000)), "{transport:?}");
        let request = TestRequest::append(&token, 10_000).chunked(&content[10_000..20_000]).stalls(None);
        let mut exchange =
            Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        let got = within_timeout("the end of a stalled append", exchange.answer()).await.expect("an answer");
        assert_eq!((got.status, got.offset()), (408, Some(20_000)), "{transport:?}");
        let done =
            server.request(transport, TestRequest::append(&token, 20_000).sized(&content[20_000..])).await;
        assert!(done.is_complete());
        assert!(home.only_complete() == content);
        assert_eq!(server.request(transport, TestRequest::new("DELETE", &token)).await.status, 204);
    }
    // The HTTP/1.1 connection cannot be used any more.
    let mut raw = Raw::connect(&server).await;
    raw.send(TestRequest::new("POST", "closed").sized(b"some").stalls(Some(9)).h1()).await;
    assert_eq!(raw.answer(false).await.expect("an answer").status, 408);
    assert!(raw.ends().await);
}

// The rate is averaged over a minute, so this test takes one.
// proves: TOK-SEC-04
#[tokio::test]
async fn a_transfer_below_the_minimum_rate_is_ended_and_its_bytes_kept() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--min-rate", "1000"]);
    let mut raw = Raw::connect(&server).await;
    raw.send("POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: trickle\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    let mut sent = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let answer = loop {
        let answer = tokio::select! {
            answer = raw.tcp.readable() => Some(answer),
            _ = ticks.tick() => None,
        };
        if answer.is_some() {
            break raw.answer(false).await.expect("an answer");
        }
        assert!(sent < 400, "a trickle goes on for ever");
        sent += 1;
        raw.send([7; 50]).await;
    };
    assert_eq!(answer.status, 408);
    let kept = answer.offset().expect("an offset");
    assert!(sent > 200, "it was ended after {sent} bits already");
    assert!(kept >= (sent - 2) * 50 && kept <= sent * 50, "{kept} of {sent} times 50");
    assert_eq!(server.offset(Transport::H1, "trickle").await, Ok(kept));
    assert!(raw.ends().await);
}
