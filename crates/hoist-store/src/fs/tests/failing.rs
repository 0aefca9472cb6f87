//! System calls that fail once, twice, or until the disk works again. Acknowledged offsets are reported as soon as
//! possible, and no upload counts as damaged that would be readable after a restart.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset};
use hoist_proto::upload::{Phase, TargetResponse, Upload};
use http::StatusCode;
use rustix::io::Errno;

use super::operations::{Operation, Site, pattern};
use super::{open, upload};
use crate::fs::LocalStore;
use crate::fs::sys::Call;
use crate::fs::sys::faults::Faults;
use crate::store::{Error, Store, Writer};

const ONE: Fence = Fence::new(1);
const TWO: Fence = Fence::new(2);

/// Writes 1000 bytes that are acknowledged, and then `more` that are not.
async fn written(store: &LocalStore, more: u64) -> Box<dyn Writer> {
    let mut writer = store.create(&upload(1, None), ONE).await.expect("creates");
    writer.write(pattern(0, 1000)).await.expect("writes");
    assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(1000));
    if more > 0 {
        writer.write(pattern(1000, 1000 + more)).await.expect("writes");
    }
    writer
}

fn content(data: &Path) -> PathBuf {
    data.join("open").join(upload(1, None).id.to_string()).join("content")
}

/// Loads the offset until the store returns it. Until then every error must be that of the disk.
async fn offset_after(store: &LocalStore, failures: usize) -> u64 {
    for _ in 0..failures {
        let failure = store.load(upload(1, None).id, TWO).await.expect_err("the disk still fails");
        assert!(matches!(failure, Error::Io { .. }), "{failure}");
    }
    let found = store.load(upload(1, None).id, TWO).await.expect("the disk works");
    found.expect("the upload is there").offset.offset().get()
}

fn set_attribute(file: &Path, value: &str) -> bool {
    rustix::fs::setxattr(file, "user.hoist.promised", value.as_bytes(), rustix::fs::XattrFlags::empty())
        .is_ok()
}

// proves: TOK-OFF-03
#[tokio::test]
async fn a_failed_sync_of_the_first_load_after_a_restart_hides_nothing() {
    for failures in [1, 2, 5] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        drop(written(&store, 0).await);
        drop(store);
        let store = open(directory.path());
        faults.fail(Call::SyncData, 0, failures, Errno::IO);
        assert_eq!(offset_after(&store, failures).await, 1000);
        assert_eq!(fs::read(content(directory.path())).expect("is there"), pattern(0, 1000));
        drop(store.append(upload(1, None).id, Offset::new(1000), TWO).await.expect("continues"));
        drop(store);
        assert_eq!(offset_after(&open(directory.path()), 0).await, 1000);
    }
}

/// After a failed sync, the success of a second one says nothing about the bytes of the first.
#[tokio::test]
async fn unacknowledged_bytes_are_truncated_when_their_first_sync_fails() {
    let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = open(directory.path());
    drop(written(&store, 500).await);
    drop(store);
    assert_eq!(fs::metadata(content(directory.path())).expect("is there").len(), 1500);
    for cuts in [0, 2] {
        let store = open(directory.path());
        faults.fail(Call::SyncData, 0, 1, Errno::IO);
        faults.fail(Call::Truncate, 0, cuts, Errno::IO);
        // The first of the failing truncations belongs to the failed sync.
        assert_eq!(offset_after(&store, 1 + cuts.saturating_sub(1)).await, 1000);
        assert_eq!(fs::read(content(directory.path())).expect("is there"), pattern(0, 1000));
        let mut writer = store.append(upload(1, None).id, Offset::new(1000), TWO).await.expect("continues");
        writer.write(pattern(1000, 1500)).await.expect("writes");
        drop(writer);
    }
}

/// The attribute may then be older than the acknowledged offset, because a power cut lost its last value.
#[tokio::test]
async fn bytes_beyond_the_attribute_of_another_boot_stay_when_a_sync_fails() {
    for value in [Some("00000000000000000600 0123456789abcdef0123456789abcdef"), Some("600"), None] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        drop(written(&store, 0).await);
        drop(store);
        let file = content(directory.path());
        match value {
            Some(value) if !set_attribute(&file, value) => {
                return println!("skipped: no extended attributes");
            }
            Some(_) => {}
            None => drop(rustix::fs::removexattr(&file, "user.hoist.promised")),
        }
        let store = open(directory.path());
        faults.fail(Call::SyncData, 0, 2, Errno::IO);
        assert_eq!(offset_after(&store, 2).await, 1000);
    }
}

