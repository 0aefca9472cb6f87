//! Uploads without interruptions: the requests, and the outcome.

use hoist_client::{Client, Error, Handle, Source, Token, random_token};
use http::{HeaderName, HeaderValue};

use crate::script::{Act, Server, bytes, respond, run_both, token_builder, token_client, write};

// proves: TOK-TOKEN-06, TDR-HDR-01, TDR-HDR-03
#[tokio::test]
async fn an_upload_without_interruption_is_one_request() {
    let server = Server::start().await;
    let content = bytes(1000);
    let put = token_client().put(server.url.clone(), Source::bytes(content.clone()));
    let progress = put.progress();
    let script = vec![respond("204 No Content|Upload-Offset: 1000|Upload-Complete: ?1")];
    let (outcome, seen) = run_both(put.send(), server.play(script)).await;
    let outcome = outcome.expect("an upload");

    assert_eq!(seen[0].request(), "POST /uploads");
    assert_eq!(seen[0].field("host"), Some(format!("127.0.0.1:{}", server.port()).as_str()));
    assert_eq!(seen[0].field("content-length"), Some("1000"));
    assert_eq!(seen[0].field("upload-offset"), None);
    let token = seen[0].field("upload-token").expect("a token");
    assert!(token.len() == 46 && token.starts_with(':') && token.ends_with(':'), "{token}");
    assert_eq!(seen[0].content, content);

    assert_eq!((outcome.bytes, outcome.resumed_bytes, outcome.retries), (1000, 0, 0));
    assert_eq!(outcome.status, 204);
    let end = *progress.borrow();
    assert_eq!((end.sent, end.acknowledged, end.length, end.retries), (1000, 1000, Some(1000), 0));
}

#[tokio::test]
async fn the_future_of_an_upload_can_be_spawned() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::stream(&b"content"[..]));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(put.send());
    let scripts = vec![
        vec![Act::Head, Act::Chunks, write("204 No Content|Upload-Offset: 7|Upload-Complete: ?0")],
        respond("204 No Content|Upload-Offset: 7|Upload-Complete: ?1"),
    ];
    let (outcome, _) = run_both(tasks.join_next(), server.play(scripts)).await;
    assert_eq!(outcome.expect("a task").expect("it ends").expect("an upload").bytes, 7);
}

#[tokio::test]
async fn random_tokens_differ() {
    let tokens: Vec<_> = (0..100).map(|_| random_token().expect("random").expose().to_vec()).collect();
    for (at, token) in tokens.iter().enumerate() {
        assert_eq!(token.len(), 32);
        assert!(!tokens[..at].contains(token));
    }
}

#[tokio::test]
async fn the_content_of_a_file_is_sent_unchanged() {
    let server = Server::start().await;
    let content = bytes(1_000_000);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &content).expect("written");
    let put = token_client().put(server.url.clone(), Source::file(file.path()));
    let script = vec![respond("201 Created|Upload-Offset: 1000000|X-Where: here||stored")];
    let (outcome, seen) = run_both(put.send(), server.play(script)).await;
    let outcome = outcome.expect("an upload");
    assert!(seen[0].content == content);
    assert_eq!((outcome.status.as_u16(), &outcome.content[..]), (201, &b"stored"[..]));
    assert_eq!(outcome.fields["x-where"], "here");
}

#[tokio::test]
async fn an_empty_source_can_be_uploaded() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(Vec::new()));
    let (outcome, seen) =
        run_both(put.send(), server.play(vec![respond("204 No Content|Upload-Offset: 0")])).await;
    assert_eq!(outcome.expect("an upload").bytes, 0);
    assert_eq!(seen[0].field("content-length"), Some("0"));
}

