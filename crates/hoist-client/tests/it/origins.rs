//! Credentials are sent only to the origin of the caller's URL, whichever URL a server names.

use hoist_client::{Client, Dialect, Error, Handle, Interop, Journal, Source};
use http::{HeaderName, HeaderValue, Uri};

use crate::script::{Act, ReceivedRequest, Server, builder, bytes, respond, run_both, write};

/// Returns a client with a bearer token and a secret header.
fn client() -> Client {
    builder()
        .bearer("hush")
        .header(HeaderName::from_static("x-api-key"), HeaderValue::from_static("hush"))
        .dialect(Dialect::Ietf(Interop::V9))
        .build()
        .expect("a client")
}

fn has_secrets(seen: &ReceivedRequest) -> bool {
    seen.field("authorization").is_some() || seen.field("x-api-key").is_some() || seen.head.contains("hush")
}

/// Interrupts an upload whose URL is at another origin than the upload URL.
async fn interrupted(origin: &Server, elsewhere: &Server, journal: &Journal, file: &std::path::Path) {
    let put = client().put(origin.url.clone(), Source::file(file)).journal(journal.clone());
    let location = elsewhere.url.to_string();
    let created = Act::Write(format!(
        "HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Draft-Interop-Version: 9\r\nLocation: {location}/1\r\n\r\n"
    ));
    let played = async {
        let seen = origin.play(vec![vec![Act::Head, created, Act::Content(400), Act::Reset]]).await;
        assert!(has_secrets(&seen[0]), "the origin of the caller's URL is sent the credentials");
        let script = vec![vec![Act::Head, write("403 Forbidden|Upload-Complete: ?0")]];
        elsewhere.play(script).await
    };
    let (outcome, seen) = run_both(put.send(), played).await;
    assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
    assert_eq!(seen[0].request(), "HEAD /uploads/1");
    assert!(!has_secrets(&seen[0]), "{}", seen[0].head);
}

#[tokio::test]
async fn no_operation_sends_credentials_to_another_origin() {
    let (origin, elsewhere) = (Server::start().await, Server::start().await);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("film");
    std::fs::write(&file, bytes(1000)).expect("written");
    let journal = Journal::at(folder.path().join("journal"));
    interrupted(&origin, &elsewhere, &journal, &file).await;

    let entry = journal.entries().expect("a journal").pop().expect("an entry");
    let client = client();
    let queries = async {
        let status = client.status(&entry.handle).await.expect("a status");
        client.cancel(&entry.handle).await.expect("cancelled");
        status.offset
    };
    let scripts =
        vec![respond("204 No Content|Upload-Offset: 400|Upload-Complete: ?0"), respond("204 No Content")];
    let (offset, seen) = run_both(queries, elsewhere.play(scripts)).await;
    assert_eq!(offset, 400);
    for (request, expected) in seen.iter().zip(["HEAD /uploads/1", "DELETE /uploads/1"]) {
        assert_eq!(request.request(), expected);
        assert!(!has_secrets(request), "{}", request.head);
    }

    // A later run resumes the upload.
    let put = client.put(origin.url.clone(), Source::file(&file)).journal(journal);
    let scripts = vec![
        respond("204 No Content|Upload-Offset: 400|Upload-Complete: ?0"),
        respond("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = run_both(put.send(), elsewhere.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").bytes, 1000);
    assert_eq!(seen[1].request(), "PATCH /uploads/1");
    assert!(!seen.iter().any(has_secrets));

    // A URL that the caller gives is sent the credentials.
    let url: Uri = format!("{}/1", elsewhere.url).parse().expect("a URL");
    let handle = Handle::at(url, Dialect::Ietf(Interop::V9));
    let script = vec![respond("204 No Content")];
    let (cancelled, seen) = run_both(client.cancel(&handle), elsewhere.play(script)).await;
    cancelled.expect("cancelled");
    assert!(has_secrets(&seen[0]));
}

#[tokio::test]
async fn a_document_that_names_another_origin_does_not_leak_credentials() {
    let (origin, elsewhere) = (Server::start().await, Server::start().await);
    let name = format!("http://127.0.0.1:{}", origin.port());
    let document = || vec![respond(&format!("200 OK||{{\"url\":\"{}\"}}", elsewhere.url))];
    let (found, _) = run_both(client().discover(&name), origin.play(document())).await;
    assert!(matches!(found, Err(Error::Location { .. })), "{found:?}");

    let bound = builder().bearer("hush").credentials_for(origin.url.clone()).dialect(Dialect::Tus1);
    let bound = bound.build().expect("a client");
    let (found, seen) = run_both(bound.discover(&name), origin.play(document())).await;
    assert!(has_secrets(&seen[0]), "the credentials are bound to this origin");
    let put = bound.put(found.expect("a URL"), Source::bytes(bytes(10)));
    let script = vec![respond("404 Not Found"), respond("404 Not Found")];
    let (outcome, seen) = run_both(put.send(), elsewhere.play(script)).await;
    assert!(outcome.is_err());
    assert!(!seen.iter().any(has_secrets), "{seen:?}");
}

#[tokio::test]
async fn an_invalid_location_fails_the_upload_and_is_not_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("film");
    std::fs::write(&file, bytes(1000)).expect("written");
    let journal = Journal::at(folder.path().join("journal"));
    for location in [
        "http://127.0.0.1:1 2/",
        "http://[::1/",
        "http://127.0.0.1:65616/1",
        "http://127.0.0.1:0/1",
        "http://a:b@127.0.0.1/1",
        "ftp://h/1",
    ] {
        let server = Server::start().await;
        let put = client().put(server.url.clone(), Source::file(&file)).journal(journal.clone());
        let created = format!("201 Created|Upload-Complete: ?0|Location: {location}");
        let (outcome, _) = run_both(put.send(), server.play(vec![respond(&created)])).await;
        let error = outcome.expect_err("no upload");
        assert!(matches!(&error, Error::Location { url, .. } if url == location), "{location}: {error:?}");
        assert_eq!(journal.entries().expect("a journal"), [], "{location}");
    }
}

#[tokio::test]
async fn a_url_with_an_invalid_port_is_an_error() {
    let client = client();
    let url = Uri::from_static("http://127.0.0.1:65616/uploads");
    let handle = Handle::at(url.clone(), Dialect::Auto);
    let put = client.put(url, Source::bytes(bytes(10))).send().await;
    let errors = [put.map(drop), client.status(&handle).await.map(drop), client.cancel(&handle).await];
    for error in errors.map(|outcome| outcome.expect_err("no URL")) {
        assert!(matches!(error, Error::Url { .. }), "{error:?}");
        assert!(error.to_string().contains("1 to 65535"), "{error}");
    }
}
