//! Sweeps read what is due and nothing else, whatever happened to an upload since it was counted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::policy::Policy;
use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::Upload;
use hoist_server::{Builder, Hoist, Swept};
use hoist_store::memory::{Counts, MemoryStore};
use hoist_store::store::{LastUsed, Listing, Reader, Store, StoreFuture, UploadGroup, Writer};
use tokio::sync::Semaphore;
use tower_service::Service as _;

use crate::clocks::Clocks;
use crate::harness::{Content, Ends, SOON, request, request_to, send};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const START: u64 = 20_000 * 24 * HOUR;
const OPEN: (&str, &str) = ("upload-token", "open");
const WHOLE: (&str, &str) = ("upload-token", "whole");

/// A server that keeps unfinished uploads for an hour and complete ones for two.
struct Site {
    store: MemoryStore,
    clocks: Clocks,
    hoist: Hoist,
}

fn builder(store: &MemoryStore, lifetime_h: u64, retention_min: u64) -> Builder {
    let policy = Policy {
        lifetime: Some(Duration::from_hours(lifetime_h)),
        retention: Some(Duration::from_mins(retention_min)),
        ..Policy::default()
    };
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).policy(policy)
}

impl Site {
    fn new() -> Self {
        let (store, clocks) = (MemoryStore::new(), Clocks::starting_at(START));
        store.set_time(Timestamp::from_millis(START * 1000));
        let hoist = builder(&store, 1, 120).clocks(clocks.clone()).build();
        Self { store, clocks, hoist }
    }

    /// Creates an unfinished and a complete upload, and counts them.
    async fn with_two() -> Self {
        let site = Self::new();
        send(&site.hoist, request("POST", &[OPEN], Content::new(b"abc", 1, Ends::Cut, Some(9)))).await;
        send(&site.hoist, request("POST", &[WHOLE], Content::sized(b"abc"))).await;
        assert_eq!(site.hoist.recover().await.expect("readable").seen, 2);
        site
    }

    fn pass(&self, seconds: u64) {
        self.clocks.pass(seconds);
        let now = self.clocks.wall_s();
        self.store.set_time(Timestamp::from_millis(now * 1000));
    }

    /// Sweeps once. Returns the numbers of uploads seen and removed, and of calls of the store: listings, and of single
    /// uploads.
    async fn sweep(&self) -> [u64; 4] {
        let before = self.store.counts();
        let Swept { seen, removed, .. } = self.hoist.sweep().await.expect("readable");
        let Counts { listings, lookups, .. } = self.store.counts();
        [seen as u64, removed as u64, listings - before.listings, lookups - before.lookups]
    }

    async fn status(&self, token: (&str, &str)) -> u16 {
        send(&self.hoist, request("HEAD", &[token], Content::none())).await.status.as_u16()
    }

    async fn complete(&self) {
        let fields = [OPEN, ("upload-offset", "3")];
        let got = send(&self.hoist, request("PATCH", &fields, Content::sized(b"defghi"))).await;
        assert_eq!(got.field("upload-complete"), Some("?1"));
    }
}

#[tokio::test]
async fn a_sweep_with_nothing_due_reads_nothing() {
    let site = Site::with_two().await;
    for _ in 0..11 {
        site.pass(5 * MINUTE);
        assert_eq!(site.sweep().await, [0; 4]);
    }
    site.pass(5 * MINUTE);
    assert_eq!(site.sweep().await, [1, 1, 0, 2], "it is loaded and removed");
    assert_eq!([site.status(OPEN).await, site.status(WHOLE).await], [404, 204]);
    site.pass(HOUR);
    assert_eq!(site.sweep().await, [1, 1, 0, 2]);
    assert_eq!(site.sweep().await, [0; 4]);
    assert!(site.store.list_all().await.expect("readable").is_empty());
}

