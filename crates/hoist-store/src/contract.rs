//! The suite that every store must pass, ours and yours.
//!
//! Owns the cases that hold for any store. Leaves what is special about one (its files, its faults) to the tests of
//! that store.
//!
//! Implement [`Site`], and call [`run`] in a test on a tokio runtime with several threads. The
//! [crate documentation](crate) has an example. A case that fails panics at its own location, with what it expected.

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hoist_proto::testing;
use hoist_proto::types::{Fence, Offset, Principal, Timestamp, UploadId};
use hoist_proto::upload::{Origin, Phase, TargetResponse, Upload};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::memory::yield_now;
use crate::store::{BoxFuture, Store, Writer};

mod claims;
mod content;
mod dropped;
mod events;
mod pages;
mod parts;
mod peek;
mod records;
mod unverified;

/// A place in which a store keeps its uploads, initially empty.
pub trait Site: Send + Sync {
    /// Opens the store. Called again after everything from the earlier call was dropped, and must then find what was
    /// durable. Simulating a crash in between makes the test harder.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;

    /// Returns an empty directory for exports.
    fn directory(&self) -> &Path;

    /// Returns the content of an exported file; `None` if there is no file of that name.
    fn exported(&self, name: &str) -> Option<Vec<u8>>;
}

/// Runs every case, each on a new site.
///
/// # Panics
/// Panics if the store breaks the contract.
///
/// # Cancellation
/// Safe to drop. The content of the site is left behind.
pub async fn run<S: Site>(fresh: impl Fn() -> S) {
    content::run(&fresh).await;
    records::run(&fresh).await;
    pages::run(&fresh).await;
    claims::run(&fresh).await;
    dropped::run(&fresh).await;
    unverified::run(&fresh).await;
    parts::run(&fresh).await;
    peek::run(&fresh).await;
    events::run(&fresh).await;
}

/// Returns an upload without content. Each number gives another upload.
fn sample(number: u64) -> Upload {
    let mut bits = [0x5a; 16];
    bits[8..].copy_from_slice(&number.to_be_bytes());
    let mut fields = HeaderMap::new();
    fields.append("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.append("content-disposition", HeaderValue::from_static("attachment; filename=\"../a: b\""));
    fields.append("content-language", HeaderValue::from_static("de"));
    fields.append("content-language", HeaderValue::from_static("en"));
    fields.append("x-binary", HeaderValue::from_bytes(b"\xff\xfe caf\xe9").expect("obs-text is allowed"));
    let created = Timestamp::from_millis(1_700_000_000_123);
    Upload {
        owner: Some(Principal::new("alice@example.org")),
        origin: Origin { method: Method::POST, target: "/uploads?to=\"x\"".to_owned(), fields },
        created,
        touched: created,
        lifetime: Some(Duration::from_millis(86_400_001)),
        resumes: 3,
        ..testing::upload(UploadId::from_bits(bits))
    }
}

fn delivered(upload: &Upload) -> Upload {
    let answer = TargetResponse {
        status: StatusCode::CREATED,
        fields: HeaderMap::from_iter([(http::header::LOCATION, HeaderValue::from_static("/files/7"))]),
        content: b"\x00\xffstored".to_vec(),
    };
    Upload { phase: Phase::Delivered(answer), ..upload.clone() }
}

const ONE: Fence = Fence::new(1);

/// Returns bytes that depend on their writer and their offset.
fn pattern(writer: u8, from: usize, bytes: usize) -> Bytes {
    (from..from + bytes).map(|at| byte(writer, at)).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "a pattern repeats")]
fn byte(writer: u8, at: usize) -> u8 {
    writer ^ (at % 251) as u8
}

async fn create(store: &dyn Store, upload: &Upload, fence: Fence) -> Box<dyn Writer> {
    store.create(upload, fence).await.expect("a free id can be created")
}

async fn load(store: &dyn Store, id: UploadId, fence: Fence) -> Upload {
    store.load(id, fence).await.expect("an upload can be loaded").expect("the upload exists")
}

/// Creates an upload with these bytes and syncs it.
async fn stored(store: &dyn Store, upload: &Upload, bytes: &Bytes) {
    let mut writer = create(store, upload, ONE).await;
    writer.write(bytes.clone()).await.expect("bytes are accepted");
    assert_eq!(writer.sync().await.expect("bytes can be synced").offset(), end_of(bytes));
}

fn end_of(bytes: &[u8]) -> Offset {
    Offset::new(bytes.len() as u64)
}

async fn content(store: &dyn Store, id: UploadId, from: Offset) -> Vec<u8> {
    let mut reader = store.read(id, from).await.expect("an upload can be read");
    let mut content = Vec::new();
    while let Some(bytes) = reader.next().await.expect("stored bytes can be read") {
        assert!(!bytes.is_empty() && bytes.len() <= 256 * 1024, "a reader gave {} bytes", bytes.len());
        content.extend_from_slice(&bytes);
    }
    content
}

/// Polls a future this many times, yielding in between, and drops it if it has not completed.
async fn dropped_after<T>(polls: usize, mut future: BoxFuture<'_, T>) -> Option<T> {
    for _ in 0..polls {
        let polled = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        match polled {
            Poll::Ready(done) => return Some(done),
            Poll::Pending => yield_now().await,
        }
    }
    None
}
