//! Disks that are full, read-only, another file system, gone, or failing to sync.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset};
use hoist_proto::upload::{Phase, TargetResponse, Upload};
use http::StatusCode;

use super::{open, upload};
use crate::fs::{Headroom, LocalStore, Options};
use crate::store::{Error, Store};

const ONE: Fence = Fence::new(1);

/// A file system in memory, a few MiB large.
pub(super) struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Returns `None`, after printing the reason, where mounting is not permitted.
    pub(super) fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let arguments = ["-t", "tmpfs", "-o", "size=4m", "tmpfs"];
        match Command::new("mount").args(arguments).arg(directory.path()).output() {
            Ok(output) if output.status.success() => Some(Self(directory)),
            Ok(output) => {
                println!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: no mount: {error}");
                None
            }
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn remount(&self, how: &str) {
        let arguments = ["-o", &format!("remount,{how}")];
        let status = Command::new("mount").args(arguments).arg(self.0.path()).status();
        assert!(status.expect("it was there before").success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, because a failing test may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_keeps_what_fitted() {
    let Some(mounted) = Mounted::new() else { return };
    let options = Options { headroom: Headroom::Bytes(0), ..Options::default() };
    let store = LocalStore::open(&mounted.data(), &options).expect("opens");
    let large = upload(1, Some(1 << 40));
    assert!(matches!(store.create(&large, ONE).await.err(), Some(Error::Full)));
    assert!(store.load(large.id, ONE).await.expect("loads").is_none(), "nothing is left behind");
    assert!(!mounted.data().join("open").join(large.id.to_string()).exists());

    let upload = upload(2, None);
    let mut writer = store.create(&upload, ONE).await.expect("creates");
    let mut sent = Vec::new();
    let full = loop {
        let buffer = (0..100_003).map(|at| u8::try_from((sent.len() + at) % 251).expect("small"));
        let buffer = buffer.collect::<Vec<_>>();
        sent.extend_from_slice(&buffer);
        if let Err(error) = writer.write(Bytes::from(buffer)).await {
            break error;
        }
        assert!(sent.len() < 64 << 20, "the disk is small");
    };
    assert!(matches!(full, Error::Full), "{full}");
    assert!(matches!(writer.write(Bytes::from_static(b"more")).await, Err(Error::Full)), "and stays so");
    let fitted = writer.sync().await.expect("the bytes that fitted are durable").offset();
    assert!(fitted.get() > 3 << 20, "{fitted} bytes fitted");
    let bytes = usize::try_from(fitted.get()).expect("small");
    let here = mounted.data().join("open").join(upload.id.to_string());
    assert!(fs::read(here.join("content")).expect("there") == sent[..bytes]);
    assert!(matches!(store.check_health().await, Err(Error::Full)));

    // The record cannot be replaced, and the old one stays.
    let complete = Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::OK)), ..upload.clone() };
    assert!(matches!(store.commit(&complete, ONE).await, Err(Error::Full)));
    let found = store.load(upload.id, Fence::new(2)).await.expect("loads").expect("is there");
    assert_eq!((found.offset.offset(), &found.phase), (fitted, &Phase::Open));

    // With space again, the upload continues at its offset.
    mounted.remount("size=8m");
    store.check_health().await.expect("there is space");
    let mut writer = store.append(upload.id, fitted, Fence::new(2)).await.expect("continues");
    writer.write(Bytes::from(sent[bytes..].to_vec())).await.expect("writes");
    assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(sent.len() as u64));
    assert!(fs::read(here.join("content")).expect("there") == sent);
}

/// Writes until the store is full. Returns the number of durable bytes.
async fn fill(store: &LocalStore, stored: &Upload, fence: Fence) -> u64 {
    let mut writer = store.create(stored, fence).await.expect("creates");
    let mut sent = 0;
    while writer.write(Bytes::from(vec![7; 100_003])).await.is_ok() {
        sent += 100_003;
        assert!(sent < 64 << 20, "the disk is small");
    }
    writer.sync().await.expect("the bytes that fitted are durable").offset().get()
}

fn available(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("a file system");
    stat.f_bavail * stat.f_frsize
}

