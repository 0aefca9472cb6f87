//! Redirects: those that are followed, their credentials, and those that are only reported.

use hoist_client::{Client, Dialect, Error, Handle, Interop, Source};

use crate::script::{Act, ReceivedRequest, Server, builder, bytes, respond, run_both, token_client, write};

fn client() -> Client {
    builder().bearer("hush").dialect(Dialect::Ietf(Interop::V9)).build().expect("a client")
}

fn redirect(status: &str, to: impl std::fmt::Display) -> Vec<Act> {
    respond(&format!("{status}|Location: {to}"))
}

fn requests(seen: &[ReceivedRequest]) -> Vec<&str> {
    seen.iter().map(ReceivedRequest::request).collect()
}

// proves: IETF-CLI-07, IETF-CLI-12
#[tokio::test]
async fn creations_appends_and_queries_follow_redirects() {
    let server = Server::start().await;
    let client = builder().dialect(Dialect::Ietf(Interop::V9)).request_bytes_max(600).bearer("hush").build();
    let put = client.expect("a client").put(server.url.clone(), Source::bytes(bytes(1000)));
    let scripts = vec![
        redirect("307 Temporary Redirect", "/new/uploads"),
        // Resolved against the redirected URL, not the upload URL.
        respond("201 Created|Upload-Complete: ?0|Upload-Offset: 600|Location: 7"),
        redirect("308 Permanent Redirect", "/elsewhere/7"),
        vec![Act::Head, Act::Content(100), Act::Reset],
        redirect("307 Temporary Redirect", "/asked/7"),
        respond("204 No Content|Upload-Offset: 700|Upload-Complete: ?0"),
        respond("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").bytes, 1000);
    let expected = [
        "POST /uploads",
        "POST /new/uploads",
        "PATCH /new/7",
        "PATCH /elsewhere/7",
        "HEAD /elsewhere/7",
        "HEAD /asked/7",
        // Only permanent redirects are remembered.
        "PATCH /elsewhere/7",
    ];
    assert_eq!(requests(&seen), expected);
    assert!(seen[1].content == bytes(1000)[..600] && seen[6].content == bytes(1000)[700..]);
    assert!(seen.iter().all(|request| request.field("authorization") == Some("Bearer hush")));
}

#[tokio::test]
async fn a_redirect_to_another_origin_carries_no_credentials_and_no_token() {
    let (server, elsewhere) = (Server::start().await, Server::start().await);
    let put = client().put(server.url.clone(), Source::bytes(bytes(1000)));
    let played = async {
        server.play(vec![redirect("307 Temporary Redirect", &elsewhere.url)]).await;
        elsewhere.play(vec![respond("200 OK|Upload-Complete: ?1")]).await
    };
    let (outcome, seen) = run_both(put.send(), played).await;
    assert_eq!(outcome.expect("an upload").bytes, 1000);
    assert_eq!((seen[0].request(), seen[0].field("authorization")), ("POST /uploads", None));
    assert!(seen[0].content == bytes(1000));

    let handle = Handle::at(server.url.clone(), Dialect::Ietf(Interop::V9));
    let client = client();
    let played = async {
        server.play(vec![redirect("308 Permanent Redirect", &elsewhere.url)]).await;
        elsewhere.play(vec![respond("204 No Content")]).await
    };
    let (cancelled, seen) = run_both(client.cancel(&handle), played).await;
    cancelled.expect("cancelled");
    assert_eq!((seen[0].request(), seen[0].field("authorization")), ("DELETE /uploads", None));

    let put = token_client().put(server.url.clone(), Source::bytes(bytes(1000)));
    let played = server.play(vec![redirect("307 Temporary Redirect", &elsewhere.url)]);
    let (outcome, _) = run_both(put.send(), played).await;
    let Err(Error::Redirected { to, wrong: Some(wrong), .. }) = outcome else { panic!("{outcome:?}") };
    assert!(to == elsewhere.url.to_string() && wrong.contains("token"), "{wrong}");
}

#[tokio::test]
async fn redirects_that_are_not_followed_are_reported_with_their_url() {
    for status in ["301 Moved Permanently", "302 Found", "303 See Other"] {
        let server = Server::start().await;
        let put = client().put(server.url.clone(), Source::bytes(bytes(1000)));
        let (outcome, _) = run_both(put.send(), server.play(vec![redirect(status, "/login")])).await;
        let error = outcome.expect_err("not followed");
        assert!(matches!(error, Error::Redirected { wrong: None, .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&status[..3]) && text.contains("/login"), "{text}");

        let handle = Handle::at(server.url.clone(), Dialect::Ietf(Interop::V9));
        let client = client();
        let script = vec![vec![Act::Head, write(&format!("{status}|Location: /login"))]];
        let (outcome, _) = run_both(client.status(&handle), server.play(script)).await;
        assert!(matches!(outcome, Err(Error::Redirected { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn too_many_redirects_and_invalid_urls_are_refused() {
    for (to, rounds, expected) in [
        ("/uploads", 6, "too many"),
        ("http://127.0.0.1:65616/", 1, "port"),
        ("ftp://127.0.0.1/", 1, "not an http"),
        ("http://a:b@127.0.0.1/", 1, "credentials"),
    ] {
        let server = Server::start().await;
        let put = client().put(server.url.clone(), Source::bytes(bytes(1000)));
        let scripts = (0..rounds).map(|_| redirect("308 Permanent Redirect", to)).collect();
        let (outcome, _) = run_both(put.send(), server.play(scripts)).await;
        let Err(Error::Redirected { wrong: Some(wrong), .. }) = outcome else { panic!("{to}: {outcome:?}") };
        assert!(wrong.contains(expected), "{to}: {wrong}");
    }
}

#[tokio::test]
async fn a_final_response_is_no_redirect() {
    let server = Server::start().await;
    let put = client().put(server.url.clone(), Source::bytes(bytes(1000)));
    let script = vec![respond("307 Temporary Redirect|Upload-Complete: ?1|Location: /next")];
    let (outcome, seen) = run_both(put.send(), server.play(script)).await;
    assert!(matches!(outcome, Err(Error::Redirected { wrong: None, .. })), "{outcome:?}");
    assert_eq!(seen.len(), 1);
}
