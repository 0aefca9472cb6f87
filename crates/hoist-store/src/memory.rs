//! A store in memory, for tests and simulations: it forgets, fails and dawdles on request, by a seed.
//!
//! Owns the model of a machine that may lose what was not synced; `memory/faults.rs` owns what goes wrong when, `memory/handles.rs` the writer and the reader, `memory/join.rs` the joining. It is
//! part of the library because servers and clients are tested against it, and it is no place for real uploads: its
//! content is only as durable as the process. Leaves threads and clocks alone, so that a seeded simulation of it runs the
//! same way every time, on any executor or none.
//!
//! ```
//! # use hoist_store::memory::{Faults, MemoryStore};
//! let store = MemoryStore::with_faults(7, Faults { error: 0.01, yields_max: 3, ..Faults::NONE });
//! store.crash(); // the machine lost its power: what was not synced is gone, or some of it
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::{Interruption, Upload};

pub use self::faults::Faults;
use self::faults::{Dice, Yields};
use self::handles::{MemoryListing, MemoryReader, MemoryWriter};
use crate::record::{self, Record};
use crate::store::{
    BoxFuture, Error, LastUsed, Listing, Reader, Store, UploadGroup, UploadSummary, Writer, export_names,
};

mod faults;
mod handles;
mod join;
#[cfg(test)]
mod tests;

/// Uploads in memory. Clones share what they hold, like two names of one disk.
#[derive(Clone)]
pub struct MemoryStore(Arc<Mutex<Machine>>);

struct Machine {
    faults: Faults,
    dice: Dice,
    /// Which life of the machine this is; writers of an earlier one are dead.
    life: u64,
    uploads: HashMap<UploadId, StoredUpload>,
    fences: HashMap<UploadId, Fence>,
    exports: HashMap<(PathBuf, String), Exported>,
    /// Bytes that were taken in all, for [`Faults::full_after`].
    taken: u64,
    counts: Counts,
    writers: u64,
    now: Timestamp,
    /// The note of the last use.
    seen: Option<LastUsed>,
}

struct StoredUpload {
    /// The record as the disk has it: its bytes, so that a simulation exercises the format too.
    recorded: Option<Vec<u8>>,
    record: Record,
    /// `None` once it was discarded.
    content: Option<Vec<u8>>,
    /// How many of the bytes a crash leaves.
    synced: usize,
    /// Where bytes begin that do not count yet. As durable as if it were synced at once: a store has to see to that.
    unverified: Option<usize>,
    /// The one writer whose bytes are taken.
    writer: u64,
    written: Timestamp,
}

struct Exported {
    id: UploadId,
    content: Vec<u8>,
}

