//! An axum application whose handler sends interim responses while the upload is still arriving.
//!
//! ```text
//! cargo run -p hoist-http --example early_hints
//! curl -v -T - http://127.0.0.1:8080/ < some-file
//! ```

use axum::extract::Request;
use axum::http::{Response, header};
use axum::routing::put;
use axum::{Extension, Router};
use hoist_http::Interim;
use http_body_util::BodyExt;

async fn upload(interim: Option<Extension<Interim>>, request: Request) -> String {
    let interim = interim.map(|Extension(interim)| interim);
    if let Some(interim) = &interim {
        let hint = Response::builder().status(103).header(header::LINK, "</done.css>; rel=preload; as=style");
        // The upload goes on even if it is too late for an interim response.
        let _ = interim.send(hint.body(()).expect("a valid head"));
    }
    let mut body = request.into_body();
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, axum::body::Bytes::len);
        if let Some(interim) = &interim {
            // Only the latest progress is sent, so this may be called for every frame.
            let progress = Response::builder().status(104).header("upload-offset", received);
            let _ = interim.progress(progress.body(()).expect("a valid head"));
        }
    }
    format!("{received} bytes\n")
}

/// Returns the application. `axum::serve(listener, app())` would run it too, without interim responses.
pub fn app() -> Router {
    Router::new().route("/", put(upload))
}

/// Serves the application.
#[tokio::main]
pub async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    hoist_http::serve(listener, app()).await
}
