//! The in-memory state of uploads: the highest fence of each, its writer's queue, and its operation lock.
//!
//! Owns the table of uploads in use. Performs no I/O: nothing here blocks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hoist_proto::types::{Fence, UploadId};

use super::failure::Repair;
use super::thread_pool::lock;
use super::write_queue::WriteQueue;
use crate::store::Error;

/// The shared in-memory entry of an upload. Created on first use, swept when idle.
#[derive(Default)]
pub(super) struct Entry {
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
}

impl Entry {
    /// Takes a fence, unless a higher one was seen. Returns the queue of a writer with a lower fence, to be closed.
    pub(super) fn admit(&self, fence: Fence) -> Result<Option<Arc<WriteQueue>>, Error> {
        let mut state = lock(&self.state);
        if state.fence.is_some_and(|newest| newest > fence) {
            return Err(Error::Fenced);
        }
        state.fence = Some(fence);
        Ok(state.queue.clone().filter(|queue| queue.fence < fence))
    }

    pub(super) fn queue(&self) -> Option<Arc<WriteQueue>> {
        lock(&self.state).queue.clone()
    }

    pub(super) fn hold(&self, queue: Arc<WriteQueue>) {
        lock(&self.state).queue = Some(queue);
    }

    /// Removes a queue that writes no more, and keeps what its content knew of the upload.
    pub(super) fn release_queue(&self, queue: &Arc<WriteQueue>) {
        let mut state = lock(&self.state);
        if state.queue.as_ref().is_some_and(|held| Arc::ptr_eq(held, queue)) {
            state.queue = None;
            state.durable_bytes = queue.content.known_durable();
            state.repair = queue.content.repair().or(state.repair);
        }
    }

    /// Removes a queue as soon as it is idle and its writer has no job left. Does not wait.
    pub(super) fn detach(self: &Arc<Self>, queue: &Arc<WriteQueue>) {
        let entry = Arc::clone(self);
        queue.detach(move |queue| entry.release_queue(queue));
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

    /// Forgets the number of durable bytes, before the content is replaced.
    pub(super) fn clear_durable_bytes(&self) {
        lock(&self.state).durable_bytes = None;
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
        (state.durable_bytes, state.repair) = (None, None);
    }
}

/// The entries of the uploads in use, and of the last ones that were.
pub(super) struct Entries {
    table: Mutex<Table>,
    idle_max: usize,
}

struct Table {
    entries: HashMap<UploadId, (u64, Arc<Entry>)>,
    uses: u64,
    /// The number of entries at which the idle ones are swept.
    sweep_at: usize,
}

impl Entries {
    /// Creates a table that remembers the fences of about `idle_max` idle uploads.
    pub(super) fn new(idle_max: usize) -> Self {
        let table = Table { entries: HashMap::new(), uses: 0, sweep_at: idle_max.max(1) * 2 };
        Self { table: Mutex::new(table), idle_max }
    }

    /// Returns the entry of an upload. All callers share one entry for as long as any of them holds it.
    pub(super) fn of(&self, id: UploadId) -> Arc<Entry> {
        let mut table = lock(&self.table);
        table.uses += 1;
        let now = table.uses;
        if table.entries.len() >= table.sweep_at {
            table.sweep(self.idle_max);
        }
        let (used, entry) = table.entries.entry(id).or_default();
        *used = now;
        Arc::clone(entry)
    }
}

impl Table {
    /// Removes the least recently used idle entries, until `idle_max` of them are left.
    fn sweep(&mut self, idle_max: usize) {
        let is_idle = |entry: &Arc<Entry>| {
            Arc::strong_count(entry) == 1 && entry.repair().is_none() && entry.queue().is_none()
        };
        let idle = self.entries.values().filter(|(_, entry)| is_idle(entry));
        let mut uses = idle.map(|(used, _)| *used).collect::<Vec<_>>();
        if let Some(surplus) = uses.len().checked_sub(idle_max + 1) {
            let (_, &mut newest, _) = uses.select_nth_unstable(surplus);
            self.entries.retain(|_, (used, entry)| *used > newest || !is_idle(entry));
        }
        self.sweep_at = (self.entries.len() + 1) * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_keeps_entries_in_use() {
        let id = |number: u64| {
            let mut bits = [0; 16];
            bits[..8].copy_from_slice(&number.to_be_bytes());
            UploadId::from_bits(bits)
        };
        let entries = Entries::new(100);
        let held = entries.of(id(0));
        held.admit(Fence::new(9)).expect("the first fence");
        entries.of(id(1)).set_repair(Repair::truncate_to(5));
        for number in 2..5000 {
            entries.of(id(number)).admit(Fence::new(7)).expect("the first fence");
            assert!(lock(&entries.table).entries.len() <= 206, "{number}");
            // One of the last hundred used, though not the last.
            let early = id(number.saturating_sub(40).max(2));
            assert!(matches!(entries.of(early).admit(Fence::new(6)), Err(Error::Fenced)), "{number}");
        }
        assert!(matches!(entries.of(id(0)).admit(Fence::new(8)), Err(Error::Fenced)));
        assert_eq!(entries.of(id(1)).repair(), Some(Repair::truncate_to(5)));
    }
}
