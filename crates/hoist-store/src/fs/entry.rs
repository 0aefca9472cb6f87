//! The in-memory state of uploads: the highest fence of each, its writer's queue, its operation lock, and its record.
//!
//! Owns the table of uploads in use, and the rule by which a query is answered from memory: only while no operation on
//! the upload is in progress, no writer is open and no repair is due. An operation takes the record out of the entry
//! ([`UploadLock`](super::upload_lock::UploadLock)) and puts back the one that is stored when it succeeds, so after
//! any other end the next query or operation reads the files. Performs no I/O: nothing here blocks.
//!
//! The state of an upload that is not in use is kept in two bounded places: the fences of the last ones used in a few
//! bytes each, and the records of fewer of them in [`RecordCache`].

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use hoist_proto::types::{Fence, Timestamp, UploadId};
use hoist_proto::upload::Upload;

use super::failure::Repair;
use super::options::Options;
use super::record_cache::{End, RecordCache, Stored};
use super::thread_pool::lock;
use super::write_queue::WriteQueue;
use crate::record::Record;
use crate::store::Error;

/// The shared in-memory entry of an upload in use.
pub(super) struct Entry {
    id: UploadId,
    state: Mutex<State>,
    /// Held by one operation at a time. Waiting for it takes no thread, so a slow upload does not delay others.
    pub(super) lock: Arc<tokio::sync::Mutex<()>>,
    /// Held by one `peek` at a time that runs beside the operation with the lock, so that peeks at an upload with a
    /// slow sync do not occupy all threads.
    pub(super) peek_lock: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    fence: Option<Fence>,
    queue: Option<Arc<WriteQueue>>,
    /// The number of bytes known to be durable; unknown after a start.
    durable_bytes: Option<u64>,
    repair: Option<Repair>,
    /// The record on disk; unknown while an operation holds the lock, and after one that failed.
    record: Option<Arc<Record>>,
    /// The end of the content on disk; unknown while a writer may change it.
    end: Option<End>,
}

impl Entry {
    fn new(id: UploadId, idle: Idle, stored: Option<Stored>) -> Self {
        let (record, end) = stored.map(|Stored { record, end }| (record, end)).unzip();
        let Idle { fence, durable_bytes } = idle;
        Self {
            id,
            state: Mutex::new(State { fence, durable_bytes, record, end, ..State::default() }),
            lock: Arc::default(),
            peek_lock: Arc::default(),
        }
    }

    /// Takes a fence, unless a higher one was seen. Returns the queue of a writer with a lower fence, to be closed.
    pub(super) fn admit(&self, fence: Fence) -> Result<Option<Arc<WriteQueue>>, Error> {
        let mut state = lock(&self.state);
        raise(&mut state.fence, fence)?;
        Ok(state.queue.clone().filter(|queue| queue.fence < fence))
    }

    pub(super) fn queue(&self) -> Option<Arc<WriteQueue>> {
        lock(&self.state).queue.clone()
    }

    pub(super) fn hold(&self, queue: Arc<WriteQueue>) {
        let mut state = lock(&self.state);
        state.end = None;
        state.queue = Some(queue);
    }

    /// Removes a queue that writes no more, and keeps what its content knew of the upload.
    pub(super) fn release_queue(&self, queue: &Arc<WriteQueue>) {
        let mut state = lock(&self.state);
        if state.queue.as_ref().is_some_and(|held| Arc::ptr_eq(held, queue)) {
            state.queue = None;
            state.durable_bytes = queue.content.known_durable();
            state.end = queue.content.durable_end();
            state.repair = queue.content.repair().or(state.repair);
        }
    }

    /// Takes the record and the end of the content out of the entry, before an operation that may change them.
    pub(super) fn take_stored(&self) -> (Option<Arc<Record>>, Option<End>) {
        let mut state = lock(&self.state);
        (state.record.take(), state.end.take())
    }

    /// Sets the record on disk, at the end of an operation with the lock.
    pub(super) fn set_record(&self, record: Arc<Record>) {
        lock(&self.state).record = Some(record);
    }

    /// Sets the end of the content, at the end of an operation with the lock on an upload without a writer.
    pub(super) fn set_end(&self, end: End) {
        let mut state = lock(&self.state);
        if state.queue.is_none() {
            state.end = Some(end);
        }
    }

    pub(super) fn durable_bytes(&self) -> Option<u64> {
        lock(&self.state).durable_bytes
    }

    /// Returns the writer's queue, if any, and the number of bytes known to be durable without one.
    pub(super) fn snapshot(&self) -> (Option<Arc<WriteQueue>>, Option<u64>) {
        let state = lock(&self.state);
        (state.queue.clone(), state.durable_bytes)
    }

