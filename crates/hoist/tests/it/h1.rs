//! HTTP/1.1 on the wire: expectations, pipelining, keep-alive, chunked coding, and malformed requests.

use bytes::Bytes;

use crate::harness::{Raw, Server, ServerDir, TestRequest, Transport, V2, bytes, within_timeout};

const OS: [&str; 2] = ["--durability", "os"];

// proves: TOK-CRE-08, TDR-104-03
#[tokio::test]
async fn responses_100_and_104_precede_the_content() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let mut raw = Raw::connect(&server).await;
    let head = "POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: t\r\nUpload-Draft-Interop-Version: 2\r\n\
                Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    raw.send(head).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (status, fields) = raw.head().await.expect("an interim response");
        if status == 104 {
            assert_eq!(fields.get(V2.0).expect("the number of the request"), V2.1);
            assert!(fields.get("location").is_none(), "a token upload has no other URL");
        }
        seen.push(status);
    }
    seen.sort_unstable();
    assert_eq!(seen, [100, 104]);
    raw.send("hello").await;
    let got = raw.answer(false).await.expect("an answer");
    assert_eq!((got.status, got.offset()), (201, Some(5)));

    // The seed form sends no 104, and without `Expect` there is no 100.
    let got = server.request(Transport::H1, TestRequest::new("POST", "u").sized(b"hello")).await;
    assert_eq!((got.status, got.interims.len()), (204, 0));
    let got = server.request(Transport::H1, TestRequest::new("POST", "v").with(V2).sized(b"hello")).await;
    assert_eq!((got.status, got.interims.len()), (201, 1));
    // A refused request gets the refusal instead of 100.
    raw.send(head).await;
    assert_eq!(raw.answer(false).await.expect("an answer").status, 409);
    assert!(raw.ends().await, "nobody knows whether content follows");
}

#[tokio::test]
async fn small_uploads_are_pipelined_and_answered_in_order() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let mut raw = Raw::connect(&server).await;
    let uploads: Vec<_> = (0..50_usize).map(|number| bytes(number as u64, number * 37)).collect();
    let request = |number: usize| {
        let request = TestRequest::new("POST", &format!("piped-{number}"));
        if number.is_multiple_of(2) {
            request.sized(&uploads[number])
        } else {
            request.chunked(&uploads[number])
        }
    };
    let transport: Vec<u8> = (0..uploads.len()).flat_map(|number| request(number).h1()).collect();
    raw.send(transport).await;
    for content in &uploads {
        let got = raw.answer(false).await.expect("an answer");
        assert_eq!((got.status, got.offset()), (204, Some(content.len())));
        assert!(got.is_complete());
    }
    let mut stored = home.done();
    let mut sent = uploads.clone();
    stored.sort();
    sent.sort();
    assert!(stored == sent);
}

#[tokio::test]
async fn a_connection_serves_one_procedure_after_the_other() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let mut raw = Raw::connect(&server).await;
    for round in 0..20 {
        let token = format!("kept-{round}");
        let steps = [
            (TestRequest::new("POST", &token).field("upload-length", 10).sized(b"01234"), 204, Some(5)),
            (TestRequest::new("HEAD", &token), 204, Some(5)),
            (TestRequest::append(&token, 7).sized(b"789"), 409, Some(5)),
            (TestRequest::append(&token, 5).chunked(b"56789"), 204, Some(10)),
            (TestRequest::to("GET", "/.well-known/resumable-uploads"), 200, None),
            (TestRequest::to("OPTIONS", "/uploads"), 200, None),
            (TestRequest::new("DELETE", &token), 204, None),
            (TestRequest::new("HEAD", &token), 404, None),
        ];
        for (request, status, offset) in steps {
            let is_head = format!("{request:?}").starts_with("HEAD");
            raw.send(request.h1()).await;
            let got = raw.answer(is_head).await.expect("an answer");
            assert_eq!((got.status, got.offset()), (status, offset), "{request:?}");
        }
    }
}

