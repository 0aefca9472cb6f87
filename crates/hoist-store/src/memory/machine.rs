//! The simulated machine of a store in memory: uploads that are synced or not, and operations that may fail.
//!
//! Owns all state, and the rules by which operations change it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::Upload;

use super::faults::{Faults, Random, yield_now};
use super::outbox::{RemovedKey, RemovedUpload};
use crate::export_name;
use crate::record::{self, Record};
use crate::store::outbox::remove_delivered;
use crate::store::{Delivery, Error, LastUsed, UploadGroup, UploadSummary};

/// A machine that a store shares with its writers and readers.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Machine>>);

impl Shared {
    pub(super) fn new(machine: Machine) -> Self {
        Self(Arc::new(Mutex::new(machine)))
    }

    pub(super) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Yields to other tasks as often as the seed says.
    pub(super) async fn pause(&self) {
        let yields = {
            let mut machine = self.machine();
            let most = machine.faults.yields_max;
            machine.random.below(u64::from(most) + 1)
        };
        for _ in 0..yields {
            yield_now().await;
        }
    }

    /// Performs an action atomically, between two pauses, unless it fails by the seed.
    pub(super) async fn act<T>(
        &self,
        doing: &str,
        action: impl FnOnce(&mut Machine) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.pause().await;
        let done = {
            let mut machine = self.machine();
            machine.fail(doing)?;
            action(&mut machine)
        };
        self.pause().await;
        done
    }
}

pub(super) struct Machine {
    pub(super) faults: Faults,
    pub(super) random: Random,
    /// The number of crashes. Writers of an earlier boot have ended.
    pub(super) boot: u64,
    pub(super) uploads: HashMap<UploadId, StoredUpload>,
    fences: HashMap<UploadId, Fence>,
    exports: HashMap<(PathBuf, String), Exported>,
    /// The removed uploads that are kept for their events.
    pub(super) removed: BTreeMap<RemovedKey, RemovedUpload>,
    /// The records of dead events, by name.
    pub(super) dead: BTreeMap<String, Vec<u8>>,
    /// The number of bytes accepted in all, for [`Faults::full_after`].
    pub(super) accepted: u64,
    pub(super) counts: Counts,
    writers: u64,
    pub(super) now: Timestamp,
    pub(super) last_used: Option<LastUsed>,
}

pub(super) struct StoredUpload {
    /// The durable record, encoded, so that a simulation exercises the format too.
    durable_record: Option<Vec<u8>>,
    pub(super) record: Record,
    /// `None` once discarded.
    pub(super) content: Option<Vec<u8>>,
    /// The number of bytes that survive a crash.
    pub(super) synced: usize,
    /// The offset of the first unverified byte. It survives a crash, as in every store.
    pub(super) unverified: Option<usize>,
    /// The number of the only writer whose bytes are accepted; zero if there is none.
    pub(super) writer: u64,
    pub(super) written: Timestamp,
    /// The events that are noted as delivered.
    pub(super) delivered: BTreeSet<Delivery>,
}

struct Exported {
    id: UploadId,
    content: Vec<u8>,
}

/// The identity of a writer.
#[derive(Clone, Copy)]
pub(super) struct WriterId {
    pub(super) upload: UploadId,
    pub(super) number: u64,
    pub(super) boot: u64,
}

/// The number of operations that a [`MemoryStore`](super::MemoryStore) has performed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Uploads created.
    pub creates: u64,
    /// Writes that accepted their bytes.
    pub writes: u64,
    /// Successful syncs, including those with nothing to do.
    pub syncs: u64,
    /// Records replaced.
    pub commits: u64,
    /// Uploads joined from parts.
    pub joins: u64,
    /// Crashes.
    pub crashes: u64,
    /// Calls of `load`, `peek` and `remove`, for uploads that exist or not.
    pub lookups: u64,
    /// Listings of a group that have begun.
    pub listings: u64,
}