    /// Records that at least `bytes` bytes are durable. Never lowers the number.
    pub(super) fn raise_durable_bytes(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.durable_bytes = state.durable_bytes.max(Some(bytes));
    }

    /// Forgets the number of durable bytes and the end of the content, before the content is replaced.
    pub(super) fn clear_durable_bytes(&self) {
        let mut state = lock(&self.state);
        (state.durable_bytes, state.end) = (None, None);
    }

    pub(super) fn repair(&self) -> Option<Repair> {
        lock(&self.state).repair
    }

    pub(super) fn set_repair(&self, repair: Repair) {
        lock(&self.state).repair = Some(repair);
    }

    pub(super) fn clear_repair(&self) {
        lock(&self.state).repair = None;
    }

    /// Forgets the state of an upload that was removed or created anew. Keeps the fence.
    pub(super) fn reset(&self) {
        let mut state = lock(&self.state);
        *state = State { fence: state.fence, queue: state.queue.take(), ..State::default() };
    }
}

/// Raises the highest fence seen.
fn raise(highest: &mut Option<Fence>, fence: Fence) -> Result<(), Error> {
    if highest.is_some_and(|highest| highest > fence) {
        return Err(Error::Fenced);
    }
    *highest = Some(fence);
    Ok(())
}

/// A use of an entry. While there is one, all users share the entry.
pub(super) struct EntryRef {
    entry: Arc<Entry>,
    entries: Arc<Entries>,
}

impl EntryRef {
    /// Removes a queue as soon as it is idle and its writer has no job left. Does not wait.
    pub(super) fn detach(&self, queue: &Arc<WriteQueue>) {
        let entry = self.clone();
        queue.detach(move |queue| entry.release_queue(queue));
    }
}

impl Deref for EntryRef {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl Clone for EntryRef {
    fn clone(&self) -> Self {
        self.entries.of(self.entry.id)
    }
}

impl Drop for EntryRef {
    fn drop(&mut self) {
        lock(&self.entries.table).leave(self.entry.id);
    }
}

/// The entries of the uploads in use, and what is remembered of the last ones that were.
pub(super) struct Entries {
    table: Mutex<Table>,
}

struct Table {
    in_use: HashMap<UploadId, InUse>,
    idle: IdleTable,
    cache: RecordCache,
}

struct InUse {
    entry: Arc<Entry>,
    users: usize,
}

impl Entries {
    pub(super) fn new(options: &Options) -> Self {
        let table = Table {
            in_use: HashMap::new(),
            idle: IdleTable::new(options.fences_max),
            cache: RecordCache::new(options.cache_uploads_max, options.cache_bytes_max),
        };
        Self { table: Mutex::new(table) }
    }

    /// Returns the entry of an upload. All callers share one entry for as long as any of them holds it.
    pub(super) fn of(self: &Arc<Self>, id: UploadId) -> EntryRef {
        let mut table = lock(&self.table);
        let Table { in_use, idle, cache } = &mut *table;
        let used = in_use.entry(id).or_insert_with(|| {
            let entry = Entry::new(id, idle.take(id).unwrap_or_default(), cache.take(id));
            InUse { entry: Arc::new(entry), users: 0 }
        });
        used.users += 1;
        EntryRef { entry: Arc::clone(&used.entry), entries: Arc::clone(self) }
    }

    /// Returns an upload from memory, and takes the fence, if there is one. Returns `None` if the upload is in use, or
    /// its record is not in memory.
    pub(super) fn cached(&self, id: UploadId, fence: Option<Fence>) -> Option<Result<Upload, Error>> {
        let mut table = lock(&self.table);
        let Table { in_use, idle, cache } = &mut *table;
        if in_use.contains_key(&id) {
            return None;
        }
        let stored = cache.get(id)?;
        let admitted = fence.map_or(Ok(()), |fence| idle.admit(id, fence));
        drop(table);
        Some(admitted.map(|()| stored.upload()))
    }
}

impl Entries {
    /// Returns the time at which an upload was created, if its record is in memory.
    pub(super) fn known_creation(&self, id: UploadId) -> Option<Timestamp> {
        let table = lock(&self.table);
        match table.in_use.get(&id) {
            Some(used) => lock(&used.entry.state).record.as_ref().map(|record| record.upload.created),
            None => table.cache.creation(id),
        }
    }
}

impl Table {
    /// Ends one use of an entry. The last one removes the entry, unless a writer or a failed operation left state that
    /// the next one needs.
    fn leave(&mut self, id: UploadId) {
        let Some(used) = self.in_use.get_mut(&id) else { return };
        used.users -= 1;
        if used.users > 0 {
            return;
        }
        let mut state = lock(&used.entry.state);
        if state.queue.is_some() || state.repair.is_some() {
            return;
        }
        self.idle.insert(id, Idle { fence: state.fence, durable_bytes: state.durable_bytes });
        if let (Some(record), Some(end)) = (state.record.take(), state.end.take()) {
            self.cache.insert(id, Stored { record, end });
        }
        drop(state);
        self.in_use.remove(&id);
    }
}

/// The state that is remembered of an upload which is not in use.
#[derive(Clone, Copy, Default)]
struct Idle {
    fence: Option<Fence>,
    durable_bytes: Option<u64>,
}

/// The last uploads that were in use. In two generations: the newer one has at most `max`, and when it is full it
/// replaces the older one, so a use costs the same however many there are, and nothing needs to be sorted.
struct IdleTable {
    newer: HashMap<UploadId, Idle>,
    older: HashMap<UploadId, Idle>,
    max: usize,
}

impl IdleTable {
    fn new(max: usize) -> Self {
        Self { newer: HashMap::new(), older: HashMap::new(), max: max.max(1) }
    }

