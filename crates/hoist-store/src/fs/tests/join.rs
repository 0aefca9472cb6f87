//! Joined content on the disk: the blocks it shares with its parts, and the space it takes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hoist_proto::types::{Fence, Offset, UploadId};
use hoist_proto::upload::{Composition, Phase, TargetResponse, Upload};
use http::StatusCode;

use super::disk::Mounted;
use super::{open, upload};
use crate::fs::{Durability, LocalStore, Options};
use crate::store::{Error, Store};

const ONE: Fence = Fence::new(1);

/// Creates a complete part with these bytes.
async fn part(store: &LocalStore, number: u64, bytes: Vec<u8>) -> UploadId {
    let part = Upload { composition: Composition::Part, ..upload(number, Some(bytes.len() as u64)) };
    let mut writer = store.create(&part, ONE).await.expect("creates");
    writer.write(bytes.into()).await.expect("writes");
    let done = Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::NO_CONTENT)), ..part.clone() };
    store.commit(&done, ONE).await.expect("commits");
    part.id
}

async fn composed(store: &LocalStore, number: u64, parts: &[UploadId]) -> Upload {
    let composed = Upload { composition: Composition::Concatenated(parts.to_vec()), ..upload(number, None) };
    drop(store.create(&composed, ONE).await.expect("creates"));
    composed
}

fn content_of(data: &Path, parent: &str, id: UploadId) -> PathBuf {
    data.join(parent).join(id.to_string()).join("content")
}

#[tokio::test]
// proves: TOK-IDX-07
async fn a_single_part_is_linked_and_never_written() {
    for durability in [Durability::Disk, Durability::Os] {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { durability, ..Options::default() };
        let store = LocalStore::open(directory.path(), &options).expect("opens");
        let data = vec![7; 100_000];
        let (id, empty) = (part(&store, 1, data.clone()).await, part(&store, 2, vec![]).await);
        let own = upload(3, None);
        store.create(&own, ONE).await.expect("creates").write(data.clone().into()).await.expect("writes");
        store.commit(&Upload { phase: Phase::Received, ..own.clone() }, ONE).await.expect("commits");
        let inode = |path: PathBuf| fs::metadata(path).expect("is there").ino();
        let file = inode(content_of(directory.path(), "done", id));
        for (number, parts, is_shared) in [
            (10, vec![id], true),
            (11, vec![empty, id, empty], true),
            (12, vec![id, id], false),
            (13, vec![own.id], false),
        ] {
            let composed = composed(&store, number, &parts).await;
            store.join(composed.id, &parts, ONE).await.expect("joins");
            let here = content_of(directory.path(), "open", composed.id);
            assert_eq!(inode(here) == file, is_shared, "{durability}: {number}");
            // Whatever happens to the joined upload, and whatever length it declares, the part stays as it is.
            assert!(store.append(composed.id, Offset::new(100_000), ONE).await.is_err());
            let length = Some(hoist_proto::types::Length::new(999_999));
            let failed = Upload {
                phase: Phase::Failed(TargetResponse::of(StatusCode::OK)),
                length,
                ..composed.clone()
            };
            store.commit(&failed, ONE).await.expect("commits");
            store.export(composed.id, directory.path(), "out", ONE).await.expect("exports");
            if number % 2 == 0 {
                store.discard(composed.id, ONE).await.expect("discards");
            }
            assert!(fs::read(content_of(directory.path(), "done", id)).expect("there") == data);
        }
        drop(store);
        let store = open(directory.path());
        let found = store.load(id, ONE).await.expect("loads").expect("is there");
        assert_eq!(found.offset.offset(), Offset::new(100_000));
    }
}

#[tokio::test]
async fn a_composed_upload_reserves_no_space() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let composed = Upload { composition: Composition::Concatenated(vec![]), ..upload(1, Some(64 << 20)) };
    drop(store.create(&composed, ONE).await.expect("creates"));
    assert_eq!(
        fs::metadata(content_of(directory.path(), "open", composed.id)).expect("is there").blocks(),
        0
    );
}

