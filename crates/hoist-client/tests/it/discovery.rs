//! Discovery of the upload URL of a server.

use hoist_client::Error;

use crate::script::{Server, respond, run_both, token_client};

// proves: TOK-DISC-04
#[tokio::test]
async fn the_well_known_document_names_the_url_which_defaults_to_uploads() {
    let table = [
        ("200 OK|Content-Type: application/json||{\"url\":\"/files\",\"dialects\":[]}", Ok("/files")),
        ("200 OK||{\"url\":\"http://other.example/up\"}", Ok("http://other.example/up")),
        ("200 OK||<html>", Ok("/uploads")),
        ("200 OK||{\"uri\":\"/files\"}", Ok("/uploads")),
        ("404 Not Found||{\"url\":\"/files\"}", Ok("/uploads")),
        ("200 OK||{\"url\":\"files\"}", Err(())),
        ("200 OK||{\"url\":\"http://other.example:65616/up\"}", Err(())),
    ];
    for (response, expected) in table {
        let server = Server::start().await;
        let origin = format!("http://127.0.0.1:{}", server.port());
        let client = token_client();
        let (found, seen) = run_both(client.discover(&origin), server.play(vec![respond(response)])).await;
        assert_eq!(seen[0].request(), "GET /.well-known/resumable-uploads");
        match expected {
            Ok(path) if path.starts_with('/') => {
                assert_eq!(found.expect("a URL").to_string(), format!("{origin}{path}"));
            }
            Ok(url) => assert_eq!(found.expect("a URL").to_string(), url),
            Err(()) => assert!(matches!(found, Err(Error::Location { .. })), "{found:?}"),
        }
    }
}

#[tokio::test]
async fn an_unreachable_server_is_an_error() {
    let server = Server::start().await;
    let origin = format!("http://127.0.0.1:{}", server.port());
    drop(server);
    assert!(matches!(token_client().discover(&origin).await, Err(Error::Connect { .. })));
    // A URL with a path is an upload URL, so no server is asked.
    let url = token_client().discover(&format!("{origin}/files")).await.expect("a URL");
    assert_eq!(url.path(), "/files");
}