/// What a [`MemoryStore`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Uploads created.
    pub creates: u64,
    /// Calls of `write` that took their bytes.
    pub writes: u64,
    /// Syncer that made something durable, or had nothing to do.
    pub syncer: u64,
    /// Records replaced.
    pub commits: u64,
    /// Contents joined of parts.
    pub joins: u64,
    /// Crashes.
    pub crashes: u64,
    /// Uploads loaded, peeked at or removed, whether there were any or not.
    pub looks: u64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store on which nothing goes wrong.
    pub fn new() -> Self {
        Self::with_faults(0, Faults::NONE)
    }

    /// An empty store on which things go wrong as `faults` says, each time in the same way for the same seed.
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(Machine {
            faults,
            dice: Dice::new(seed),
            life: 0,
            uploads: HashMap::new(),
            fences: HashMap::new(),
            exports: HashMap::new(),
            taken: 0,
            counts: Counts::default(),
            writers: 0,
            now: Timestamp::from_millis(0),
            seen: None,
        })))
    }

    /// Changes what goes wrong from here on.
    pub fn set_faults(&self, faults: Faults) {
        self.machine().faults = faults;
    }

    /// Says what time it is: uploads that get bytes from here on were touched at `now`. The store reads no clock.
    pub fn set_time(&self, now: Timestamp) {
        self.machine().now = now;
    }

    /// The machine loses its power and starts again. Of each upload the durable record and the synced bytes remain, and
    /// by the seed a prefix of the bytes that were not synced: a disk may have written more than it promised. Uploads
    /// that were never synced are gone, or by the seed there. Every writer and every fence is forgotten.
    pub fn crash(&self) {
        let mut machine = self.machine();
        let Machine { uploads, dice, fences, .. } = &mut *machine;
        fences.clear();
        // In the order of their ids: a hash map's own would make the seed mean something else every time.
        let mut ids = uploads.keys().copied().collect::<Vec<_>>();
        ids.sort_unstable();
        for id in ids {
            let Some(kept) = uploads.get_mut(&id) else { continue };
            let was_lucky = dice.below(4) == 0;
            match kept.recorded.as_deref().map(record::from_bytes) {
                Some(Ok(record)) => kept.record = record,
                _ if was_lucky => {}
                _ => {
                    uploads.remove(&id);
                    continue;
                }
            }
            if let Some(content) = &mut kept.content {
                let unsynced = content.len() - kept.synced;
                let survived = usize::try_from(dice.below(unsynced as u64 + 1)).unwrap_or(0);
                content.truncate(kept.synced + survived);
            }
            kept.drop_unverified();
        }
        machine.life += 1;
        machine.counts.crashes += 1;
    }

    /// How many bytes of an upload a crash would leave for certain; `None` when it would not leave the upload.
    pub fn synced(&self, id: UploadId) -> Option<Offset> {
        let machine = self.machine();
        let kept = machine.uploads.get(&id).filter(|kept| kept.recorded.is_some())?;
        Some(kept.record.discarded.unwrap_or(Offset::new(kept.synced as u64)))
    }

    /// What has been done so far.
    pub fn counts(&self) -> Counts {
        self.machine().counts
    }

    /// What was exported under a name.
    pub fn exported(&self, directory: &Path, name: &str) -> Option<Vec<u8>> {
        let exported = (directory.to_owned(), name.to_owned());
        self.machine().exports.get(&exported).map(|exported| exported.content.clone())
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment in which other tasks may run, as long as the seed says.
    fn pause(&self) -> Yields {
        let mut machine = self.machine();
        let most = machine.faults.yields_max;
        Yields(machine.dice.below(u64::from(most) + 1))
    }

    /// Does something at once, between two pauses, unless the seed says that it fails.
    async fn act<T>(
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

impl Machine {
    fn fail(&mut self, doing: &str) -> Result<(), Error> {
        if self.dice.hits(self.faults.error) {
            return Err(Error::Io {
                doing: format!("{doing}, in a simulation"),
                source: std::io::Error::other("a fault was asked for"),
            });
        }
        Ok(())
    }

    fn admit(&mut self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let newest = self.fences.entry(id).or_insert(fence);
        if *newest > fence {
            return Err(Error::Fenced);
        }
        if *newest < fence {
            *newest = fence;
            if let Some(kept) = self.uploads.get_mut(&id) {
                kept.writer = 0;
                kept.drop_unverified();
            }
        }
        Ok(())
    }

    fn kept(&mut self, id: UploadId) -> Result<&mut StoredUpload, Error> {
        self.uploads.get_mut(&id).ok_or(Error::Missing)
    }

    fn commit(&mut self, upload: &Upload, fence: Fence) -> Result<(), Error> {
        self.admit(upload.id, fence)?;
        let kept = self.kept(upload.id)?;
        let upload = Upload { offset: Durable::ZERO, ..upload.clone() };
        let is_complete = upload.is_complete();
        let record = Record { upload, discarded: kept.record.discarded };
        kept.recorded = Some(record::to_bytes(&record)?);
        kept.record = record;
        if is_complete {
            kept.drop_unverified();
            kept.sync()?;
            kept.writer = 0;
        }
        self.counts.commits += 1;
        Ok(())
    }

    fn discard(&mut self, id: UploadId, fence: Fence) -> Result<(), Error> {
        self.admit(id, fence)?;
        let kept = self.kept(id)?;
        if !kept.record.upload.is_complete() {
            return Err(Error::Io {
                doing: "discarding the content of an incomplete upload".to_owned(),
                source: std::io::ErrorKind::InvalidInput.into(),
            });
        }
        kept.record.discarded = Some(kept.stored());
        kept.recorded = Some(record::to_bytes(&kept.record)?);
        kept.content = None;
        kept.synced = 0;
        Ok(())
    }

    /// The next number of a writer, never zero.
    fn next_writer(&mut self) -> u64 {
        self.writers += 1;
        self.writers
    }
}

impl StoredUpload {
    fn stored(&self) -> Offset {
        self.record.discarded.unwrap_or(Offset::new(self.counted() as u64))
    }

    /// How many bytes there are that count.
    fn counted(&self) -> usize {
        let bytes = self.content.as_ref().map_or(0, Vec::len);
        self.unverified.map_or(bytes, |from| from.min(bytes))
    }

    /// Takes back what is in doubt.
    fn drop_unverified(&mut self) {
        let counted = self.counted();
        if let Some(content) = &mut self.content {
            content.truncate(counted);
        }
        self.unverified = None;
    }

    fn sync(&mut self) -> Result<Offset, Error> {
        self.synced = self.counted();
        if self.recorded.is_none() {
            self.recorded = Some(record::to_bytes(&self.record)?);
        }
        Ok(self.stored())
    }

    fn upload(&self) -> Upload {
        #[expect(
            clippy::disallowed_methods,
            reason = "a store; its callers have synced, or keep it to themselves"
        )]
        let offset = Durable::attest(self.stored());
        let touched = self.record.upload.touched.max(self.written);
        Upload { offset, touched, ..self.record.upload.clone() }
    }
}

