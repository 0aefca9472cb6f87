//! The test harness: servers as child processes, clients that can stop or break off at any byte, and seeded random
//! numbers.

mod admin;
mod exchange;
mod raw;
mod server;
pub(crate) mod system;

use std::time::Duration;

pub(crate) use hoist_proto::testing::SeededRng;

pub(crate) use admin::{AdminAt, Scrape};
pub(crate) use exchange::{
    Cut, Exchange, H2, TRANSPORTS, TestRequest, TestResponse, Transport, TransportError, h2_send,
};
pub(crate) use raw::Raw;
pub(crate) use server::{Server, ServerDir, command};

/// The time limit of a wait: longer than any operation on a loaded machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);

/// The field of the token draft whose creations are announced with 104.
pub(crate) const V2: (&str, &str) = ("upload-draft-interop-version", "2");

/// Waits for a future.
///
/// # Panics
/// If it takes longer than [`TIMEOUT`].
pub(crate) async fn within_timeout<F: Future>(what: &str, future: F) -> F::Output {
    let done = tokio::time::timeout(TIMEOUT, future).await;
    done.unwrap_or_else(|_| panic!("still waiting after {TIMEOUT:?}: {what}"))
}

/// Polls `look` until it returns a value.
pub(crate) async fn poll_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    within_timeout(what, async {
        loop {
            ticks.tick().await;
            if let Some(seen) = look() {
                return seen;
            }
        }
    })
    .await
}

/// Like [`poll_until`], for an async function.
pub(crate) async fn poll_until_async<T>(what: &str, mut request: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    within_timeout(what, async {
        loop {
            ticks.tick().await;
            if let Some(seen) = request().await {
                return seen;
            }
        }
    })
    .await
}

/// Prints a note to the output of the test.
#[expect(clippy::print_stdout, reason = "tests talk")]
pub(crate) fn print_note(words: std::fmt::Arguments<'_>) {
    println!("{words}");
}

/// Returns seeded random bytes.
pub(crate) fn bytes(seed: u64, count: usize) -> Vec<u8> {
    SeededRng(seed).bytes(count)
}

/// Returns the seeds to run: the given ones, or only that in `HOIST_SEED`.
pub(crate) fn seeds(these: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("HOIST_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => these.collect(),
    }
}
