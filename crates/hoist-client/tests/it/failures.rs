//! Uploads that fail, and their errors.

use std::time::Duration;

use hoist_client::{Error, Failure, Retry, Source, Token};

use crate::script::{Act, Server, bytes, problem, respond, run_both, token_builder, token_client, write};

// proves: TDR-CLI-01, TOK-CRE-09
#[tokio::test]
async fn a_refusal_ends_the_upload_with_the_detail_of_the_server() {
    let table = [
        ("422 Unprocessable Content", "an upload may have at most 5 bytes"),
        ("400 Bad Request", "Upload-Token: must be short"),
        ("401 Unauthorized", "authentication is needed"),
        ("422 Unprocessable Content", "not a film"),
    ];
    for (status, detail) in table {
        let server = Server::start().await;
        let put = token_client().put(server.url.clone(), Source::bytes(bytes(1000)));
        let (outcome, _) =
            run_both(put.send(), server.play(vec![respond(&problem(status, "", detail))])).await;
        let error = outcome.expect_err("refused");
        assert_eq!(error.retry(), Retry::Never, "{status}");
        let text = error.to_string();
        let code = status.split(' ').next().expect("a code");
        assert!(text.starts_with(&format!("the server answered {code}")) && text.ends_with(detail), "{text}");
    }
}

#[tokio::test]
async fn only_the_text_of_problem_documents_is_reported() {
    let table = [
        ("text/html", "<h1>No</h1>"),
        ("application/problem+json", "{"),
        ("application/problem+json", "{}"),
        ("application/problem+json; charset=utf-8", "[1]"),
    ];
    for (media_type, content) in table {
        let server = Server::start().await;
        let put = token_client().put(server.url.clone(), Source::bytes(bytes(1000)));
        let response = format!("403 Forbidden|Content-Type: {media_type}||{content}");
        let (outcome, _) = run_both(put.send(), server.play(vec![respond(&response)])).await;
        assert!(matches!(outcome, Err(Error::Refused { detail: None, .. })), "{content}");
    }
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(1000)));
    let response = "403 Forbidden|Content-Type: Application/Problem+JSON;v=1||{\"title\":\"No\\u001b[2J\"}";
    let (outcome, _) = run_both(put.send(), server.play(vec![respond(response)])).await;
    assert!(matches!(outcome, Err(Error::Refused { detail: Some(detail), .. }) if detail == "No[2J"));
}

/// A server that refuses in the middle of the content and closes at once resets the connection because of the unread
/// bytes. The client must read the response all the same.
#[tokio::test]
async fn an_early_response_is_read_before_the_reset() {
    let refusal =
        problem("422 Unprocessable Content", "|Connection: close", "an upload may have at most 5 bytes");
    for ends in [Vec::new(), vec![Act::Stall]] {
        for round in 0..20 {
            let server = Server::start().await;
            let put = token_client().put(server.url.clone(), Source::bytes(vec![7; 20_000_000]));
            let mut script = vec![Act::Head, Act::Content(round * 1000), write(&refusal)];
            script.extend(ends.clone());
            let (outcome, _) = run_both(put.send(), server.play(vec![script])).await;
            let error = outcome.expect_err("refused");
            assert!(
                matches!(&error, Error::Refused { status, detail: Some(_) } if *status == 422),
                "{error:?}"
            );
        }
    }
}

// proves: TOK-CRE-05, TDR-CRE-05
#[tokio::test]
async fn a_new_token_that_is_already_used_is_an_error() {
    let server = Server::start().await;
    let token = Token::new(*b"abcdef").expect("in range");
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(100))).new_token(token);
    let (outcome, _) =
        run_both(put.send(), server.play(vec![respond("409 Conflict|Upload-Offset: 10")])).await;
    assert!(matches!(outcome, Err(Error::Upload(Failure::Taken))));
}

#[tokio::test]
async fn an_upload_with_another_length_is_not_resumed() {
    let server = Server::start().await;
    let token = Token::new(*b"abcdef").expect("in range");
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(100))).token(token);
    let script = vec![respond("204 No Content|Upload-Offset: 10|Upload-Length: 99")];
    let (outcome, _) = run_both(put.send(), server.play(script)).await;
    assert!(matches!(outcome, Err(Error::Upload(Failure::Different { remote: 99, .. }))));
}

#[tokio::test]
async fn an_unreachable_server_exhausts_the_retry_budget() {
    let server = Server::start().await;
    let url = server.url.clone();
    drop(server);
    let client = token_builder().retry_budget(Duration::from_millis(50)).build().expect("a client");
    let error = client.put(url, Source::bytes(bytes(100))).send().await.expect_err("unreachable");
    assert_eq!(error.retry(), Retry::Later);
    let Error::Exhausted { source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::Connect { .. }), "{source:?}");
}

