//! Uploads that cannot be done, and what their errors say.

use std::time::Duration;

use hoist_client::{Error, Failure, Retry, Source, Token};

use crate::script::{Act, Server, answer, bytes, client, problem, quick, say, together};

// proves: TDR-CLI-01, TOK-CRE-09
#[tokio::test]
async fn a_refusal_ends_the_upload_in_the_server_s_words() {
    let table = [
        ("422 Unprocessable Content", "an upload may have at most 5 bytes"),
        ("400 Bad Request", "Upload-Token: must be short"),
        ("401 Unauthorized", "authentication is needed"),
        ("404 Not Found", "nothing here"),
        ("422 Unprocessable Content", "not a film"),
        ("501 Not Implemented", "no"),
    ];
    for (status, detail) in table {
        let server = Server::start().await;
        let put = client().put(server.url.clone(), Source::bytes(bytes(1000)));
        let (outcome, _) =
            together(put.send(), server.play(vec![answer(&problem(status, "", detail))])).await;
        let error = outcome.expect_err("refused");
        assert_eq!(error.retry(), Retry::Never, "{status}");
        let said = error.to_string();
        let code = status.split(' ').next().expect("a code");
        assert!(said.starts_with(&format!("the server answered {code}")) && said.ends_with(detail), "{said}");
    }
}

#[tokio::test]
async fn words_that_are_no_problem_document_are_not_repeated() {
    let table = [
        ("text/html", "<h1>No</h1>"),
        ("application/problem+json", "{"),
        ("application/problem+json", "{}"),
        ("application/problem+json; charset=utf-8", "[1]"),
    ];
    for (media_type, content) in table {
        let server = Server::start().await;
        let put = client().put(server.url.clone(), Source::bytes(bytes(1000)));
        let response = format!("403 Forbidden|Content-Type: {media_type}||{content}");
        let (outcome, _) = together(put.send(), server.play(vec![answer(&response)])).await;
        assert!(matches!(outcome, Err(Error::Refused { detail: None, .. })), "{content}");
    }
    let server = Server::start().await;
    let put = client().put(server.url.clone(), Source::bytes(bytes(1000)));
    let response = "403 Forbidden|Content-Type: Application/Problem+JSON;v=1||{\"title\":\"No\\u001b[2J\"}";
    let (outcome, _) = together(put.send(), server.play(vec![answer(response)])).await;
    assert!(matches!(outcome, Err(Error::Refused { detail: Some(detail), .. }) if detail == "No[2J"));
}

