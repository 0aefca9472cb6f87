//! Uploads over HTTP that go on after every interruption.
//!
//! A [`Client`] holds the settings; [`Client::put`] uploads a [`Source`] in whatever [`Dialect`] the server speaks, and
//! resumes by itself until the server has all of it. With a [`Journal`] a later process goes on where an earlier one was
//! ended:
//!
//! ```no_run
//! # async fn example() -> Result<(), hoist_client::Error> {
//! use hoist_client::{Client, Journal, Source};
//!
//! let client = Client::builder().bearer("secret").build()?;
//! let url = http::Uri::from_static("https://example.org/uploads");
//!
//! let put = client.put(url, Source::file("film.mkv")).journal(Journal::at("/var/lib/films/uploads"));
//! let mut progress = put.progress();
//! let shown = async {
//!     while progress.changed().await.is_ok() {
//!         let now = *progress.borrow_and_update();
//!         println!("{} of {:?}, {} bytes in a second", now.acknowledged, now.length, now.rate);
//!     }
//! };
//! let (outcome, ()) = tokio::join!(put.send(), shown);
//! let outcome = outcome?;
//! println!("{}, {} retries, in {}", outcome.start, outcome.retries, outcome.dialect);
//! # Ok(())
//! # }
//! ```

mod client;
mod dialect;
mod digest;
mod discovery;
mod disposition;
mod error;
mod handle;
mod http;
mod journal;
mod location;
mod negotiate;
mod origin;
mod problem;
mod progress;
mod redirect;
mod run;
mod source;
mod upload;

pub use client::{Client, ClientBuilder};
pub use dialect::{Dialect, UnknownDialect};
pub use error::{Error, Retry};
pub use handle::{Handle, Status};
pub use hoist_proto::client::Failure;
pub use hoist_proto::dialect::interop::Interop;
pub use hoist_proto::dialect::token::{Draft, Form};
pub use hoist_proto::types::Token;
pub use http::{Http2, Proxies};
#[doc(hidden)] // For `hoist check`, which speaks HTTP itself and trusts the same certificates.
pub use http::{Trust, handshake_failure};
pub use journal::{Journal, JournalEntry, target_key};
pub use origin::Origin;
pub use progress::{Activity, Progress, Start};
pub use source::Source;
pub use upload::{Outcome, Put, random_token};
