//! The events of the local store.
//!
//! Owns the order of the steps by which an upload with events is removed, and a dead event revived. Leaves the files to
//! [`event_dir`](super::event_dir), and the notes of deliveries to [`marks`](super::marks).

use std::collections::VecDeque;
use std::sync::Arc;

use hoist_proto::types::{Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::{PendingEvent, SinkKey, Upload};

use super::data_dir::DataDir;
use super::event_dir::{parse_removed_name, record_of, removed_name, upload_of};
use super::layout::{NEW_SUFFIX, ParentDirs};
use super::local_store::{LocalStore, without_offset};
use super::thread_pool::ThreadPool;
use super::upload_lock::UploadLock;
use super::write_queue::Queued;
use crate::record::Record;
use crate::store::outbox::{NAMESAKES_MAX, dead_name, remove_delivered, sinks_of, with_one_event};
use crate::store::{
    DeadEvent, Delivery, Error, EventSource, Outbox, PendingSource, SourceListing, Store as _, StoreFuture,
};

/// The most records that one step of a listing reads.
const STEP: usize = 256;

impl Outbox for LocalStore {
    fn remove_with_events<'a>(
        &'a self,
        upload: &'a Upload,
        fence: Fence,
    ) -> StoreFuture<'a, Option<EventSource>> {
        Box::pin(async move {
            let lock = self.lock(upload.id, fence, Queued::Drop).await?;
            lock.close_queue(Queued::Drop).await;
            let data_dir = Arc::clone(&self.data_dir);
            let upload = Upload { offset: upload.offset, ..without_offset(upload) };
            let job = move || Ok((remove_with_events(&data_dir, &lock, upload)?, ParentDirs::NONE));
            self.syncer.call(job).await
        })
    }

    fn pending(&self, source: EventSource) -> StoreFuture<'_, Option<Upload>> {
        let data_dir = Arc::clone(&self.data_dir);
        Box::pin(async move {
            let upload = match source {
                EventSource::Removed(id, number) => {
                    let read = move || data_dir.gone.read_pending(&removed_name(id, number));
                    self.io_pool.call(read).await?
                }
                EventSource::Stored(id) => match self.durable_upload(id).await? {
                    Some(mut upload) if !upload.events.is_empty() => {
                        let read = move || Ok(data_dir.find_unlocked(id)?.map(|dir| dir.marks().read()));
                        let marks = self.io_pool.call(read).await?.unwrap_or_default();
                        remove_delivered(&mut upload.events, |delivery| marks.contains(delivery));
                        Some(upload)
                    }
                    _ => None,
                },
            };
            Ok(upload.filter(|upload| !upload.events.is_empty()))
        })
    }

    fn mark_delivered<'a>(
        &'a self,
        source: EventSource,
        upload: &'a Upload,
        delivered: &'a [Delivery],
    ) -> StoreFuture<'a, ()> {
        let (data_dir, entries) = (Arc::clone(&self.data_dir), Arc::clone(&self.entries));
        let (id, created, delivered) = (upload.id, upload.created, delivered.to_vec());
        Box::pin(self.io_pool.call(move || {
            if let EventSource::Removed(id, number) = source {
                return data_dir.gone.mark(&removed_name(id, number), &delivered);
            }
            // The directory first: if the upload is replaced meanwhile, the note is lost with the old directory.
            if let Some(dir) = data_dir.find_unlocked(id)? {
                let is_the_same = match entries.known_creation(id) {
                    Some(known) => known == created,
                    None => dir.states_creation(created)?,
                };
                if is_the_same {
                    return dir.marks().add(&delivered);
                }
            }
            match data_dir.gone.find_removed(id, created)? {
                Some(number) => data_dir.gone.mark(&removed_name(id, number), &delivered),
                None => Ok(()),
            }
        }))
    }

    fn list_removed(&self) -> StoreFuture<'_, Box<dyn SourceListing>> {
        let (data_dir, pool) = (Arc::clone(&self.data_dir), self.bulk_pool.clone());
        Box::pin(self.bulk_pool.call(move || {
            let names = data_dir.gone.names()?.into();
            Ok(Box::new(RemovedListing { pool, position: Some((data_dir, names)) }) as Box<dyn SourceListing>)
        }))
    }

    fn bury<'a>(
        &'a self,
        source: EventSource,
        upload: &'a Upload,
        event: &'a PendingEvent,
        sink: SinkKey,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (data_dir, dead) = (Arc::clone(&self.data_dir), with_one_event(upload, event, sink));
            self.io_pool.call(move || bury(&data_dir, dead)).await?;
            self.mark_delivered(source, upload, &[(event.kind, sink)]).await
        })
    }

    fn dead<'a>(&'a self, after: Option<&'a str>, most: usize) -> StoreFuture<'a, Vec<DeadEvent>> {
        let (data_dir, after) = (Arc::clone(&self.data_dir), after.map(str::to_owned));
        Box::pin(self.bulk_pool.call(move || {
            let mut names = data_dir.dead.names()?;
            names.retain(|name| dead_id(name).is_some() && Some(name) > after.as_ref());
            names.truncate(most);
            Ok(names.into_iter().filter_map(|name| dead_event(&data_dir, name)).collect())
        }))
    }

    fn revive<'a>(&'a self, name: &'a str, now: Timestamp) -> StoreFuture<'a, Option<EventSource>> {
        Box::pin(async move {
            let Some(id) = dead_id(name) else { return Ok(None) };
            // So that a removal of the upload does not take the same number.
            let entry = self.entries.of(id);
            let guard = Arc::clone(&entry.lock).lock_owned().await;
            let (data_dir, name) = (Arc::clone(&self.data_dir), name.to_owned());
            let job = move || {
                let _guard = guard;
                let Some(record) = data_dir.dead.read(&name)? else { return Ok(None) };
                let mut upload = upload_of(record);
                for event in &mut upload.events {
                    (event.given_up, event.retried) = (None, Some(now));
                }
                let number = data_dir.gone.write_removed(&data_dir.root, &record_of(upload))?;
                data_dir.dead.remove(&name)?;
                Ok(Some(EventSource::Removed(id, number)))
            };
            self.io_pool.call(job).await
        })
    }

    fn drop_dead<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool> {
        let (data_dir, name) = (Arc::clone(&self.data_dir), name.to_owned());
        Box::pin(self.io_pool.call(move || {
            if dead_id(&name).is_none() || !data_dir.dead.has(&name)? {
                return Ok(false);
            }
            data_dir.dead.remove(&name).map(|()| true)
        }))
    }
}

