//! The writer and the reader of a store in memory.
//!
//! Owns what one holder may still do: a writer ends with its claim and with the machine. Leaves what is kept to
//! [`memory`](super).

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset, UploadId};

use super::{Machine, MemoryStore, StoredUpload};
use crate::store::{BoxFuture, Error, Listing, Reader, UploadSummary, Writer};

pub(super) struct MemoryWriter {
    store: MemoryStore,
    id: UploadId,
    number: u64,
    life: u64,
    is_full: bool,
}

impl MemoryWriter {
    /// The writer of this number, in this life of the machine.
    pub(super) fn new(store: MemoryStore, id: UploadId, number: u64, life: u64) -> Self {
        Self { store, id, number, life, is_full: false }
    }

    /// The upload, if this writer may still write to it.
    fn mine<'a>(&self, machine: &'a mut Machine) -> Result<&'a mut StoredUpload, Error> {
        if self.life != machine.life {
            return Err(Error::Io {
                doing: "writing to an upload".to_owned(),
                source: std::io::Error::other("the machine has crashed since"),
            });
        }
        let number = self.number;
        machine.uploads.get_mut(&self.id).filter(|kept| kept.writer == number).ok_or(Error::Fenced)
    }

    fn take(&mut self, machine: &mut Machine, bytes: &Bytes) -> Result<(), Error> {
        let room = machine.faults.full_after.map_or(u64::MAX, |most| most.saturating_sub(machine.taken));
        let now = machine.now;
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let kept = self.mine(machine)?;
        if self.is_full {
            return Err(Error::Full);
        }
        let content = kept.content.as_mut().ok_or(Error::Missing)?;
        //= TOK-APP-05
        content.extend_from_slice(&bytes[..fits]);
        kept.written = now;
        machine.taken += fits as u64;
        machine.counts.writes += 1;
        if fits < bytes.len() {
            self.is_full = true;
            // A disk may find out only after the bytes were accepted.
            if machine.dice.below(2) == 0 {
                return Err(Error::Full);
            }
        }
        Ok(())
    }
}

impl Writer for MemoryWriter {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let store = self.store.clone();
            // Whether the bytes are taken is decided by one step, after which nothing is awaited.
            store.pause().await;
            let mut machine = store.machine();
            machine.fail("writing to an upload")?;
            self.take(&mut machine, &bytes)
        })
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<Durable, Error>> {
        Box::pin(async move {
            let store = self.store.clone();
            let offset = store
                .act("syncing an upload", |machine| {
                    let kept = self.mine(machine)?;
                    kept.unverified = None;
                    let offset = kept.sync()?;
                    machine.counts.syncer += 1;
                    Ok(offset)
                })
                .await?;
            #[expect(clippy::disallowed_methods, reason = "a store, and a crash would leave these bytes")]
            Ok(Durable::attest(offset))
        })
    }

    fn truncate(&mut self, to: Offset) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let store = self.store.clone();
            let act = |machine: &mut Machine| {
                let kept = self.mine(machine)?;
                let to = usize::try_from(to.get()).unwrap_or(usize::MAX);
                kept.content.as_mut().ok_or(Error::Missing)?.truncate(to);
                kept.synced = kept.synced.min(to);
                kept.unverified = kept.unverified.filter(|from| *from < to);
                Ok(())
            };
            store.act("cutting an upload back", act).await
        })
    }

    fn mark_unverified(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let store = self.store.clone();
            let act = |machine: &mut Machine| {
                let kept = self.mine(machine)?;
                let end = kept.content.as_ref().ok_or(Error::Missing)?.len();
                kept.unverified.get_or_insert(end);
                Ok(())
            };
            store.act("doubting an upload", act).await
        })
    }

    fn start_sync(&mut self) -> Durable {
        let store = self.store.clone();
        let mut machine = store.machine();
        let synced = self.mine(&mut machine).and_then(StoredUpload::sync).unwrap_or(Offset::ZERO);
        #[expect(clippy::disallowed_methods, reason = "a store, and a crash would leave these bytes")]
        Durable::attest(synced)
    }
}

pub(super) struct MemoryReader {
    store: MemoryStore,
    rest: Bytes,
}

impl MemoryReader {
    pub(super) fn new(store: MemoryStore, rest: Bytes) -> Self {
        Self { store, rest }
    }
}

impl Reader for MemoryReader {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            const READ_BYTES_MAX: usize = 256 * 1024;
            let (store, rest) = (self.store.clone(), &mut self.rest);
            let next = |_: &mut Machine| {
                let bytes = rest.split_to(rest.len().min(READ_BYTES_MAX));
                Ok((!bytes.is_empty()).then_some(bytes))
            };
            store.act("reading an upload", next).await
        })
    }
}

/// The uploads that existed when the listing began, returned in small batches.
pub(super) struct MemoryListing(pub(super) Vec<UploadSummary>);

impl Listing for MemoryListing {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<UploadSummary>>, Error>> {
        const FEW: usize = 16;
        let few: Vec<_> = self.0.drain(..self.0.len().min(FEW)).collect();
        Box::pin(std::future::ready(Ok((!few.is_empty()).then_some(few))))
    }
}