#[tokio::test]
async fn the_first_upload_that_expires_after_a_survey_is_found_by_the_next_one() {
    let site = Site::new();
    site.hoist.recover().await.expect("readable");
    for minutes in [0, 20, 40] {
        let token = format!("open-{minutes}");
        let fields = [("upload-token", token.as_str()), ("upload-length", "9")];
        assert_eq!(send(&site.hoist, request("POST", &fields, Content::none())).await.status.as_u16(), 204);
        assert_eq!(site.sweep().await, [0; 4]);
        site.pass(20 * MINUTE);
    }
    assert_eq!(site.sweep().await, [4, 1, 1, 2], "three are listed, and one is visited");
    for _ in 0..2 {
        site.pass(20 * MINUTE);
        assert_eq!(site.sweep().await, [1, 1, 0, 2]);
    }
}

#[tokio::test]
async fn an_append_extends_the_life_of_an_upload() {
    let site = Site::with_two().await;
    site.pass(50 * MINUTE);
    let append =
        request("PATCH", &[OPEN, ("upload-offset", "3")], Content::new(b"de", 1, Ends::Cut, Some(6)));
    send(&site.hoist, append).await;
    site.pass(10 * MINUTE);
    assert_eq!(site.sweep().await, [1, 0, 0, 1], "its entry was due");
    site.pass(49 * MINUTE);
    assert_eq!(site.sweep().await, [0; 4]);
    assert_eq!(site.status(OPEN).await, 204);
    site.pass(MINUTE);
    assert_eq!(site.sweep().await, [1, 1, 0, 2]);
}

#[tokio::test]
async fn a_completed_upload_is_kept_for_the_time_of_complete_ones() {
    let site = Site::with_two().await;
    site.pass(50 * MINUTE);
    site.complete().await;
    site.pass(10 * MINUTE);
    assert_eq!(site.sweep().await, [1, 0, 0, 1], "the entry of the unfinished one was due");
    site.pass(HOUR);
    assert_eq!(site.sweep().await, [1, 1, 0, 2], "the other one");
    site.pass(49 * MINUTE);
    assert_eq!(site.sweep().await, [0; 4]);
    assert_eq!(site.status(OPEN).await, 204);
    site.pass(MINUTE);
    assert_eq!(site.sweep().await, [1, 1, 0, 2]);
}

#[tokio::test]
async fn a_removed_upload_is_visited_no_more() {
    let site = Site::with_two().await;
    for token in [OPEN, WHOLE] {
        send(&site.hoist, request("DELETE", &[token], Content::none())).await;
        assert_eq!(site.status(token).await, 404);
    }
    site.pass(3 * HOUR);
    assert_eq!(site.sweep().await, [0; 4]);
}

#[tokio::test]
async fn changed_lifetimes_apply_without_a_survey_of_complete_uploads() {
    let site = Site::with_two().await;
    site.hoist.reconfigure(builder(&site.store, 1, 10));
    site.complete().await;
    site.pass(9 * MINUTE);
    assert_eq!(site.sweep().await, [0; 4]);
    site.pass(MINUTE);
    assert_eq!(site.sweep().await, [1, 1, 0, 2]);
    assert_eq!([site.status(OPEN).await, site.status(WHOLE).await], [404, 204]);
    site.hoist.reconfigure(builder(&site.store, 1, 600));
    site.pass(110 * MINUTE);
    // The entry from when it was unfinished, and the other one, which keeps its own time.
    assert_eq!(site.sweep().await, [2, 1, 0, 3]);
    assert_eq!(site.status(WHOLE).await, 404);
}

#[tokio::test]
async fn a_step_of_the_clock_causes_one_survey() {
    for to in [START + 400 * 24 * HOUR, START - 400 * 24 * HOUR] {
        let site = Site::with_two().await;
        site.pass(30 * MINUTE);
        site.clocks.step_to(to);
        site.pass(0);
        assert_eq!(site.sweep().await, [2, 0, 2, 0], "both are listed");
        assert_eq!(site.sweep().await, [0; 4]);
        // Set right again.
        site.clocks.step_to(START + 30 * MINUTE);
        site.pass(0);
        assert_eq!(site.sweep().await, [2, 0, 2, 0]);
        site.pass(3 * HOUR);
        assert_eq!(site.sweep().await, [2, 2, 0, 4]);
    }
}

/// A store whose listings wait for a permit.
struct Gated {
    store: MemoryStore,
    permits: Arc<Semaphore>,
}

