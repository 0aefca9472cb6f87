//! Files: their modes and names, and foreign files in their place.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset};
use hoist_proto::upload::{Phase, TargetResponse, Upload};
use http::StatusCode;

use super::{open, upload};
use crate::fs::sys::faults::Faults;
use crate::fs::{LocalStore, Options};
use crate::record::{self, Record};
use crate::store::{Error, Store};

const ONE: Fence = Fence::new(1);

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
}

fn done(upload: &Upload) -> Upload {
    Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::NO_CONTENT)), ..upload.clone() }
}

/// Creates an upload with this content and syncs it. Returns its directory.
async fn stored(store: &LocalStore, data: &Path, upload: &Upload, content: &'static [u8]) -> PathBuf {
    let mut writer = store.create(upload, ONE).await.expect("creates");
    writer.write(Bytes::from_static(content)).await.expect("writes");
    writer.sync().await.expect("syncs");
    data.join("open").join(upload.id.to_string())
}

#[tokio::test]
async fn files_are_accessible_to_their_owner_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("made/by/the/store");
    let store = open(&data);
    let upload = upload(1, None);
    let here = stored(&store, &data, &upload, b"secret").await;
    for path in [&data, &data.join("open"), &data.join("done"), &here] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    for path in [data.join("lock"), here.join("content"), here.join("record")] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    let names = fs::read_dir(&here).expect("a directory").map(|entry| entry.expect("a name").file_name());
    assert_eq!(names.count(), 2, "the draft has become the record");
    store.commit(&done(&upload), ONE).await.expect("commits");
    store.export(upload.id, directory.path(), "out.txt", ONE).await.expect("exports");
    let plain = directory.path().join("plain");
    fs::write(&plain, b"").expect("a file of this process's umask");
    assert_eq!(mode(&directory.path().join("out.txt")), mode(&plain), "as any file of this process");
}

#[tokio::test]
async fn a_directory_has_one_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let Err(Error::Busy(why)) = LocalStore::open(directory.path(), &Options::default()) else {
        panic!("two stores in one directory");
    };
    assert!(why.contains(&std::process::id().to_string()), "{why}");
    assert!(why.contains(&directory.path().display().to_string()), "{why}");
    // A writer that still exists keeps files open, but must not keep the lock.
    let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
    writer.write(Bytes::from_static(b"accepted")).await.expect("writes");
    drop(store);
    assert!(writer.write(Bytes::from_static(b"late")).await.is_err());
    let store = open(directory.path());
    let found = store.load(upload(1, None).id, ONE).await.expect("loads").expect("is there");
    assert_eq!(found.offset.offset(), Offset::new(8), "what was accepted is written before the store ends");
}

// proves: TOK-TOKEN-04
#[tokio::test]
async fn links_inside_the_directory_are_not_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, outside) = (directory.path().join("data"), directory.path().join("outside"));
    fs::create_dir(&outside).expect("a directory");
    let store = open(&data);
    let victim = upload(1, None);
    let text = record::to_bytes(&Record { upload: victim.clone(), discarded: None }).expect("encodes");
    fs::write(outside.join("record"), &text).expect("a file");
    fs::write(outside.join("content"), b"theirs").expect("a file");

    // A link in the place of an upload's directory.
    symlink(&outside, data.join("open").join(victim.id.to_string())).expect("a link");
    assert!(matches!(store.load(victim.id, ONE).await, Err(Error::Damaged(_))));
    assert!(matches!(store.create(&victim, ONE).await.err(), Some(Error::Damaged(_))));
    assert!(store.append(victim.id, Offset::new(6), ONE).await.is_err());
    assert!(store.read(victim.id, Offset::ZERO).await.is_err());
    assert!(store.remove(victim.id, ONE).await.is_err());
    assert!(store.list_all().await.expect("lists").is_empty());

    // Links, and a pipe without a writer, in the place of its files.
    for (number, name, is_pipe) in [(2, "content", false), (3, "record", false), (4, "content", true)] {
        let upload = upload(number, None);
        let here = stored(&store, &data, &upload, b"ours").await;
        fs::remove_file(here.join(name)).expect("it is there");
        if is_pipe {
            let pipe = rustix::fs::mkfifoat(rustix::fs::CWD, here.join(name), rustix::fs::Mode::RWXU);
            pipe.expect("a pipe");
        } else {
            symlink(outside.join(name), here.join(name)).expect("a link");
        }
        // A record in memory is not read again.
        store.entries.forget_records();
        let newer = Fence::new(2);
        assert!(store.append(upload.id, Offset::new(4), newer).await.is_err(), "{name}");
        assert!(store.append(upload.id, Offset::new(6), newer).await.is_err(), "{name}");
        if name == "content" {
            assert!(store.read(upload.id, Offset::ZERO).await.is_err(), "{name}");
            assert!(store.export(upload.id, directory.path(), "stolen", newer).await.is_err(), "{name}");
        } else {
            assert!(store.load(upload.id, newer).await.is_err(), "{name}");
        }
        store.remove(upload.id, newer).await.expect("removes the link, not its target");
    }
    assert_eq!(fs::read(outside.join("content")).expect("untouched"), b"theirs");
    assert_eq!(fs::read(outside.join("record")).expect("untouched"), text);
    drop(store);
    fs::remove_dir_all(data.join("done")).expect("it is there");
    symlink(&outside, data.join("done")).expect("a link");
    assert!(LocalStore::open(&data, &Options::default()).is_err(), "a parent directory must not be a link");
}

