//! Operations that know the record of their upload from the one before, and the ways in which that knowledge ends.

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset, UploadId};
use hoist_proto::upload::{Composition, Phase, Upload};
use rustix::io::Errno;

use super::{open, upload};
use crate::fs::sys::Call;
use crate::fs::sys::faults::Faults;
use crate::fs::{Durability, LocalStore, Options};
use crate::store::{Error, Store};

const ONE: Fence = Fence::new(1);

/// Stores an upload whose record and content are known from then on.
async fn stored(store: &LocalStore, upload: &Upload, bytes: &'static [u8]) {
    let mut writer = store.create(upload, ONE).await.expect("creates");
    writer.write(Bytes::from_static(bytes)).await.expect("writes");
    writer.sync().await.expect("syncs");
    drop(writer);
    store.load(upload.id, ONE).await.expect("loads").expect("is there");
}

async fn append(store: &LocalStore, id: UploadId, at: u64, fence: Fence) -> Result<(), Error> {
    let mut writer = store.append(id, Offset::new(at), fence).await?;
    writer.write(Bytes::from_static(b"!")).await?;
    writer.sync().await.map(drop)
}

/// Appends a byte at `at`, commits a change, and checks that the files hold both.
async fn goes_on(store: &LocalStore, upload: &Upload, at: u64, fence: Fence) {
    append(store, upload.id, at, fence).await.expect("appends");
    let changed = Upload { resumes: 7, ..upload.clone() };
    store.commit(&changed, fence).await.expect("commits");
    store.entries.forget_records();
    let found = store.load(upload.id, fence).await.expect("loads").expect("is there");
    assert_eq!((found.resumes, found.offset.offset()), (7, Offset::new(at + 1)));
    store.commit(upload, fence).await.expect("commits");
}

/// The system calls of an append and of a commit after it, and how many others only looked something up.
#[tokio::test]
async fn an_append_and_a_commit_read_no_record() {
    use Call::{NewFile, Rename, SetAttribute, SyncData, SyncDir, Write};
    for (durability, appending, committing) in [
        (Durability::Os, &[Write, SetAttribute][..], &[NewFile, Write, Rename][..]),
        (Durability::Disk, &[Write, SyncData, SetAttribute], &[NewFile, Write, SyncData, Rename, SyncDir]),
    ] {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let options = Options { durability, ..Options::default() };
        let store = LocalStore::open(directory.path(), &options).expect("opens");
        let upload = upload(1, None);
        stored(&store, &upload, b"hello").await;
        for at in 5..8 {
            let (made, reads) = (faults.made().len(), faults.reads());
            append(&store, upload.id, at, ONE).await.expect("appends");
            assert_eq!((&faults.made()[made..], faults.reads() - reads), (appending, 2), "{durability:?}");
            let (made, reads) = (faults.made().len(), faults.reads());
            store.commit(&upload, ONE).await.expect("commits");
            assert_eq!((&faults.made()[made..], faults.reads() - reads), (committing, 1), "{durability:?}");
        }
    }
}

/// Whatever fails, the next operation reads the files, and goes on from what they hold.
#[tokio::test]
async fn after_a_failure_the_record_is_read() {
    let failures = [
        (Call::Write, "append"),
        (Call::SyncData, "append"),
        (Call::SetAttribute, "append"),
        (Call::NewFile, "commit"),
        (Call::Write, "commit"),
        (Call::SyncData, "commit"),
        (Call::Rename, "commit"),
        (Call::SyncDir, "commit"),
    ];
    for (number, (call, operation)) in (1..).zip(failures) {
        let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
        let store = open(directory.path());
        let upload = upload(number, None);
        stored(&store, &upload, b"hello").await;
        faults.fail(call, 0, 1, Errno::IO);
        // A failure to store the attribute is repaired by removing it, so that this append succeeds.
        let failed = match operation {
            "append" => append(&store, upload.id, 5, ONE).await,
            _ => store.commit(&Upload { resumes: 3, ..upload.clone() }, ONE).await,
        };
        assert_eq!(failed.is_ok(), call == Call::SetAttribute, "{call:?} of {operation}");
        faults.heal();
        let reads = faults.reads();
        let end = store.load(upload.id, ONE).await.expect("loads").expect("is there").offset.offset().get();
        assert!(failed.is_ok() || faults.reads() > reads, "{call:?} of {operation} was forgotten");
        assert_eq!(end, if failed.is_ok() { 6 } else { 5 }, "{call:?} of {operation}");
        goes_on(&store, &upload, end, ONE).await;
    }
}