impl LocalStore {
    /// Returns an upload that is durable. Of a complete one only the record is read, because the content may have been moved
    /// away.
    async fn durable_upload(&self, id: UploadId) -> Result<Option<Upload>, Error> {
        if let Some(known) = self.entries.cached(id, None) {
            return known.map(Some);
        }
        let data_dir = Arc::clone(&self.data_dir);
        let job = move || {
            let Some(dir) = data_dir.find_unlocked(id)? else { return Ok((None, ParentDirs::NONE)) };
            let found = dir.record()?.map(|found| found.record);
            let Some(record) = found.filter(|record| record.upload.is_complete()) else {
                return Ok((None, ParentDirs::NONE));
            };
            dir.sync()?;
            let length = record.upload.length.map(|length| Offset::new(length.get()));
            let discarded = record.discarded.or(length);
            Ok((Some(upload_of(Record { discarded, ..record })), dir.parent.into()))
        };
        match self.syncer.call(job).await? {
            None => self.peek(id).await,
            complete => Ok(complete),
        }
    }
}

/// Removes an upload after its undelivered events are kept apart. One job to the end, because the caller may stop waiting.
fn remove_with_events(
    data_dir: &DataDir,
    lock: &UploadLock,
    mut upload: Upload,
) -> Result<Option<EventSource>, Error> {
    let (id, gone) = (upload.id, &data_dir.gone);
    // Otherwise a running sync could rename the draft in a directory that is being deleted.
    lock.close_content();
    let marks = data_dir.find(id)?.ok_or(Error::Missing)?.marks().read();
    remove_delivered(&mut upload.events, |delivery| marks.contains(delivery));
    if upload.events.is_empty() {
        let parents = lock.remove(data_dir)?;
        return data_dir.sync_parents(parents).map(|()| None);
    }
    let number = gone.write_due(&data_dir.root, &record_of(upload))?;
    // Durable before the events are: they tell that the upload is removed.
    let removed = lock.remove(data_dir).and_then(|parents| data_dir.sync_parents(parents));
    if let Err(failure) = removed {
        // If the upload is gone, though not durably, the next start decides.
        if matches!(data_dir.find(id), Ok(Some(_)))
            && let Err(error) = gone.removal_failed(id, number)
        {
            tracing::debug!(%error, "the record of a removal that failed stays until the next start");
        }
        return Err(failure);
    }
    gone.removal_done(id, number)?;
    Ok(Some(EventSource::Removed(id, number)))
}

