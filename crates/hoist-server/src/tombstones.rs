//! The most recently removed uploads, for dialects that distinguish 410 (Gone) from 404 (Not Found).
//!
//! Kept in memory and bounded. After a restart, a removed upload is answered as one that never existed.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use hoist_proto::types::{Principal, UploadId};
use hoist_proto::upload::{Family, Upload};

use crate::locked;

const REMEMBERED_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Tombstones(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    owners: HashMap<UploadId, Option<Principal>>,
    order: VecDeque<UploadId>,
}

impl Tombstones {
    /// Remembers a removed upload, if its dialect distinguishes it.
    //= TUS1-TRM-02, TUS1-EXP-04
    pub(crate) fn note(&self, upload: &Upload) {
        if upload.family != Family::Tus1 {
            return;
        }
        let mut memory = locked(&self.0);
        if memory.owners.insert(upload.id, upload.owner.clone()).is_none() {
            memory.order.push_back(upload.id);
        }
        if memory.order.len() > REMEMBERED_MAX
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.owners.remove(&oldest);
        }
    }

    pub(crate) fn knows(&self, id: UploadId, principal: Option<&Principal>) -> bool {
        let memory = locked(&self.0);
        memory.owners.get(&id).is_some_and(|owner| owner.as_ref() == principal)
    }
}
