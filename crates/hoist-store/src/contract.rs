//! The suite every store must pass, ours and strangers': what it asks for is what a store is.
//!
//! Owns the cases that hold for any store. Leaves what only one kind of store can be asked (its files, its faults) to the
//! tests beside that store.
//!
//! Implement [`Site`] for a place where your store keeps things, and call [`run`] in a test on a tokio runtime of several
//! threads. A case that fails panics with what it expected; its name is printed by the panic's location.
//!
//! ```
//! # use std::path::{Path, PathBuf};
//! # use std::sync::Arc;
//! # use hoist_store::contract::{self, Site};
//! # use hoist_store::memory::MemoryStore;
//! # use hoist_store::store::{BoxFuture, Store};
//! struct Memory(MemoryStore);
//!
//! impl Site for Memory {
//!     fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
//!         self.0.crash(); // opening again is coming back from a crash
//!         Box::pin(async { Arc::new(self.0.clone()) as Arc<dyn Store> })
//!     }
//!     fn directory(&self) -> &Path {
//!         Path::new("exports")
//!     }
//!     fn exported(&self, name: &str) -> Option<Vec<u8>> {
//!         self.0.exported(self.directory(), name)
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! contract::run(|| Memory(MemoryStore::new())).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hoist_proto::types::{Durable, Fence, Offset, Principal, Timestamp, UploadId};
use hoist_proto::upload::{
    Completion, Composition, Excess, Family, Interruption, Origin, Phase, Semantics, TargetResponse, Upload,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::store::{BoxFuture, Store, Writer};

mod claims;
mod content;
mod dropped;
mod parts;
mod peek;
mod records;
mod unverified;

/// A place where a store keeps things, empty at first.
pub trait Site: Send + Sync {
    /// Opens the store. Called again when everything from the earlier call has been dropped: what was durable is there
    /// then. May come back from a crash in between, and is the harder test if it does.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>>;

    /// An empty directory that uploads can be exported to.
    fn directory(&self) -> &Path;

    /// What an exported file holds; `None` when there is none of that name.
    fn exported(&self, name: &str) -> Option<Vec<u8>>;
}

/// Runs every case, each on a fresh site.
///
/// # Panics
/// When the store is not one.
///
/// # Cancellation
/// Safe to drop; what the store keeps is left behind.
pub async fn run<S: Site>(fresh: impl Fn() -> S) {
    content::run(&fresh).await;
    records::run(&fresh).await;
    claims::run(&fresh).await;
    dropped::run(&fresh).await;
    unverified::run(&fresh).await;
    parts::run(&fresh).await;
    peek::run(&fresh).await;
}

/// An upload nobody has made yet, each number another one.
fn sample(number: u64) -> Upload {
    let mut bits = [0x5a; 16];
    bits[8..].copy_from_slice(&number.to_be_bytes());
    let mut fields = HeaderMap::new();
    fields.append("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.append("content-disposition", HeaderValue::from_static("attachment; filename=\"../a: b\""));
    fields.append("content-language", HeaderValue::from_static("de"));
    fields.append("content-language", HeaderValue::from_static("en"));
    fields.append("x-binary", HeaderValue::from_bytes(b"\xff\xfe caf\xe9").expect("obs-text is allowed"));
    Upload {
        id: UploadId::from_bits(bits),
        family: Family::Token,
        semantics: Semantics {
            completion: Completion::AtLengthOrEnd,
            excess: Excess::Invalidates,
            interruption: Interruption::Resumes,
        },
        owner: Some(Principal::new("alice@example.org")),
        composition: Composition::Direct,
        origin: Origin { method: Method::POST, target: "/uploads?to=\"x\"".to_owned(), fields },
        created: Timestamp::from_millis(1_700_000_000_123),
        touched: Timestamp::from_millis(1_700_000_000_123),
        lifetime: Some(Duration::from_millis(86_400_001)),
        length: None,
        offset: Durable::ZERO,
        phase: Phase::Open,
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

/// Bytes that tell where they belong and who wrote them.
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

/// Creates an upload with these bytes, synced.
async fn stored(store: &dyn Store, upload: &Upload, bytes: &Bytes) {
    let mut writer = create(store, upload, ONE).await;
    writer.write(bytes.clone()).await.expect("bytes are taken");
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

/// Lets others run.
async fn pause() {
    let mut is_first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// Polls a future this many times, letting others run in between, and drops it if that was not enough.
async fn dropped_after<T>(polls: usize, mut future: BoxFuture<'_, T>) -> Option<T> {
    for _ in 0..polls {
        let polled = std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        match polled {
            Poll::Ready(done) => return Some(done),
            Poll::Pending => pause().await,
        }
    }
    None
}
