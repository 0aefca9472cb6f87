//! An HTTP/1.1 and HTTP/2 server for any tower service, which can send interim (1xx) responses.
//!
//! Services such as an axum `Router` run unchanged. Each request's extensions hold three values: [`Interim`] sends
//! `103 (Early Hints)`, `104 (Upload Resumption Supported)` and other interim responses while the request's body is still
//! arriving, [`Abort`] ends a request without a response, and [`Peer`] (for a unix socket, [`UnixPeer`])
//! identifies its sender.
//!
//! ```no_run
//! use axum::{Extension, Router, routing::put};
//! use hoist_http::Interim;
//!
//! async fn upload(interim: Option<Extension<Interim>>, body: axum::body::Bytes) -> String {
//!     if let Some(Extension(interim)) = interim {
//!         let hint = http::Response::builder().status(103).header("link", "</done.css>; rel=preload");
//!         // The request goes on even if it is too late for an interim response.
//!         let _ = interim.send(hint.body(()).expect("a valid head"));
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
//! # Features
//!
//! - HTTP/1.1 and HTTP/2 on one port, in cleartext (detected by the client's first bytes) or over TLS (by ALPN), with
//!   certificates that are reloaded while the server runs.
//! - HTTP/1.1 framing as strict as RFC 9112 allows, so that no two servers can disagree about the end of a message.
//! - A [`Body`] that may be moved to another task, outlives the service's future, and yields every byte that arrived
//!   before a peer disconnected.
//! - Bounds on everything that a peer can make the server hold or wait for: [`Limits`].
//! - Graceful shutdown: [`Server::serve`].

mod abort;
mod accepted;
mod body;
mod buffers;
mod content;
mod date;
mod direct;
mod exchange;
mod fields;
#[doc(hidden)]
pub mod fuzz;
mod h1;
mod h2;
mod interim;
mod limits;
mod listener;
mod pace;
mod rejection;
mod serve;
mod service;
mod shared_socket;
mod sync;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;

pub use abort::Abort;
pub use body::{Body, BodyError, Splice};
pub use direct::{Direct, DirectBody};
pub use interim::{Interim, InterimError};
pub use limits::{Limits, LiveLimits};
pub use listener::{Connections, Listener};
pub use serve::{Server, serve};
pub use service::{Peer, UnixPeer};
