//! Uploads over HTTP that go on after every interruption.
//!
//! A [`Client`] holds the settings; [`Client::put`] uploads a [`Source`] and resumes by itself until the server has all
//! of it. Keep the token of an upload, and a later process can go on where an earlier one was ended:
//!
//! ```no_run
//! # async fn example() -> Result<(), hoist_client::Error> {
//! use hoist_client::{Client, Source, fresh_token};
//!
//! let client = Client::builder().bearer("secret").build()?;
//! let url = http::Uri::from_static("https://example.org/uploads");
//!
//! let token = fresh_token()?; // keep it: `put(..).token(token)` in a later run resumes
//! let put = client.put(url.clone(), Source::file("film.mkv")).new_token(token.clone());
//! let mut progress = put.progress();
//! let shown = async {
//!     while progress.changed().await.is_ok() {
//!         let now = *progress.borrow_and_update();
//!         println!("{} of {}", now.acknowledged, now.length);
//!     }
//! };
//! let (outcome, ()) = tokio::join!(put.send(), shown);
//! println!("{} retries", outcome?.retries);
//!
//! assert_eq!(client.status(url, &token).await?.complete, Some(true));
//! # Ok(())
//! # }
//! ```

mod client;
mod discovery;
mod error;
mod http;
mod problem;
mod progress;
mod source;
mod upload;

pub use client::{Builder, Client, Status};
pub use error::{Error, Retry};
pub use hoist_proto::client::Failure;
pub use hoist_proto::types::Token;
pub use progress::Progress;
pub use source::Source;
pub use upload::{Outcome, Put, fresh_token};
