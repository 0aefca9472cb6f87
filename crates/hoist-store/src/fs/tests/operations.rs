//! Operations on a store with faults. Each can be retried after a failure or a crash.
//!
//! Owns the steps of an operation, what was acknowledged during it, and what must hold afterwards. The tests that use
//! it choose the faults.

use std::fs;

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::{Composition, EventKind, PendingEvent, Phase, SinkKey, TargetResponse, Upload};
use http::StatusCode;

use super::upload;
use crate::fs::sys::faults::Faults;
use crate::fs::{LocalStore, Options};
use crate::store::{Error, EventSource, Outbox, Store};

/// Bytes of an upload that were acknowledged before an operation begins.
pub(super) const BEFORE: u64 = 1000;
/// Bytes that the operation adds.
const MORE: u64 = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    CreateWhole,
    Append,
    Truncate,
    DropUnverified,
    VerifyBytes,
    Commit,
    JoinOnePart,
    JoinSeveralParts,
    Deliver,
    DeliverShared,
    Remove,
    RemoveWithEvents,
    /// Notes the delivery of an event to one sink, and gives up that to another.
    SettleEvents,
    ReviveEvent,
}

/// The directory and the name that a delivery gives the content.
const EXPORTED_TO: &str = "films/old";
const EXPORTED: &str = "films/old/film";

/// A data directory, a directory for exports, and the faults of the stores opened there.
pub(super) struct Site {
    data: tempfile::TempDir,
    exports: tempfile::TempDir,
    pub(super) faults: Faults,
    operation: Operation,
    /// Raised with each claim.
    fence: u64,
    /// The offset that was acknowledged last.
    acknowledged_offset: u64,
    is_complete: bool,
    is_removed: bool,
    /// True if the delivery of an event may be noted.
    is_noted: bool,
}

/// The sinks of every event here.
const SINKS: [SinkKey; 3] =
    [SinkKey::from_bits([1; 8]), SinkKey::from_bits([2; 8]), SinkKey::from_bits([3; 8])];

pub(super) fn event(kind: EventKind) -> PendingEvent {
    PendingEvent {
        kind,
        at: Timestamp::from_millis(1_700_000_000_123),
        offset: Offset::ZERO,
        length: None,
        sinks: SINKS.to_vec(),
        request: None,
        given_up: None,
        retried: None,
    }
}

fn outbox(store: &LocalStore) -> &dyn Outbox {
    store.outbox().expect("the local store has one")
}

impl Site {
    /// Creates a site in the state that the operation requires.
    pub(super) async fn prepared(operation: Operation) -> Self {
        let directory = || tempfile::tempdir().expect("a directory");
        let (data, exports, faults) = (directory(), directory(), Faults::install());
        let mut site = Self {
            data,
            exports,
            faults,
            operation,
            fence: 1,
            acknowledged_offset: 0,
            is_complete: false,
            is_removed: false,
            is_noted: false,
        };
        let store = site.open();
        site.prepare(&store).await.expect("no fault yet");
        site
    }

    pub(super) fn open(&self) -> LocalStore {
        let options = Options { disk_threads: 2, other_threads: 1, ..Options::default() };
        LocalStore::open(self.data.path(), &options).expect("the directory can be used")
    }

    fn claim(&mut self) -> Fence {
        self.fence += 1;
        Fence::new(self.fence)
    }

    async fn prepare(&mut self, store: &LocalStore) -> Result<(), Error> {
        match self.operation {
            Operation::Create | Operation::CreateWhole => return Ok(()),
            Operation::JoinOnePart | Operation::JoinSeveralParts => {
                for part in self.parts() {
                    let part = Upload { id: part, composition: Composition::Part, ..upload(0, None) };
                    fill(store, &part, Phase::Received).await?;
                }
                let mut writer = store.create(&self.subject(), Fence::new(1)).await?;
                writer.sync().await?;
                return Ok(());
            }
            Operation::Deliver | Operation::DeliverShared => {
                fill(store, &self.subject(), Phase::Received).await?;
                self.is_complete = true;
            }
            Operation::ReviveEvent => {
                let subject = self.subject();
                fill(store, &subject, Phase::Open).await?;
                let source = EventSource::Stored(subject.id);
                outbox(store).bury(source, &subject, &subject.events[0], SINKS[1]).await?;
            }
            _ => fill(store, &self.subject(), Phase::Open).await?,
        }
        self.acknowledged_offset = BEFORE;
        Ok(())
    }

