//! Dialects: how the client detects them, what it sends in each, and what it remembers.

use hoist_client::{Client, Dialect, Error, Failure, Handle, Interop, Outcome, Source, Start};
use http::Uri;

use crate::script::{Act, ReceivedRequest, Server, builder, bytes, respond, run_both, write};

const LIMITS: &str = "200 OK|Upload-Limit: min-size=0|Accept-Patch: application/partial-upload";
const TUS: &str =
    "200 OK|Tus-Resumable: 1.0.0|Tus-Version: 1.0.0|Tus-Extension: creation,creation-defer-length";

fn auto() -> Client {
    builder().build().expect("a client")
}

fn of(dialect: Dialect) -> Client {
    builder().dialect(dialect).build().expect("a client")
}

fn requests(seen: &[ReceivedRequest]) -> Vec<&str> {
    seen.iter().map(ReceivedRequest::request).collect()
}

async fn uploaded(
    client: &Client,
    server: &Server,
    count: usize,
    scripts: Vec<Vec<Act>>,
) -> (Outcome, Vec<ReceivedRequest>) {
    let put = client.put(server.url.clone(), Source::bytes(bytes(count))).name("a b");
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    (outcome.expect("an upload"), seen)
}

// proves: IETF-CLI-17, IETF-CLI-19, IETF-VER-01
#[tokio::test]
async fn the_dialect_of_a_server_is_queried_once() {
    let (server, client) = (Server::start().await, auto());
    let scripts = vec![respond(LIMITS), respond("201 Created|Upload-Complete: ?1|Location: /uploads/1")];
    let (outcome, seen) = uploaded(&client, &server, 1000, scripts).await;
    assert_eq!(requests(&seen), ["OPTIONS /uploads", "POST /uploads"]);
    assert_eq!(seen[1].field("upload-complete"), Some("?1"));
    assert_eq!(seen[1].field("upload-draft-interop-version"), Some("10"));
    assert_eq!((seen[1].field("upload-length"), seen[1].field("upload-token")), (Some("1000"), None));
    assert_eq!(
        (outcome.dialect, outcome.retries, outcome.start),
        (Dialect::Ietf(Interop::V10), 0, Start::Fresh)
    );

    // The answer is remembered.
    let (_, seen) = uploaded(&client, &server, 10, vec![respond("201 Created|Upload-Complete: ?1")]).await;
    assert_eq!(requests(&seen), ["POST /uploads"]);
}