impl Store for MemoryStore {
    fn create<'a>(
        &'a self,
        upload: &'a Upload,
        fence: Fence,
    ) -> BoxFuture<'a, Result<Box<dyn Writer>, Error>> {
        Box::pin(async move {
            let create = |machine: &mut Machine| {
                if machine.uploads.contains_key(&upload.id) {
                    return Err(Error::Exists);
                }
                machine.admit(upload.id, fence)?;
                let room =
                    machine.faults.full_after.map_or(u64::MAX, |most| most.saturating_sub(machine.taken));
                if upload.length.is_some_and(|length| length.get() > room) {
                    return Err(Error::Full);
                }
                let writer = machine.next_writer();
                let record =
                    Record { upload: Upload { offset: Durable::ZERO, ..upload.clone() }, discarded: None };
                let kept = StoredUpload {
                    recorded: None,
                    record,
                    content: Some(Vec::new()),
                    synced: 0,
                    unverified: None,
                    writer,
                    written: upload.touched,
                };
                machine.uploads.insert(upload.id, kept);
                machine.counts.creates += 1;
                Ok((writer, machine.life))
            };
            let (number, life) = self.act("creating an upload", create).await?;
            Ok(Box::new(MemoryWriter::new(self.clone(), upload.id, number, life)) as Box<dyn Writer>)
        })
    }

    fn load(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<Option<Upload>, Error>> {
        Box::pin(self.act("loading an upload", move |machine| {
            machine.counts.looks += 1;
            machine.admit(id, fence)?;
            let Some(kept) = machine.uploads.get_mut(&id) else { return Ok(None) };
            kept.sync()?;
            Ok(Some(kept.upload()))
        }))
    }

    fn peek(&self, id: UploadId) -> BoxFuture<'_, Result<Option<Upload>, Error>> {
        Box::pin(self.act("looking at an upload", move |machine| {
            machine.counts.looks += 1;
            let Some(kept) = machine.uploads.get_mut(&id) else { return Ok(None) };
            kept.sync()?;
            Ok(Some(kept.upload()))
        }))
    }

    fn join<'a>(
        &'a self,
        id: UploadId,
        parts: &'a [UploadId],
        fence: Fence,
    ) -> BoxFuture<'a, Result<Durable, Error>> {
        Box::pin(async move {
            let join = |machine: &mut Machine| machine.join(id, parts, fence);
            let bytes = self.act("joining uploads", join).await?;
            #[expect(clippy::disallowed_methods, reason = "a store, and a crash would leave these bytes")]
            Ok(Durable::attest(bytes))
        })
    }

    fn append(
        &self,
        id: UploadId,
        at: Offset,
        fence: Fence,
    ) -> BoxFuture<'_, Result<Box<dyn Writer>, Error>> {
        Box::pin(async move {
            let open = |machine: &mut Machine| {
                machine.admit(id, fence)?;
                let (number, life) = (machine.next_writer(), machine.life);
                let kept = machine.kept(id)?;
                if kept.record.upload.is_complete() {
                    return Err(Error::Missing);
                }
                kept.drop_unverified();
                let stored = kept.stored();
                if kept.record.upload.composition.is_composed() && stored != Offset::ZERO {
                    return Err(Error::Missing);
                }
                if stored != at {
                    return Err(Error::Damaged(format!("it ends at {stored}, and was to go on at {at}")));
                }
                kept.writer = number;
                Ok((number, life))
            };
            let (number, life) = self.act("opening an upload", open).await?;
            Ok(Box::new(MemoryWriter::new(self.clone(), id, number, life)) as Box<dyn Writer>)
        })
    }

    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.act("replacing a record", move |machine| machine.commit(upload, fence)))
    }

    fn conclude<'a>(&'a self, upload: &'a Upload, fence: Fence) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.act("concluding an upload", move |machine| {
            if upload.is_complete() {
                machine.commit(upload, fence)?;
            }
            machine.discard(upload.id, fence)
        }))
    }

    fn read(&self, id: UploadId, from: Offset) -> BoxFuture<'_, Result<Box<dyn Reader>, Error>> {
        Box::pin(async move {
            let open = |machine: &mut Machine| {
                let kept = machine.kept(id)?;
                let counted = kept.counted();
                let content = kept.content.as_ref().ok_or(Error::Missing)?;
                let from = usize::try_from(from.get()).unwrap_or(usize::MAX).min(counted);
                Ok(Bytes::copy_from_slice(&content[from..counted]))
            };
            let rest = self.act("reading an upload", open).await?;
            Ok(Box::new(MemoryReader::new(self.clone(), rest)) as Box<dyn Reader>)
        })
    }

    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(self.act("exporting an upload", move |machine| {
            machine.admit(id, fence)?;
            let content = machine.kept(id)?.content.clone().ok_or(Error::Missing)?;
            if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
                return Err(Error::Io {
                    doing: "exporting to a name that is none".to_owned(),
                    source: std::io::ErrorKind::InvalidInput.into(),
                });
            }
            let names = export_names(id, name).map(|name| (directory.to_owned(), name));
            let earlier =
                names.iter().find(|name| machine.exports.get(name).is_some_and(|file| file.id == id));
            let free = names.iter().find(|name| !machine.exports.contains_key(name));
            let Some(taken) = earlier.or(free).cloned() else { return Err(Error::Exists) };
            machine.exports.insert(taken.clone(), Exported { id, content });
            Ok(taken.1)
        }))
    }

    fn discard(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.act("discarding a content", move |machine| machine.discard(id, fence)))
    }

    fn remove(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.act("removing an upload", move |machine| {
            machine.counts.looks += 1;
            machine.admit(id, fence)?;
            machine.uploads.remove(&id).map(|_| ()).ok_or(Error::Missing)
        }))
    }

    fn list(
        &self,
        group: UploadGroup,
        unchanged_since: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<Box<dyn Listing>, Error>> {
        Box::pin(self.act("looking through the uploads", move |machine| {
            let mut summaries = machine.uploads.values().map(summary).collect::<Vec<_>>();
            summaries.retain(|summary| {
                summary.is_open == (group == UploadGroup::Open)
                    && unchanged_since.is_none_or(|unchanged_since| summary.touched <= unchanged_since)
            });
            summaries.sort_unstable_by_key(|summary| summary.id);
            Ok(Box::new(MemoryListing(summaries)) as Box<dyn Listing>)
        }))
    }

    fn last_used(&self) -> BoxFuture<'_, Result<Option<LastUsed>, Error>> {
        Box::pin(self.act("reading the time of the last use", |machine| Ok(machine.seen.clone())))
    }

    fn set_last_used<'a>(&'a self, seen: &'a LastUsed) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.act("noting the time of use", |machine| {
            machine.seen = Some(seen.clone());
            Ok(())
        }))
    }

    fn check_health(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.act("probing", |machine| {
            let is_full = machine.faults.full_after.is_some_and(|most| machine.taken >= most);
            if is_full { Err(Error::Full) } else { Ok(()) }
        }))
    }
}

fn summary(kept: &StoredUpload) -> UploadSummary {
    let upload = kept.upload();
    UploadSummary {
        id: upload.id,
        stored: kept.stored(),
        is_open: !upload.is_complete(),
        can_resume: upload.semantics.interruption == Interruption::Resumes,
        awaits_delivery: upload.awaits_delivery(),
        expires: upload.expires(),
        touched: upload.touched,
        length: upload.length,
        record_bytes: upload.record_bytes(),
        composition: upload.composition,
        owner: upload.owner,
    }
}
