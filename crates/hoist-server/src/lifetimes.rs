//! The shortest lifetimes in the store, which bound the part of it that a sweep has to read.

use std::sync::Mutex;
use std::time::Duration;

use hoist_proto::policy::Policy;
use hoist_proto::types::Timestamp;
use hoist_store::store::UploadGroup;

use crate::locked;

/// The shortest lifetime of any upload. An upload that changed more recently cannot have expired.
pub(crate) struct Lifetimes(Mutex<Shortest>);

struct Shortest {
    /// True once every stored upload has been taken into account.
    is_known: bool,
    open: Option<Duration>,
    complete: Option<Duration>,
}

impl Shortest {
    fn of(&mut self, group: UploadGroup) -> &mut Option<Duration> {
        match group {
            UploadGroup::Open => &mut self.open,
            UploadGroup::Complete => &mut self.complete,
        }
    }
}

pub(crate) enum Scope {
    All,
    /// Those that have not changed since.
    UnchangedSince(Timestamp),
    Nothing,
}

impl Lifetimes {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self(Mutex::new(Shortest { is_known: false, open: policy.lifetime, complete: policy.retention }))
    }

    pub(crate) fn note(&self, group: UploadGroup, lifetime: Option<Duration>) {
        let mut shortest = locked(&self.0);
        let known = shortest.of(group);
        *known = known.iter().copied().chain(lifetime).min();
    }

    pub(crate) fn set_known(&self) {
        locked(&self.0).is_known = true;
    }

    /// Returns the scope of a listing that covers every upload that may have expired.
    pub(crate) fn scope(&self, group: UploadGroup, now: Timestamp) -> Scope {
        let mut shortest = locked(&self.0);
        match (shortest.is_known, *shortest.of(group)) {
            (false, _) => Scope::All,
            (true, None) => Scope::Nothing,
            (true, Some(lifetime)) => {
                let life_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
                Scope::UnchangedSince(Timestamp::from_millis(now.millis().saturating_sub(life_ms)))
            }
        }
    }
}