#[tokio::test]
async fn a_failed_commit_leaves_no_record_to_the_next_operation() {
    let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    let received = Upload { phase: Phase::Received, ..upload.clone() };
    // The upload moves to `done`, and the operation fails after that.
    faults.fail(Call::SyncDir, 0, 1, Errno::IO);
    store.commit(&received, ONE).await.expect_err("the disk fails");
    faults.heal();
    assert!(matches!(append(&store, upload.id, 5, ONE).await, Err(Error::Missing)));
    store.commit(&received, ONE).await.expect("commits");
    assert!(directory.path().join("done").join(upload.id.to_string()).join("record").exists());
}

#[tokio::test]
async fn other_operations_change_what_is_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let (upload, part) = (upload(1, None), Upload { composition: Composition::Part, ..upload(2, None) });
    // A newer claim: the bytes that the older one had accepted count.
    stored(&store, &upload, b"hello").await;
    let mut older = store.append(upload.id, Offset::new(5), ONE).await.expect("appends");
    older.write(Bytes::from_static(b" world")).await.expect("writes");
    assert!(append(&store, upload.id, 5, Fence::new(2)).await.is_err(), "eleven bytes are there");
    goes_on(&store, &upload, 11, Fence::new(2)).await;
    assert!(matches!(append(&store, upload.id, 12, ONE).await, Err(Error::Fenced)));
    assert!(older.sync().await.is_err());
    drop(older);
    goes_on(&store, &upload, 12, Fence::new(3)).await;
    // Removed, as when it expires, and created anew.
    store.remove(upload.id, Fence::new(3)).await.expect("removes");
    assert!(matches!(append(&store, upload.id, 13, Fence::new(3)).await, Err(Error::Missing)));
    let mut writer = store.create(&upload, Fence::new(3)).await.expect("creates");
    writer.sync().await.expect("syncs");
    drop(writer);
    goes_on(&store, &upload, 0, Fence::new(3)).await;
    // Completed, and its content discarded.
    store.commit(&Upload { phase: Phase::Received, ..upload.clone() }, Fence::new(3)).await.expect("commits");
    assert!(matches!(append(&store, upload.id, 1, Fence::new(3)).await, Err(Error::Missing)));
    store.discard(upload.id, Fence::new(3)).await.expect("discards");
    store.discard(upload.id, Fence::new(3)).await.expect("discards again");
    let found = store.load(upload.id, Fence::new(3)).await.expect("loads").expect("is there");
    assert_eq!(found.offset.offset(), Offset::new(1));
    store.remove(upload.id, Fence::new(3)).await.expect("removes");
    // Joined.
    stored(&store, &part, b"hello").await;
    store.commit(&Upload { phase: Phase::Received, ..part.clone() }, ONE).await.expect("commits");
    let whole = Upload { composition: Composition::Concatenated(vec![part.id]), ..super::upload(3, None) };
    stored(&store, &whole, b"").await;
    store.join(whole.id, &[part.id], ONE).await.expect("joins");
    store.commit(&Upload { resumes: 7, ..whole.clone() }, ONE).await.expect("commits");
    let found = store.load(whole.id, ONE).await.expect("loads").expect("is there");
    assert_eq!((found.resumes, found.offset.offset()), (7, Offset::new(5)));
}

