//! Which uploads wait for which parts, as far as this process has heard: a start finds it out again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hoist_proto::types::UploadId;
use hoist_proto::upload::{Makeup, Upload};

/// Which uploads wait for which parts.
#[derive(Default)]
pub(crate) struct Waiting {
    wholes: Mutex<HashMap<UploadId, Vec<UploadId>>>,
    /// Of an upload, the first of its parts that was not complete when somebody last looked: while that is so, nobody needs
    /// to look at the others.
    gaps: Mutex<HashMap<UploadId, usize>>,
}

impl Waiting {
    /// Notes that an upload waits for its parts.
    pub(crate) fn add(&self, upload: &Upload) {
        let Makeup::Joined(parts) = &upload.makeup else { return };
        let mut waiting = self.map();
        for part in parts {
            let wholes = waiting.entry(*part).or_default();
            if !wholes.contains(&upload.id) {
                wholes.push(upload.id);
            }
        }
    }

    /// Forgets an upload, which is made or gone.
    pub(crate) fn forget(&self, upload: &Upload) {
        self.gaps().remove(&upload.id);
        let Makeup::Joined(parts) = &upload.makeup else { return };
        let mut waiting = self.map();
        for part in parts {
            if let Some(wholes) = waiting.get_mut(part) {
                wholes.retain(|whole| *whole != upload.id);
                if wholes.is_empty() {
                    waiting.remove(part);
                }
            }
        }
    }

    /// Which of an upload's parts was the first that was not complete when somebody last looked.
    pub(crate) fn gap(&self, whole: UploadId) -> Option<usize> {
        self.gaps().get(&whole).copied()
    }

    /// Notes which that is.
    pub(crate) fn note_gap(&self, whole: UploadId, place: usize) {
        self.gaps().insert(whole, place);
    }

    /// The uploads that wait for a part.
    pub(crate) fn of(&self, part: UploadId) -> Vec<UploadId> {
        self.map().get(&part).cloned().unwrap_or_default()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<UploadId, Vec<UploadId>>> {
        self.wholes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gaps(&self) -> MutexGuard<'_, HashMap<UploadId, usize>> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
