//! The last uploads that have gone, for dialects that tell "gone" from "never there".
//!
//! Owns a bounded memory of them; a restart forgets it, and then they were never there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use hoist_proto::types::{Principal, UploadId};
use hoist_proto::upload::{Family, Upload};

/// How many are remembered.
const REMEMBERED_MAX: usize = 4096;

/// The last uploads that have gone.
#[derive(Default)]
pub(crate) struct Tombstones(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    owners: HashMap<UploadId, Option<Principal>>,
    order: VecDeque<UploadId>,
}

impl Tombstones {
    /// Remembers an upload that has gone, if anybody can be told.
    //= TUS1-TRM-02, TUS1-EXP-04
    pub(crate) fn note(&self, upload: &Upload) {
        if upload.family != Family::Tus1 {
            return;
        }
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.owners.insert(upload.id, upload.owner.clone()).is_none() {
            memory.order.push_back(upload.id);
        }
        if memory.order.len() > REMEMBERED_MAX
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.owners.remove(&oldest);
        }
    }

    /// Whether an upload of this principal's has gone.
    pub(crate) fn knows(&self, id: UploadId, principal: Option<&Principal>) -> bool {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        memory.owners.get(&id).is_some_and(|owner| owner.as_ref() == principal)
    }
}
