//! Interruptions, after which the upload is resumed.

use std::time::Duration;

use hoist_client::{Source, Token};
use tokio::time::Instant;

use crate::script::{
    Act, ReceivedRequest, Server, bytes, problem, respond, run_both, token_builder, token_client, write,
};

const LENGTH: usize = 300_000;

fn token() -> Token {
    Token::new(*b"abcdef").expect("in range")
}

fn requests(seen: &[ReceivedRequest]) -> Vec<&str> {
    seen.iter().map(ReceivedRequest::request).collect()
}

fn offset(at: usize) -> String {
    format!(
        "204 No Content|Upload-Offset: {at}|Upload-Length: {LENGTH}|Upload-Complete: ?{}",
        u8::from(at == LENGTH)
    )
}

// proves: TDR-SEED-04, TDR-CLI-01
#[tokio::test]
async fn an_interrupted_upload_is_resumed_at_the_offset() {
    let content = bytes(LENGTH);
    for cut in [0, 1, 1000, 262_144, LENGTH - 1] {
        for reset in [true, false] {
            let server = Server::start().await;
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), &content).expect("written");
            let put = token_client().put(server.url.clone(), Source::file(file.path()));
            let mut first = vec![Act::Head, Act::Content(cut as u64)];
            first.extend(reset.then_some(Act::Reset));
            let scripts = vec![first, respond(&offset(cut)), respond(&offset(LENGTH))];
            let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
            let outcome = outcome.expect("an upload");
            assert_eq!(requests(&seen), ["POST /uploads", "HEAD /uploads", "PATCH /uploads"]);
            assert_eq!(seen[2].field("upload-offset"), Some(cut.to_string().as_str()));
            assert!([&seen[0].content[..], &seen[2].content[..]].concat() == content, "cut at {cut}");
            assert_eq!((outcome.resumed_bytes, outcome.retries), (cut as u64, 1));
            let tokens: Vec<_> = seen.iter().map(|request| request.field("upload-token")).collect();
            assert!(tokens[0].is_some() && tokens.iter().all(|token| *token == tokens[0]));
        }
    }
}

// proves: TOK-APP-06
#[tokio::test]
async fn a_lost_final_response_is_replayed() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(LENGTH)));
    let again = format!("201 Created|Upload-Offset: {LENGTH}|X-Target: told||stored");
    let scripts = vec![vec![Act::Head, Act::Rest, Act::Reset], respond(&offset(LENGTH)), respond(&again)];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    let outcome = outcome.expect("an upload");
    assert_eq!(seen[2].field("content-length"), Some("0"));
    assert_eq!(seen[2].field("upload-offset"), Some(LENGTH.to_string().as_str()));
    assert_eq!((outcome.status.as_u16(), &outcome.content[..]), (201, &b"stored"[..]));
}

#[tokio::test]
async fn an_upload_is_complete_even_if_its_response_cannot_be_replayed() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(LENGTH)));
    let complete = format!("409 Conflict|Upload-Offset: {LENGTH}|Upload-Complete: ?1");
    let scripts = vec![vec![Act::Head, Act::Rest, Act::Reset], respond(&offset(LENGTH)), respond(&complete)];
    let (outcome, _) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").bytes, LENGTH as u64);
}

// proves: TDR-CLI-01
#[tokio::test]
async fn a_burst_of_errors_is_retried() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(LENGTH)));
    let error = |status: &str| vec![Act::Head, write(&format!("{status}|Content-Type: text/html"))];
    let scripts = vec![
        respond(&problem("503 Service Unavailable", "", "starting")),
        error("502 Bad Gateway"),
        error("429 Too Many Requests"),
        error("504 Gateway Timeout"),
        respond(&offset(0)),
        respond("500 Internal Server Error"),
        respond(&offset(LENGTH)),
        respond(&offset(LENGTH)),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").retries, 5);
    let head = "HEAD /uploads";
    let patch = "PATCH /uploads";
    assert_eq!(requests(&seen), ["POST /uploads", head, head, head, head, patch, head, patch]);
}

// proves: TOK-APP-02, TDR-APP-03
#[tokio::test]
async fn a_conflict_with_an_offset_is_resumed_at_that_offset() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(LENGTH))).token(token());
    let conflict = "409 Conflict|Upload-Offset: 2000|Upload-Complete: ?0";
    let scripts =
        vec![respond(&offset(1000)), vec![Act::Head, write(conflict), Act::Stall], respond(&offset(LENGTH))];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    outcome.expect("an upload");
    assert_eq!(seen[2].field("upload-offset"), Some("2000"));
    assert!(seen[2].content == bytes(LENGTH)[2000..]);
}

