//! The states in which a crash may leave unverified bytes. None of these bytes is ever read.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset};

use super::{open, upload};
use crate::fs::{Durability, LocalStore, Options};
use crate::store::{Error, Store, Writer};

const ONE: Fence = Fence::new(1);
const VERIFIED: &[u8] = b"sure";

/// Creates an open upload that contains [`VERIFIED`], and closes its store. Returns the upload's directory.
async fn verified(data: &Path) -> PathBuf {
    let store = open(data);
    let upload = upload(1, None);
    let mut writer = store.create(&upload, ONE).await.expect("creates");
    writer.write(Bytes::from_static(VERIFIED)).await.expect("writes");
    writer.sync().await.expect("syncs");
    data.join("open").join(upload.id.to_string())
}

fn markers(here: &Path) -> Vec<String> {
    let names = fs::read_dir(here).expect("a directory").map(|entry| entry.expect("a name").file_name());
    names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("doubt")).collect()
}

async fn read(store: &LocalStore) -> Vec<u8> {
    let mut reader = store.read(upload(1, None).id, Offset::ZERO).await.expect("opens");
    let mut content = Vec::new();
    while let Some(bytes) = reader.next().await.expect("reads") {
        content.extend_from_slice(&bytes);
    }
    content
}

/// The states that `fs/content.rs` lists, and some that no store leaves.
#[tokio::test]
async fn every_state_that_a_crash_may_leave_is_read_correctly() {
    let id = upload(1, None).id;
    for (state, names, content, counted) in [
        ("a marker, no bytes behind it", &["doubt.4"][..], &b"sure"[..], 4),
        ("a marker, some bytes", &["doubt.4"], b"suredou", 4),
        ("a marker, bytes that are allocated but not written", &["doubt.4"], b"sure\0\0\0\0", 4),
        ("no marker", &[], b"suredoubt", 9),
        ("a marker beyond the end, after unsynced bytes were lost", &["doubt.9"], b"sure", 4),
        ("two markers", &["doubt.7", "doubt.4"], b"suredoubt", 4),
        ("names that are not markers", &["doubt", "doubt.", "doubt.-1", "doubt.04", "doubt.x"], b"surely", 6),
    ] {
        for first in ["load", "peek", "read", "list_all"] {
            let directory = tempfile::tempdir().expect("a directory");
            let here = verified(directory.path()).await;
            fs::write(here.join("content"), content).expect("a file");
            for name in names {
                fs::write(here.join(name), b"").expect("a file");
            }
            let store = open(directory.path());
            let counted_bytes = &content[..counted];
            let end = Offset::new(counted as u64);
            match first {
                "peek" => {
                    let found = store.peek(id).await.expect("can be peeked at").expect("is there");
                    assert_eq!(found.offset.offset(), end, "{state}");
                }
                "read" => assert_eq!(read(&store).await, counted_bytes, "{state}"),
                "list_all" => {
                    assert_eq!(store.list_all().await.expect("lists")[0].stored, end, "{state}");
                }
                _ => {}
            }
            let found = store.load(id, ONE).await.expect("loads").expect("is there");
            assert_eq!(found.offset.offset(), end, "{state}, after {first}");
            assert_eq!(fs::read(here.join("content")).expect("there"), counted_bytes, "{state}: cut off");
            let mut writer = store.append(id, end, ONE).await.expect("continues");
            writer.write(Bytes::from_static(b"!")).await.expect("writes");
            assert_eq!(writer.sync().await.expect("syncs").offset().get(), counted as u64 + 1, "{state}");
            drop((writer, store));
            // A marker that reappeared would truncate the bytes just acknowledged.
            assert_eq!(markers(&here).len(), if counted == 6 { 5 } else { 0 }, "{state}");
            assert_eq!(read(&open(directory.path())).await, [counted_bytes, b"!"].concat(), "{state}");
        }
    }
}

#[tokio::test]
async fn the_marker_exists_before_the_bytes_and_until_after_them() {
    for durability in [Durability::Disk, Durability::Os] {
        let directory = tempfile::tempdir().expect("a directory");
        let here = verified(directory.path()).await;
        let options = Options { durability, ..Options::default() };
        let store = LocalStore::open(directory.path(), &options).expect("opens");
        let id = upload(1, None).id;
        store.load(id, ONE).await.expect("loads");
        let mut writer = store.append(id, Offset::new(4), ONE).await.expect("continues");
        writer.mark_unverified().await.expect("marks");
        assert_eq!(markers(&here), ["doubt.4"], "{durability}");
        assert_eq!(fs::read(here.join("content")).expect("there"), VERIFIED);
        writer.write(Bytes::from_static(b"ly")).await.expect("writes");
        while fs::read(here.join("content")).expect("there") != b"surely" {
            tokio::task::yield_now().await;
        }
        assert_eq!(read(&store).await, VERIFIED, "{durability}: written, and not to be seen");
        assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(6));
        assert!(markers(&here).is_empty(), "{durability}");
        assert_eq!(read(&store).await, b"surely");
        writer.mark_unverified().await.expect("marks");
        assert_eq!(markers(&here), ["doubt.6"], "{durability}");
        writer.truncate(Offset::new(6)).await.expect("truncates");
        assert!(markers(&here).is_empty(), "{durability}");
    }
}

/// A crash may come between any two operations: the directory is copied there, in a state that the disk may have, and
/// opened by another store.
#[tokio::test]
async fn a_copy_taken_at_any_moment_has_no_unverified_byte() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = verified(directory.path()).await;
    let store = open(directory.path());
    let id = upload(1, None).id;
    let mut writer: Box<dyn Writer> = store.append(id, Offset::new(4), ONE).await.expect("continues");
    let mut counted = VERIFIED.to_vec();
    for round in 0..12_u8 {
        writer.mark_unverified().await.expect("marks");
        assert_copy_holds(&here, &counted).await;
        writer.write(Bytes::from(vec![round; 3000])).await.expect("writes");
        assert_copy_holds(&here, &counted).await;
        // Writes and syncs the bytes without verifying them.
        let found = store.load(id, ONE).await.expect("loads").expect("is there");
        assert_eq!(found.offset.offset().get(), counted.len() as u64);
        assert_copy_holds(&here, &counted).await;
        if round % 3 == 0 {
            writer.truncate(Offset::new(counted.len() as u64)).await.expect("truncates");
        } else {
            counted.extend_from_slice(&[round; 3000]);
            writer.sync().await.expect("syncs");
        }
        assert_copy_holds(&here, &counted).await;
    }
}

async fn assert_copy_holds(here: &Path, counted: &[u8]) {
    let copied = tempfile::tempdir().expect("a directory");
    let there = copied.path().join("open").join(here.file_name().expect("a name"));
    fs::create_dir_all(&there).expect("can be made");
    for entry in fs::read_dir(here).expect("a directory") {
        let entry = entry.expect("a name");
        fs::copy(entry.path(), there.join(entry.file_name())).expect("can be copied");
    }
    assert_eq!(read(&open(copied.path())).await, counted);
}

#[tokio::test]
async fn a_marker_that_cannot_be_created_is_an_error_and_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = verified(directory.path()).await;
    let store = open(directory.path());
    let id = upload(1, None).id;
    let mut writer = store.append(id, Offset::new(4), ONE).await.expect("continues");
    // A directory has the marker's name.
    fs::create_dir(here.join("doubt.4")).expect("can be made");
    let refused = writer.mark_unverified().await;
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    fs::remove_dir(here.join("doubt.4")).expect("it is there");
    writer.write(Bytes::from_static(b"ly")).await.expect("nothing is unverified");
    assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(6));
}
