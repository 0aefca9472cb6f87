//! Uploads answered from memory. Each operation that changes an upload must change the answer, and the answer must be
//! what the files say, which is what a restarted server would say.

use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hoist_proto::types::{Fence, Length, Offset, Timestamp, UploadId};
use hoist_proto::upload::{Composition, Phase, TargetResponse, Upload};
use http::StatusCode;
use rustix::io::Errno;

use super::{open, upload};
use crate::fs::record_cache::ENTRY_BYTES;
use crate::fs::sys::Call;
use crate::fs::sys::faults::Faults;
use crate::fs::{Durability, LocalStore, Options};
use crate::store::{Error, Store, Writer};

const ONE: Fence = Fence::new(1);
const TWO: Fence = Fence::new(2);

/// Returns the upload from memory.
async fn from_memory(store: &LocalStore, id: UploadId, fence: Fence) -> Upload {
    assert!(is_in_memory(store, id));
    let mut load = store.load(id, fence);
    let loaded = std::future::poll_fn(|context| Poll::Ready(load.as_mut().poll(context))).await;
    let Poll::Ready(loaded) = loaded else { panic!("it waits for another thread") };
    loaded.expect("loads").expect("is there")
}

fn is_in_memory(store: &LocalStore, id: UploadId) -> bool {
    store.entries.cached(id, None).is_some()
}

/// Loads the upload, checks that memory and files agree on it, and returns it.
async fn checked(store: &LocalStore, id: UploadId, fence: Fence) -> Upload {
    // The queue of a writer that has just ended may still be in use, and may drop bytes, which changes the time of the file.
    for _ in 0..100_000 {
        store.load(id, fence).await.expect("loads").expect("is there");
        if is_in_memory(store, id) {
            break;
        }
        tokio::task::yield_now().await;
    }
    let first = from_memory(store, id, fence).await;
    assert_eq!(store.recall(id).as_ref(), Some(&first));
    assert_eq!(store.peek(id).await.expect("can be peeked at").as_ref(), Some(&first));
    store.entries.forget_records();
    assert_eq!(store.load(id, fence).await.expect("loads").as_ref(), Some(&first), "as in the files");
    first
}

/// Stores an upload with these bytes that the store answers from memory.
async fn stored(store: &LocalStore, upload: &Upload, bytes: &'static [u8]) {
    let mut writer = store.create(upload, ONE).await.expect("creates");
    writer.write(Bytes::from_static(bytes)).await.expect("writes");
    writer.sync().await.expect("syncs");
    drop(writer);
    store.load(upload.id, ONE).await.expect("loads");
    assert_eq!(from_memory(store, upload.id, ONE).await.offset.offset().get(), bytes.len() as u64);
}

async fn appending(store: &LocalStore, id: UploadId, at: u64, fence: Fence) -> Box<dyn Writer> {
    store.append(id, Offset::new(at), fence).await.expect("continues")
}

fn delivered(upload: &Upload) -> Upload {
    Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::CREATED)), ..upload.clone() }
}

/// An upload that was synced is answered from memory at once, also the first time.
#[tokio::test]
async fn a_known_upload_is_answered_without_the_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    let mut writer = store.create(&upload, ONE).await.expect("creates");
    writer.write(Bytes::from_static(b"hello")).await.expect("writes");
    writer.sync().await.expect("syncs");
    drop(writer);
    std::fs::rename(directory.path().join("open"), directory.path().join("elsewhere")).expect("renamed");
    assert_eq!(from_memory(&store, upload.id, TWO).await.offset.offset(), Offset::new(5));
    assert_eq!(store.recall(upload.id).expect("in memory").offset.offset(), Offset::new(5));
    assert!(matches!(store.load(upload.id, ONE).await, Err(Error::Fenced)), "the fence was taken");
    assert!(matches!(store.append(upload.id, Offset::new(5), ONE).await.map(drop), Err(Error::Fenced)));
}

#[tokio::test]
async fn a_load_counts_the_bytes_of_the_writer_that_it_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    let mut writer = appending(&store, upload.id, 5, ONE).await;
    assert!(store.recall(upload.id).is_none(), "a writer may change it");
    writer.write(Bytes::from_static(b" world")).await.expect("writes");
    assert_eq!(store.load(upload.id, TWO).await.expect("loads").expect("is there").offset.offset().get(), 11);
    assert!(matches!(writer.sync().await, Err(Error::Fenced)));
    drop(writer);
    assert_eq!(checked(&store, upload.id, TWO).await.offset.offset(), Offset::new(11));
    // Bytes that their writer has not synced.
    let mut writer = appending(&store, upload.id, 11, TWO).await;
    writer.write(Bytes::from_static(b"!")).await.expect("writes");
    drop(writer);
    assert_eq!(checked(&store, upload.id, TWO).await.offset.offset(), Offset::new(12));
}

