//! A client for resumable uploads over HTTP.
//!
//! A [`Client`] holds the settings. [`Client::put`] prepares the upload of a [`Source`], and [`Put::send`] sends it: in the
//! [`Dialect`] that the server supports, resuming after every interruption until the server has all of it. With a
//! [`Journal`], a later process resumes the upload that an earlier one could not complete:
//!
//! ```no_run
//! # async fn example() -> Result<(), hoist_client::Error> {
//! use hoist_client::{Client, Journal, Source, Uri};
//!
//! let client = Client::builder().bearer("secret").build()?;
//! let url = Uri::from_static("https://example.org/uploads");
//!
//! let put = client.put(url, Source::file("film.mkv")).journal(Journal::at("/var/lib/films/uploads"));
//! let mut progress = put.progress();
//! let print = async {
//!     while progress.changed().await.is_ok() {
//!         let now = *progress.borrow_and_update();
//!         println!("{} of {:?} bytes, {} bytes/s", now.acknowledged, now.length, now.rate);
//!     }
//! };
//! let (outcome, ()) = tokio::join!(put.send(), print);
//! let outcome = outcome?;
//! println!("{}, {} retries, {}", outcome.start, outcome.retries, outcome.dialect);
//! # Ok(())
//! # }
//! ```
//!
//! # Overview
//!
//! - [`ClientBuilder`] has the settings: credentials, trusted certificates, proxies, timeouts, retries, limits.
//! - [`Source`] is what to upload: a file, bytes, a seekable reader, or a stream that can be read only once.
//! - [`Put`] has the settings of one upload, and its [`progress`](Put::progress). [`FailedAttempt`]s are reported to its
//!   [observer](Put::on_retry). [`Outcome`] is its result.
//! - [`Handle`] names an upload on a server. [`Client::status`] queries its offset and [`Client::cancel`] deletes it;
//!   [`Put::resume`] continues it.
//! - [`Journal`] keeps the handles of unfinished uploads of files, so that most callers need no handle.
//! - [`Client::discover`] finds the upload URL of a server by its host name.
//! - [`Error`] says what failed; [`Error::retry`] says whether trying again may help.
//!
//! The decisions (when to retry, from which offset, when to give up) are made by [`hoist_proto::client`], which does no
//! I/O. This crate has the I/O: connections, files, the journal.
//!
//! # Features
//!
//! - `dns`: [`Client::discover`] also looks up HTTPS resource records.

mod client;
mod clock;
mod dialect;
mod digest;
mod discovery;
mod error;
mod handle;
mod http;
mod journal;
mod location;
mod lock;
mod negotiate;
mod origin;
mod origin_cache;
mod progress;
mod quoted;
mod random;
mod rate_limiter;
mod redirect;
mod response;
mod retry;
mod run;
mod source;
mod status;
mod upload;

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
pub use client::{Client, ClientBuilder};
pub use dialect::{Dialect, UnknownDialect};
pub use error::{Error, Retry, TlsFault};
pub use handle::Handle;
pub use hoist_proto::client::Failure;
pub use hoist_proto::dialect::interop::Interop;
pub use hoist_proto::dialect::token::{Draft, Form};
pub use hoist_proto::types::Token;
pub use http::{Http2, Proxies};
#[doc(hidden)] // For `hoist check`, which has its own HTTP client but trusts the same certificates.
pub use http::{Trust, handshake_failure, requires_tls};
pub use journal::{Journal, JournalEntry, LocalState, LockedEntry, file_key, target_key};
pub use origin::Origin;
pub use progress::{Activity, Progress, Start};
pub use quoted::Quoted;
pub use random::random_token;
pub use retry::FailedAttempt;
pub use source::Source;
pub use status::Status;
pub use upload::{Outcome, Put};
