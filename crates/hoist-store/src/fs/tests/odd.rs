//! Entries of the data directory that no store creates: they affect at most one upload, and stop nothing.

use std::fs;
use std::os::unix::fs::symlink;

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset};
use hoist_proto::upload::{Phase, TargetResponse, Upload};
use http::StatusCode;

use super::{open, upload};
use crate::fs::make_directory;
use crate::store::{Error, Store};

const ONE: Fence = Fence::new(1);

#[tokio::test]
async fn foreign_entries_are_ignored_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path();
    let good = upload(1, None);
    let store = open(data);
    let mut writer = store.create(&good, ONE).await.expect("creates");
    writer.write(Bytes::from_static(b"good")).await.expect("writes");
    writer.sync().await.expect("syncs");
    drop((writer, store));

    let id = |number| upload(number, None).id;
    for parent in ["open", "done"].map(|parent| data.join(parent)) {
        symlink("nowhere", parent.join("dangling")).expect("a link");
        symlink("nowhere", parent.join(format!("{}", id(2)))).expect("a link");
        symlink("nowhere", parent.join(format!("{}.gone", id(3)))).expect("a link");
        fs::write(parent.join(format!("{}", id(4))), "a file").expect("a file");
        fs::write(parent.join(format!("{}.gone", id(5))), "a file").expect("a file");
        fs::write(parent.join("\u{1b}[2Jnotes.txt"), "foreign").expect("a file");
        fs::create_dir_all(parent.join(format!("{}.gone/below", id(6)))).expect("directories");
        for name in ["content", "draft", "record", "content.new"] {
            fs::create_dir_all(parent.join(id(7).to_string()).join(name)).expect("directories");
        }
        fs::create_dir_all(parent.join(id(8).to_string()).join("draft")).expect("directories");
    }
    fs::create_dir(data.join("umask")).expect("a directory");
    fs::create_dir(data.join("probe-0")).expect("a directory");
    symlink("nowhere", data.join("dangling")).expect("a link");

    let store = open(data);
    let found = store.load(good.id, ONE).await.expect("loads").expect("is there");
    assert_eq!(found.offset.offset(), Offset::new(4));
    let seen = store.list_all().await.expect("lists");
    assert_eq!(seen.iter().map(|summary| summary.id).collect::<Vec<_>>(), [good.id]);
    for number in [2, 4, 7, 8] {
        assert!(store.load(id(number), ONE).await.is_err(), "{number}");
    }
    let mut writer = store.create(&upload(9, None), ONE).await.expect("others are created");
    writer.write(Bytes::from_static(b"more")).await.expect("writes");
    assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(4));
}

#[tokio::test]
async fn an_upload_with_a_foreign_directory_can_be_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    drop(store.create(&upload, ONE).await.expect("creates"));
    let here = directory.path().join("open").join(upload.id.to_string());
    fs::create_dir(here.join("theirs")).expect("a directory");
    store.remove(upload.id, ONE).await.expect("removes");
    assert!(store.load(upload.id, ONE).await.expect("loads").is_none());
    assert!(matches!(store.remove(upload.id, ONE).await, Err(Error::Missing)));
}

#[tokio::test]
async fn content_left_beside_the_record_by_a_crash_is_freed() {
    let directory = tempfile::tempdir().expect("a directory");
    let upload = upload(1, None);
    let here = directory.path().join("done").join(upload.id.to_string());
    {
        let store = open(directory.path());
        let mut writer = store.create(&upload, ONE).await.expect("creates");
        writer.write(Bytes::from_static(b"delivered")).await.expect("writes");
        let done =
            Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::CREATED)), ..upload.clone() };
        store.commit_and_discard(&done, ONE).await.expect("commits");
        assert!(!here.join("content").exists());
    }
    // The state after a crash between the commit of the record and the removal of the content.
    fs::write(here.join("content"), b"delivered").expect("a file");
    let store = open(directory.path());
    let seen = store.list_all().await.expect("lists");
    assert_eq!(seen.iter().map(|summary| summary.stored).collect::<Vec<_>>(), [Offset::new(9)]);
    assert!(!here.join("content").exists(), "no later run would free it");
    let found = store.load(upload.id, ONE).await.expect("loads").expect("is there");
    assert_eq!(found.offset.offset(), Offset::new(9));
}

#[test]
fn directories_are_created_with_their_ancestors() {
    let directory = tempfile::tempdir().expect("a directory");
    let deep = directory.path().join("a/b/c");
    make_directory(&deep, 0o700).expect("made");
    make_directory(&deep, 0o700).expect("made before");
    assert!(deep.is_dir());
    fs::write(directory.path().join("file"), b"").expect("a file");
    assert!(make_directory(&directory.path().join("file"), 0o700).is_err());
    assert!(make_directory(&directory.path().join("file/below"), 0o700).is_err());
}
