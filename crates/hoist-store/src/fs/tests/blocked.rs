//! A disk that does not respond: only operations that need it wait, and no thread of the runtime blocks. Each test runs
//! on one thread, so a store that blocked it would stop everything.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use hoist_proto::types::{Fence, Offset, UploadId};
use hoist_proto::upload::{Phase, Upload};
use rustix::io::Errno;

use super::operations::pattern;
use super::upload;
use crate::fs::sys::Call;
use crate::fs::sys::faults::Faults;
use crate::fs::{LocalStore, Options};
use crate::store::{BoxFuture, Error, Store, Writer};

const ONE: Fence = Fence::new(1);
const TWO: Fence = Fence::new(2);
const SYNC_BYTES: u64 = 64 * 1024;

fn narrow(data: &tempfile::TempDir) -> LocalStore {
    let options = Options { sync_bytes: SYNC_BYTES, disk_threads: 4, ..Options::default() };
    LocalStore::open(data.path(), &options).expect("the directory can be used")
}

fn id() -> UploadId {
    upload(1, None).id
}

/// Returns the writer of an upload whose background sync is blocked.
async fn blocked(store: &LocalStore, faults: &Faults) -> Box<dyn Writer> {
    let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
    writer.write(pattern(0, 1000)).await.expect("writes");
    writer.sync().await.expect("syncs");
    faults.hold(Call::SyncData, 0);
    writer.write(pattern(1000, 1000 + SYNC_BYTES)).await.expect("writes");
    until_holding(faults).await;
    writer
}

async fn until_holding(faults: &Faults) {
    while !faults.is_holding() {
        tokio::task::yield_now().await;
    }
}

async fn is_pending<T>(future: &mut BoxFuture<'_, T>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// Performs every operation on an upload.
async fn exercise(store: &LocalStore, number: u64) {
    let upload = upload(number, None);
    let mut writer = store.create(&upload, ONE).await.expect("creates");
    writer.write(pattern(0, 1000)).await.expect("writes");
    writer.start_sync();
    assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(1000));
    let seen = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
    assert_eq!(seen.offset.offset(), Offset::new(1000));
    drop(writer);
    store.load(upload.id, TWO).await.expect("can be loaded").expect("is there");
    store.commit(&Upload { phase: Phase::Received, ..upload.clone() }, TWO).await.expect("can be committed");
    store.remove(upload.id, TWO).await.expect("can be removed");
}

#[tokio::test]
async fn a_blocked_disk_does_not_delay_other_uploads() {
    let (faults, data) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = narrow(&data);
    let mut writer = blocked(&store, &faults).await;
    writer.write(pattern(0, 10)).await.expect("is accepted");
    assert_eq!(writer.start_sync().offset(), Offset::new(1000), "and reports what it knows");
    let mut sync = writer.sync();
    // Peeks at the upload wait for one another, and do not occupy every thread.
    let mut peeks = (0..20).map(|_| store.peek(id())).collect::<Vec<_>>();
    for _ in 0..10 {
        assert!(is_pending(&mut sync).await);
        for peek in &mut peeks {
            assert!(is_pending(peek).await);
        }
        tokio::task::yield_now().await;
    }
    exercise(&store, 2).await;
    drop(sync);
    drop(writer);
    let mut load = store.load(id(), TWO);
    assert!(is_pending(&mut load).await);
    exercise(&store, 3).await;
    assert!(faults.is_holding(), "the disk is still blocked");
    faults.release();
    // The peeks first: one of them holds the lock that the load waits for.
    for peek in peeks {
        assert!(peek.await.expect("can be peeked at").is_some());
    }
    let end = Offset::new(1010 + SYNC_BYTES);
    assert_eq!(load.await.expect("can be loaded").expect("is there").offset.offset(), end);
}

#[tokio::test]
async fn a_removal_waits_for_a_sync_that_renames_the_draft() {
    let (faults, data) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = narrow(&data);
    // The draft is about to be synced and renamed.
    faults.hold(Call::SyncData, 0);
    let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
    writer.write(pattern(0, 1000)).await.expect("writes");
    while !faults.is_holding() {
        writer.start_sync();
        tokio::task::yield_now().await;
    }
    let mut removal = store.remove(id(), TWO);
    for _ in 0..20 {
        assert!(is_pending(&mut removal).await);
        tokio::task::yield_now().await;
    }
    exercise(&store, 2).await;
    faults.release();
    removal.await.expect("can be removed");
    assert!(store.list_all().await.expect("can be listed").is_empty());
    assert_eq!(std::fs::read_dir(data.path().join("open")).expect("is there").count(), 0);
}

/// A peek that reads its offset before a sync and answers after it must not lower the known offset.
#[tokio::test]
async fn an_older_peek_does_not_lower_the_durable_offset() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }
    let (faults, data) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = narrow(&data);
    let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
    writer.write(pattern(0, 1000)).await.expect("writes");
    writer.sync().await.expect("syncs");
    let is_answered = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&is_answered));
    faults.hold(Call::Read, 0);
    let mut peek = store.peek(id());
    let polled = Pin::new(&mut peek).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    until_holding(&faults).await;
    faults.release();
    while !is_answered.0.load(Ordering::Acquire) {
        tokio::task::yield_now().await;
    }
    writer.write(pattern(1000, 2000)).await.expect("writes");
    assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(2000));
    drop(writer);
    let seen = peek.await.expect("can be peeked at").expect("is there");
    assert_eq!(seen.offset.offset(), Offset::new(1000));
    // Otherwise bytes that are not known to be durable would be truncated now.
    faults.fail(Call::SyncData, 0, 1, Errno::IO);
    let _ = store.load(id(), TWO).await;
    let found = store.load(id(), TWO).await.expect("can be loaded").expect("is there");
    assert_eq!(found.offset.offset(), Offset::new(2000));
}

/// A background sync makes the draft of a new upload its record while another operation looks for either.
#[tokio::test]
async fn a_record_is_found_while_a_sync_gives_it_its_name() {
    // After the reads of the two parent directories and, for a load, of a mark of damage and of the record.
    for (skip, is_load) in [(4, true), (3, false)] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = narrow(&directory);
        let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
        writer.write(pattern(0, 1000)).await.expect("writes");
        faults.hold(Call::Read, skip);
        let looking = async {
            if is_load {
                assert!(store.load(id(), ONE).await.expect("loads").is_some());
            } else {
                let created = store.create(&upload(1, None), TWO).await.map(drop);
                assert!(matches!(created, Err(Error::Exists)));
            }
        };
        let syncing = async {
            until_holding(&faults).await;
            while writer.start_sync().offset() < Offset::new(1000) {
                tokio::task::yield_now().await;
            }
            faults.release();
        };
        tokio::join!(looking, syncing);
    }
}