#[tokio::test]
async fn uploads_leave_the_headroom_free() {
    for (headroom, kept_free) in [(Headroom::Bytes(1 << 20), 1 << 20), (Headroom::Percent(50), 2 << 20)] {
        let Some(mounted) = Mounted::new() else { return };
        let options = Options { headroom, ..Options::default() };
        let store = LocalStore::open(&mounted.data(), &options).expect("opens");
        let left = available(mounted.0.path()) - kept_free;
        assert!(matches!(store.create(&upload(1, Some(left + 4096)), ONE).await.err(), Some(Error::Full)));
        drop(store.create(&upload(2, Some(left - 100_000)), ONE).await.expect("fits"));

        let full = upload(3, None);
        let bytes = fill(&store, &full, ONE).await;
        let free = available(mounted.0.path());
        // The records take a few pages of the headroom, which is what it is for.
        assert!(free > kept_free - 100_000 && free < kept_free + 100_000, "{free} bytes are free");
        let found = store.load(full.id, Fence::new(2)).await.expect("loads").expect("is there");
        assert_eq!(found.offset.offset(), Offset::new(bytes), "what fitted stays");
        let complete = Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::OK)), ..full.clone() };
        store.commit(&complete, Fence::new(2)).await.expect("there is space for records");
        store.remove(full.id, Fence::new(2)).await.expect("removes");
        store.check_health().await.expect("there is space again");
        assert!(fill(&store, &full, Fence::new(3)).await.abs_diff(bytes) < 100_000);
    }
}

#[tokio::test]
async fn a_nearly_full_disk_is_healthy_again_only_with_clearly_more_space() {
    let Some(mounted) = Mounted::new() else { return };
    let options = Options { headroom: Headroom::Bytes(1 << 20), ..Options::default() };
    let store = LocalStore::open(&mounted.data(), &options).expect("opens");
    let stat = rustix::fs::statvfs(mounted.0.path()).expect("a file system");
    let floor = stat.f_blocks * stat.f_frsize / 100;
    let filler = mounted.0.path().join("filler");
    let cases = [
        (3 * floor, true),
        (floor / 2, false),
        (floor * 3 / 2, false),
        (3 * floor, true),
        (floor * 3 / 2, true),
    ];
    for (left, is_healthy) in cases {
        fs::write(&filler, "").expect("written");
        let taken = available(mounted.0.path()) - (1 << 20) - left;
        fs::write(&filler, vec![1; usize::try_from(taken).expect("small")]).expect("written");
        assert_eq!(store.check_health().await.is_ok(), is_healthy, "{left} bytes left");
    }
}

#[tokio::test]
async fn a_declared_length_reserves_no_space() {
    let Some(mounted) = Mounted::new() else { return };
    let store = open(&mounted.data());
    let before = available(mounted.0.path());
    for number in 0..3 {
        drop(store.create(&upload(number, Some(3 << 20)), ONE).await.expect("each fits by itself"));
    }
    assert!(before - available(mounted.0.path()) < 200_000, "an empty upload takes its records alone");
    let mut writer = store.create(&upload(9, Some(3 << 20)), ONE).await.expect("fits");
    for _ in 0..48 {
        writer.write(Bytes::from(vec![1; 64 * 1024])).await.expect("writes");
    }
    assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(3 << 20));
    // A length that can never fit fails at once and leaves nothing behind.
    let large = upload(10, Some(15 << 40));
    assert!(matches!(store.create(&large, ONE).await.err(), Some(Error::Full)));
    assert!(store.load(large.id, ONE).await.expect("loads").is_none());
}

#[tokio::test]
async fn a_read_only_disk_is_reported_as_such() {
    let Some(mounted) = Mounted::new() else { return };
    let store = open(&mounted.data());
    let stored = upload(1, None);
    let mut writer = store.create(&stored, ONE).await.expect("creates");
    writer.write(Bytes::from_static(b"before")).await.expect("writes");
    writer.sync().await.expect("syncs");
    drop(writer);
    drop(store);
    mounted.remount("ro");
    let error = LocalStore::open(&mounted.data(), &Options::default()).err();
    assert!(matches!(&error, Some(Error::Io { source, .. }) if is_read_only(source)), "{error:?}");
    mounted.remount("rw");
    let store = open(&mounted.data());
    mounted.remount("ro");
    let error = store.check_health().await.expect_err("cannot take an upload");
    assert!(error.to_string().contains("read-only"), "{error}");
    let error = store.create(&upload(2, None), ONE).await.err();
    assert!(matches!(&error, Some(Error::Io { source, .. }) if is_read_only(source)), "{error:?}");
    // Stored uploads can still be read.
    let found = store.load(stored.id, Fence::new(2)).await.expect("loads").expect("is there");
    assert_eq!(found.offset.offset(), Offset::new(6));
    assert!(store.append(stored.id, Offset::new(6), Fence::new(2)).await.is_err());
    assert!(store.commit(&stored, Fence::new(2)).await.is_err());
    assert!(store.remove(stored.id, Fence::new(2)).await.is_err());
    assert_eq!(store.list_all().await.expect("lists").len(), 1);
    mounted.remount("rw");
    store.append(stored.id, Offset::new(6), Fence::new(2)).await.expect("the writer continues");
}

fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

#[tokio::test]
async fn a_vanished_directory_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let store = open(&data);
    let stored = upload(1, None);
    let mut writer = store.create(&stored, ONE).await.expect("creates");
    fs::remove_dir_all(&data).expect("it is there");
    let error = store.check_health().await.expect_err("cannot take an upload");
    assert!(error.to_string().contains("deleted"), "{error}");
    assert!(store.create(&upload(2, None), ONE).await.is_err());
    // The open file still accepts bytes, but bytes that cannot be found again are never durable.
    let _ = writer.write(Bytes::from_static(b"into the void")).await;
    assert!(writer.sync().await.is_err());
    assert!(store.load(stored.id, Fence::new(2)).await.expect("loads").is_none());
    assert!(matches!(store.remove(stored.id, Fence::new(2)).await, Err(Error::Missing)));
    assert!(store.list_all().await.expect("nothing is there").is_empty());
}

#[tokio::test]
async fn an_export_to_another_file_system_is_a_copy_made_once() {
    let Some(mounted) = Mounted::new() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let target = mounted.0.path();
    for number in 0..2 {
        let stored = upload(number, None);
        let bytes = vec![u8::try_from(number).expect("small"); 300_000];
        let mut writer = store.create(&stored, ONE).await.expect("creates");
        writer.write(Bytes::from(bytes.clone())).await.expect("writes");
        let complete = Upload { phase: Phase::Received, ..stored.clone() };
        store.commit(&complete, ONE).await.expect("commits");
        // The remains of an export that crashed.
        fs::write(target.join(format!(".{}.part", stored.id)), b"half").expect("a file");
        let name = store.export(stored.id, target, "film.mp4", ONE).await.expect("exports");
        let again = store.export(stored.id, target, "film.mp4", ONE).await.expect("exports");
        assert_eq!(name, again);
        assert_eq!(name == "film.mp4", number == 0, "{name}");
        assert!(fs::read(target.join(&name)).expect("there") == bytes);
        fs::write(target.join(&name), b"somebody else's now").expect("a file");
    }
    let names = fs::read_dir(target).expect("a directory").count();
    assert_eq!(names, 2, "the partial copies are gone");
    // A failed copy to a full disk leaves nothing there.
    let large = upload(9, None);
    let mut writer = store.create(&large, ONE).await.expect("creates");
    writer.write(Bytes::from(vec![0; 5 << 20])).await.expect("writes");
    writer.sync().await.expect("syncs");
    let exported = store.export(large.id, target, "large", ONE).await;
    assert!(matches!(exported, Err(Error::Full)), "{exported:?}");
    assert_eq!(fs::read_dir(target).expect("a directory").count(), names);
}

#[tokio::test]
async fn damage_marked_by_an_earlier_version_counts() {
    let directory = tempfile::tempdir().expect("a directory");
    let stored = upload(1, None);
    let store = open(directory.path());
    drop(store.create(&stored, ONE).await.expect("creates"));
    drop(store);
    let here = directory.path().join("open").join(stored.id.to_string());
    fs::write(here.join("damaged"), "the disk failed").expect("as an earlier version wrote it");
    assert_damaged(directory.path(), &stored).await;
}

async fn assert_damaged(directory: &Path, stored: &Upload) {
    let store = open(directory);
    let Err(Error::Damaged(why)) = store.load(stored.id, ONE).await else { panic!("it is damaged") };
    assert_eq!(why, "the disk failed");
    assert!(store.read(stored.id, Offset::ZERO).await.is_err());
    store.remove(stored.id, ONE).await.expect("removes");
}