// proves: TOK-CRE-04
#[tokio::test]
async fn chunks_may_have_extensions_and_trailers() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let mut raw = Raw::connect(&server).await;
    raw.send(
        "POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: t\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         5;name=value;other=\"a b\"\r\nhello\r\n1\r\n \r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n",
    )
    .await;
    let got = raw.answer(false).await.expect("an answer");
    assert_eq!((got.status, got.offset()), (204, Some(16)));
    assert!(got.is_complete());
    assert_eq!(home.only_complete(), b"hello 0123456789");
    raw.send(TestRequest::new("HEAD", "t").h1()).await;
    assert_eq!(raw.answer(true).await.expect("the same connection").offset(), Some(16));
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_stores_nothing() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let cases = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: 5, 6\r\n\r\nhello!",
        "Content-Length: 0x5\r\n\r\nhello",
        "Content-Length: 99999999999999999999999\r\n\r\nhello",
        "Content-Length : 5\r\n\r\nhello",
        "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\nhello",
        "Transfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "X-Folded: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
        "X-Null: a\0b\r\nContent-Length: 5\r\n\r\nhello",
        "Host: second\r\nContent-Length: 5\r\n\r\nhello",
    ];
    for case in cases {
        let mut raw = Raw::connect(&server).await;
        raw.send(format!("POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: t\r\n{case}")).await;
        let got = raw.answer(false).await.unwrap_or_else(|lost| panic!("{case:?}: {lost:?}"));
        assert!(matches!(got.status, 400 | 501), "{case:?}: {got:?}");
        assert!(raw.ends().await, "{case:?}: the connection is of no further use");
        assert_eq!(server.offset(Transport::H1, "t").await, Err(404), "{case:?}");
    }
    assert_eq!(home.uploads("open") + home.uploads("done"), 0);
}

// proves: TOK-CRE-01, TOK-APP-05
#[tokio::test]
async fn malformed_chunks_end_a_transfer_and_keep_earlier_bytes() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let cases =
        ["5\nworld\r\n", "x\r\n", "5\r\nworldly\r\n", "-5\r\n", "5 \r\n", "FFFFFFFFFFFFFFFFF\r\n", "\r\n"];
    for (number, case) in cases.iter().enumerate() {
        let token = format!("broken-{number}");
        let mut raw = Raw::connect(&server).await;
        raw.send(format!(
            "POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: {token}\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n{case}"
        ))
        .await;
        let got = raw.answer(false).await.expect("an answer");
        assert_eq!(got.status, 400, "{case:?}");
        assert!(raw.ends().await, "{case:?}");
        let offset = server.offset(Transport::H1, &token).await.expect("it is there");
        // A chunk longer than its declared size starts as valid content.
        assert!(offset == 5 || offset == 10 && case.contains("worldly"), "{case:?}: {offset}");
        let done = server.request(Transport::H1, TestRequest::append(&token, offset).sized(b"!")).await;
        assert!(done.is_complete());
    }
}

// proves: TOK-OFF-05, TOK-APP-03, TOK-CAN-02
#[tokio::test]
async fn a_refused_request_with_much_content_is_answered_and_not_read_to_its_end() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--max-size", "1MiB"]);
    for transport in [Transport::H1, Transport::H2] {
        let content = Bytes::from(vec![7; 64 << 20]);
        let request = TestRequest::new("POST", "large").shared(content.clone());
        let got = within_timeout("the refusal", server.request(transport, request)).await;
        assert_eq!(got.status, 413, "{transport:?}");
        let got = within_timeout(
            "the refusal",
            server.request(transport, TestRequest::append("unknown", 0).shared(content)),
        )
        .await;
        assert_eq!(got.status, 404, "{transport:?}");
    }
    assert_eq!(home.uploads("open") + home.uploads("done"), 0);
}