// proves: TOK-OFF-03
#[tokio::test]
async fn after_a_failed_sync_the_files_are_asked() {
    let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    for cuts in [0, 1] {
        let mut writer = appending(&store, upload.id, 5, ONE).await;
        writer.write(Bytes::from_static(b" world")).await.expect("writes");
        faults.fail(Call::SyncData, 0, 1, Errno::IO);
        faults.fail(Call::Truncate, 0, cuts, Errno::IO);
        writer.sync().await.expect_err("the disk fails");
        drop(writer);
        assert!(!is_in_memory(&store, upload.id), "the repair needs the disk");
        assert_eq!(checked(&store, upload.id, ONE).await.offset.offset(), Offset::new(5));
    }
}

#[tokio::test]
async fn a_removed_upload_is_gone_and_may_be_created_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    store.remove(upload.id, ONE).await.expect("removes");
    assert!(store.load(upload.id, ONE).await.expect("loads").is_none());
    assert!(store.peek(upload.id).await.expect("can be peeked at").is_none());
    stored(&store, &Upload { resumes: 7, ..upload.clone() }, b"new").await;
    assert_eq!(checked(&store, upload.id, ONE).await.resumes, 7);
}

#[tokio::test]
async fn a_commit_shows_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    let sized = Upload { length: Some(Length::new(5)), ..upload.clone() };
    let received = Upload { phase: Phase::Received, ..sized.clone() };
    for committed in [&sized, &received, &delivered(&sized)] {
        store.commit(committed, ONE).await.expect("commits");
        let found = from_memory(&store, upload.id, ONE).await;
        assert_eq!((&found.phase, found.length), (&committed.phase, committed.length));
        assert_eq!(found, checked(&store, upload.id, ONE).await);
    }
    // A commit that fails leaves the old record.
    let again = Upload { resumes: 9, ..delivered(&sized) };
    assert!(matches!(store.commit(&again, Fence::new(0)).await, Err(Error::Fenced)));
    assert_eq!(checked(&store, upload.id, ONE).await.resumes, 0);
}

#[tokio::test]
async fn a_failed_commit_is_read_from_the_files() {
    let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = open(directory.path());
    let upload = upload(1, None);
    for skip in 0..4 {
        store.remove(upload.id, ONE).await.ok();
        stored(&store, &upload, b"hello").await;
        faults.fail(Call::SyncDir, skip, 1, Errno::IO);
        let committed = store.commit(&delivered(&upload), ONE).await;
        faults.heal();
        let found = checked(&store, upload.id, ONE).await;
        assert!(committed.is_err() || found.is_complete(), "{skip}");
    }
}

#[tokio::test]
async fn discarded_content_keeps_its_offset() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    for is_one_step in [true, false] {
        stored(&store, &upload, b"hello").await;
        if is_one_step {
            store.commit_and_discard(&delivered(&upload), ONE).await.expect("commits");
        } else {
            store.commit(&delivered(&upload), ONE).await.expect("commits");
            store.discard(upload.id, ONE).await.expect("discards");
        }
        let found = from_memory(&store, upload.id, ONE).await;
        assert_eq!((found.offset.offset(), found.touched), (Offset::new(5), upload.touched), "{is_one_step}");
        assert_eq!(found, checked(&store, upload.id, ONE).await);
        store.remove(upload.id, ONE).await.expect("removes");
    }
}

#[tokio::test]
async fn joined_parts_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let part = Upload { composition: Composition::Part, ..upload(2, None) };
    stored(&store, &part, b"hello").await;
    store.commit(&Upload { phase: Phase::Received, ..part.clone() }, ONE).await.expect("commits");
    for parts in [vec![part.id], vec![part.id, part.id]] {
        let whole = Upload { composition: Composition::Concatenated(parts.clone()), ..upload(1, None) };
        stored(&store, &whole, b"").await;
        store.join(whole.id, &parts, ONE).await.expect("joins");
        assert_eq!(checked(&store, whole.id, ONE).await.offset.offset().get(), parts.len() as u64 * 5);
        store.remove(whole.id, ONE).await.expect("removes");
    }
}

