//! An HTTP/1.1 and HTTP/2 server for any tower service, which can send interim (1xx) responses.
//!
//! Services such as an axum `Router` run unchanged. What they gain are three values in each request's extensions:
//! [`Interim`] sends `103 (Early Hints)`, `104 (Upload Resumption Supported)` and their like while the request's
//! body is still arriving, [`Abort`] ends a request without an answer, and [`Peer`] says who is asking.
//!
//! ```no_run
//! use axum::{Extension, Router, routing::put};
//! use hoist_http::Interim;
//!
//! async fn upload(interim: Option<Extension<Interim>>, body: axum::body::Bytes) -> String {
//!     if let Some(Extension(interim)) = interim {
//!         let hint = http::Response::builder().status(103).header("link", "</done.css>; rel=preload");
//!         // Too late is no error: the request goes on either way.
//!         let _ = interim.send(hint.body(()).expect("a sound head"));
//!     }
//!     format!("{} bytes\n", body.len())
//! }
//!
//! # async fn run() -> std::io::Result<()> {
//! let app = Router::new().route("/", put(upload));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! hoist_http::serve(listener, app).await
//! # }
//! ```
//!
//! # What it takes care of
//!
//! - HTTP/1.1 and HTTP/2 on one port, in cleartext (by the client's first bytes) or TLS (by ALPN), the
//!   certificate exchanged while running.
//! - HTTP/1.1 framing as strict as RFC 9112 allows, so that no two servers can disagree about where a message ends.
//! - A [`Body`] that may be moved to another task, outlives the service's future, and yields every byte that
//!   arrived before a peer vanished.
//! - Bounds on everything a peer can make the server hold or wait for: [`Limits`].
//! - Stopping in order: [`Server::serve`].

mod abort;
mod body;
mod date;
#[doc(hidden)]
pub mod fuzz;
mod h1;
mod h2;
mod interim;
mod limits;
mod pace;
mod serve;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;

pub use abort::Abort;
pub use body::{Body, BodyError};
pub use interim::{Gone, Interim};
pub use limits::Limits;
pub use serve::{Peer, Server, serve};