impl Machine {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            faults,
            random: Random::new(seed),
            boot: 0,
            uploads: HashMap::new(),
            fences: HashMap::new(),
            exports: HashMap::new(),
            removed: BTreeMap::new(),
            dead: BTreeMap::new(),
            accepted: 0,
            counts: Counts::default(),
            writers: 0,
            now: Timestamp::from_millis(0),
            last_used: None,
        }
    }

    pub(super) fn crash(&mut self) {
        self.fences.clear();
        // Sorted, because the order of a hash map would give the seed another meaning every time.
        let mut ids = self.uploads.keys().copied().collect::<Vec<_>>();
        ids.sort_unstable();
        for id in ids {
            let Some(stored) = self.uploads.get_mut(&id) else { continue };
            let survives_unsynced = self.random.below(4) == 0;
            match stored.durable_record.as_deref().map(record::from_bytes) {
                Some(Ok(record)) => stored.record = record,
                _ if survives_unsynced => {}
                _ => {
                    self.uploads.remove(&id);
                    continue;
                }
            }
            if let Some(content) = &mut stored.content {
                let unsynced = content.len() - stored.synced;
                let survived = usize::try_from(self.random.below(unsynced as u64 + 1)).unwrap_or(0);
                content.truncate(stored.synced + survived);
            }
            stored.drop_unverified();
            if !stored.delivered.is_empty() && self.random.below(2) == 0 {
                stored.delivered.clear();
            }
        }
        self.crash_notes();
        self.boot += 1;
        self.counts.crashes += 1;
    }

    /// Fails if the seed says so.
    pub(super) fn fail(&mut self, doing: &str) -> Result<(), Error> {
        if self.random.hits(self.faults.error) {
            return Err(Error::Io {
                doing: format!("{doing}, in a simulation"),
                source: std::io::Error::other("a simulated fault"),
            });
        }
        Ok(())
    }

    /// Returns the number of bytes that still fit.
    pub(super) fn free_bytes(&self) -> u64 {
        self.faults.full_after.map_or(u64::MAX, |most| most.saturating_sub(self.accepted))
    }

    /// Takes a fence and ends the writer of a lower one.
    pub(super) fn admit(&mut self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let newest = self.fences.entry(id).or_insert(fence);
        if *newest > fence {
            return Err(Error::Fenced);
        }
        if *newest < fence {
            *newest = fence;
            if let Some(stored) = self.uploads.get_mut(&id) {
                stored.writer = 0;
                stored.drop_unverified();
            }
        }
        Ok(())
    }

    pub(super) fn stored(&mut self, id: UploadId) -> Result<&mut StoredUpload, Error> {
        self.uploads.get_mut(&id).ok_or(Error::Missing)
    }

    pub(super) fn create(&mut self, upload: &Upload, fence: Fence) -> Result<WriterId, Error> {
        if self.uploads.contains_key(&upload.id) {
            return Err(Error::Exists);
        }
        self.admit(upload.id, fence)?;
        if upload.length.is_some_and(|length| length.get() > self.free_bytes()) {
            return Err(Error::Full);
        }
        let writer = self.next_writer(upload.id);
        let upload = Upload { offset: Durable::ZERO, ..upload.clone() };
        let stored = StoredUpload {
            written: upload.touched,
            delivered: BTreeSet::new(),
            durable_record: None,
            record: Record { upload, discarded: None },
            content: Some(Vec::new()),
            synced: 0,
            unverified: None,
            writer: writer.number,
        };
        self.uploads.insert(writer.upload, stored);
        self.counts.creates += 1;
        Ok(writer)
    }

    pub(super) fn load(&mut self, id: UploadId) -> Result<Option<Upload>, Error> {
        let Some(stored) = self.uploads.get_mut(&id) else { return Ok(None) };
        stored.sync()?;
        Ok(Some(stored.upload()))
    }

    pub(super) fn append(&mut self, id: UploadId, at: Offset, fence: Fence) -> Result<WriterId, Error> {
        self.admit(id, fence)?;
        let writer = self.next_writer(id);
        let stored = self.stored(id)?;
        if stored.record.upload.is_complete() {
            return Err(Error::Missing);
        }
        stored.drop_unverified();
        let end = stored.offset();
        if stored.record.upload.composition.is_composed() && end != Offset::ZERO {
            return Err(Error::Missing);
        }
        if end != at {
            return Err(Error::Damaged(format!("its content ends at {end}, not at {at}")));
        }
        stored.writer = writer.number;
        Ok(writer)
    }

    pub(super) fn commit(&mut self, upload: &Upload, fence: Fence) -> Result<(), Error> {
        self.admit(upload.id, fence)?;
        let stored = self.stored(upload.id)?;
        let upload = Upload { offset: Durable::ZERO, ..upload.clone() };
        let is_complete = upload.is_complete();
        let record = Record { upload, discarded: stored.record.discarded };
        stored.durable_record = Some(record::to_bytes(&record)?);
        stored.record = record;
        if is_complete {
            stored.drop_unverified();
            stored.sync()?;
            stored.writer = 0;
        }
        self.counts.commits += 1;
        Ok(())
    }

    pub(super) fn discard(&mut self, id: UploadId, fence: Fence) -> Result<(), Error> {
        self.admit(id, fence)?;
        let stored = self.stored(id)?;
        if !stored.record.upload.is_complete() {
            return Err(refused("discarding the content of an incomplete upload"));
        }
        stored.record.discarded = Some(stored.offset());
        stored.durable_record = Some(record::to_bytes(&stored.record)?);
        stored.content = None;
        stored.synced = 0;
        Ok(())
    }

    pub(super) fn join(&mut self, id: UploadId, parts: &[UploadId], fence: Fence) -> Result<Durable, Error> {
        self.admit(id, fence)?;
        let stored = self.stored(id)?;
        stored.writer = 0;
        stored.drop_unverified();
        if stored.record.upload.is_complete() {
            return Err(Error::Missing);
        }
        if !stored.record.upload.composition.is_composed() || stored.offset() != Offset::ZERO {
            return Err(refused("joining parts onto an upload that has content"));
        }
        let mut content = Vec::new();
        for &part in parts {
            let part = self.stored(part)?;
            if !part.record.upload.is_complete() {
                return Err(refused("joining an incomplete part"));
            }
            content.extend_from_slice(part.content.as_ref().ok_or(Error::Missing)?);
        }
        let bytes = content.len() as u64;
        if bytes > self.free_bytes() {
            return Err(Error::Full);
        }
        self.accepted += bytes;
        self.counts.joins += 1;
        let now = self.now;
        let stored = self.stored(id)?;
        stored.content = Some(content);
        stored.written = stored.written.max(now);
        stored.sync()
    }

    pub(super) fn export(
        &mut self,
        id: UploadId,
        directory: &Path,
        name: &str,
        fence: Fence,
    ) -> Result<String, Error> {
        self.admit(id, fence)?;
        let content = self.stored(id)?.content.clone().ok_or(Error::Missing)?;
        let (directories, name) = export_name::segments(name)
            .ok_or_else(|| refused("exporting to a name with an unsound segment"))?;
        let mut above = String::new();
        for wanted in directories {
            let names = export_name::directory_candidates(id, wanted).map(|name| format!("{above}{name}"));
            let is_file = |name: &String| self.exports.contains_key(&(directory.to_owned(), name.clone()));
            let Some(name) = names.iter().find(|name| !is_file(name)) else { return Err(Error::Exists) };
            above = format!("{name}/");
        }
        let names =
            export_name::candidates(id, name).map(|name| (directory.to_owned(), format!("{above}{name}")));
        let earlier = names.iter().find(|name| self.exports.get(name).is_some_and(|file| file.id == id));
        let free = names.iter().find(|name| !self.is_exported(name));
        let Some(name) = earlier.or(free).cloned() else { return Err(Error::Exists) };
        self.exports.insert(name.clone(), Exported { id, content });
        Ok(name.1)
    }

    /// Returns whether a name is that of an exported file, or of a directory above one.
    fn is_exported(&self, (directory, name): &(PathBuf, String)) -> bool {
        let below = format!("{name}/");
        self.exports.keys().any(|(at, file)| at == directory && (file == name || file.starts_with(&below)))
    }

    pub(super) fn exported(&self, directory: &Path, name: &str) -> Option<Vec<u8>> {
        let name = (directory.to_owned(), name.to_owned());
        self.exports.get(&name).map(|exported| exported.content.clone())
    }

    /// Returns the summaries of a group, sorted by id.
    pub(super) fn list(&self, group: UploadGroup) -> Vec<UploadSummary> {
        let summary = |stored: &StoredUpload| {
            let mut upload = stored.upload();
            remove_delivered(&mut upload.events, |delivery| stored.delivered.contains(&delivery));
            UploadSummary::from(upload)
        };
        let mut summaries = self.uploads.values().map(summary).collect::<Vec<_>>();
        summaries.retain(|summary| summary.is_open == (group == UploadGroup::Open));
        summaries.sort_unstable_by_key(|summary| summary.id);
        summaries
    }

    pub(super) fn synced(&self, id: UploadId) -> Option<Offset> {
        let stored = self.uploads.get(&id).filter(|stored| stored.durable_record.is_some())?;
        Some(stored.record.discarded.unwrap_or(Offset::new(stored.synced as u64)))
    }

    fn next_writer(&mut self, upload: UploadId) -> WriterId {
        self.writers += 1;
        WriterId { upload, number: self.writers, boot: self.boot }
    }
}