/// The time of the last byte comes from the file, as after a restart.
#[tokio::test]
async fn an_append_renews_the_time_of_the_last_change() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000);
    let file = directory.path().join("open").join(upload.id.to_string()).join("content");
    let times = std::fs::FileTimes::new().set_modified(past);
    std::fs::File::options().write(true).open(file).and_then(|file| file.set_times(times)).expect("set");
    store.entries.forget_records();
    let before = checked(&store, upload.id, ONE).await.touched;
    assert_eq!(before, Timestamp::from_millis(1_750_000_000_000));
    let mut writer = appending(&store, upload.id, 5, ONE).await;
    writer.write(Bytes::from_static(b"!")).await.expect("writes");
    writer.sync().await.expect("syncs");
    drop(writer);
    let after = from_memory(&store, upload.id, ONE).await;
    assert!(after.touched > before);
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.load(upload.id, ONE).await.expect("loads"), Some(after), "as after a restart");
}

#[tokio::test]
async fn unverified_and_truncated_bytes_do_not_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    for end in ["dropped", "truncated", "superseded", "truncated later", "verified"] {
        let mut writer = appending(&store, upload.id, 5, ONE).await;
        if end != "truncated later" {
            writer.mark_unverified().await.expect("marks");
        }
        writer.write(Bytes::from_static(b" world")).await.expect("writes");
        match end {
            "truncated" => writer.truncate(Offset::new(5)).await.expect("truncates"),
            "truncated later" => {
                while writer.start_sync().offset() < Offset::new(11) {
                    tokio::task::yield_now().await;
                }
                writer.truncate(Offset::new(5)).await.expect("truncates");
            }
            "superseded" => {
                let found = store.load(upload.id, ONE).await.expect("loads").expect("is there");
                assert_eq!(found.offset.offset(), Offset::new(5));
            }
            "verified" => drop(writer.sync().await.expect("verifies")),
            _ => {}
        }
        drop(writer);
        let expected = if end == "verified" { 11 } else { 5 };
        assert_eq!(checked(&store, upload.id, ONE).await.offset.offset().get(), expected, "{end}");
    }
}

/// A directory that is in use is refused to a second store, which could not know of changes.
#[tokio::test]
async fn a_second_store_is_refused_and_leaves_the_first_one_right() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    let second = LocalStore::open(directory.path(), &Options::default()).map(drop);
    assert!(matches!(second, Err(Error::Busy(_))));
    assert_eq!(checked(&store, upload.id, ONE).await.offset.offset(), Offset::new(5));
}

/// Only as many records as the bounds allow are in memory, the last ones used.
#[tokio::test]
async fn the_least_recently_used_records_leave() {
    let directory = tempfile::tempdir().expect("a directory");
    for (uploads_max, bytes_max, kept) in
        [(2, 1 << 20, 2), (100, 2 * ENTRY_BYTES + 100, 2), (0, 1 << 20, 0), (100, 10, 0)]
    {
        let mut options = Options { durability: Durability::Os, ..Options::default() };
        (options.cache_uploads_max, options.cache_bytes_max) = (uploads_max, bytes_max);
        let store = LocalStore::open(directory.path(), &options).expect("opens");
        let ids = (1..=4).map(|number| upload(number, None).id).collect::<Vec<_>>();
        for number in 1..=4 {
            drop(store.create(&upload(number, None), ONE).await);
            store.load(ids[0], TWO).await.expect("loads").expect("is there");
            store.load(upload(number, None).id, TWO).await.expect("loads").expect("is there");
        }
        let answered = ids.iter().copied().filter(|&id| is_in_memory(&store, id)).collect::<Vec<_>>();
        assert_eq!(answered.len(), kept, "{uploads_max} uploads, {bytes_max} bytes");
        assert!(kept == 0 || answered == [ids[0], ids[3]]);
    }
}

/// Records in memory keep no request's buffer alive.
#[tokio::test]
async fn a_record_in_memory_is_a_copy() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let request = Bytes::from(vec![b'v'; 1000]);
    let mut upload = upload(1, None);
    let value = http::HeaderValue::from_maybe_shared(request.slice(10..20)).expect("a field value");
    upload.origin.fields.insert("x-field", value);
    store.create(&upload, ONE).await.expect("creates").sync().await.expect("syncs");
    store.commit(&upload, ONE).await.expect("commits");
    drop(upload);
    assert!(request.is_unique());
}
