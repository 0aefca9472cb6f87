//! Steps of the wall clock: they expire no upload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hoist_proto::policy::Policy;
use hoist_server::Hoist;
use hoist_server::clock::TimeSource;
use hoist_store::memory::MemoryStore;
use hoist_store::store::Store;
use tokio_util::sync::CancellationToken;

use crate::harness::{Content, Ends, request, send};

const DAY: u64 = 24 * 3600;
const START: u64 = 20_000 * DAY;
const OPEN: (&str, &str) = ("upload-token", "open");
const WHOLE: (&str, &str) = ("upload-token", "whole");

/// Clocks that a test sets.
#[derive(Clone, Default)]
pub(crate) struct Clocks {
    wall_s: Arc<AtomicU64>,
    steady_s: Arc<AtomicU64>,
}

impl Clocks {
    pub(crate) fn starting_at(seconds: u64) -> Self {
        let clocks = Self::default();
        clocks.step_to(seconds);
        clocks
    }

    /// Advances both clocks.
    pub(crate) fn pass(&self, seconds: u64) {
        self.wall_s.fetch_add(seconds, Ordering::SeqCst);
        self.steady_s.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn wall_s(&self) -> u64 {
        self.wall_s.load(Ordering::SeqCst)
    }

    /// Sets the wall clock.
    pub(crate) fn step_to(&self, seconds: u64) {
        self.wall_s.store(seconds, Ordering::SeqCst);
    }
}

impl TimeSource for Clocks {
    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.wall_s.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.steady_s.load(Ordering::SeqCst))
    }
}

/// Starts a server that keeps unfinished uploads for a week and complete ones for a year.
async fn start(store: &MemoryStore, clocks: &Clocks) -> Hoist {
    // A new process starts with fresh fences.
    store.crash();
    let policy = Policy {
        lifetime: Some(Duration::from_hours(7 * 24)),
        retention: Some(Duration::from_hours(365 * 24)),
        ..Policy::default()
    };
    let hoist = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>)
        .policy(policy)
        .clocks(clocks.clone())
        .build();
    hoist.recover().await.expect("readable");
    hoist
}

async fn make_two(hoist: &Hoist) {
    send(hoist, request("POST", &[OPEN], Content::new(b"abc", 1, Ends::Cut, Some(9)))).await;
    send(hoist, request("POST", &[WHOLE], Content::sized(b"abc"))).await;
}

async fn statuses(hoist: &Hoist) -> [u16; 2] {
    let open = send(hoist, request("HEAD", &[OPEN], Content::none())).await;
    let whole = send(hoist, request("HEAD", &[WHOLE], Content::none())).await;
    [open.status.as_u16(), whole.status.as_u16()]
}

#[tokio::test]
async fn a_start_with_the_clock_far_ahead_removes_nothing() {
    let store = MemoryStore::new();
    let clocks = Clocks::starting_at(START);
    make_two(&start(&store, &clocks).await).await;

    clocks.pass(3);
    clocks.step_to(START + 400 * DAY);
    let ahead = start(&store, &clocks).await;
    assert_eq!(statuses(&ahead).await, [204, 204]);
    for _ in 0..3 {
        clocks.pass(3600);
        assert_eq!(ahead.sweep().await.expect("readable").removed, 0);
    }
    drop(ahead);

    // Another start with the same wrong clock.
    let ahead = start(&store, &clocks).await;
    assert_eq!(ahead.sweep().await.expect("readable").removed, 0);
    drop(ahead);

    clocks.step_to(START + DAY);
    let right = start(&store, &clocks).await;
    assert_eq!(statuses(&right).await, [204, 204]);
    assert_eq!(right.sweep().await.expect("readable").removed, 0);
}

#[tokio::test]
async fn a_step_while_the_server_runs_removes_nothing() {
    for to in [START + 400 * DAY, 10] {
        let store = MemoryStore::new();
        let clocks = Clocks::starting_at(START);
        let hoist = start(&store, &clocks).await;
        make_two(&hoist).await;
        clocks.pass(3);
        clocks.step_to(to);
        assert_eq!(statuses(&hoist).await, [204, 204], "3 s old");
        assert_eq!(hoist.sweep().await.expect("readable").removed, 0);
        // An upload created at the wrong time survives the correction of the clock.
        let fields = [("upload-token", "wrong-time"), ("upload-length", "9")];
        assert_eq!(send(&hoist, request("POST", &fields, Content::none())).await.status.as_u16(), 204);
        clocks.pass(3);
        clocks.step_to(START + 60);
        assert_eq!(hoist.sweep().await.expect("readable").removed, 0);
        assert_eq!(statuses(&hoist).await, [204, 204]);
        let asked = send(&hoist, request("HEAD", &fields[..1], Content::none())).await;
        assert_eq!(asked.status.as_u16(), 204);
    }
}

#[tokio::test]
async fn uploads_expire_as_time_passes() {
    let store = MemoryStore::new();
    let clocks = Clocks::starting_at(START);
    let hoist = start(&store, &clocks).await;
    make_two(&hoist).await;
    clocks.step_to(START + 400 * DAY);
    for _ in 0..8 {
        clocks.pass(DAY);
        hoist.sweep().await.expect("readable");
    }
    assert_eq!(statuses(&hoist).await, [404, 204]);
    drop(hoist);
    // The step is remembered: the complete upload is eight days old, not more than a year.
    let next = start(&store, &clocks).await;
    assert_eq!(next.sweep().await.expect("readable").removed, 0);
    drop(next);
    clocks.pass(360 * DAY);
    for _ in 0..3 {
        clocks.pass(DAY);
        start(&store, &clocks).await.sweep().await.expect("readable");
    }
    assert_eq!(statuses(&start(&store, &clocks).await).await, [404, 204], "a stop counts for a day");
}

#[tokio::test]
async fn an_upload_of_a_run_whose_clock_was_behind_is_kept_by_the_next_run() {
    for set_right_while_running in [true, false] {
        let store = MemoryStore::new();
        let clocks = Clocks::starting_at(START);
        drop(start(&store, &clocks).await);
        clocks.step_to(START - 400 * DAY);
        let behind = start(&store, &clocks).await;
        make_two(&behind).await;
        clocks.pass(20);
        if set_right_while_running {
            clocks.step_to(START + 60);
        }
        assert_eq!(behind.sweep().await.expect("readable").removed, 0);
        drop(behind);

        clocks.step_to(START + 120);
        for _ in 0..2 {
            let right = start(&store, &clocks).await;
            assert_eq!(right.sweep().await.expect("readable").removed, 0, "{set_right_while_running}");
            assert_eq!(statuses(&right).await, [204, 204], "{set_right_while_running}");
            clocks.pass(60);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_swept_until_the_clock_has_run_evenly_for_an_interval() {
    let store = MemoryStore::new();
    let clocks = Clocks::starting_at(START);
    let hoist = start(&store, &clocks).await;
    make_two(&hoist).await;
    clocks.pass(8 * DAY);
    clocks.step_to(START + 8 * DAY + 3600);
    let stop = CancellationToken::new();
    let interval = Duration::from_mins(10);
    let sweeping = hoist.sweep_every(interval, stop.clone());
    let watching = async {
        let mut left = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep(interval + Duration::from_secs(1)).await;
            left.push(store.list_all().await.expect("readable").len());
            clocks.pass(601);
        }
        stop.cancel();
        left
    };
    let ((), counts) = tokio::join!(sweeping, watching);
    assert_eq!(counts, [2, 1, 1]);
}