// proves: TDR-SEED-10
#[tokio::test]
async fn responses_of_the_seed_form_suffice() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(200)));
    let scripts = vec![
        vec![Act::Head, Act::Content(100), Act::Reset],
        respond("204 No Content|Upload-Offset: 100"),
        respond("204 No Content|Upload-Offset: 200"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").resumed_bytes, 100);
    assert_eq!(seen[2].content, bytes(200)[100..]);

    let put = token_client().put(server.url.clone(), Source::bytes(bytes(200)));
    let (outcome, _) = run_both(put.send(), server.play(vec![respond("204 No Content")])).await;
    assert_eq!(outcome.expect("an upload").bytes, 200);
}

// proves: TDR-104-04, TDR-CLI-02
#[tokio::test]
async fn unknown_interim_responses_are_ignored() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(100)));
    let interim = |text: &str| Act::Write(format!("HTTP/1.1 {text}\r\n\r\n"));
    let script = vec![
        Act::Head,
        interim(
            "104 Upload Resumption Supported\r\nUpload-Draft-Interop-Version: 99\r\nLocation: /elsewhere",
        ),
        interim("103 Early Hints\r\nLink: </a>"),
        Act::Rest,
        interim("104 Upload Resumption Supported\r\nUpload-Offset: 50"),
        write("204 No Content|Upload-Offset: 100"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(vec![script])).await;
    assert_eq!(outcome.expect("an upload").retries, 0);
    // The first request is an ordinary one to servers without an upload protocol.
    for field in ["upload-offset", "upload-incomplete", "upload-complete", "upload-length"] {
        assert_eq!(seen[0].field(field), None, "{field}");
    }
}

#[tokio::test]
async fn every_request_has_the_headers_of_the_client() {
    let server = Server::start().await;
    let name = |text| HeaderName::from_static(text);
    let client = token_builder()
        .bearer("hush")
        .header(name("x-tenant"), HeaderValue::from_static("seven"))
        .header(name("x-many"), HeaderValue::from_static("one"))
        .header(name("x-many"), HeaderValue::from_static("two"))
        .build()
        .expect("a client");
    let put = client
        .put(server.url.clone(), Source::bytes(bytes(10)))
        .name("räksmörgås \"1\".txt")
        .content_type("text/plain");
    let scripts = vec![
        vec![Act::Head, Act::Content(5), Act::Reset],
        respond("204 No Content|Upload-Offset: 5"),
        respond("204 No Content|Upload-Offset: 10"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    outcome.expect("an upload");
    for request in &seen {
        assert_eq!(request.field("authorization"), Some("Bearer hush"), "{}", request.request());
        assert_eq!(request.field("x-tenant"), Some("seven"));
        assert!(request.head.contains("x-many: one\r\nx-many: two\r\n"), "{}", request.head);
    }
    assert_eq!(seen[0].field("content-type"), Some("text/plain"));
    let disposition = "attachment; filename=\"r_ksm_rg_s _1_.txt\"; \
                       filename*=UTF-8''r%C3%A4ksm%C3%B6rg%C3%A5s%20%221%22.txt";
    assert_eq!(seen[0].field("content-disposition"), Some(disposition));
    // Only the creation describes the representation.
    assert_eq!(seen[2].field("content-disposition"), None);
}

#[tokio::test]
async fn an_invalid_field_value_is_an_error() {
    assert!(matches!(token_builder().bearer("a\nb").build(), Err(Error::Field(_))));
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(10))).content_type("a\r\nb: c");
    assert!(matches!(put.send().await, Err(Error::Field(_))));
}

#[tokio::test]
async fn an_upload_can_be_split_into_requests_of_limited_size() {
    let server = Server::start().await;
    let client = token_builder().request_bytes_max(400).build().expect("a client");
    let put = client.put(server.url.clone(), Source::bytes(bytes(1000)));
    let scripts = vec![
        respond("204 No Content|Upload-Offset: 400|Upload-Complete: ?0"),
        respond("204 No Content|Upload-Offset: 800|Upload-Complete: ?0"),
        respond("204 No Content|Upload-Offset: 1000|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").retries, 0);
    let values = |field| seen.iter().map(|request| request.field(field)).collect::<Vec<_>>();
    assert_eq!(values("upload-complete"), [Some("?0"), Some("?0"), None]);
    assert_eq!(values("upload-length"), [Some("1000"), None, None]);
    assert_eq!(values("upload-offset"), [None, Some("400"), Some("800")]);
    assert_eq!(seen.iter().flat_map(|request| request.content.clone()).collect::<Vec<_>>(), bytes(1000));
}

