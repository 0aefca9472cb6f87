//! The uploads that wait for parts, as far as this process has heard: a start finds them out again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_proto::types::UploadId;
use hoist_proto::upload::{Composition, Upload};

/// The uploads that wait for parts.
#[derive(Default)]
pub(crate) struct PendingParts {
    /// The requests on parts of a whole that run at this moment.
    present: Arc<Mutex<HashMap<UploadId, usize>>>,
    wholes: Mutex<HashMap<UploadId, Vec<UploadId>>>,
    /// Of an upload, the first of its parts that was not complete at the last look. While it is not, the others need not be
    /// looked at.
    gaps: Mutex<HashMap<UploadId, usize>>,
}

impl PendingParts {
    /// Notes that an upload waits for its parts.
    pub(crate) fn add(&self, upload: &Upload) {
        let Composition::Concatenated(parts) = &upload.composition else { return };
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
        let Composition::Concatenated(parts) = &upload.composition else { return };
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

    /// The place of the first of an upload's parts that was not complete at the last look.
    pub(crate) fn gap(&self, whole: UploadId) -> Option<usize> {
        self.gaps().get(&whole).copied()
    }

    /// Notes that place.
    pub(crate) fn note_gap(&self, whole: UploadId, place: usize) {
        self.gaps().insert(whole, place);
    }

    /// Notes that a request on a part of a whole runs, until it is dropped. To be called under the whole's claim.
    pub(crate) fn enter(&self, whole: UploadId) -> Present {
        *locked(&self.present).entry(whole).or_default() += 1;
        Present { all: Arc::clone(&self.present), whole }
    }

    /// The uploads that wait for a part.
    pub(crate) fn of(&self, part: UploadId) -> Vec<UploadId> {
        self.map().get(&part).cloned().unwrap_or_default()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<UploadId, Vec<UploadId>>> {
        locked(&self.wholes)
    }

    fn gaps(&self) -> MutexGuard<'_, HashMap<UploadId, usize>> {
        locked(&self.gaps)
    }
}

/// A request on a part of a whole, while it runs.
pub(crate) struct Present {
    all: Arc<Mutex<HashMap<UploadId, usize>>>,
    whole: UploadId,
}

impl Present {
    /// Returns `true` if no other request on a part of the same upload is running.
    pub(crate) fn is_alone(&self) -> bool {
        locked(&self.all).get(&self.whole).is_none_or(|present| *present == 1)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let mut all = locked(&self.all);
        if let Some(present) = all.get_mut(&self.whole) {
            *present -= 1;
            if *present == 0 {
                all.remove(&self.whole);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