/// The length of the content is checked, because the bytes would have a gap otherwise.
#[tokio::test]
async fn content_that_another_program_has_truncated_is_damaged() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = upload(1, None);
    stored(&store, &upload, b"hello").await;
    let content = directory.path().join("open").join(upload.id.to_string()).join("content");
    std::fs::write(content, b"he").expect("written");
    assert!(matches!(append(&store, upload.id, 5, ONE).await, Err(Error::Damaged(_))));
    assert!(matches!(store.load(upload.id, ONE).await, Err(Error::Damaged(_))));
}

/// The system calls of a creation, and how many others only looked something up: the id in the other directory, and the
/// new directory.
#[tokio::test]
async fn a_creation_looks_for_nothing_that_it_makes() {
    use Call::{MakeDir, NewFile, Rename, SetAttribute, Write};
    let (faults, directory) = (Faults::install(), tempfile::tempdir().expect("a directory"));
    let options = Options { durability: Durability::Os, ..Options::default() };
    let store = LocalStore::open(directory.path(), &options).expect("opens");
    for number in 1..4 {
        let (made, reads) = (faults.made().len(), faults.reads());
        let upload = Upload { phase: Phase::Received, ..upload(number, Some(5)) };
        let stored = store.create_whole(&upload, vec![Bytes::from_static(b"hello")], ONE).await;
        assert_eq!(stored.expect("creates").offset(), Offset::new(5));
        let whole = [MakeDir, NewFile, Write, NewFile, Write, Rename];
        assert_eq!((&faults.made()[made..], faults.reads() - reads), (&whole[..], 2));
        let (made, reads) = (faults.made().len(), faults.reads());
        let upload = super::upload(number + 10, None);
        drop(store.create(&upload, ONE).await.expect("creates"));
        let empty = [MakeDir, NewFile, NewFile, Write, SetAttribute];
        assert_eq!((&faults.made()[made..], faults.reads() - reads), (&empty[..], 2));
    }
}

/// An id is taken in whichever directory its upload is, and a refused creation leaves nothing.
#[tokio::test]
async fn a_taken_id_and_an_older_fence_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let whole = |number| Upload { phase: Phase::Received, ..upload(number, Some(5)) };
    let content = || vec![Bytes::from_static(b"hello")];
    store.create_whole(&whole(1), content(), ONE).await.expect("creates");
    stored(&store, &upload(2, None), b"hello").await;
    for number in [1, 2] {
        let created = store.create(&upload(number, None), Fence::new(2)).await.map(drop);
        assert!(matches!(created, Err(Error::Exists)), "{number}");
        let created = store.create_whole(&whole(number), content(), Fence::new(2)).await;
        assert!(matches!(created, Err(Error::Exists)), "{number}");
        append(&store, upload(2, None).id, 4 + number, ONE).await.expect("no fence was taken");
    }
    store.load(upload(3, None).id, Fence::new(2)).await.expect("loads");
    assert!(matches!(store.create(&upload(3, None), ONE).await.map(drop), Err(Error::Fenced)));
    assert!(matches!(store.create_whole(&whole(3), content(), ONE).await, Err(Error::Fenced)));
    for parent in ["open", "done"] {
        assert!(!directory.path().join(parent).join(upload(3, None).id.to_string()).exists());
    }
}

/// The record of a complete upload states its length, so the damage is found without the attribute.
#[tokio::test]
async fn a_whole_upload_that_was_truncated_is_damaged() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let upload = Upload { phase: Phase::Received, ..upload(1, Some(5)) };
    store.create_whole(&upload, vec![Bytes::from_static(b"hello")], ONE).await.expect("creates");
    drop(store);
    let content = directory.path().join("done").join(upload.id.to_string()).join("content");
    std::fs::write(content, b"hell").expect("written");
    let store = open(directory.path());
    assert!(matches!(store.load(upload.id, ONE).await, Err(Error::Damaged(_))));
}