impl StoredUpload {
    pub(super) fn offset(&self) -> Offset {
        self.record.discarded.unwrap_or(Offset::new(self.verified_bytes() as u64))
    }

    /// Returns the number of bytes before the first unverified one.
    pub(super) fn verified_bytes(&self) -> usize {
        let bytes = self.content.as_ref().map_or(0, Vec::len);
        self.unverified.map_or(bytes, |from| from.min(bytes))
    }

    pub(super) fn drop_unverified(&mut self) {
        let verified = self.verified_bytes();
        if let Some(content) = &mut self.content {
            content.truncate(verified);
        }
        self.unverified = None;
    }

    pub(super) fn sync(&mut self) -> Result<Durable, Error> {
        self.synced = self.verified_bytes();
        if self.durable_record.is_none() {
            self.durable_record = Some(record::to_bytes(&self.record)?);
        }
        Ok(self.durable())
    }

    /// Returns the offset as durable. The caller has synced the upload, or does not report the offset.
    fn durable(&self) -> Durable {
        #[expect(clippy::disallowed_methods, reason = "a store; synced bytes survive a crash")]
        Durable::attest(self.offset())
    }

    fn upload(&self) -> Upload {
        let touched = self.record.upload.touched.max(self.written);
        Upload { offset: self.durable(), touched, ..self.record.upload.clone() }
    }
}

/// The error for a call that the upload's state does not allow.
fn refused(doing: &str) -> Error {
    Error::Io { doing: doing.to_owned(), source: std::io::ErrorKind::InvalidInput.into() }
}