// proves: TDR-CAN-01, TDR-OFF-01
#[tokio::test]
async fn an_upload_can_be_queried_and_cancelled() {
    let server = Server::start().await;
    let token = Token::new(*b"abcdef").expect("in range");
    let client = token_client();
    let handle = Handle::Token { url: server.url.clone(), token };
    let asked = client.status(&handle);
    let script = vec![respond("204 No Content|Upload-Offset: 7|Upload-Length: 9|Upload-Complete: ?0")];
    let (status, seen) = run_both(asked, server.play(script)).await;
    let status = status.expect("a status");
    assert_eq!((status.offset, status.length, status.complete), (7, Some(9), Some(false)));
    assert_eq!((seen[0].request(), seen[0].field("upload-token")), ("HEAD /uploads", Some(":YWJjZGVm:")));
    assert_eq!((seen[0].field("upload-offset"), seen[0].field("upload-incomplete")), (None, None));

    let cancelled = client.cancel(&handle);
    let (cancelled, seen) = run_both(cancelled, server.play(vec![respond("204 No Content")])).await;
    cancelled.expect("cancelled");
    assert_eq!((seen[0].request(), seen[0].field("upload-token")), ("DELETE /uploads", Some(":YWJjZGVm:")));

    let asked = async {
        let unknown = client.cancel(&handle).await;
        (unknown, client.status(&handle).await, client.status(&handle).await)
    };
    // The response to HEAD has no content, whatever length it declares.
    let script = vec![
        respond("404 Not Found||gone"),
        vec![Act::Head, write("404 Not Found||")],
        vec![Act::Head, write("200 OK||")],
    ];
    let ((unknown, nothing, page), _) = run_both(asked, server.play(script)).await;
    assert!(matches!(unknown, Err(Error::Refused { status, .. }) if status == 404));
    assert!(matches!(nothing, Err(Error::Refused { status, .. }) if status == 404));
    assert!(matches!(page, Err(Error::Upload(hoist_client::Failure::NotResumable))));
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_is_respected() {
    let server = Server::start().await;
    let client = token_builder().rate_max(100).build().expect("a client");
    let put = client.put(server.url.clone(), Source::bytes(bytes(1000)));
    let start = tokio::time::Instant::now();
    let script = vec![respond("204 No Content|Upload-Offset: 1000|Upload-Complete: ?1")];
    let (outcome, seen) = tokio::join!(put.send(), server.play(script));
    outcome.expect("an upload");
    assert_eq!(seen[0].content, bytes(1000));
    let took = start.elapsed();
    assert!((9.9..10.1).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn uploads_of_one_client_share_the_rate_limit() {
    let client = token_builder().rate_max(1000).build().expect("a client");
    let start = tokio::time::Instant::now();
    let upload = async |client: Client, length: usize| {
        let server = Server::start().await;
        let put = client.put(server.url.clone(), Source::bytes(bytes(length)));
        let complete = format!("204 No Content|Upload-Offset: {length}|Upload-Complete: ?1");
        let script = vec![respond(&complete)];
        let (outcome, _) = tokio::join!(put.send(), server.play(script));
        outcome.expect("an upload");
        start.elapsed().as_secs_f64()
    };
    let (big, tiny) = tokio::join!(upload(client.clone(), 10_000), upload(client, 1000));
    // Both have half of the rate until the tiny one is complete, and the big one then has all of it.
    assert!((1.9..2.1).contains(&tiny), "{tiny}");
    assert!((10.9..11.1).contains(&big), "{big}");
}
