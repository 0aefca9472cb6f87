//! The events of a store in memory.

use std::collections::BTreeSet;

use hoist_proto::types::{Durable, Fence, Timestamp, UploadId};
use hoist_proto::upload::{PendingEvent, SinkKey, Upload};

use super::MemoryStore;
use super::machine::Machine;
use crate::record::{self, Record};
use crate::store::outbox::{NAMESAKES_MAX, dead_name, remove_delivered, sinks_of, with_one_event};
use crate::store::{
    DeadEvent, Delivery, Error, EventSource, Outbox, PendingSource, SourceListing, StoreFuture,
};

/// The record of a removed upload. Durable, as opposed to the notes of deliveries.
pub(super) struct RemovedUpload {
    record: Vec<u8>,
    delivered: BTreeSet<Delivery>,
}

impl Outbox for MemoryStore {
    fn remove_with_events<'a>(
        &'a self,
        upload: &'a Upload,
        fence: Fence,
    ) -> StoreFuture<'a, Option<EventSource>> {
        Box::pin(self.0.act("removing an upload with events", move |machine| {
            machine.counts.lookups += 1;
            machine.admit(upload.id, fence)?;
            let mut upload = upload.clone();
            let delivered = &machine.stored(upload.id)?.delivered;
            remove_delivered(&mut upload.events, |delivery| delivered.contains(&delivery));
            let source = if upload.events.is_empty() { None } else { Some(machine.keep_removed(&upload)?) };
            machine.uploads.remove(&upload.id);
            Ok(source)
        }))
    }

    fn pending(&self, source: EventSource) -> StoreFuture<'_, Option<Upload>> {
        Box::pin(self.0.act("reading events", move |machine| {
            let upload = match source {
                EventSource::Stored(id) => {
                    let Some(mut upload) = machine.load(id)? else { return Ok(None) };
                    let delivered = &machine.stored(id)?.delivered;
                    remove_delivered(&mut upload.events, |delivery| delivered.contains(&delivery));
                    Some(upload)
                }
                EventSource::Removed(id, number) => machine.pending_of_removed((id, number))?,
            };
            Ok(upload.filter(|upload| !upload.events.is_empty()))
        }))
    }

    fn mark_delivered<'a>(
        &'a self,
        source: EventSource,
        upload: &'a Upload,
        delivered: &'a [Delivery],
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.0.act("noting deliveries", move |machine| machine.mark(source, upload, delivered)))
    }

    fn list_removed(&self) -> StoreFuture<'_, Box<dyn SourceListing>> {
        Box::pin(self.0.act("listing the removed uploads", move |machine| {
            let mut sources = Vec::new();
            for key in machine.removed.keys().copied().collect::<Vec<_>>() {
                let Some(upload) = machine.pending_of_removed(key)? else { continue };
                let (id, number) = key;
                sources.push(PendingSource {
                    source: EventSource::Removed(id, number),
                    sinks: sinks_of(&upload.events),
                });
            }
            Ok(Box::new(MemorySources(sources)) as Box<dyn SourceListing>)
        }))
    }

    fn bury<'a>(
        &'a self,
        source: EventSource,
        upload: &'a Upload,
        event: &'a PendingEvent,
        sink: SinkKey,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.0.act("burying an event", move |machine| {
            let dead = with_one_event(upload, event, sink);
            let names = (0..NAMESAKES_MAX).filter_map(|attempt| dead_name(&dead, attempt));
            let is_free = |name: &String| match machine.dead.get(name).map(|bytes| record::from_bytes(bytes))
            {
                None => true,
                Some(record) => record.is_ok_and(|record| record.upload.created == dead.created),
            };
            let name = names.into_iter().find(is_free).ok_or(Error::Full)?;
            machine.dead.insert(name, bytes_of(&dead)?);
            machine.mark(source, upload, &[(event.kind, sink)])
        }))
    }

    fn dead<'a>(&'a self, after: Option<&'a str>, most: usize) -> StoreFuture<'a, Vec<DeadEvent>> {
        Box::pin(self.0.act("listing dead events", move |machine| {
            let behind = machine.dead.iter().filter(|(name, _)| Some(name.as_str()) > after);
            let event = |(name, bytes): (&String, &Vec<u8>)| DeadEvent {
                name: name.clone(),
                upload: upload_of(bytes).map_err(|error| error.to_string()),
            };
            Ok(behind.take(most).map(event).collect())
        }))
    }

    fn revive<'a>(&'a self, name: &'a str, now: Timestamp) -> StoreFuture<'a, Option<EventSource>> {
        Box::pin(self.0.act("reviving an event", move |machine| {
            let Some(bytes) = machine.dead.get(name) else { return Ok(None) };
            let mut upload = upload_of(bytes)?;
            for event in &mut upload.events {
                (event.given_up, event.retried) = (None, Some(now));
            }
            let source = machine.keep_removed(&upload)?;
            machine.dead.remove(name);
            Ok(Some(source))
        }))
    }

    fn drop_dead<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool> {
        Box::pin(self.0.act("dropping an event", move |machine| Ok(machine.dead.remove(name).is_some())))
    }
}