fn bury(data_dir: &DataDir, dead: Upload) -> Result<(), Error> {
    for attempt in 0..NAMESAKES_MAX {
        let Some(name) = dead_name(&dead, attempt) else { return Ok(()) };
        let is_free = match data_dir.dead.read(&name) {
            Ok(None) => true,
            // An earlier attempt, whose note was lost.
            Ok(Some(record)) => record.upload.created == dead.created,
            Err(_) => false,
        };
        if is_free {
            return data_dir.dead.write(&data_dir.root, &name, &record_of(dead));
        }
    }
    Err(Error::Full)
}

/// Returns the id in the name of a dead event; `None` for any other name.
fn dead_id(name: &str) -> Option<UploadId> {
    let (id, rest) = name.split_once('.')?;
    let is_plain =
        rest.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'.');
    id.parse().ok().filter(|_| is_plain && !rest.ends_with(NEW_SUFFIX))
}

/// Reads a dead event. Returns `None` if it is gone.
fn dead_event(data_dir: &DataDir, name: String) -> Option<DeadEvent> {
    let upload = match data_dir.dead.read(&name) {
        Ok(record) => Ok(upload_of(record?)),
        Err(error) => Err(error.to_string()),
    };
    Some(DeadEvent { name, upload })
}

struct RemovedListing {
    pool: ThreadPool,
    position: Option<(Arc<DataDir>, VecDeque<String>)>,
}

impl SourceListing for RemovedListing {
    fn next(&mut self) -> StoreFuture<'_, Option<Vec<PendingSource>>> {
        Box::pin(async move {
            let Some((data_dir, mut names)) = self.position.take() else { return Ok(None) };
            if names.is_empty() {
                return Ok(None);
            }
            let step = move || {
                let batch = names.drain(..names.len().min(STEP)).filter_map(|name| listed(&data_dir, &name));
                let batch = batch.collect::<Vec<_>>();
                Ok((batch, (data_dir, names)))
            };
            let (batch, position) = self.pool.call(step).await?;
            self.position = Some(position);
            Ok(Some(batch))
        })
    }
}

fn listed(data_dir: &DataDir, name: &str) -> Option<PendingSource> {
    let Some((id, number)) = parse_removed_name(name) else {
        tracing::debug!("ignored an entry of gone that is no record");
        return None;
    };
    match data_dir.gone.read_pending(name) {
        Ok(Some(upload)) if upload.events.is_empty() => {
            // The notes are complete, and a crash kept the file.
            drop(data_dir.gone.remove(name));
            None
        }
        Ok(upload) => {
            Some(PendingSource { source: EventSource::Removed(id, number), sinks: sinks_of(&upload?.events) })
        }
        Err(error) => {
            tracing::warn!(upload = %id.short(), %error, "could not read the events of a removed upload");
            None
        }
    }
}