// proves: TOK-OFF-03
#[tokio::test]
async fn failed_syncs_during_an_append_keep_acknowledged_bytes() {
    for failures in [1, 2, 3, 6] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        let mut writer = written(&store, 500).await;
        faults.fail(Call::SyncData, 0, failures, Errno::IO);
        let failure = writer.sync().await.expect_err("the disk fails");
        assert!(matches!(failure, Error::Io { .. }), "{failure}");
        writer.sync().await.expect_err("nothing is confirmed later, either");
        drop(writer);
        assert_eq!(offset_after(&store, failures - 1).await, 1000);
        let mut writer = store.append(upload(1, None).id, Offset::new(1000), TWO).await.expect("continues");
        writer.write(pattern(1000, 2000)).await.expect("writes");
        assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(2000));
        assert_eq!(fs::read(content(directory.path())).expect("is there"), pattern(0, 2000));
    }
}

#[tokio::test]
async fn a_failed_truncation_after_a_failed_sync_is_repeated() {
    let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = open(directory.path());
    let mut writer = written(&store, 500).await;
    faults.fail(Call::SyncData, 0, 1, Errno::IO);
    faults.fail(Call::Truncate, 0, 2, Errno::IO);
    writer.sync().await.expect_err("the disk fails");
    drop(writer);
    assert_eq!(offset_after(&store, 1).await, 1000);
    assert_eq!(fs::read(content(directory.path())).expect("is there"), pattern(0, 1000));
}

/// Each step of truncating unverified bytes fails once. The bytes never count.
#[tokio::test]
async fn bytes_whose_truncation_failed_never_count() {
    for call in [Call::SetAttribute, Call::Truncate, Call::SyncData] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        let mut writer = written(&store, 500).await;
        while writer.start_sync().offset() < Offset::new(1500) {
            tokio::task::yield_now().await;
        }
        // Changing the attribute takes two calls, of which the second removes it.
        faults.fail(call, 0, if call == Call::SetAttribute { 2 } else { 1 }, Errno::IO);
        writer.truncate(Offset::new(1000)).await.expect_err("the disk fails");
        assert!(writer.sync().await.is_err(), "and reports no offset any more");
        drop(writer);
        assert_eq!(offset_after(&store, 0).await, 1000, "{call:?}");
    }
}

/// A removed marker may reappear after a power cut, until the directory is synced.
#[tokio::test]
async fn a_marker_whose_removal_was_not_synced_is_removed_later() {
    for skip in [0, 1] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        let mut writer = written(&store, 0).await;
        writer.mark_unverified().await.expect("can be marked");
        writer.write(pattern(1000, 1500)).await.expect("writes");
        // One failure for the writer, and one for the first load.
        faults.fail(Call::SyncDir, 0, 1 + skip, Errno::IO);
        writer.sync().await.expect_err("the disk fails");
        drop(writer);
        assert_eq!(offset_after(&store, skip).await, 1000);
        let mut writer = store.append(upload(1, None).id, Offset::new(1000), TWO).await.expect("continues");
        writer.write(pattern(1000, 1200)).await.expect("writes");
        assert_eq!(writer.sync().await.expect("syncs").offset(), Offset::new(1200));
        drop((writer, store));
        assert_eq!(offset_after(&open(directory.path()), 0).await, 1200);
    }
}

/// The limit on the size of files counts as lack of space for this upload.
#[tokio::test]
async fn a_file_size_limit_keeps_stored_bytes() {
    for errno in [Errno::FBIG, Errno::NOSPC, Errno::DQUOT] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        let mut writer = written(&store, 0).await;
        faults.fail(Call::Write, 0, 1, errno);
        // The failure is reported by this write or a later one.
        let refused = loop {
            if let Err(error) = writer.write(pattern(1000, 1500)).await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        assert!(matches!(refused, Error::Full), "{refused}");
        assert_eq!(
            writer.sync().await.expect("the bytes that fitted are durable").offset(),
            Offset::new(1000)
        );
        drop(writer);
        assert_eq!(offset_after(&store, 0).await, 1000);
    }
}