/// A server that refuses in the middle of the content and closes at once resets the connection for the bytes it has not
/// read. Its answer is there all the same.
#[tokio::test]
async fn an_early_answer_is_heard_before_the_reset() {
    let refusal =
        problem("422 Unprocessable Content", "|Connection: close", "an upload may have at most 5 bytes");
    for ends in [Vec::new(), vec![Act::Stall]] {
        for round in 0..20 {
            let server = Server::start().await;
            let put = client().put(server.url.clone(), Source::bytes(vec![7; 20_000_000]));
            let mut script = vec![Act::Head, Act::Content(round * 1000), say(&refusal)];
            script.extend(ends.clone());
            let (outcome, _) = together(put.send(), server.play(vec![script])).await;
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
async fn a_new_token_that_is_taken_is_not_ours() {
    let server = Server::start().await;
    let token = Token::new(*b"abcdef").expect("in range");
    let put = client().put(server.url.clone(), Source::bytes(bytes(100))).new_token(token);
    let (outcome, _) =
        together(put.send(), server.play(vec![answer("409 Conflict|Upload-Offset: 10")])).await;
    assert!(matches!(outcome, Err(Error::Upload(Failure::Taken))));
}

#[tokio::test]
async fn an_upload_of_another_length_is_another_upload() {
    let server = Server::start().await;
    let token = Token::new(*b"abcdef").expect("in range");
    let put = client().put(server.url.clone(), Source::bytes(bytes(100))).token(token);
    let script = vec![answer("204 No Content|Upload-Offset: 10|Upload-Length: 99")];
    let (outcome, _) = together(put.send(), server.play(script)).await;
    assert!(matches!(outcome, Err(Error::Upload(Failure::Different { told: 99, .. }))));
}

#[tokio::test]
async fn a_server_that_is_not_there_uses_the_budget_up() {
    let server = Server::start().await;
    let url = server.url.clone();
    drop(server);
    let client = quick().retry_budget(Duration::from_millis(50)).build().expect("a client");
    let error = client.put(url, Source::bytes(bytes(100))).send().await.expect_err("nobody is there");
    assert_eq!(error.retry(), Retry::Later);
    let Error::Exhausted { source, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::Connect { .. }), "{source:?}");
}

#[tokio::test]
async fn the_last_error_is_in_the_chain() {
    let server = Server::start().await;
    let client = quick().retry_budget(Duration::from_secs(5)).build().expect("a client");
    let put = client.put(server.url.clone(), Source::bytes(bytes(100)));
    let busy = problem("503 Service Unavailable", "|Retry-After: 60", "starting");
    let (outcome, _) = together(put.send(), server.play(vec![answer(&busy)])).await;
    let Err(Error::Exhausted { attempts: 1, source }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(source.to_string(), "the server answered 503 Service Unavailable: starting");
}

#[tokio::test]
async fn a_source_must_stay_what_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("source");
    let server = Server::start().await;
    let missing = client().put(server.url.clone(), Source::file(&path)).send().await;
    assert!(matches!(missing, Err(Error::Source { .. })), "{missing:?}");
    let no_file = client().put(server.url.clone(), Source::file(folder.path())).send().await;
    assert!(matches!(no_file, Err(Error::Source { .. })), "{no_file:?}");

    for other in [bytes(500), vec![0; 1000], vec![0; 2000]] {
        std::fs::write(&path, bytes(1000)).expect("written");
        let put = client().put(server.url.clone(), Source::file(&path));
        let played = async {
            server.play(vec![vec![Act::Head, Act::Content(100), Act::Reset]]).await;
            std::fs::write(&path, other).expect("written");
            // The client may ask for the offset before it looks at the file.
            tokio::select! {
                () = std::future::pending() => {}
                _ = server.play(vec![answer("204 No Content|Upload-Offset: 100")]) => {}
            }
        };
        let outcome = tokio::select! {
            outcome = put.send() => outcome,
            () = async { played.await; std::future::pending().await } => unreachable!("waits for ever"),
        };
        assert!(matches!(outcome, Err(Error::SourceChanged { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_url_must_be_one_that_can_be_uploaded_to() {
    for url in ["/uploads", "ftp://example.org/", "http://user:secret@example.org/"] {
        let put = client().put(url.parse().expect("a URI"), Source::bytes(bytes(10)));
        assert!(matches!(put.send().await, Err(Error::Url { .. })), "{url}");
    }
}

/// A server that refuses content without reading it reads nothing behind it either, although all of it was sent.
#[tokio::test]
async fn a_connection_with_refused_content_in_it_is_not_used_again() {
    let server = Server::start().await;
    // Fits into the buffers between client and server.
    let put = client().put(server.url.clone(), Source::bytes(bytes(30_000)));
    let refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n".to_owned();
    let scripts = vec![vec![Act::Head, Act::Say(refusal), Act::Stall], answer("403 Forbidden")];
    let (outcome, seen) = together(put.send(), server.play(scripts)).await;
    let error = outcome.expect_err("refused");
    assert!(matches!(&error, Error::Refused { status, .. } if *status == 403), "{error:?}");
    assert_eq!(seen.len(), 2, "what follows goes over another connection");
}

/// Times that say nothing: the inode is another one, or has changed.
#[cfg(unix)]
#[tokio::test]
async fn a_source_that_is_edited_between_two_attempts_is_found_out_although_its_times_are_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("source");
    for replaces in [false, true] {
        std::fs::write(&path, bytes(1000)).expect("written");
        let modified = std::fs::metadata(&path).and_then(|file| file.modified()).expect("a time");
        let server = Server::start().await;
        let put = client().put(server.url.clone(), Source::file(&path));
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
                _ = server.play(vec![answer("204 No Content|Upload-Offset: 100")]) => {}
            }
        };
        let outcome = tokio::select! {
            outcome = put.send() => outcome,
            () = async { played.await; std::future::pending().await } => unreachable!("waits for ever"),
        };
        assert!(matches!(outcome, Err(Error::SourceChanged { .. })), "{replaces}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_source_that_grows_is_sent_with_the_length_it_had() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    std::fs::write(&path, bytes(1000)).expect("written");
    let server = Server::start().await;
    let put = client().put(server.url.clone(), Source::file(&path));
    let played = async {
        let mut seen = server.play(vec![vec![Act::Head, Act::Content(100), Act::Reset]]).await;
        std::fs::write(&path, bytes(2000)).expect("written");
        let scripts =
            vec![answer("204 No Content|Upload-Offset: 100"), answer("204 No Content|Upload-Offset: 1000")];
        seen.extend(server.play(scripts).await);
        seen
    };
    let (outcome, seen) = together(put.send(), played).await;
    assert_eq!(outcome.expect("an upload").bytes, 1000);
    assert_eq!(seen[2].content, bytes(1000)[100..]);
}
