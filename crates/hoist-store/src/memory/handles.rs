//! The writer, the reader and the listing of a store in memory.

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset};

use super::machine::{Machine, Shared, StoredUpload, WriterId};
use crate::store::{Error, Listing, Reader, StoreFuture, UploadSummary, Writer};

pub(super) struct MemoryWriter {
    pub(super) shared: Shared,
    pub(super) id: WriterId,
    pub(super) is_full: bool,
}

impl MemoryWriter {
    /// Returns the upload if this writer may still write to it.
    fn stored<'a>(&self, machine: &'a mut Machine) -> Result<&'a mut StoredUpload, Error> {
        let WriterId { upload, number, boot } = self.id;
        if boot != machine.boot {
            return Err(Error::Io {
                doing: "writing to an upload".to_owned(),
                source: std::io::Error::other("the machine has crashed since"),
            });
        }
        machine.uploads.get_mut(&upload).filter(|stored| stored.writer == number).ok_or(Error::Fenced)
    }

    fn accept(&mut self, machine: &mut Machine, bytes: &Bytes) -> Result<(), Error> {
        let now = machine.now;
        let fits = usize::try_from(machine.free_bytes()).unwrap_or(usize::MAX).min(bytes.len());
        let stored = self.stored(machine)?;
        if self.is_full {
            return Err(Error::Full);
        }
        let content = stored.content.as_mut().ok_or(Error::Missing)?;
        //= TOK-APP-05
        content.extend_from_slice(&bytes[..fits]);
        stored.written = now;
        machine.accepted += fits as u64;
        machine.counts.writes += 1;
        if fits < bytes.len() {
            self.is_full = true;
            // A disk may notice only after it has accepted the bytes.
            if machine.random.below(2) == 0 {
                return Err(Error::Full);
            }
        }
        Ok(())
    }
}

impl Writer for MemoryWriter {
    fn write(&mut self, bytes: Bytes) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let shared = self.shared.clone();
            // Nothing is awaited after the bytes are accepted, so a dropped future has accepted all of them or none.
            shared.pause().await;
            let mut machine = shared.machine();
            machine.fail("writing to an upload")?;
            self.accept(&mut machine, &bytes)
        })
    }

    fn sync(&mut self) -> StoreFuture<'_, Durable> {
        Box::pin(async move {
            let sync = |machine: &mut Machine| {
                let stored = self.stored(machine)?;
                stored.unverified = None;
                let offset = stored.sync()?;
                machine.counts.syncs += 1;
                Ok(offset)
            };
            self.shared.act("syncing an upload", sync).await
        })
    }

    fn truncate(&mut self, to: Offset) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let truncate = |machine: &mut Machine| {
                let stored = self.stored(machine)?;
                let to = usize::try_from(to.get()).unwrap_or(usize::MAX);
                stored.content.as_mut().ok_or(Error::Missing)?.truncate(to);
                stored.synced = stored.synced.min(to);
                stored.unverified = stored.unverified.filter(|from| *from < to);
                Ok(())
            };
            self.shared.act("truncating an upload", truncate).await
        })
    }

    fn mark_unverified(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let mark = |machine: &mut Machine| {
                let stored = self.stored(machine)?;
                let end = stored.content.as_ref().ok_or(Error::Missing)?.len();
                stored.unverified.get_or_insert(end);
                Ok(())
            };
            self.shared.act("marking content unverified", mark).await
        })
    }

    fn start_sync(&mut self) -> Durable {
        let mut machine = self.shared.machine();
        self.stored(&mut machine).and_then(StoredUpload::sync).unwrap_or(Durable::ZERO)
    }
}

pub(super) struct MemoryReader {
    pub(super) shared: Shared,
    pub(super) rest: Bytes,
}

impl Reader for MemoryReader {
    fn next(&mut self) -> StoreFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            const READ_BYTES_MAX: usize = 256 * 1024;
            let rest = &mut self.rest;
            let next = |_: &mut Machine| {
                let bytes = rest.split_to(rest.len().min(READ_BYTES_MAX));
                Ok((!bytes.is_empty()).then_some(bytes))
            };
            self.shared.act("reading an upload", next).await
        })
    }
}

/// The uploads that existed when the listing began.
pub(super) struct MemoryListing(pub(super) Vec<UploadSummary>);

impl Listing for MemoryListing {
    fn next(&mut self) -> StoreFuture<'_, Option<Vec<UploadSummary>>> {
        const BATCH: usize = 16;
        let batch: Vec<_> = self.0.drain(..self.0.len().min(BATCH)).collect();
        Box::pin(std::future::ready(Ok((!batch.is_empty()).then_some(batch))))
    }
}