#[tokio::test]
async fn the_last_error_is_the_source_of_the_final_one() {
    let server = Server::start().await;
    let client = token_builder().retry_budget(Duration::from_secs(5)).build().expect("a client");
    let put = client.put(server.url.clone(), Source::bytes(bytes(100)));
    let busy = problem("503 Service Unavailable", "|Retry-After: 60", "starting");
    let (outcome, _) = run_both(put.send(), server.play(vec![respond(&busy)])).await;
    let Err(Error::Exhausted { attempts: 1, source, .. }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(source.to_string(), "the server answered 503 Service Unavailable: starting");
}

#[tokio::test]
async fn a_source_that_changes_fails_the_upload() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("source");
    let server = Server::start().await;
    let missing = token_client().put(server.url.clone(), Source::file(&path)).send().await;
    assert!(matches!(missing, Err(Error::Source { .. })), "{missing:?}");
    let no_file = token_client().put(server.url.clone(), Source::file(folder.path())).send().await;
    assert!(matches!(no_file, Err(Error::Source { .. })), "{no_file:?}");

    for other in [bytes(500), vec![0; 1000], vec![0; 2000]] {
        std::fs::write(&path, bytes(1000)).expect("written");
        let put = token_client().put(server.url.clone(), Source::file(&path));
        let played = async {
            server.play(vec![vec![Act::Head, Act::Content(100), Act::Reset]]).await;
            std::fs::write(&path, other).expect("written");
            // The client may query the offset before it checks the file.
            tokio::select! {
                () = std::future::pending() => {}
                _ = server.play(vec![respond("204 No Content|Upload-Offset: 100")]) => {}
            }
        };
        let outcome = tokio::select! {
            outcome = put.send() => outcome,
            () = async { played.await; std::future::pending().await } => unreachable!("never ends"),
        };
        assert!(matches!(outcome, Err(Error::SourceChanged { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_unusable_url_is_an_error() {
    for url in ["/uploads", "ftp://example.org/", "http://user:secret@example.org/"] {
        let put = token_client().put(url.parse().expect("a URI"), Source::bytes(bytes(10)));
        assert!(matches!(put.send().await, Err(Error::Url { .. })), "{url}");
    }
}

/// A server that refuses content without reading it does not read the next request either, although all content was sent.
#[tokio::test]
async fn a_connection_with_refused_content_is_not_reused() {
    let server = Server::start().await;
    // Content that fits into the socket buffers.
    let put = token_client().put(server.url.clone(), Source::bytes(bytes(30_000)));
    let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n".to_owned();
    let scripts = vec![vec![Act::Head, Act::Write(refusal), Act::Stall], respond("403 Forbidden")];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    let error = outcome.expect_err("refused");
    assert!(matches!(&error, Error::Refused { status, .. } if *status == 403), "{error:?}");
    assert_eq!(seen.len(), 2, "the next request goes over another connection");
}

/// The file is edited in place or replaced, and its modification time is restored. The inode still shows it.
#[cfg(unix)]
#[tokio::test]
async fn an_edit_between_two_attempts_is_detected_although_the_times_are_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("source");
    for replaces in [false, true] {
        std::fs::write(&path, bytes(1000)).expect("written");
        let modified = std::fs::metadata(&path).and_then(|file| file.modified()).expect("a time");
        let server = Server::start().await;
        let put = token_client().put(server.url.clone(), Source::file(&path));
        let played = async {
            server.play(vec![vec![Act::Head, Act::Content(100), Act::Reset]]).await;
            let mut edited = bytes(1000);
            edited[50] ^= 1;
            if replaces {
                std::fs::remove_file(&path).expect("removed");
            }
            std::fs::write(&path, edited).expect("written");
            let file = std::fs::File::options().write(true).open(&path).expect("open");
            file.set_modified(modified).expect("set");
            tokio::select! {
                () = std::future::pending() => {}
                _ = server.play(vec![respond("204 No Content|Upload-Offset: 100")]) => {}
            }
        };
        let outcome = tokio::select! {
            outcome = put.send() => outcome,
            () = async { played.await; std::future::pending().await } => unreachable!("never ends"),
        };
        assert!(matches!(outcome, Err(Error::SourceChanged { .. })), "{replaces}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_growing_source_is_sent_with_its_initial_length() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    std::fs::write(&path, bytes(1000)).expect("written");
    let server = Server::start().await;
    let put = token_client().put(server.url.clone(), Source::file(&path));
    let played = async {
        let mut seen = server.play(vec![vec![Act::Head, Act::Content(100), Act::Reset]]).await;
        std::fs::write(&path, bytes(2000)).expect("written");
        let scripts =
            vec![respond("204 No Content|Upload-Offset: 100"), respond("204 No Content|Upload-Offset: 1000")];
        seen.extend(server.play(scripts).await);
        seen
    };
    let (outcome, seen) = run_both(put.send(), played).await;
    assert_eq!(outcome.expect("an upload").bytes, 1000);
    assert_eq!(seen[2].content, bytes(1000)[100..]);
}

#[tokio::test]
async fn a_url_that_takes_no_uploads_is_named() {
    for (status, detail) in [("404 Not Found", None), ("405 Method Not Allowed", Some("use GET"))] {
        let server = Server::start().await;
        let put = token_client().put(server.url.clone(), Source::bytes(bytes(1000)));
        let script = vec![respond(&problem(status, "", "use GET"))];
        let (outcome, _) = run_both(put.send(), server.play(script)).await;
        let Err(Error::NoEndpoint { url, detail: text, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((url, text.as_deref()), (server.url.to_string(), detail));
    }
}