#[tokio::test]
async fn the_query_for_the_dialect_is_retried() {
    let (server, client) = (Server::start().await, auto());
    let scripts = vec![
        respond("503 Service Unavailable"),
        vec![Act::Head, Act::Reset],
        respond(LIMITS),
        respond("201 Created|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = uploaded(&client, &server, 10, scripts).await;
    assert_eq!(seen.iter().filter(|seen| seen.request() == "OPTIONS /uploads").count(), 3);
    assert_eq!(outcome.dialect, Dialect::Ietf(Interop::V10));

    let client = builder().retry_attempts(2).build().expect("a client");
    let put = client.put(server.url.clone(), Source::bytes("content"));
    let scripts = (0..3).map(|_| respond("502 Bad Gateway")).collect();
    let (error, _) = run_both(put.send(), server.play(scripts)).await;
    assert!(matches!(error, Err(Error::Exhausted { attempts: 3, .. })), "{error:?}");
}

// proves: IETF-INT-02, IETF-INT-04, IETF-CLI-04
#[tokio::test]
async fn an_upload_is_resumed_at_its_announced_url() {
    let (server, client) = (Server::start().await, of(Dialect::Ietf(Interop::V8)));
    let announced = "104 Upload Resumption Supported|Location: /uploads/7|Upload-Draft-Interop-Version: 8";
    let scripts = vec![
        vec![Act::Head, write(announced), Act::Content(400), Act::Reset],
        respond("204 No Content|Upload-Offset: 300|Upload-Complete: ?0|Upload-Length: 1000"),
        respond("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = uploaded(&client, &server, 1000, scripts).await;
    assert_eq!(requests(&seen), ["POST /uploads", "HEAD /uploads/7", "PATCH /uploads/7"]);
    assert_eq!(seen[2].content, bytes(1000)[300..]);
    assert_eq!(seen[2].field("content-type"), Some("application/partial-upload"));
    assert_eq!((outcome.resumed_bytes, outcome.retries), (300, 1));
    assert_eq!(outcome.url.map(|url| url.path().to_owned()).as_deref(), Some("/uploads/7"));
}

// proves: IETF-INT-06
#[tokio::test]
async fn an_upload_url_on_another_server_is_sent_no_credentials() {
    let (server, other) = (Server::start().await, Server::start().await);
    let client = builder().dialect(Dialect::Ietf(Interop::V8)).bearer("secret").build().expect("a client");
    let announced = format!("201 Created|Location: {}/9|Upload-Complete: ?0|Upload-Offset: 0", other.url);
    let put = client.put(server.url.clone(), Source::bytes(bytes(10)));
    let played = async {
        let first = server.play(vec![respond(&announced)]).await;
        (first, other.play(vec![respond("200 OK|Upload-Complete: ?1")]).await)
    };
    let (outcome, (first, second)) = run_both(put.send(), played).await;
    outcome.expect("an upload");
    assert_eq!(first[0].field("authorization"), Some("Bearer secret"));
    assert_eq!((second[0].request(), second[0].field("authorization")), ("PATCH /uploads/9", None));
}

#[tokio::test]
async fn large_content_waits_for_an_interim_response() {
    let server = Server::start().await;
    let client = builder().dialect(Dialect::Ietf(Interop::V9)).build().expect("a client");
    let much = 300_000;
    let refused = vec![Act::Head, write("403 Forbidden|Upload-Complete: ?0")];
    let put = client.put(server.url.clone(), Source::bytes(bytes(much)));
    let (refusal, seen) = run_both(put.send(), server.play(vec![refused])).await;
    assert!(matches!(refusal, Err(Error::Refused { status, .. }) if status == 403));
    assert_eq!((seen[0].field("expect"), seen[0].content.len()), (Some("100-continue"), 0));
}

#[tokio::test]
async fn a_server_that_ignores_expect_is_not_waited_for_again() {
    let server = Server::start().await;
    let client =
        builder().dialect(Dialect::Ietf(Interop::V9)).expect_timeout(std::time::Duration::from_millis(50));
    let client = client.build().expect("a client");
    let done = || respond("201 Created|Upload-Complete: ?1");
    let (_, seen) = uploaded(&client, &server, 300_000, vec![done()]).await;
    assert_eq!(seen[0].field("expect"), Some("100-continue"));
    let (_, seen) = uploaded(&client, &server, 300_000, vec![done()]).await;
    assert_eq!(seen[0].field("expect"), None);

    // A 417 is followed by the same request without `Expect`.
    let client = builder().dialect(Dialect::Ietf(Interop::V9)).build().expect("a client");
    let scripts = vec![vec![Act::Head, write("417 Expectation Failed")], done()];
    let (outcome, seen) = uploaded(&client, &server, 300_000, scripts).await;
    assert_eq!((outcome.retries, seen[1].field("expect")), (0, None));
}

#[tokio::test]
async fn a_server_without_resumable_uploads_is_sent_one_request() {
    let (server, client) = (Server::start().await, auto());
    let scripts = vec![respond("405 Method Not Allowed"), respond("201 Created|Location: /files/a")];
    let (outcome, seen) = uploaded(&client, &server, 1000, scripts).await;
    assert_eq!(requests(&seen), ["OPTIONS /uploads", "POST /uploads"]);
    assert_eq!((seen[1].content.len(), outcome.status.as_u16()), (1000, 201));

    let (outcome, seen) = uploaded(&of(Dialect::Conventional), &server, 10, vec![respond("200 OK")]).await;
    assert_eq!((requests(&seen), outcome.dialect), (vec!["POST /uploads"], Dialect::Conventional));
    assert_eq!((seen[0].field("upload-complete"), seen[0].field("content-length")), (None, Some("10")));
}

// proves: IETF-VER-11
#[tokio::test]
async fn after_a_refused_version_the_next_is_tried_and_remembered() {
    let (server, client) = (Server::start().await, auto());
    let number = |seen: &ReceivedRequest| seen.field("upload-draft-interop-version").map(ToOwned::to_owned);
    // A server that supports version 6 but not 10.
    let scripts = vec![
        respond("400 Bad Request"),
        respond(LIMITS),
        respond("201 Created|Upload-Complete: ?1|Upload-Draft-Interop-Version: 6"),
    ];
    let (outcome, seen) = uploaded(&client, &server, 1000, scripts).await;
    assert_eq!(requests(&seen), ["OPTIONS /uploads", "OPTIONS /uploads", "POST /uploads"]);
    let numbers: Vec<_> = seen.iter().map(number).collect();
    assert_eq!(numbers, ["10", "6", "6"].map(|number| Some(number.to_owned())));
    assert_eq!(outcome.dialect, Dialect::Ietf(Interop::V6));

    // A server that refuses the version of the creation only.
    let (server, client) = (Server::start().await, auto());
    let scripts = vec![
        respond(LIMITS),
        respond("400 Bad Request"),
        respond("400 Bad Request"),
        respond("201 Created|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = uploaded(&client, &server, 1000, scripts).await;
    let numbers: Vec<_> = seen.iter().map(number).collect();
    assert_eq!(numbers, [Some("10".to_owned()), Some("10".to_owned()), Some("6".to_owned()), None]);
    assert!(seen[1..].iter().all(|seen| seen.content == bytes(1000)));
    assert_eq!(outcome.dialect, Dialect::Ietf(Interop::Rfc));
    let (_, seen) = uploaded(&client, &server, 10, vec![respond("201 Created|Upload-Complete: ?1")]).await;
    assert_eq!((requests(&seen), number(&seen[0])), (vec!["POST /uploads"], None));

    // A version that the caller has set is not replaced.
    let client = of(Dialect::Ietf(Interop::V10));
    let put = client.put(server.url.clone(), Source::bytes(bytes(10)));
    let (refused, _) = run_both(put.send(), server.play(vec![respond("400 Bad Request")])).await;
    assert!(matches!(refused, Err(Error::Refused { status, .. }) if status == 400));
}

// proves: IETF-CLI-18
#[tokio::test]
async fn the_location_of_an_ordinary_server_is_not_appended_to() {
    let (server, client) = (Server::start().await, of(Dialect::Ietf(Interop::V10)));
    let scripts =
        vec![vec![Act::Head, Act::Content(400), Act::Reset], respond("201 Created|Location: /files/7")];
    // PUT is idempotent, so it may be repeated.
    let put = client.put(server.url.clone(), Source::bytes(bytes(1000))).method(http::Method::PUT);
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert!(matches!(outcome, Err(Error::Upload(Failure::NotResumable))), "{outcome:?}");
    assert_eq!(requests(&seen), ["PUT /uploads", "PUT /uploads"]);
    assert_eq!((seen[1].field("upload-complete"), seen[1].content.len()), (Some("?0"), 0));
}

#[tokio::test]
async fn tus_is_detected_and_used() {
    let (server, client) = (Server::start().await, auto());
    let scripts = vec![
        respond(TUS),
        respond("201 Created|Location: /uploads/5"),
        vec![Act::Head, Act::Content(400), Act::Reset],
        respond("200 OK|Upload-Offset: 400|Upload-Length: 1000"),
        respond("204 No Content|Upload-Offset: 1000"),
    ];
    let (outcome, seen) = uploaded(&client, &server, 1000, scripts).await;
    let expected =
        ["OPTIONS /uploads", "POST /uploads", "PATCH /uploads/5", "HEAD /uploads/5", "PATCH /uploads/5"];
    assert_eq!(requests(&seen), expected);
    assert_eq!((seen[1].field("upload-length"), seen[1].field("content-length")), (Some("1000"), Some("0")));
    assert_eq!(seen[1].field("upload-metadata"), Some("filename YSBi"));
    assert_eq!(seen[4].content, bytes(1000)[400..]);
    assert_eq!((outcome.dialect, outcome.resumed_bytes, outcome.bytes), (Dialect::Tus1, 400, 1000));
}

#[tokio::test]
async fn checksums_are_sent_to_tus_servers_if_verification_is_wanted() {
    use sha1::{Digest as _, Sha1};
    let (server, client) = (Server::start().await, of(Dialect::Tus1));
    let offers =
        "200 OK|Tus-Version: 1.0.0|Tus-Extension: creation,checksum|Tus-Checksum-Algorithm: md5,sha1";
    let scripts = vec![
        respond(offers),
        respond("201 Created|Location: /uploads/5"),
        respond("460 Checksum Mismatch"),
        respond("200 OK|Upload-Offset: 0|Upload-Length: 1000"),
        respond("204 No Content|Upload-Offset: 1000"),
    ];
    let put = client.put(server.url.clone(), Source::bytes(bytes(1000))).verify();
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    outcome.expect("an upload");
    let checksum = seen[2].field("upload-checksum").expect("a digest");
    let ours = Sha1::digest(bytes(1000));
    let value = http::HeaderValue::from_str(checksum).expect("text");
    assert_eq!(hoist_proto::dialect::tus1::client::Checksum::Sha1.field(&ours).1, value);
    assert_eq!(seen[4].field("upload-checksum"), Some(checksum));
}

#[tokio::test]
async fn the_dialect_of_a_handle_is_found_by_queries() {
    let (server, client) = (Server::start().await, auto());
    let url: Uri = format!("{}/1", server.url).parse().expect("a URL");
    let handle = Handle::at(url, Dialect::Auto);
    // Servers refuse requests in other dialects with various statuses.
    for (newest, sixth) in
        [("404 Not Found", "404 Not Found"), ("400 Bad Request", "405 No"), ("412 No", "412 No")]
    {
        let found = respond("200 OK|Upload-Offset: 3|Upload-Length: 3");
        let scripts = vec![respond(newest), respond(sixth), found];
        let (status, seen) = run_both(client.status(&handle), server.play(scripts)).await;
        let status = status.expect("a status");
        assert_eq!((status.offset, status.length, status.complete), (3, Some(3), Some(true)));
        assert_eq!(seen[0].field("upload-draft-interop-version"), Some("10"));
        assert_eq!(seen[1].field("upload-draft-interop-version"), Some("6"));
        assert_eq!(seen[2].field("tus-resumable"), Some("1.0.0"));
    }
    let scripts = vec![respond("404 Not Found"), respond("400 Bad Request"), respond("412 No")];
    let (status, _) = run_both(client.status(&handle), server.play(scripts)).await;
    assert!(matches!(status, Err(Error::Refused { status, .. }) if status == 404), "the upload is unknown");

    let scripts = vec![respond("204 No Content")];
    let (cancelled, seen) = run_both(client.cancel(&handle), server.play(scripts)).await;
    cancelled.expect("cancelled");
    assert_eq!(seen[0].request(), "DELETE /uploads/1");
}

#[tokio::test]
async fn the_digest_of_the_server_is_compared() {
    let (server, client) = (Server::start().await, of(Dialect::Ietf(Interop::V9)));
    let right =
        "201 Created|Upload-Complete: ?1|Repr-Digest: sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
    for (content, verified) in [("hello", true), ("hullo", false)] {
        let put = client.put(server.url.clone(), Source::bytes(content)).verify();
        let (outcome, seen) = run_both(put.send(), server.play(vec![respond(right)])).await;
        assert_eq!(seen[0].field("want-repr-digest"), Some("sha-256=10"));
        assert!(seen[0].field("repr-digest").is_some_and(|digest| digest.starts_with("sha-256=:")));
        match outcome {
            Ok(outcome) => assert!(verified && outcome.verified),
            Err(error) => assert!(!verified && matches!(error, Error::Digest { .. }), "{error}"),
        }
    }
}

/// Plays a server of tus 1.0 that accepts all uploads, on several connections at once, and concatenates parts.
async fn tus_server(server: &Server, connections: usize) -> Vec<ReceivedRequest> {
    let mut requests = Vec::new();
    let mut lines = tokio::task::JoinSet::new();
    for number in 0..connections {
        let (mut stream, _) = server.listener.accept().await.expect("accepted");
        lines.spawn(async move {
            let mut seen = Vec::new();
            // The first request shows which script to play.
            let head = crate::script::perform(&mut stream, &[Act::Head]).await.0;
            let length: u64 = head.field("upload-length").map_or(0, |text| text.parse().expect("a number"));
            let created = format!("HTTP/1.1 201 Created\r\nLocation: /uploads/{number}\r\nContent-Length: 0\r\n\r\n");
            let first = match head.request() {
                "OPTIONS /uploads" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTus-Version: 1.0.0\r\nTus-Extension: creation,concatenation\r\n\r\n".to_owned(),
                _ => created,
            };
            crate::script::perform(&mut stream, &[Act::Write(first)]).await;
            let goes_on = head.request() == "POST /uploads" && length > 0;
            seen.push(head);
            if goes_on {
                let stored = write(&format!("204 No Content|Upload-Offset: {length}"));
                seen.push(crate::script::perform(&mut stream, &[Act::Head, Act::Rest, stored]).await.0);
            }
            seen
        });
    }
    while let Some(seen) = lines.join_next().await {
        requests.extend(seen.expect("it ends well"));
    }
    requests
}

#[tokio::test]
async fn parts_are_sent_in_parallel_and_joined() {
    let server = Server::start().await;
    let client = builder().dialect(Dialect::Auto).parts(3).build().expect("a client");
    let content = bytes(4_000_003);
    let put = client.put(server.url.clone(), Source::bytes(content.clone())).name("film");
    let progress = put.progress();
    let (outcome, seen) = run_both(put.send(), tus_server(&server, 5)).await;
    let outcome = outcome.expect("an upload");
    assert_eq!((outcome.bytes, outcome.dialect, outcome.retries), (4_000_003, Dialect::Tus1, 0));
    assert_eq!(outcome.url.map(|url| url.path().to_owned()).as_deref(), Some("/uploads/4"));
    assert_eq!((progress.borrow().sent, progress.borrow().acknowledged), (4_000_003, 4_000_003));
    let created: Vec<_> = seen.iter().filter_map(|request| request.field("upload-concat")).collect();
    assert_eq!(created.iter().filter(|value| **value == "partial").count(), 3);
    let joined = created.iter().find(|value| value.starts_with("final;")).expect("they are joined");
    let mut joined_content: Vec<u8> = Vec::new();
    for url in joined.trim_start_matches("final;").split(' ') {
        let path = url.strip_prefix(&format!("http://127.0.0.1:{}", server.port())).expect("absolute");
        let request = format!("PATCH {path}");
        joined_content
            .extend(&seen.iter().find(|seen| seen.request() == request).expect("it was sent").content);
    }
    assert!(joined_content == content, "concatenated in order they are the whole content");
    let last = seen.iter().find(|request| request.field("upload-concat") == Some(joined)).expect("there");
    assert_eq!(last.field("upload-metadata"), Some("filename ZmlsbQ=="));
}

// proves: IETF-CON-01
#[tokio::test]
async fn no_append_is_sent_before_the_creation_has_ended() {
    let (server, client) = (Server::start().await, of(Dialect::Ietf(Interop::V9)));
    let announced = "HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Draft-Interop-Version: 9\r\n\
                     Location: /uploads/1\r\nUpload-Limit: max-append-size=600\r\n\r\n";
    let scripts = vec![
        // The next connection is accepted after the client has closed this one.
        vec![Act::Head, Act::Write(announced.to_owned()), Act::Stall],
        respond("204 No Content|Upload-Offset: 0|Upload-Complete: ?0"),
        respond("204 No Content|Upload-Offset: 600|Upload-Complete: ?0"),
        respond("200 OK|Upload-Complete: ?1"),
    ];
    let (_, seen) = uploaded(&client, &server, 1000, scripts).await;
    let expected = ["POST /uploads", "HEAD /uploads/1", "PATCH /uploads/1", "PATCH /uploads/1"];
    assert_eq!(requests(&seen), expected);
    assert!([&seen[2].content[..], &seen[3].content].concat() == bytes(1000));
}