    pub(super) fn subject(&self) -> Upload {
        let composition = match self.operation {
            Operation::JoinOnePart | Operation::JoinSeveralParts => Composition::Concatenated(self.parts()),
            Operation::DeliverShared => Composition::Part,
            _ => Composition::Direct,
        };
        let events = match self.operation {
            Operation::RemoveWithEvents | Operation::SettleEvents | Operation::ReviveEvent => {
                vec![event(EventKind::Created)]
            }
            _ => Vec::new(),
        };
        Upload { composition, events, ..upload(1, None) }
    }

    fn parts(&self) -> Vec<UploadId> {
        let parts = if self.operation == Operation::JoinOnePart { 1 } else { 3 };
        (0..parts).map(|part| upload(10 + part, None).id).collect()
    }

    /// Tries the operation, in whatever state earlier attempts have left it.
    pub(super) async fn attempt(&mut self, store: &LocalStore) -> Result<(), Error> {
        let (subject, fence) = (self.subject(), self.claim());
        let answered =
            Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::NO_CONTENT)), ..subject.clone() };
        match self.operation {
            Operation::Create => {
                let found = store.load(subject.id, fence).await?;
                if found.is_none() {
                    drop(store.create(&subject, fence).await?);
                }
                self.write_to(store, BEFORE, fence, After::Keep).await?;
            }
            Operation::CreateWhole => {
                // An earlier attempt may have succeeded and still returned an error.
                if store.load(subject.id, fence).await?.is_none() {
                    let content = vec![pattern(0, 300), pattern(300, BEFORE)];
                    let end = store.create_whole(&answered, content, fence).await?;
                    self.acknowledge(end.offset());
                    self.is_complete = true;
                }
            }
            Operation::Append => self.write_to(store, BEFORE + MORE, fence, After::Keep).await?,
            Operation::Truncate => self.write_to(store, BEFORE + MORE, fence, After::Truncate).await?,
            Operation::DropUnverified => self.write_to(store, BEFORE + MORE, fence, After::Refuse).await?,
            Operation::VerifyBytes => self.write_to(store, BEFORE + MORE, fence, After::Confirm).await?,
            Operation::Commit => {
                store.commit(&Upload { phase: Phase::Received, ..subject }, fence).await?;
                self.is_complete = true;
                store.commit(&answered, fence).await?;
            }
            Operation::JoinOnePart | Operation::JoinSeveralParts => {
                let found = store.load(subject.id, fence).await?.ok_or(Error::Missing)?;
                if found.offset.offset() == Offset::ZERO {
                    self.acknowledged_offset =
                        store.join(subject.id, &self.parts(), fence).await?.offset().get();
                }
                store.commit(&Upload { phase: Phase::Received, ..subject }, fence).await?;
                self.is_complete = true;
            }
            Operation::Deliver | Operation::DeliverShared => {
                let found = store.load(subject.id, fence).await?.ok_or(Error::Missing)?;
                if found.phase == Phase::Received {
                    let name = store.export(subject.id, self.exports.path(), EXPORTED, fence).await?;
                    assert_eq!(name, EXPORTED, "repeated, it finds its earlier result");
                }
                if self.operation == Operation::Deliver {
                    store.commit_and_discard(&answered, fence).await?;
                } else {
                    store.commit(&answered, fence).await?;
                    store.discard(subject.id, fence).await?;
                }
            }
            Operation::RemoveWithEvents => {
                self.is_removed = true;
                let mut last = subject.clone();
                last.events.push(event(EventKind::Terminated));
                match outbox(store).remove_with_events(&last, fence).await {
                    Err(Error::Missing) => {}
                    removed => drop(removed?),
                }
            }
            Operation::SettleEvents => {
                let (source, event) = (EventSource::Stored(subject.id), &subject.events[0]);
                self.is_noted = true;
                outbox(store).mark_delivered(source, &subject, &[(event.kind, SINKS[0])]).await?;
                outbox(store).bury(source, &subject, event, SINKS[1]).await?;
                outbox(store).mark_delivered(source, &subject, &[(event.kind, SINKS[2])]).await?;
            }
            Operation::ReviveEvent => {
                for dead in outbox(store).dead(None, 9).await? {
                    outbox(store).revive(&dead.name, subject.created).await?;
                }
            }
            Operation::Remove => {
                // Set before the attempt, which may succeed and still return an error.
                self.is_removed = true;
                match store.remove(subject.id, fence).await {
                    Err(Error::Missing) => {}
                    removed => removed?,
                }
            }
        }
        Ok(())
    }

    /// Writes from the current offset up to `end`.
    async fn write_to(
        &mut self,
        store: &LocalStore,
        end: u64,
        fence: Fence,
        after: After,
    ) -> Result<(), Error> {
        let id = self.subject().id;
        let found = store.load(id, fence).await?.ok_or(Error::Missing)?;
        let at = found.offset.offset();
        self.acknowledge(at);
        let mut writer = store.append(id, at, fence).await?;
        if matches!(after, After::Refuse | After::Confirm) {
            writer.mark_unverified().await?;
        }
        writer.write(pattern(at.get(), end.max(at.get()))).await?;
        match after {
            After::Keep | After::Confirm => self.acknowledge(writer.sync().await?.offset()),
            After::Refuse => writer.truncate(at).await?,
            After::Truncate => {
                // Durable without being acknowledged, as happens during a long request.
                for _ in 0..100_000 {
                    if writer.start_sync().offset().get() >= end || self.faults.is_over() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                writer.truncate(at).await?;
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, offset: Offset) {
        assert!(offset.get() >= self.acknowledged_offset, "{offset} after {}", self.acknowledged_offset);
        self.acknowledged_offset = offset.get();
    }

    /// Checks that a working store keeps every promise.
    pub(super) async fn check(&mut self, store: &LocalStore, context: &str) {
        let subject = self.subject();
        store.list_all().await.expect("can be listed");
        let found = store.load(subject.id, Fence::new(self.fence)).await;
        let Some(found) = found.unwrap_or_else(|error| panic!("{context}: {error}")) else {
            assert!(self.acknowledged_offset == 0 || self.is_removed, "{context}: the upload is gone");
            return;
        };
        self.acknowledge(found.offset.offset());
        assert!(found.is_complete() || !self.is_complete, "{context}: the upload is open again");
        if self.operation == Operation::DropUnverified {
            assert_eq!(self.acknowledged_offset, BEFORE, "{context}: what was refused counts");
        }
        let expected = match self.operation {
            Operation::JoinSeveralParts => pattern(0, BEFORE).repeat(3).into(),
            _ => pattern(0, self.acknowledged_offset),
        };
        match store.read(subject.id, Offset::ZERO).await {
            Ok(mut reader) => {
                let mut stored = Vec::new();
                while let Some(bytes) = reader.next().await.expect("can be read") {
                    stored.extend_from_slice(&bytes);
                }
                assert_eq!(stored.len() as u64, self.acknowledged_offset, "{context}");
                assert!(expected.starts_with(&stored), "{context}: other bytes");
            }
            Err(error) => assert!(self.is_exported(), "{context}: {error}"),
        }
        let names = fs::read_dir(self.exports.path().join(EXPORTED_TO)).into_iter().flatten();
        let names = names.map(|entry| entry.expect("can be listed").file_name()).collect::<Vec<_>>();
        let visible = names.iter().filter(|name| !name.to_string_lossy().starts_with('.'));
        assert!(visible.count() <= 1, "{context}: {names:?}");
    }

    /// Checks, after a restart, that no event is lost, and that none tells of a removal that did not happen.
    pub(super) async fn check_events(&mut self, store: &LocalStore, context: &str) {
        let is_stored = store.load(self.subject().id, self.claim()).await.expect("can be loaded").is_some();
        let mut removed = Vec::new();
        let mut listing = outbox(store).list_removed().await.expect("can be listed");
        while let Some(sources) = listing.next().await.expect("can be read") {
            removed.extend(sources.into_iter().flat_map(|pending| pending.sinks));
        }
        let dead = outbox(store).dead(None, 9).await.expect("can be listed");
        let stored =
            outbox(store).pending(EventSource::Stored(self.subject().id)).await.expect("can be read");
        let stored = stored.map(|upload| upload.events[0].sinks.clone()).unwrap_or_default();
        match self.operation {
            Operation::RemoveWithEvents if is_stored => assert_eq!(removed, [], "{context}: is not removed"),
            // Of both events.
            Operation::RemoveWithEvents => {
                assert_eq!(removed, SINKS.repeat(2), "{context}: an event is lost");
            }
            Operation::SettleEvents => {
                assert!(!dead.is_empty() || stored.contains(&SINKS[1]), "{context}: an event is lost");
                assert!(self.is_noted || stored.len() == SINKS.len(), "{context}: an event is lost");
            }
            Operation::ReviveEvent => {
                assert!(dead.len() + removed.len() > 0, "{context}: an event is lost");
                assert!(removed.len() < 3, "{context}: it is revived once, or twice after a crash");
            }
            _ => assert!(removed.is_empty() && dead.is_empty(), "{context}"),
        }
    }

    /// Checks the state that must hold once the operation is done.
    pub(super) async fn check_done(&mut self, store: &LocalStore, context: &str) {
        self.check(store, context).await;
        let end = match self.operation {
            Operation::Append | Operation::VerifyBytes => BEFORE + MORE,
            Operation::JoinSeveralParts => 3 * BEFORE,
            Operation::Truncate => self.acknowledged_offset,
            _ => BEFORE,
        };
        assert_eq!(self.acknowledged_offset, end, "{context}");
        if matches!(self.operation, Operation::Deliver | Operation::DeliverShared) {
            let exported = fs::read(self.exports.path().join(EXPORTED)).expect("is there");
            assert!(exported == pattern(0, BEFORE), "{context}");
            for directory in ["", "films", EXPORTED_TO] {
                let names = fs::read_dir(self.exports.path().join(directory)).expect("is there");
                assert_eq!(names.count(), 1, "{context}: {directory:?}");
            }
        }
        if self.is_removed {
            assert!(store.list_all().await.expect("can be listed").is_empty(), "{context}");
        }
    }

    fn is_exported(&self) -> bool {
        let is_delivery = matches!(self.operation, Operation::Deliver | Operation::DeliverShared);
        is_delivery && self.exports.path().join(EXPORTED).exists()
    }
}

/// The treatment of the bytes that were written.
#[derive(Clone, Copy)]
enum After {
    Keep,
    Truncate,
    Refuse,
    Confirm,
}

async fn fill(store: &LocalStore, upload: &Upload, phase: Phase) -> Result<(), Error> {
    let mut writer = store.create(upload, Fence::new(1)).await?;
    writer.write(pattern(0, BEFORE)).await?;
    writer.sync().await?;
    if phase != Phase::Open {
        store.commit(&Upload { phase, ..upload.clone() }, Fence::new(1)).await?;
    }
    Ok(())
}

/// Returns the content of every upload here.
pub(super) fn pattern(from: u64, to: u64) -> Bytes {
    (from..to).map(|at| (at % 251) as u8).collect()
}
