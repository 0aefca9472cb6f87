//! Who may touch an upload now: the newest fence of each, and the lane its writer holds.
//!
//! Owns the table of uploads in use, and the order in which operations on one upload take their turns. Leaves the disk
//! to the other modules: nothing here blocks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hoist_proto::types::{Fence, UploadId};

use super::crew::locked;
use super::lane::Lane;
use crate::store::Error;

/// What this process knows of an upload.
#[derive(Default)]
pub(super) struct Entry {
    state: Mutex<State>,
    /// One operation at a time. Waited for without a thread, so a slow upload costs the others nothing.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    fence: Option<Fence>,
    lane: Option<Arc<Lane>>,
    /// How many bytes were durable when they were last looked at; unknown after a start.
    known: Option<u64>,
    damage: Option<String>,
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
            state.damage = lane.content().damage().or(state.damage.take());
        }
    }

    pub(super) fn known(&self) -> Option<u64> {
        locked(&self.state).known
    }

    pub(super) fn learn(&self, known: u64) {
        locked(&self.state).known = Some(known);
    }

    pub(super) fn damage(&self) -> Option<String> {
        locked(&self.state).damage.clone()
    }

    pub(super) fn set_damage(&self, damage: String) {
        locked(&self.state).damage = Some(damage);
    }

    /// The upload is another one now, or none.
    pub(super) fn reset(&self) {
        let mut state = locked(&self.state);
        (state.known, state.damage) = (None, None);
    }

    fn is_damaged(&self) -> bool {
        locked(&self.state).damage.is_some()
    }
}

/// The uploads in use, and the last few that were.
pub(super) struct Entries {
    table: Mutex<Table>,
    idle_max: u64,
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
        Self { table: Mutex::new(table), idle_max: idle_max as u64 }
    }

    /// What is known of an upload, to be found again by everybody who asks while somebody holds it.
    pub(super) fn of(&self, id: UploadId) -> Arc<Entry> {
        let mut table = locked(&self.table);
        table.uses += 1;
        let now = table.uses;
        if table.entries.len() >= table.sweep_at {
            let recent = now.saturating_sub(self.idle_max);
            table.entries.retain(|_, (used, entry)| {
                *used > recent || Arc::strong_count(entry) > 1 || entry.is_damaged() || entry.lane().is_some()
            });
            table.sweep_at = (table.entries.len() + 1) * 2;
        }
        let (used, entry) = table.entries.entry(id).or_default();
        *used = now;
        Arc::clone(entry)
    }
}
