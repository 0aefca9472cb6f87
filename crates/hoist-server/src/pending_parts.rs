//! The composed uploads that wait for parts, as far as this process knows; a start finds the others in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hoist_proto::types::UploadId;
use hoist_proto::upload::{Composition, Upload};

use crate::locked;

#[derive(Default)]
pub(crate) struct PendingParts {
    /// The number of running requests on parts of an indexed upload.
    requests: Arc<Mutex<HashMap<UploadId, usize>>>,
    /// For each part, the uploads that wait for it.
    waiting: Mutex<HashMap<UploadId, Vec<UploadId>>>,
    /// For each upload, the index of the first part that was last seen incomplete. While it is incomplete, the others need
    /// not be checked.
    gaps: Mutex<HashMap<UploadId, usize>>,
}

impl PendingParts {
    pub(crate) fn add(&self, upload: &Upload) {
        let Composition::Concatenated(parts) = &upload.composition else { return };
        let mut waiting = locked(&self.waiting);
        for part in parts {
            let composed = waiting.entry(*part).or_default();
            if !composed.contains(&upload.id) {
                composed.push(upload.id);
            }
        }
    }

    pub(crate) fn forget(&self, upload: &Upload) {
        locked(&self.gaps).remove(&upload.id);
        let Composition::Concatenated(parts) = &upload.composition else { return };
        let mut waiting = locked(&self.waiting);
        for part in parts {
            if let Some(composed) = waiting.get_mut(part) {
                composed.retain(|composed| *composed != upload.id);
                if composed.is_empty() {
                    waiting.remove(part);
                }
            }
        }
    }

    pub(crate) fn of(&self, part: UploadId) -> Vec<UploadId> {
        locked(&self.waiting).get(&part).cloned().unwrap_or_default()
    }

    /// Returns the index of the first part of an upload that was last seen incomplete.
    pub(crate) fn gap(&self, composed: UploadId) -> Option<usize> {
        locked(&self.gaps).get(&composed).copied()
    }

    pub(crate) fn set_gap(&self, composed: UploadId, index: usize) {
        locked(&self.gaps).insert(composed, index);
    }

    /// Counts a request on a part of an indexed upload until the result is dropped. Must be called under the claim of the
    /// indexed upload.
    pub(crate) fn enter(&self, parent: UploadId) -> PartRequest {
        *locked(&self.requests).entry(parent).or_default() += 1;
        PartRequest { requests: Arc::clone(&self.requests), parent }
    }
}

pub(crate) struct PartRequest {
    requests: Arc<Mutex<HashMap<UploadId, usize>>>,
    parent: UploadId,
}

impl PartRequest {
    /// Returns `true` if no other request on a part of the same upload is running.
    pub(crate) fn is_alone(&self) -> bool {
        locked(&self.requests).get(&self.parent).is_none_or(|running| *running == 1)
    }
}

impl Drop for PartRequest {
    fn drop(&mut self) {
        let mut requests = locked(&self.requests);
        if let Some(running) = requests.get_mut(&self.parent) {
            *running -= 1;
            if *running == 0 {
                requests.remove(&self.parent);
            }
        }
    }
}