impl Store for Gated {
    fn list(&self, group: UploadGroup) -> StoreFuture<'_, Box<dyn Listing>> {
        Box::pin(async move {
            self.permits.acquire().await.expect("never closed").forget();
            self.store.list(group).await
        })
    }

    fn create<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, Box<dyn Writer>> {
        self.store.create(upload, fence)
    }

    fn load(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, Option<Upload>> {
        self.store.load(id, fence)
    }

    fn peek(&self, id: UploadId) -> StoreFuture<'_, Option<Upload>> {
        self.store.peek(id)
    }

    fn append(&self, id: UploadId, at: Offset, fence: Fence) -> StoreFuture<'_, Box<dyn Writer>> {
        self.store.append(id, at, fence)
    }

    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, ()> {
        self.store.commit(upload, fence)
    }

    fn commit_and_discard<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, ()> {
        self.store.commit_and_discard(upload, fence)
    }

    fn join<'a>(&'a self, id: UploadId, parts: &'a [UploadId], fence: Fence) -> StoreFuture<'a, Durable> {
        self.store.join(id, parts, fence)
    }

    fn read(&self, id: UploadId, from: Offset) -> StoreFuture<'_, Box<dyn Reader>> {
        self.store.read(id, from)
    }

    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> StoreFuture<'a, String> {
        self.store.export(id, directory, name, fence)
    }

    fn discard(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, ()> {
        self.store.discard(id, fence)
    }

    fn remove(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, ()> {
        self.store.remove(id, fence)
    }

    fn last_used(&self) -> StoreFuture<'_, Option<LastUsed>> {
        self.store.last_used()
    }

    fn set_last_used<'a>(&'a self, last_used: &'a LastUsed) -> StoreFuture<'a, ()> {
        self.store.set_last_used(last_used)
    }

    fn check_health(&self) -> StoreFuture<'_, ()> {
        self.store.check_health()
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_before_the_stored_uploads_are_counted() {
    let Site { store, clocks, .. } = Site::with_two().await;
    store.crash();
    // An ordinary upload, which a crash leaves unfinished.
    let (content, drained) = Content::new(b"half", 1, Ends::Never, Some(8)).watched();
    let mut first = builder(&store, 1, 120).clocks(clocks.clone()).build();
    tokio::spawn(first.call(request("POST", &[], content)));
    tokio::time::timeout(SOON, drained).await.expect("in time").expect("taken");
    let left = store.list_all().await.expect("readable").into_iter().find(|upload| !upload.can_resume);
    let left = left.expect("the upload").id;
    let listings = store.counts().listings;

    let permits = Arc::new(Semaphore::new(0));
    let gated = Gated { store: store.clone(), permits: Arc::clone(&permits) };
    let hoist = Hoist::builder(Arc::new(gated) as Arc<dyn Store>).clocks(clocks).build();
    let running = hoist.start(Duration::from_millis(1)).await;
    let status = async |path: &str, method: &str, fields: &[(&str, &str)]| {
        send(&hoist, request_to(path, method, fields, Content::none())).await.status.as_u16()
    };
    assert_eq!(status("/readyz", "GET", &[]).await, 503, "creations wait");
    assert_eq!(status("/healthz", "GET", &[]).await, 200);
    assert_eq!(status("/uploads", "HEAD", &[WHOLE]).await, 204);
    let rest = request("PATCH", &[OPEN, ("upload-offset", "3")], Content::sized(b"defghi"));
    assert_eq!(send(&hoist, rest).await.field("upload-complete"), Some("?1"));

    // No quota needs the number of the complete uploads.
    permits.add_permits(1);
    tokio::time::timeout(SOON, running.ready()).await.expect("the open uploads are counted");
    assert_eq!(status("/readyz", "GET", &[]).await, 200);
    let fields = [("upload-token", "new"), ("upload-length", "0")];
    assert_eq!(status("/uploads", "POST", &fields).await, 204);
    // Sweeps are due all the time, and begin no survey of their own.
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(store.counts().listings, listings + 1);
    assert!(store.peek(left).await.expect("readable").is_none(), "what a crash left is removed");
    permits.add_permits(1);
    tokio::time::timeout(SOON, running.recovered()).await.expect("all are counted");
    running.stop().await;
}
