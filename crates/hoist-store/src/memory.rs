//! A store in memory for tests and simulations, with seeded faults, delays and crashes.
//!
//! It is part of the library because servers and clients are tested against it. It is not for real uploads: its content
//! is lost with the process. It uses neither threads nor a clock, so a seeded simulation takes the same course every
//! time, on any executor.
//!
//! `memory/machine.rs` is the model of a machine that may lose what was not synced, `memory/faults.rs` the faults.
//!
//! ```
//! # use hoist_store::memory::{Faults, MemoryStore};
//! let store = MemoryStore::with_faults(7, Faults { error: 0.01, yields_max: 3, ..Faults::NONE });
//! store.crash(); // a power cut: of what was not synced, nothing or only a part remains
//! ```

use std::path::Path;

use bytes::Bytes;
use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::Upload;

pub use self::faults::Faults;
#[cfg(feature = "contract")]
pub(crate) use self::faults::yield_now;
use self::handles::{MemoryListing, MemoryReader, MemoryWriter};
pub use self::machine::Counts;
use self::machine::{Machine, Shared, WriterId};
use crate::store::{Error, LastUsed, Listing, Outbox, Reader, Store, StoreFuture, UploadGroup, Writer};

mod faults;
mod handles;
mod machine;
mod outbox;
#[cfg(test)]
mod tests;

/// Uploads in memory. Clones share their content.
#[derive(Clone)]
pub struct MemoryStore(Shared);

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Creates an empty store without faults.
    pub fn new() -> Self {
        Self::with_faults(0, Faults::NONE)
    }

    /// Creates an empty store with faults. The same seed leads to the same faults.
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        Self(Shared::new(Machine::new(seed, faults)))
    }

    /// Replaces the faults.
    pub fn set_faults(&self, faults: Faults) {
        self.0.machine().faults = faults;
    }

    /// Sets the time. Uploads that receive bytes from now on were touched at `now`. The store reads no clock.
    pub fn set_time(&self, now: Timestamp) {
        self.0.machine().now = now;
    }

    /// Simulates a power cut and a restart.
    ///
    /// Of each upload the durable record and the synced bytes remain, and by the seed a prefix of the bytes that were
    /// not synced, because a disk may have written more than it confirmed. An upload that was never synced remains or
    /// not, by the seed. All writers end, and all fences are forgotten.
    pub fn crash(&self) {
        self.0.machine().crash();
    }

    /// Returns the number of bytes of an upload that are sure to survive a crash; `None` if the upload may not survive
    /// it.
    pub fn synced(&self, id: UploadId) -> Option<Offset> {
        self.0.machine().synced(id)
    }

    /// Returns the number of operations of each kind so far.
    pub fn counts(&self) -> Counts {
        self.0.machine().counts
    }

    /// Returns the content that was exported under a name.
    pub fn exported(&self, directory: &Path, name: &str) -> Option<Vec<u8>> {
        self.0.machine().exported(directory, name)
    }

    fn writer(&self, id: WriterId) -> Box<dyn Writer> {
        Box::new(MemoryWriter { shared: self.0.clone(), id, is_full: false })
    }
}

impl Store for MemoryStore {
    fn create<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, Box<dyn Writer>> {
        Box::pin(
            self.0.act("creating an upload", move |machine| Ok(self.writer(machine.create(upload, fence)?))),
        )
    }

    fn load(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, Option<Upload>> {
        Box::pin(self.0.act("loading an upload", move |machine| {
            machine.counts.lookups += 1;
            machine.admit(id, fence)?;
            machine.load(id)
        }))
    }

    fn peek(&self, id: UploadId) -> StoreFuture<'_, Option<Upload>> {
        Box::pin(self.0.act("reading an upload's state", move |machine| {
            machine.counts.lookups += 1;
            machine.load(id)
        }))
    }

    fn append(&self, id: UploadId, at: Offset, fence: Fence) -> StoreFuture<'_, Box<dyn Writer>> {
        Box::pin(
            self.0.act("opening an upload", move |machine| Ok(self.writer(machine.append(id, at, fence)?))),
        )
    }

    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, ()> {
        Box::pin(self.0.act("replacing a record", move |machine| machine.commit(upload, fence)))
    }

    fn commit_and_discard<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, ()> {
        Box::pin(self.0.act("replacing a record and discarding the content", move |machine| {
            if upload.is_complete() {
                machine.commit(upload, fence)?;
            }
            machine.discard(upload.id, fence)
        }))
    }

    fn join<'a>(&'a self, id: UploadId, parts: &'a [UploadId], fence: Fence) -> StoreFuture<'a, Durable> {
        Box::pin(self.0.act("joining uploads", move |machine| machine.join(id, parts, fence)))
    }

    fn read(&self, id: UploadId, from: Offset) -> StoreFuture<'_, Box<dyn Reader>> {
        Box::pin(self.0.act("reading an upload", move |machine| {
            let stored = machine.stored(id)?;
            let end = stored.verified_bytes();
            let content = stored.content.as_ref().ok_or(Error::Missing)?;
            let from = usize::try_from(from.get()).unwrap_or(usize::MAX).min(end);
            let rest = Bytes::copy_from_slice(&content[from..end]);
            Ok(Box::new(MemoryReader { shared: self.0.clone(), rest }) as Box<dyn Reader>)
        }))
    }

    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> StoreFuture<'a, String> {
        Box::pin(self.0.act("exporting an upload", move |machine| machine.export(id, directory, name, fence)))
    }

    fn discard(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, ()> {
        Box::pin(self.0.act("discarding a content", move |machine| machine.discard(id, fence)))
    }

    fn remove(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, ()> {
        Box::pin(self.0.act("removing an upload", move |machine| {
            machine.counts.lookups += 1;
            machine.admit(id, fence)?;
            machine.uploads.remove(&id).map(|_| ()).ok_or(Error::Missing)
        }))
    }

    fn list(&self, group: UploadGroup) -> StoreFuture<'_, Box<dyn Listing>> {
        Box::pin(self.0.act("listing the uploads", move |machine| {
            machine.counts.listings += 1;
            let summaries = machine.list(group);
            Ok(Box::new(MemoryListing(summaries)) as Box<dyn Listing>)
        }))
    }

    fn last_used(&self) -> StoreFuture<'_, Option<LastUsed>> {
        Box::pin(self.0.act("reading the time of the last use", |machine| Ok(machine.last_used.clone())))
    }

    fn set_last_used<'a>(&'a self, last_used: &'a LastUsed) -> StoreFuture<'a, ()> {
        Box::pin(self.0.act("storing the time of the last use", |machine| {
            machine.last_used = Some(last_used.clone());
            Ok(())
        }))
    }

    fn outbox(&self) -> Option<&dyn Outbox> {
        Some(self)
    }

    fn check_health(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.0.act("checking the store", |machine| {
            if machine.free_bytes() == 0 { Err(Error::Full) } else { Ok(()) }
        }))
    }
}
