//! An axum application with an upload endpoint beside its own routes.
//!
//! ```text
//! cargo run -p hoist-server --example axum
//! hoist put some-file http://127.0.0.1:8080/uploads
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hoist_server::fs::{LocalStore, Options};
use hoist_server::http::StatusCode;
use hoist_server::store::{BoxFuture, Error};
use hoist_server::targets::{Delivery, Representation, Target};
use hoist_server::types::Offset;
use hoist_server::upload::TargetResponse;
use hoist_server::{BoxError, Hoist, Running};
use tokio::signal::unix::{SignalKind, signal};

/// Answers each complete upload with the number of its lines.
struct CountLines;

impl Target for CountLines {
    fn deliver<'a>(&'a self, representation: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
        Box::pin(async move {
            let Representation { upload, store, .. } = representation;
            let mut content = store.read(upload.id, Offset::ZERO).await?;
            let mut lines = 0;
            while let Some(bytes) = content.next().await? {
                lines += bytes.split(|byte| *byte == b'\n').count() - 1;
            }
            let mut response = TargetResponse::of(StatusCode::CREATED);
            response.content = format!("{lines} lines\n").into_bytes();
            Ok(response.into())
        })
    }

    fn leaves_content(&self) -> bool {
        true
    }
}

/// Builds the application, and starts the background work of its uploads, which are kept in `directory`.
pub async fn app(directory: &Path) -> Result<(Router, Running), BoxError> {
    let store = LocalStore::open(directory, &Options::default())?;
    let hoist = Hoist::builder(Arc::new(store)).endpoint("/uploads")?.target(CountLines).build();
    let running = hoist.start(Duration::from_mins(1)).await;
    let app = Router::new()
        .route("/", get("send files to /uploads\n"))
        .nest_service(hoist.endpoint(), hoist.nested())
        .route_service("/readyz", hoist)
        .fallback((StatusCode::NOT_FOUND, "no such page\n"));
    Ok((app, running))
}

/// Serves the application until Ctrl-C or SIGTERM. Uploads that are running then are stored, and clients resume them.
#[tokio::main]
pub async fn main() -> Result<(), BoxError> {
    let (app, running) = app(Path::new("hoist-data")).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = hoist_http::serve(listener, app) => served?,
        _ = tokio::signal::ctrl_c() => running.stop().await,
        _ = terminate.recv() => running.stop().await,
    }
    Ok(())
}