#[tokio::test]
async fn a_join_without_space_leaves_nothing() {
    let Some(mounted) = Mounted::new() else { return };
    let store = open(&mounted.data());
    let parts = [part(&store, 1, vec![1; 1 << 20]).await, part(&store, 2, vec![2; 700_001]).await];
    let before = free_bytes(&mounted.data());
    // Detected before the first byte is copied, although the first part would fit.
    for parts in [vec![parts[0]; 3], vec![parts[0], parts[1], parts[0], parts[1]]] {
        let composed = composed(&store, 9, &parts).await;
        let refused = store.join(composed.id, &parts, ONE).await;
        assert!(matches!(refused, Err(Error::Full)), "{refused:?}");
        let here = content_of(&mounted.data(), "open", composed.id);
        assert_eq!(fs::metadata(&here).expect("is there").len(), 0);
        assert!(!here.with_file_name("content.new").exists());
        assert_eq!(
            store.peek(composed.id).await.expect("can be peeked at").map(|found| found.offset.offset().get()),
            Some(0)
        );
        store.remove(composed.id, ONE).await.expect("removes");
        assert_eq!(free_bytes(&mounted.data()), before, "all of it is free again");
    }
    let composed = composed(&store, 9, &parts).await;
    assert_eq!(store.join(composed.id, &parts, ONE).await.expect("fits").offset().get(), (1 << 20) + 700_001);
}

fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("is mounted");
    stat.f_bfree * stat.f_frsize
}

#[tokio::test]
async fn the_remains_of_a_crashed_join_are_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let id = part(&store, 1, vec![1; 5000]).await;
    let composed = composed(&store, 2, &[id]).await;
    store.load(composed.id, ONE).await.expect("loads");
    drop(store);
    let here = content_of(directory.path(), "open", composed.id);
    fs::write(here.with_file_name("content.new"), vec![9; 70_000]).expect("a file");
    let store = open(directory.path());
    assert_eq!(store.list_all().await.expect("lists").len(), 2);
    assert!(!here.with_file_name("content.new").exists(), "the first listing after the start removes it");
    let found = store.load(composed.id, ONE).await.expect("loads").expect("is there");
    assert_eq!(found.offset.offset(), Offset::ZERO);
    // Or by the next join, if a failed one of this process left it.
    fs::write(here.with_file_name("content.new"), vec![9; 70_000]).expect("a file");
    store.join(composed.id, &[id, id], ONE).await.expect("joins");
    assert!(fs::read(&here).expect("there") == vec![1; 10_000]);
    assert!(!here.with_file_name("content.new").exists());
}

#[tokio::test]
async fn a_part_whose_length_changed_is_not_joined() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let (good, short) = (part(&store, 1, vec![1; 5000]).await, part(&store, 2, vec![2; 5000]).await);
    fs::write(content_of(directory.path(), "done", short), vec![2; 4999]).expect("a file");
    let lost = part(&store, 3, vec![3; 10]).await;
    fs::remove_file(content_of(directory.path(), "done", lost)).expect("is there");
    let damaged = part(&store, 4, vec![4; 10]).await;
    fs::write(content_of(directory.path(), "done", damaged).with_file_name("damaged"), b"why")
        .expect("a file");
    for bad in [short, lost, damaged] {
        for parts in [vec![bad], vec![good, bad], vec![bad, good]] {
            let composed = composed(&store, 9, &parts).await;
            assert!(store.join(composed.id, &parts, ONE).await.is_err());
            let found = store.load(composed.id, ONE).await.expect("loads").expect("is there");
            assert_eq!(found.offset.offset(), Offset::ZERO);
            store.remove(composed.id, ONE).await.expect("removes");
        }
    }
}

/// Each part is opened only when its bytes are joined.
#[tokio::test]
async fn thousands_of_parts_take_few_descriptors() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { durability: Durability::Os, ..Options::default() };
    let store = LocalStore::open(directory.path(), &options).expect("opens");
    let pair = [part(&store, 1, b"one".to_vec()).await, part(&store, 2, b"three".to_vec()).await];
    let parts = pair.repeat(1500);
    let composed = composed(&store, 9, &parts).await;
    let descriptors = || fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = descriptors();
    let mut join = store.join(composed.id, &parts, ONE);
    let mut most = 0;
    let joined = std::future::poll_fn(|context| {
        most = most.max(descriptors());
        context.waker().wake_by_ref();
        join.as_mut().poll(context)
    });
    assert_eq!(joined.await.expect("joins").offset(), Offset::new(8 * 1500));
    assert!(most < before + 100, "{before} became {most}");
    let content = fs::read(content_of(directory.path(), "open", composed.id)).expect("there");
    assert!(content == b"onethree".repeat(1500));
}
