//! Tests of the local store beyond the contract: its files, and the failures of the system.

use std::path::Path;

use bytes::Bytes;
use hoist_proto::testing;
use hoist_proto::types::{Fence, Length, Offset, UploadId};
use hoist_proto::upload::{Phase, TargetResponse, Upload};
use http::StatusCode;

use super::{Durability, LocalStore, Options};
use crate::store::{Error, Store};

pub(super) fn upload(number: u64, length: Option<u64>) -> Upload {
    let mut bits = [0; 16];
    bits[..8].copy_from_slice(&number.to_be_bytes());
    Upload { length: length.map(Length::new), ..testing::upload(UploadId::from_bits(bits)) }
}

pub(super) fn open(directory: &Path) -> LocalStore {
    LocalStore::open(directory, &Options::default()).expect("the directory can be used")
}

mod agreement;
mod blocked;
mod cache;
mod crash;
mod directories;
mod disk;
mod events;
mod failing;
mod files;
mod join;
mod killed;
mod known;
mod odd;
mod operations;
mod peek;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod sending;
mod spliced;
mod unverified;

#[cfg(feature = "contract")]
mod fulfils_the_contract {
    use std::path::Path;
    use std::sync::Arc;

    use crate::contract::{self, Site};
    use crate::fs::{Durability, LocalStore, Options};
    use crate::store::{BoxFuture, Store};

    struct Local {
        data: tempfile::TempDir,
        exports: tempfile::TempDir,
        options: Options,
    }

    impl Local {
        fn new(options: Options) -> Self {
            let directory = || tempfile::tempdir().expect("a directory");
            Self { data: directory(), exports: directory(), options }
        }
    }

    impl Site for Local {
        fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
            Box::pin(async {
                let store = LocalStore::open(self.data.path(), &self.options).expect("opens");
                Arc::new(store) as Arc<dyn Store>
            })
        }

        fn directory(&self) -> &Path {
            self.exports.path()
        }

        fn exported(&self, name: &str) -> Option<Vec<u8>> {
            std::fs::read(self.exports.path().join(name)).ok()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn at_disk() {
        contract::run(|| Local::new(Options::default())).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn at_os() {
        contract::run(|| Local::new(Options { durability: Durability::Os, ..Options::default() })).await;
    }

    /// One thread of each kind, tiny queues, and a sync for every buffer, so that rare interleavings become common.
    #[tokio::test]
    async fn with_tiny_queues() {
        let options = Options {
            queue_bytes_max: 4096,
            budget_bytes_max: 8192,
            disk_threads: 1,
            other_threads: 1,
            sync_bytes: 8192,
            fences_max: 4096,
            ..Options::default()
        };
        contract::run(|| Local::new(options.clone())).await;
    }
}

#[tokio::test]
async fn a_small_upload_is_stored_and_completed() {
    for durability in [Durability::Disk, Durability::Os] {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { durability, ..Options::default() };
        let store = LocalStore::open(directory.path(), &options).expect("opens");
        let mut upload = upload(1, Some(11));
        let mut writer = store.create(&upload, Fence::new(1)).await.expect("creates");
        writer.write(Bytes::from_static(b"hello ")).await.expect("writes");
        writer.write(Bytes::from_static(b"world")).await.expect("writes");
        assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(11));
        upload.phase = Phase::Delivered(TargetResponse::of(StatusCode::NO_CONTENT));
        store.commit(&upload, Fence::new(1)).await.expect("commits");
        drop((writer, store));
        let store = LocalStore::open(directory.path(), &options).expect("opens again");
        let loaded = store.load(upload.id, Fence::new(2)).await.expect("loads").expect("is there");
        assert_eq!(loaded.offset.offset(), Offset::new(11));
        assert_eq!(loaded.phase, upload.phase);
        let mut reader = store.read(upload.id, Offset::ZERO).await.expect("opens");
        assert_eq!(reader.next().await.expect("reads").as_deref(), Some(&b"hello world"[..]));
        assert_eq!(reader.next().await.expect("reads"), None);
        let done = directory.path().join("done").join(upload.id.to_string());
        assert_eq!(std::fs::read(done.join("content")).expect("there"), b"hello world");
    }
}

#[tokio::test]
async fn an_older_writer_is_refused_and_its_accepted_bytes_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    let mut writer = store.create(&upload, Fence::new(1)).await.expect("creates");
    writer.write(Bytes::from(vec![7; 300_000])).await.expect("writes");
    let loaded = store.load(upload.id, Fence::new(2)).await.expect("loads").expect("is there");
    assert_eq!(loaded.offset.offset(), Offset::new(300_000));
    assert!(matches!(writer.write(Bytes::from_static(b"late")).await, Err(Error::Fenced)));
    assert!(matches!(writer.sync().await, Err(Error::Fenced)));
    let mut newer = store.append(upload.id, Offset::new(300_000), Fence::new(2)).await.expect("opens");
    newer.write(Bytes::from_static(b"new")).await.expect("writes");
    assert_eq!(newer.sync().await.expect("syncs").offset(), Offset::new(300_003));
    assert!(matches!(store.commit(&upload, Fence::new(1)).await, Err(Error::Fenced)));
    store.remove(upload.id, Fence::new(3)).await.expect("removes");
    assert!(store.load(upload.id, Fence::new(4)).await.expect("loads").is_none());
    assert!(matches!(store.remove(upload.id, Fence::new(4)).await, Err(Error::Missing)));
}
