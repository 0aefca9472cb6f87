//! Who may touch an upload now: the newest fence of each, and the lane its writer holds.
//!
//! Owns the table of uploads in use, and the order in which operations on one upload take their turns. Leaves the disk
//! to the other modules: nothing here blocks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hoist_proto::types::{Fence, UploadId};

use super::crew::locked;
use super::failure::Repair;
use super::lane::Lane;
use crate::store::Error;

/// What this process knows of an upload.
#[derive(Default)]
pub(super) struct Entry {
    state: Mutex<State>,
    /// One operation at a time. Waited for without a thread, so a slow upload costs the others nothing.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Admits one reader at a time beside the operation that has the turn, so that readers of an upload with a slow
    /// sync do not occupy all threads.
    pub(super) aside: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    fence: Option<Fence>,
    lane: Option<Arc<Lane>>,
    /// How many bytes were durable when they were last looked at; unknown after a start.
    known: Option<u64>,
    repair: Option<Repair>,
}

impl Entry {
    /// Takes a fence, unless a newer one was seen. A writer of an older one is told apart and given back, to be ended.
    pub(super) fn admit(&self, fence: Fence) -> Result<Option<Arc<Lane>>, Error> {
        let mut state = locked(&self.state);
        if state.fence.is_some_and(|newest| newest > fence) {
            return Err(Error::Fenced);
        }
        state.fence = Some(fence);
        Ok(state.lane.clone().filter(|lane| lane.fence() < fence))
    }

    pub(super) fn lane(&self) -> Option<Arc<Lane>> {
        locked(&self.state).lane.clone()
    }

    pub(super) fn hold(&self, lane: Arc<Lane>) {
        locked(&self.state).lane = Some(lane);
    }

    /// Forgets a lane that writes no more, and keeps what it knew of its upload.
    pub(super) fn let_go(&self, lane: &Arc<Lane>) {
        let mut state = locked(&self.state);
        if state.lane.as_ref().is_some_and(|held| Arc::ptr_eq(held, lane)) {
            state.lane = None;
            state.known = lane.content().known();
            state.repair = lane.content().repair().or(state.repair);
        }
    }

    pub(super) fn known(&self) -> Option<u64> {
        locked(&self.state).known
    }

    /// Returns the current writer, if any, and the number of bytes known to be durable without one.
    pub(super) fn last_known(&self) -> (Option<Arc<Lane>>, Option<u64>) {
        let state = locked(&self.state);
        (state.lane.clone(), state.known)
    }

    /// Notes that at least `bytes` bytes are durable. A lower number from an earlier look changes nothing.
    pub(super) fn learn(&self, bytes: u64) {
        let mut state = locked(&self.state);
        state.known = state.known.max(Some(bytes));
    }

    /// The content is about to become another one.
    pub(super) fn unlearn(&self) {
        locked(&self.state).known = None;
    }

    /// The work that a failing disk left undone.
    pub(super) fn repair(&self) -> Option<Repair> {
        locked(&self.state).repair
    }

    pub(super) fn set_repair(&self, repair: Repair) {
        locked(&self.state).repair = Some(repair);
    }

    pub(super) fn repaired(&self) {
        locked(&self.state).repair = None;
    }

    /// The upload is another one now, or none.
    pub(super) fn reset(&self) {
        let mut state = locked(&self.state);
        (state.known, state.repair) = (None, None);
    }
}

/// The uploads in use, and the last few that were.
pub(super) struct Entries {
    table: Mutex<Table>,
    idle_max: usize,
}

struct Table {
    entries: HashMap<UploadId, (u64, Arc<Entry>)>,
    uses: u64,
    /// How many entries there may be before the idle ones are looked for again.
    sweep_at: usize,
}

impl Entries {
    /// A table that remembers the fences of about `idle_max` uploads nobody uses at the moment.
    pub(super) fn new(idle_max: usize) -> Self {
        let table = Table { entries: HashMap::new(), uses: 0, sweep_at: idle_max.max(1) * 2 };
        Self { table: Mutex::new(table), idle_max }
    }

    /// What is known of an upload, to be found again by everybody who asks while somebody holds it.
    pub(super) fn of(&self, id: UploadId) -> Arc<Entry> {
        let mut table = locked(&self.table);
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
    /// Forgets the idle uploads that have not been used for longest, until `idle_max` of them are left.
    fn sweep(&mut self, idle_max: usize) {
        let is_idle = |entry: &Arc<Entry>| {
            Arc::strong_count(entry) == 1 && entry.repair().is_none() && entry.lane().is_none()
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
    fn the_table_is_bounded_and_keeps_what_is_in_use() {
        let id = |number: u64| {
            let mut bits = [0; 16];
            bits[..8].copy_from_slice(&number.to_be_bytes());
            UploadId::from_bits(bits)
        };
        let entries = Entries::new(100);
        let held = entries.of(id(0));
        held.admit(Fence::new(9)).expect("the first fence");
        entries.of(id(1)).set_repair(Repair::cut_to(5));
        for number in 2..5000 {
            entries.of(id(number)).admit(Fence::new(7)).expect("the first fence");
            assert!(locked(&entries.table).entries.len() <= 206, "{number}");
            // Among the last hundred in use, though not the last.
            let early = id(number.saturating_sub(40).max(2));
            assert!(matches!(entries.of(early).admit(Fence::new(6)), Err(Error::Fenced)), "{number}");
        }
        assert!(matches!(entries.of(id(0)).admit(Fence::new(8)), Err(Error::Fenced)));
        assert_eq!(entries.of(id(1)).repair(), Some(Repair::cut_to(5)));
    }
}