/// Makes calls of one kind fail while an operation is retried.
async fn fails(operation: Operation, call: Call) {
    for failures in [1, 2, usize::MAX] {
        for skip in 0..6 {
            let context = format!("{operation:?}, {call:?} fails {failures} times after {skip}");
            let mut site = Site::prepared(operation).await;
            let store = site.open();
            site.faults.fail(call, skip, failures, Errno::IO);
            for round in 0.. {
                match site.attempt(&store).await {
                    Ok(()) => break,
                    Err(Error::Io { .. }) if round < 3 => {}
                    // The disk works again from here on.
                    Err(Error::Io { .. }) if round == 3 => site.faults.heal(),
                    Err(error) => panic!("{context}: {error}"),
                }
            }
            site.faults.heal();
            site.check_done(&store, &context).await;
            drop(store);
            let store = site.open();
            site.check_done(&store, &context).await;
            site.check_events(&store, &context).await;
        }
    }
}

// proves: TOK-OFF-03
#[tokio::test]
async fn failing_syncs_of_files_lose_nothing() {
    for operation in [Operation::Create, Operation::CreateWhole, Operation::Append, Operation::VerifyBytes] {
        fails(operation, Call::SyncData).await;
    }
}

#[tokio::test]
async fn failing_syncs_of_directories_lose_nothing() {
    let operations = [
        Operation::Create,
        Operation::CreateWhole,
        Operation::VerifyBytes,
        Operation::Commit,
        Operation::Deliver,
    ];
    for operation in operations {
        fails(operation, Call::SyncDir).await;
    }
}

#[tokio::test]
async fn failing_syncs_fail_a_commit_and_a_join_until_they_succeed() {
    for operation in [Operation::Commit, Operation::JoinOnePart, Operation::JoinSeveralParts] {
        fails(operation, Call::SyncData).await;
    }
}

#[tokio::test]
async fn failing_syncs_fail_a_delivery_until_they_succeed() {
    for operation in [Operation::Deliver, Operation::DeliverShared] {
        fails(operation, Call::SyncData).await;
    }
}

#[tokio::test]
async fn failing_calls_of_a_removal_with_events_lose_none() {
    for call in [Call::SyncData, Call::SyncDir, Call::Rename, Call::NewFile, Call::Write, Call::MakeDir] {
        fails(Operation::RemoveWithEvents, call).await;
    }
}

#[tokio::test]
async fn failing_calls_lose_no_event_that_is_settled_or_revived() {
    for operation in [Operation::SettleEvents, Operation::ReviveEvent] {
        for call in [Call::SyncData, Call::SyncDir, Call::Rename, Call::NewFile, Call::Write] {
            fails(operation, call).await;
        }
    }
    fails(Operation::SettleEvents, Call::SetAttribute).await;
}

#[tokio::test]
async fn attributes_that_cannot_be_set_lose_nothing() {
    for operation in [Operation::Append, Operation::Truncate, Operation::JoinSeveralParts] {
        fails(operation, Call::SetAttribute).await;
    }
}

#[tokio::test]
async fn a_creation_that_can_open_no_directory_leaves_none() {
    for (skip, is_whole) in (0..6).flat_map(|skip| [(skip, false), (skip, true)]) {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        let upload = upload(1, None);
        faults.fail(Call::Read, skip, usize::MAX, Errno::MFILE);
        let created = if is_whole {
            let phase = Phase::Delivered(TargetResponse::of(StatusCode::CREATED));
            let complete = Upload { phase, ..upload.clone() };
            store.create_whole(&complete, vec![Bytes::from_static(b"hello")], ONE).await.map(drop)
        } else {
            store.create(&upload, ONE).await.map(drop)
        };
        faults.heal();
        let names = |parent: &str| directory.path().join(parent).read_dir().expect("is there").count();
        assert_eq!(
            names("open") + names("done"),
            usize::from(created.is_ok()),
            "after {skip} calls: {created:?}"
        );
    }
}