// proves: TDR-OFF-09
#[tokio::test]
async fn a_creation_that_the_server_never_saw_is_repeated() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(100)));
    let scripts = vec![
        vec![Act::Head, Act::Reset],
        respond("404 Not Found"),
        respond("204 No Content|Upload-Offset: 100"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    outcome.expect("an upload");
    assert_eq!(requests(&seen), ["POST /uploads", "HEAD /uploads", "POST /uploads"]);
    assert_eq!(seen[1].field("upload-token"), seen[2].field("upload-token"));
}

// proves: TOK-CRE-05
#[tokio::test]
async fn a_creation_in_conflict_with_its_own_retry_queries_the_offset() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(100)));
    let scripts = vec![
        vec![Act::Head, Act::Content(10), Act::Reset],
        respond("404 Not Found"),
        respond("409 Conflict|Upload-Offset: 0"),
        respond("204 No Content|Upload-Offset: 10"),
        respond("204 No Content|Upload-Offset: 100"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    outcome.expect("an upload");
    let methods = ["POST /uploads", "HEAD /uploads", "POST /uploads", "HEAD /uploads", "PATCH /uploads"];
    assert_eq!(requests(&seen), methods);
}

#[tokio::test]
async fn a_token_resumes_the_upload_of_an_earlier_process() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(LENGTH))).token(token());
    let scripts = vec![respond(&offset(7)), respond(&offset(LENGTH))];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").resumed_bytes, 7);
    assert_eq!(requests(&seen), ["HEAD /uploads", "PATCH /uploads"]);
    assert_eq!(seen[0].field("upload-token"), Some(":YWJjZGVm:"));

    // There was no earlier run, or the server no longer has its upload.
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(LENGTH))).token(token());
    let scripts = vec![respond("404 Not Found"), respond(&offset(LENGTH))];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").retries, 0);
    assert_eq!(requests(&seen), ["HEAD /uploads", "POST /uploads"]);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_respected() {
    let server = Server::start().await;
    let client = token_builder().build().expect("a client");
    let put = client.put(server.url.clone(), Source::bytes(bytes(100)));
    let scripts = vec![
        respond("503 Service Unavailable|Retry-After: 7"),
        vec![Act::Head, write("429 Too Many Requests|Retry-After: 30")],
        respond("404 Not Found"),
        respond("204 No Content|Upload-Offset: 100"),
    ];
    let start = Instant::now();
    let played = async { tokio::join!(put.send(), server.play(scripts)) };
    let (outcome, _) = played.await;
    outcome.expect("an upload");
    assert!(
        (Duration::from_secs(37)..Duration::from_mins(1)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

// The next connection is accepted only after the client has closed the previous one.
// proves: TDR-OFF-06, TDR-APP-06, TUS1-PATCH-10
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let server = Server::start().await;
    let client = token_builder()
        .retry_pauses(Duration::from_millis(500), Duration::from_secs(30))
        .idle_timeout(Duration::from_secs(20))
        .build()
        .expect("a client");
    let put = client.put(server.url.clone(), Source::bytes(bytes(100)));
    let scripts = vec![
        vec![Act::Head, Act::Content(40), Act::Stall],
        respond("204 No Content|Upload-Offset: 40"),
        respond("204 No Content|Upload-Offset: 100"),
    ];
    let start = Instant::now();
    let (outcome, seen) = tokio::join!(put.send(), server.play(scripts));
    assert_eq!(outcome.expect("an upload").retries, 1);
    assert_eq!(seen[2].content, bytes(100)[40..]);
    assert!(
        (Duration::from_secs(20)..Duration::from_secs(30)).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_dropped_upload_closes_its_connection() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(vec![7; 10_000_000]));
    let (started, mut signal) = tokio::sync::oneshot::channel();
    let sent = async move {
        tokio::select! {
            _ = put.send() => panic!("the server does not answer"),
            _ = &mut signal => {}
        }
    };
    let played = async {
        let (mut stream, _) = server.listener.accept().await.expect("accepted");
        let script = [Act::Head, Act::Content(1000)];
        crate::script::perform(&mut stream, &script).await;
        started.send(()).expect("the upload is running");
        crate::script::perform(&mut stream, &[Act::Stall]).await
    };
    run_both(sent, played).await;
}
