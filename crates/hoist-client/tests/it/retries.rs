//! Failed attempts: their report, the retry budget, and failures before the first contact.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_client::{
    Client, Dialect, Error, Failure, Form, Handle, Interop, Journal, Retry, Source, Start, Token,
};
use tokio::time::Instant;

use crate::script::{Act, Server, builder, bytes, respond, run_both, token_builder, token_client, write};

/// The texts of the failed attempts of an upload, with their number and the acknowledged bytes.
type Reports = Arc<Mutex<Vec<(u32, u64, String)>>>;

fn reports_of(put: hoist_client::Put) -> (hoist_client::Put, Reports) {
    let reports = Reports::default();
    let seen = Arc::clone(&reports);
    let put = put.on_retry(move |attempt| {
        assert!(attempt.pause <= attempt.budget_left);
        let report = (attempt.attempts, attempt.acknowledged, attempt.error.to_string());
        seen.lock().expect("no panic").push(report);
    });
    (put, reports)
}

fn taken(reports: &Reports) -> Vec<(u32, u64, String)> {
    std::mem::take(&mut *reports.lock().expect("no panic"))
}

#[tokio::test]
async fn each_failed_attempt_is_reported_with_its_cause() {
    let server = Server::start().await;
    let client = builder().build().expect("a client");
    let (put, reports) = reports_of(client.put(server.url.clone(), Source::bytes(bytes(1000))));
    let offset = "204 No Content|Upload-Offset: 400|Upload-Complete: ?0";
    let scripts = vec![
        // The server is asked for its protocol.
        respond("503 Service Unavailable"),
        respond("204 No Content|Upload-Limit: min-size=0|Upload-Draft-Interop-Version: 10"),
        vec![
            Act::Head,
            write("104 Upload Resumption Supported|Location: /uploads/7|Upload-Draft-Interop-Version: 10"),
            Act::Content(400),
            Act::Reset,
        ],
        respond("502 Bad Gateway"),
        respond(offset),
        respond("429 Too Many Requests"),
        respond(offset),
        respond("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, _) = run_both(put.send(), server.play(scripts)).await;
    outcome.expect("an upload");
    let reports = taken(&reports);
    let told: Vec<_> = reports.iter().map(|(attempt, at, text)| (*attempt, *at, text.as_str())).collect();
    let refused = |status: &'static str| format!("the server answered {status}");
    assert_eq!(
        told,
        [
            (1, 0, refused("503 Service Unavailable").as_str()),
            (1, 0, "the connection to the server was lost"),
            (2, 0, refused("502 Bad Gateway").as_str()),
            (1, 400, refused("429 Too Many Requests").as_str()),
        ]
    );
}

/// A server that accepts connections and sends nothing.
#[tokio::test]
async fn the_budget_limits_the_wait_for_a_silent_server() {
    for dialect in [Dialect::Auto, Dialect::Token(Form::Seed)] {
        let server = Server::start().await;
        let client =
            builder().retry_budget(Duration::from_secs(1)).dialect(dialect).build().expect("a client");
        let put = client.put(server.url.clone(), Source::bytes(bytes(1000)));
        let accepts = async {
            let mut open = Vec::new();
            loop {
                open.push(server.listener.accept().await.expect("accepted"));
            }
        };
        let began = Instant::now();
        let outcome = tokio::select! {
            outcome = put.send() => outcome,
            () = accepts => unreachable!("never ends"),
        };
        let Err(Error::Exhausted { source, concerns_origin: true, .. }) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(matches!(*source, Error::Idle(_)), "{source:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "the idle timeout is 60 s");
    }
}

#[tokio::test]
async fn uploads_to_one_origin_share_the_budget() {
    let server = Server::start().await;
    let client = token_builder().retry_budget(Duration::from_secs(2)).build().expect("a client");
    let put = || client.put(server.url.clone(), Source::bytes(bytes(1000)));
    let busy = "503 Service Unavailable|Retry-After: 1";
    // The second failure leaves no second of the budget for another pause.
    let scripts = vec![respond(busy), respond(busy)];
    let (first, _) = run_both(put().send(), server.play(scripts)).await;
    assert!(matches!(first, Err(Error::Exhausted { attempts: 2, concerns_origin: true, .. })), "{first:?}");
    // The next upload gets a single attempt, and after progress the whole budget.
    let (second, _) = run_both(put().send(), server.play(vec![respond(busy)])).await;
    assert!(matches!(second, Err(Error::Exhausted { attempts: 1, concerns_origin: true, .. })), "{second:?}");
    let done = respond("204 No Content|Upload-Offset: 1000|Upload-Complete: ?1");
    let (third, _) = run_both(put().send(), server.play(vec![done.clone()])).await;
    third.expect("an upload");
    let (fourth, _) =
        run_both(put().send(), server.play(vec![respond(busy), respond("404 Not Found"), done])).await;
    fourth.expect("an upload");
}

#[tokio::test]
async fn an_upload_that_fails_while_others_progress_concerns_only_itself() {
    let server = Server::start().await;
    let client = token_builder().retry_budget(Duration::from_secs(3)).build().expect("a client");
    let put = || client.put(server.url.clone(), Source::bytes(bytes(10)));
    let busy = "503 Service Unavailable|Retry-After: 2";
    let played = async {
        server.play(vec![respond(busy)]).await;
        let done = respond("204 No Content|Upload-Offset: 10|Upload-Complete: ?1");
        let (other, _) = run_both(put().send(), server.play(vec![done])).await;
        other.expect("an upload");
        server.play(vec![respond(busy)]).await;
    };
    let (outcome, ()) = run_both(put().send(), played).await;
    assert!(matches!(outcome, Err(Error::Exhausted { concerns_origin: false, .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_budget_of_zero_means_one_attempt() {
    let server = Server::start().await;
    let client = Client::builder().dialect(Dialect::Ietf(Interop::V10)).retry_budget(Duration::ZERO);
    let put = client.build().expect("a client").put(server.url.clone(), Source::bytes(bytes(10)));
    let (outcome, _) = run_both(put.send(), server.play(vec![respond("503 Service Unavailable")])).await;
    assert!(matches!(outcome, Err(Error::Exhausted { attempts: 1, .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_peer_that_does_not_speak_http_fails_at_once() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(10)));
    let banner = vec![Act::Write("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), Act::Stall];
    let (outcome, _) = run_both(put.send(), server.play(vec![banner])).await;
    let error = outcome.expect_err("no server for HTTP");
    assert!(matches!(error, Error::NotHttp { .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn after_the_first_response_a_malformed_one_is_retried() {
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(10)));
    let garbage = vec![Act::Head, Act::Rest, Act::Write("garbage\r\n\r\n".to_owned())];
    let scripts = vec![
        respond("503 Service Unavailable"),
        // The query of the offset.
        garbage,
        respond("404 Not Found"),
        respond("204 No Content|Upload-Offset: 10|Upload-Complete: ?1"),
    ];
    let (outcome, _) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").retries, 2);
}

#[tokio::test]
async fn the_first_use_of_a_token_starts_an_upload() {
    let server = Server::start().await;
    let token = Token::new(*b"abcdef").expect("in range");
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(10))).token(token.clone());
    let (mut progress, mut handle) = (put.progress(), put.handle());
    let scripts =
        vec![respond("404 Not Found"), respond("204 No Content|Upload-Offset: 10|Upload-Complete: ?1")];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").start, Start::Fresh);
    assert_eq!(progress.borrow_and_update().start, Start::Fresh);
    assert_eq!((seen[0].request(), seen[1].request()), ("HEAD /uploads", "POST /uploads"));
    let expected = Handle::Token { url: server.url.clone(), token };
    assert_eq!(handle.borrow_and_update().as_ref(), Some(&expected));
}

/// The server may have completed the upload, delivered it and forgotten it.
#[tokio::test]
async fn an_upload_that_vanishes_after_content_was_sent_is_not_created_again() {
    let (folder, server) = (tempfile::tempdir().expect("a folder"), Server::start().await);
    let (file, journal) = (folder.path().join("file"), Journal::at(folder.path().join("journal")));
    std::fs::write(&file, bytes(1000)).expect("written");
    let client = builder().dialect(Dialect::Ietf(Interop::V10)).build().expect("a client");
    let put = || client.put(server.url.clone(), Source::file(&file)).journal(journal.clone());
    let created = "104 Upload Resumption Supported|Location: /uploads/7|Upload-Draft-Interop-Version: 10";
    let refused = vec![Act::Head, write(created), Act::Rest, write("403 Forbidden")];
    let (outcome, _) = run_both(put().send(), server.play(vec![refused])).await;
    assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");

    let scripts = vec![
        respond("204 No Content|Upload-Offset: 400|Upload-Complete: ?0"),
        vec![Act::Head, Act::Rest, Act::Reset],
        respond("404 Not Found"),
    ];
    let (outcome, seen) = run_both(put().send(), server.play(scripts)).await;
    assert!(matches!(outcome, Err(Error::Upload(Failure::Gone))), "{outcome:?}");
    assert_eq!(seen[2].request(), "HEAD /uploads/7");
}
