//! `peek` at an upload whose lock another operation holds for a long time.

use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Durable, Fence, Offset};
use hoist_proto::upload::{Phase, TargetResponse, Upload};
use http::StatusCode;

use super::{open, upload};
use crate::store::{Error, Store};

const ONE: Fence = Fence::new(1);

/// The lock is held throughout, as by a join of many bytes, which may take minutes.
#[tokio::test]
async fn peek_does_not_wait_for_the_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    let mut writer = store.create(&upload, ONE).await.expect("creates");
    writer.write(Bytes::from_static(b"written")).await.expect("writes");
    // With a writer, with the durable offset known, and complete.
    for step in ["running", "synced", "unverified", "dropped", "complete", "discarded"] {
        match step {
            "synced" => assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(7)),
            "unverified" => {
                writer.mark_unverified().await.expect("marks");
                writer.write(Bytes::from_static(b"not yet")).await.expect("writes");
            }
            "dropped" => {
                drop(writer);
                store.load(upload.id, Fence::new(2)).await.expect("loads");
                writer = store.append(upload.id, Offset::new(7), Fence::new(2)).await.expect("continues");
            }
            "complete" => {
                let done =
                    Upload { phase: Phase::Failed(TargetResponse::of(StatusCode::OK)), ..upload.clone() };
                store.commit(&done, Fence::new(2)).await.expect("commits");
                store.load(upload.id, Fence::new(2)).await.expect("loads");
            }
            "discarded" => store.discard(upload.id, Fence::new(2)).await.expect("discards"),
            _ => {}
        }
        let entry = store.entries.of(upload.id);
        let lock = Arc::clone(&entry.lock).lock_owned().await;
        // Returns what is written, without waiting for the lock.
        let mut seen = Durable::ZERO;
        while seen.offset() < Offset::new(7) {
            let found = store.peek(upload.id).await.expect("can be peeked at").expect("is there");
            assert!(found.offset >= seen, "{step}: {seen} became {}", found.offset);
            assert_eq!(found.is_complete(), ["complete", "discarded"].contains(&step), "{step}");
            seen = found.offset;
            tokio::task::yield_now().await;
        }
        assert_eq!(seen.offset(), Offset::new(7), "{step}");
        drop(lock);
        // Peeking has not ended the writer.
        if ["running", "synced"].contains(&step) {
            writer.write(Bytes::new()).await.expect("the writer continues");
        }
    }
}

/// The first peek after a start syncs what a crash left, and therefore has to wait for the lock.
#[tokio::test]
async fn a_peek_that_has_to_sync_waits_for_the_lock() {
    let directory = tempfile::tempdir().expect("a directory");
    let id = upload(1, None).id;
    {
        let store = open(directory.path());
        let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
        writer.write(Bytes::from_static(b"written")).await.expect("writes");
        writer.sync().await.expect("syncs");
    }
    let store = open(directory.path());
    let entry = store.entries.of(id);
    let guard = Arc::clone(&entry.lock).lock_owned().await;
    let mut peek = store.peek(id);
    for _ in 0..50 {
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(peek.as_mut().poll(context)));
        assert!(polled.await.is_pending(), "it is not synced yet");
        tokio::task::yield_now().await;
    }
    drop(guard);
    assert_eq!(peek.await.expect("can be peeked at").expect("is there").offset.offset(), Offset::new(7));
    let here = directory.path().join("open").join(id.to_string());
    std::fs::write(here.join("damaged"), "the disk failed").expect("can be written");
    for guard in [None, Some(Arc::clone(&entry.lock).lock_owned().await)] {
        assert!(matches!(store.peek(id).await, Err(Error::Damaged(_))), "{}", guard.is_some());
    }
}