#[tokio::test]
async fn remains_of_a_crash_are_removed_and_damaged_uploads_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path();
    drop(open(data));
    let text = |number| {
        let record = Record { upload: upload(number, None), discarded: None };
        record::to_bytes(&record).expect("encodes")
    };
    let put = |directory: &str, files: &[(&str, &[u8])]| {
        let here = data.join(directory);
        fs::create_dir_all(&here).expect("a directory");
        for (name, bytes) in files {
            fs::write(here.join(name), bytes).expect("a file");
        }
        here
    };
    let id = |number| upload(number, None).id;
    let torn = &text(2)[..100];
    let newer = br#"{"version": 2}"#;
    let cleared = [
        put(&format!("open/{}", id(1)), &[("content", b"")]),
        put(&format!("open/{}", id(2)), &[("content", b"half"), ("draft", torn)]),
        put(&format!("open/{}.gone", id(3)), &[("content", b"rest")]),
        put(&format!("done/{}.gone", id(4)), &[("record", &text(4)), ("exported", b"")]),
    ];
    let kept = [
        put(&format!("open/{}", id(5)), &[("content", b"12345"), ("record", &text(5)), ("record.new", torn)]),
        put(&format!("open/{}", id(6)), &[("content", b"123456"), ("draft", &text(6))]),
        put(&format!("open/{}", id(7)), &[("content", b"1234567"), ("record", torn)]),
        put(&format!("open/{}", id(8)), &[("content", b"12345678"), ("draft", newer)]),
        put(&format!("open/{}", id(9)), &[("record", &text(9))]),
        put(&format!("open/{}", id(10)), &[("content", b""), ("record", &text(11))]),
        put("open/lost+found", &[("whose", b"?")]),
    ];
    let store = open(data);
    assert_eq!(store.list_all().await.expect("lists").len(), 2);
    assert!(cleared.iter().all(|path| !path.exists()), "{cleared:?}");
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
    for (number, expected) in [(1, None), (2, None), (3, None), (5, Some(5)), (6, Some(6))] {
        let found = store.load(id(number), ONE).await.expect("loads");
        assert_eq!(found.map(|upload| upload.offset.offset().get()), expected, "{number}");
    }
    for number in [7, 8, 9, 10] {
        let found = store.load(id(number), ONE).await;
        assert!(matches!(found, Err(Error::Damaged(_))), "{number}: {found:?}");
    }
    assert!(kept[5].join("content").exists(), "what is damaged is left as it is");
    let mut seen = store.list_all().await.expect("lists");
    seen.sort_unstable_by_key(|summary| summary.id);
    assert_eq!(seen.iter().map(|summary| summary.id).collect::<Vec<_>>(), [id(5), id(6)]);
    for number in 5..=10 {
        store.remove(id(number), ONE).await.expect("removes, damaged or not");
    }
    store.create(&upload(7, None), ONE).await.expect("the id is free again");
}

#[tokio::test]
async fn an_interrupted_move_to_done_is_completed() {
    let directory = tempfile::tempdir().expect("a directory");
    let upload = upload(1, None);
    let store = open(directory.path());
    stored(&store, directory.path(), &upload, b"whole").await;
    store.commit(&done(&upload), ONE).await.expect("commits");
    drop(store);
    let parents = ["done", "open"].map(|parent| directory.path().join(parent).join(upload.id.to_string()));
    fs::rename(&parents[0], &parents[1]).expect("it is there");
    let store = open(directory.path());
    assert_eq!(store.list_all().await.expect("lists").len(), 1);
    let found = store.load(upload.id, ONE).await.expect("loads").expect("is there");
    assert_eq!((found.offset.offset().get(), found.is_complete()), (5, true));
    assert!(parents[0].exists() && !parents[1].exists());
}

#[tokio::test]
async fn content_shorter_than_acknowledged_is_damaged() {
    let directory = tempfile::tempdir().expect("a directory");
    let upload = upload(1, None);
    let store = open(directory.path());
    let here = stored(&store, directory.path(), &upload, b"acknowledged").await;
    fs::write(here.join("content"), b"ack").expect("a file");
    store.entries.forget_records();
    assert!(matches!(store.load(upload.id, Fence::new(2)).await, Err(Error::Damaged(_))));
}

#[tokio::test]
async fn unsynced_bytes_are_bounded_during_an_upload() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = Options::default();
    (options.sync_bytes, options.queue_bytes_max) = (256 * 1024, 64 * 1024);
    let store = LocalStore::open(directory.path(), &options).expect("opens");
    let upload = upload(1, None);
    let mut writer = store.create(&upload, ONE).await.expect("creates");
    let queue = store.entries.of(upload.id).queue().expect("it has a writer");
    for _ in 0..256 {
        writer.write(Bytes::from(vec![1; 16 * 1024])).await.expect("writes");
        let unsynced = queue.content.unsynced();
        // The bytes of one sync and those that arrive while it runs, each with the queue that was being written.
        assert!(unsynced <= (2 * 256 + 3 * 64) * 1024, "{unsynced} bytes are unsynced");
    }
    assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(4 * 1024 * 1024));
}

/// A directory may contain a million uploads.
#[tokio::test]
async fn a_listing_reads_each_file_of_an_upload_once() {
    const COUNT: usize = 20;
    let directory = tempfile::tempdir().expect("a directory");
    let faults = Faults::install();
    let store = open(directory.path());
    for number in 0..COUNT {
        let upload = upload(number as u64, None);
        stored(&store, directory.path(), &upload, b"content").await;
        store.commit(&done(&upload), ONE).await.expect("commits");
    }
    // The first listing also cleans.
    for _ in 0..2 {
        let before = faults.reads();
        assert_eq!(store.list_all().await.expect("lists").len(), COUNT);
        // The directory, `damaged`, and the record are opened; the record is read, and the content looked at.
        assert_eq!(faults.reads() - before, COUNT * 5);
    }
}
