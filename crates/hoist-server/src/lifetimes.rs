//! The shortest lifetimes in the store, which bound the part of it that a sweep has to read.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hoist_proto::policy::Policy;
use hoist_proto::types::Timestamp;
use hoist_store::store::UploadGroup;

/// The shortest lifetime of any upload. An upload that changed more recently cannot have expired.
pub(crate) struct Lifetimes(Mutex<Shortest>);

#[derive(Clone, Copy)]
struct Shortest {
    /// True once every stored upload has been taken into account.
    is_known: bool,
    open: Option<Duration>,
    complete: Option<Duration>,
}

/// The uploads that may have expired.
pub(crate) enum Scope {
    All,
    /// Those that have not changed since.
    UnchangedSince(Timestamp),
    Nothing,
}

impl Lifetimes {
    pub(crate) fn new(policy: &Policy) -> Self {
        let (open, complete) = (policy.lifetime, policy.retention);
        Self(Mutex::new(Shortest { is_known: false, open, complete }))
    }

    /// Takes the lifetime of an upload into account.
    pub(crate) fn note(&self, group: UploadGroup, lifetime: Option<Duration>) {
        let Some(lifetime) = lifetime else { return };
        let mut shortest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match group {
            UploadGroup::Open => &mut shortest.open,
            UploadGroup::Complete => &mut shortest.complete,
        };
        *known = Some(known.map_or(lifetime, |known| known.min(lifetime)));
    }

    /// Records that every stored upload has been taken into account.
    pub(crate) fn set_known(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_known = true;
    }

    /// Returns the scope of a listing that covers every upload that may have expired.
    pub(crate) fn scope(&self, group: UploadGroup, now: Timestamp) -> Scope {
        let shortest = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lifetime = match group {
            UploadGroup::Open => shortest.open,
            UploadGroup::Complete => shortest.complete,
        };
        match (shortest.is_known, lifetime) {
            (false, _) => Scope::All,
            (true, None) => Scope::Nothing,
            (true, Some(lifetime)) => {
                let life_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
                Scope::UnchangedSince(Timestamp::from_millis(now.millis().saturating_sub(life_ms)))
            }
        }
    }
}