impl Machine {
    fn keep_removed(&mut self, upload: &Upload) -> Result<EventSource, Error> {
        let numbers = (upload.created.millis()..).take(NAMESAKES_MAX as usize);
        let is_free = |number: &u64| !self.removed.contains_key(&(upload.id, *number));
        let number = numbers.into_iter().find(is_free).ok_or(Error::Full)?;
        let removed = RemovedUpload { record: bytes_of(upload)?, delivered: BTreeSet::new() };
        self.removed.insert((upload.id, number), removed);
        Ok(EventSource::Removed(upload.id, number))
    }

    fn pending_of_removed(&self, key: RemovedKey) -> Result<Option<Upload>, Error> {
        let Some(RemovedUpload { record, delivered }) = self.removed.get(&key) else { return Ok(None) };
        let mut upload = upload_of(record)?;
        remove_delivered(&mut upload.events, |delivery| delivered.contains(&delivery));
        Ok(Some(upload))
    }

    fn mark(&mut self, source: EventSource, upload: &Upload, delivered: &[Delivery]) -> Result<(), Error> {
        let key = match source {
            EventSource::Removed(id, number) => (id, number),
            EventSource::Stored(id) => {
                if let Some(stored) = self.uploads.get_mut(&id)
                    && stored.record.upload.created == upload.created
                {
                    stored.delivered.extend(delivered);
                    return Ok(());
                }
                let of_creation = |key: &RemovedKey| {
                    let pending = self.pending_of_removed(*key);
                    pending.is_ok_and(|found| found.is_some_and(|found| found.created == upload.created))
                };
                let mut keys = self.removed.range((id, 0)..=(id, u64::MAX)).map(|(key, _)| *key);
                let Some(key) = keys.find(of_creation) else { return Ok(()) };
                key
            }
        };
        if let Some(removed) = self.removed.get_mut(&key) {
            removed.delivered.extend(delivered);
        }
        if self.pending_of_removed(key)?.is_some_and(|upload| upload.events.is_empty()) {
            self.removed.remove(&key);
        }
        Ok(())
    }

    /// Loses the notes of deliveries, of each record or not, by the seed.
    pub(super) fn crash_notes(&mut self) {
        for removed in self.removed.values_mut() {
            if self.random.below(2) == 0 {
                removed.delivered.clear();
            }
        }
    }
}

/// The id of a removed upload, and the number that tells it from others with the same id.
pub(super) type RemovedKey = (UploadId, u64);

fn bytes_of(upload: &Upload) -> Result<Vec<u8>, Error> {
    record::to_bytes(&Record { upload: upload.clone(), discarded: Some(upload.offset.offset()) })
}

fn upload_of(bytes: &[u8]) -> Result<Upload, Error> {
    let Record { upload, discarded } = record::from_bytes(bytes)?;
    #[expect(clippy::disallowed_methods, reason = "a store; the record that states it is durable")]
    let offset = discarded.map_or(upload.offset, Durable::attest);
    Ok(Upload { offset, ..upload })
}

/// The removed uploads that existed when the listing began.
struct MemorySources(Vec<PendingSource>);

impl SourceListing for MemorySources {
    fn next(&mut self) -> StoreFuture<'_, Option<Vec<PendingSource>>> {
        const BATCH: usize = 16;
        let batch: Vec<_> = self.0.drain(..self.0.len().min(BATCH)).collect();
        Box::pin(std::future::ready(Ok((!batch.is_empty()).then_some(batch))))
    }
}
