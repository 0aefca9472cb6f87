//! HTTP/2 with prior knowledge: flow control, concurrent streams, 104 responses, resets.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::harness::{H2, Server, ServerDir, TestRequest, Transport, V2, bytes, within_timeout};

#[tokio::test]
async fn sixty_four_mebibytes_go_through_flow_control() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = Bytes::from(bytes(64, 64 << 20));
    let got = server.request(Transport::H2, TestRequest::new("POST", "large").shared(content.clone())).await;
    assert_eq!((got.status, got.offset()), (204, Some(64 << 20)));
    assert!(got.is_complete());
    assert!(home.only_complete() == content);
}

#[tokio::test]
async fn a_hundred_streams_of_one_connection_upload_concurrently() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--durability", "os"]);
    let h2 = H2::connect(&server).await;
    let uploads: Vec<_> = (0..100_usize).map(|number| bytes(number as u64, number * 3001)).collect();
    let mut all = tokio::task::JoinSet::new();
    let h2 = std::sync::Arc::new(h2);
    for (number, content) in uploads.iter().enumerate() {
        let request = TestRequest::new("POST", &format!("stream-{number}")).sized(content);
        let h2 = std::sync::Arc::clone(&h2);
        all.spawn(async move { h2.request(request).await.expect("an answer") });
    }
    for got in within_timeout("a hundred answers", all.join_all()).await {
        assert!(got.status == 204 && got.is_complete(), "{got:?}");
    }
    let (mut stored, mut sent) = (home.done(), uploads);
    stored.sort();
    sent.sort();
    assert!(stored == sent);
}

// proves: TOK-CRE-08, TDR-104-01, TDR-104-02, TDR-104-03
#[tokio::test]
async fn the_draft_form_is_announced_before_content_is_sent() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let h2 = H2::connect(&server).await;
    let mut streams = h2.streams.clone().ready().await.expect("room for a stream");
    let request = TestRequest::new("POST", "announced").with(V2).h2();
    let (mut response, mut stream) = streams.send_request(request, false).expect("sent");
    let interim =
        within_timeout("the announcement", std::future::poll_fn(|cx| response.poll_informational(cx))).await;
    let interim = interim.expect("a 104").expect("no error");
    assert_eq!(interim.status().as_u16(), 104);
    assert_eq!(interim.headers()[V2.0], V2.1);
    crate::harness::h2_send(&mut stream, "hello".into(), true).await.expect("sent");
    let response = within_timeout("the answer", response).await.expect("an answer");
    assert_eq!(response.status().as_u16(), 201);
    assert_eq!(response.headers()["upload-offset"], "5");
    assert_eq!(home.only_complete(), b"hello");

    let got = h2.request(TestRequest::new("POST", "seed").sized(b"hello")).await.expect("an answer");
    assert_eq!((got.status, got.interims.len()), (204, 0), "the seed form has no announcement");
}

// proves: TOK-CRE-01, TOK-APP-05
#[tokio::test]
async fn a_reset_stream_keeps_its_bytes_and_its_connection() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let h2 = H2::connect(&server).await;
    let content = bytes(7, 3_000_000);
    let mut at = 0;
    for (round, until) in [1, 100_000, 1_048_576, 2_999_999].into_iter().enumerate() {
        let request =
            if round == 0 { TestRequest::new("POST", "reset") } else { TestRequest::append("reset", at) };
        let request = request.sized(&content[at..until]).stalls(Some(content.len() - at));
        let (reset, resetting) = oneshot::channel();
        let (ended, ()) =
            tokio::join!(within_timeout("the end of the stream", h2.exchange(request, resetting)), async {
                home.holds(until).await;
                reset.send(()).expect("it is waited for");
            });
        assert!(ended.is_err(), "a stream that was reset has no answer: {ended:?}");
        let head = h2.request(TestRequest::new("HEAD", "reset")).await.expect("the connection lives");
        assert_eq!((head.status, head.offset()), (204, Some(until)));
        at = until;
    }
    let done = h2
        .request(TestRequest::append("reset", at).sized(&content[at..]))
        .await
        .expect("the connection lives");
    assert!(done.is_complete() && home.only_complete() == content);
}