    fn take(&mut self, id: UploadId) -> Option<Idle> {
        self.newer.remove(&id).or_else(|| self.older.remove(&id))
    }

    fn insert(&mut self, id: UploadId, idle: Idle) {
        if self.newer.len() >= self.max {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(id, idle);
    }

    fn admit(&mut self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let mut idle = self.take(id).unwrap_or_default();
        let admitted = raise(&mut idle.fence, fence);
        self.insert(id, idle);
        admitted
    }
}

#[cfg(test)]
impl Entries {
    /// Forgets every record, so that the next queries read the files.
    pub(super) fn forget_records(&self) {
        lock(&self.table).cache = RecordCache::new(usize::MAX, usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use hoist_proto::types::Durable;

    use super::*;

    fn id(number: u64) -> UploadId {
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&number.to_be_bytes());
        UploadId::from_bits(bits)
    }

    fn entries(fences_max: usize) -> Arc<Entries> {
        Arc::new(Entries::new(&Options { fences_max, ..Options::default() }))
    }

    #[test]
    fn the_table_is_bounded_and_keeps_entries_in_use() {
        let entries = entries(100);
        let held = entries.of(id(0));
        held.admit(Fence::new(9)).expect("the first fence");
        entries.of(id(1)).set_repair(Repair::truncate_to(5));
        for number in 2..5000 {
            entries.of(id(number)).admit(Fence::new(7)).expect("the first fence");
            let table = lock(&entries.table);
            assert_eq!(table.in_use.len(), 2, "{number}");
            assert!(table.idle.newer.len() + table.idle.older.len() <= 200, "{number}");
            drop(table);
            // One of the last hundred used, though not the last.
            let early = id(number.saturating_sub(40).max(2));
            assert!(matches!(entries.of(early).admit(Fence::new(6)), Err(Error::Fenced)), "{number}");
        }
        assert!(matches!(entries.of(id(0)).admit(Fence::new(8)), Err(Error::Fenced)));
        assert_eq!(entries.of(id(1)).repair(), Some(Repair::truncate_to(5)));
    }

    #[test]
    fn an_upload_is_answered_from_memory_only_while_it_is_not_in_use() {
        let entries = entries(100);
        let upload = hoist_proto::testing::upload(id(1));
        let known = |entry: &Entry| {
            entry.set_record(Arc::new(Record { upload: upload.clone(), discarded: None }));
            entry.set_end(End { offset: Durable::ZERO, changed: Some(Timestamp::from_millis(7)) });
        };
        let cached = |fence| entries.cached(id(1), fence).map(|found| found.map(|upload| upload.touched));
        let entry = entries.of(id(1));
        known(&entry);
        assert!(cached(None).is_none(), "in use");
        let other_use = entry.clone();
        drop(entry);
        assert!(cached(None).is_none(), "in use by another");
        drop(other_use);
        assert!(matches!(cached(None), Some(Ok(_))));
        assert!(matches!(cached(Some(Fence::new(4))), Some(Ok(_))));
        assert!(matches!(cached(Some(Fence::new(3))), Some(Err(Error::Fenced))));
        assert!(matches!(entries.of(id(1)).admit(Fence::new(3)), Err(Error::Fenced)), "the fence was taken");
        let entry = entries.of(id(1));
        entry.set_repair(Repair::truncate_to(0));
        drop(entry);
        assert!(cached(None).is_none(), "a repair is due");
        let entry = entries.of(id(1));
        entry.clear_repair();
        entry.take_stored();
        drop(entry);
        assert!(cached(None).is_none(), "an operation has not put the record back");
    }
}
