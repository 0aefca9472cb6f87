//! The uploads that expire next, so that a sweep reads only those that are due.
//!
//! Owns an index in memory, which a survey of the store fills and every completion extends. It is a hint. An upload is
//! loaded before it is removed, and filed again if it expires later by then, so an entry that is too early, or whose
//! upload is gone, costs one read. What the index does not contain is found by the next survey, which is due before any
//! such upload expires. So the index may forget: it is bounded, and keeps the uploads that expire first.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Mutex;

use hoist_proto::types::{Timestamp, UploadId};
use hoist_proto::upload::Upload;
use hoist_store::store::UploadGroup;

use crate::locked;

/// The most uploads of a group in the index, of about 36 bytes each.
const FILED_MAX: usize = 1 << 18;

/// The end of all time.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// The time at which an upload may expire, and its id.
pub(crate) type Filed = (Timestamp, UploadId);

/// The index. All times are those of the wall clock; after a step of the clock a new survey is due.
pub(crate) struct Expiries {
    groups: [Mutex<Group>; 2],
    filed_max: usize,
}

struct Group {
    filed: BTreeSet<Filed>,
    /// Uploads that are not filed expire at this time or later.
    unfiled_from: Timestamp,
    /// The number of the last survey that has begun.
    survey: u64,
    /// The number of steps of the clock at the beginning of that survey, once it has ended.
    steps: Option<u64>,
}

impl Default for Group {
    fn default() -> Self {
        Self { filed: BTreeSet::new(), unfiled_from: NEVER, survey: 0, steps: None }
    }
}

/// A survey of a group that has begun.
pub(crate) struct Survey {
    group: UploadGroup,
    number: u64,
    steps: u64,
}

impl Default for Expiries {
    fn default() -> Self {
        Self::with_most(FILED_MAX)
    }
}

impl Expiries {
    fn with_most(filed_max: usize) -> Self {
        Self { groups: Default::default(), filed_max }
    }

    fn of(&self, group: UploadGroup) -> &Mutex<Group> {
        &self.groups[usize::from(group == UploadGroup::Complete)]
    }

    /// Begins a survey: from now on every upload of the group is filed that the caller finds in the store. Forgets the
    /// uploads that were filed before. `steps` is the number of steps of the clock so far.
    pub(crate) fn begin(&self, group: UploadGroup, steps: u64) -> Survey {
        let mut state = locked(self.of(group));
        let number = state.survey + 1;
        *state = Group { survey: number, ..Group::default() };
        Survey { group, number, steps }
    }

    /// Ends a survey that has visited the whole group. A survey that is dropped instead has to be repeated.
    pub(crate) fn end(&self, survey: &Survey) {
        let mut state = locked(self.of(survey.group));
        if state.survey == survey.number {
            state.steps = Some(survey.steps);
        }
    }

    /// Returns whether uploads may have expired that are not filed.
    pub(crate) fn needs_survey(&self, group: UploadGroup, now: Timestamp, steps: u64) -> bool {
        let state = locked(self.of(group));
        state.steps != Some(steps) || state.unfiled_from <= now
    }

    /// Files an upload, or remembers that it is not filed.
    pub(crate) fn file(&self, group: UploadGroup, filed: Filed) {
        locked(self.of(group)).file(filed, self.filed_max);
    }

    /// Takes a new open upload into account. It is not filed, because most uploads are complete long before they expire.
    pub(crate) fn created(&self, upload: &Upload) {
        let Some(expires) = upload.expires() else { return };
        let mut state = locked(self.of(UploadGroup::Open));
        state.unfiled_from = state.unfiled_from.min(expires);
    }

    /// Drops an upload that was removed. An entry of an earlier time remains until it is due.
    pub(crate) fn forget(&self, upload: &Upload) {
        let Some(expires) = upload.expires() else { return };
        for group in &self.groups {
            locked(group).filed.remove(&(expires, upload.id));
        }
    }

    /// Drops an entry.
    pub(crate) fn drop_entry(&self, group: UploadGroup, filed: &Filed) {
        locked(self.of(group)).filed.remove(filed);
    }

    /// Returns the first entry after `last` that is due at `now`.
    pub(crate) fn next_due(&self, group: UploadGroup, last: Option<Filed>, now: Timestamp) -> Option<Filed> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let state = locked(self.of(group));
        let next = state.filed.range((from, Bound::Unbounded)).next().copied();
        next.filter(|(expires, _)| *expires <= now)
    }
}

impl Group {
    fn file(&mut self, filed: Filed, filed_max: usize) {
        if filed.0 >= self.unfiled_from {
            return;
        }
        self.filed.insert(filed);
        if self.filed.len() > filed_max
            && let Some((last, _)) = self.filed.pop_last()
        {
            self.unfiled_from = self.unfiled_from.min(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use hoist_proto::testing::{self, SeededRng};

    use super::*;

    const GROUP: UploadGroup = UploadGroup::Open;

    fn id(number: u64) -> UploadId {
        UploadId::from_bits(u128::from(number).to_be_bytes())
    }

    /// The group of a store and its sweeper, without claims and files.
    struct Model {
        expiries: Expiries,
        stored: BTreeMap<UploadId, Timestamp>,
        now: Timestamp,
        surveys: usize,
        visits: usize,
    }

    impl Model {
        fn new(filed_max: usize) -> Self {
            let (expiries, stored) = (Expiries::with_most(filed_max), BTreeMap::new());
            Self { expiries, stored, now: Timestamp::from_millis(0), surveys: 0, visits: 0 }
        }

        fn add(&mut self, number: u64, life_ms: u64, is_filed: bool) {
            let lifetime = Duration::from_millis(life_ms);
            let upload =
                Upload { touched: self.now, lifetime: Some(lifetime), ..testing::upload(id(number)) };
            let expires = self.now.plus(lifetime);
            self.stored.insert(upload.id, expires);
            if is_filed {
                self.expiries.file(GROUP, (expires, upload.id));
            } else {
                self.expiries.created(&upload);
            }
        }

        fn sweep(&mut self) {
            loop {
                if self.expiries.needs_survey(GROUP, self.now, 0) {
                    self.surveys += 1;
                    let survey = self.expiries.begin(GROUP, 0);
                    for (id, expires) in &self.stored {
                        self.expiries.file(GROUP, (*expires, *id));
                    }
                    self.expiries.end(&survey);
                }
                self.visit_due();
                if !self.expiries.needs_survey(GROUP, self.now, 0) {
                    break;
                }
            }
        }

        fn visit_due(&mut self) {
            let mut last = None;
            while let Some(due) = self.expiries.next_due(GROUP, last, self.now) {
                self.visits += 1;
                self.expiries.drop_entry(GROUP, &due);
                let (_, id) = due;
                match self.stored.get(&id) {
                    Some(expires) if *expires <= self.now => drop(self.stored.remove(&id)),
                    Some(expires) => self.expiries.file(GROUP, (*expires, id)),
                    None => {}
                }
                last = Some(due);
            }
        }

        fn filed(&self) -> usize {
            locked(self.expiries.of(GROUP)).filed.len()
        }
    }

    #[test]
    fn everything_that_expires_is_removed_however_little_is_filed() {
        for (seed, filed_max) in (0..50).zip([1, 2, 7, 40, 10_000].into_iter().cycle()) {
            let mut random = SeededRng(seed);
            let mut model = Model::new(filed_max);
            for number in 0..400 {
                model.now = model.now.plus(Duration::from_millis(random.up_to(9)));
                let (life_ms, is_filed) = (1 + random.up_to(300), random.one_in(2));
                model.add(number, life_ms, is_filed);
                let some = id(random.up_to(number));
                match random.below(4) {
                    // Touched, which no one reports.
                    0 => {
                        let later = Duration::from_millis(random.up_to(200));
                        model.stored.entry(some).and_modify(|expires| *expires = expires.plus(later));
                    }
                    // Completed or removed.
                    1 => drop(model.stored.remove(&some)),
                    _ => {}
                }
                if random.one_in(3) {
                    model.sweep();
                    let left = model.stored.values().filter(|expires| **expires <= model.now).count();
                    assert_eq!(left, 0, "seed {seed}, {number}");
                }
                assert!(model.filed() <= filed_max, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_survey_files_what_expires_first_and_the_next_is_due_when_that_is_removed() {
        let mut model = Model::new(10);
        for number in 0..100 {
            model.add(number, 1000 + number, false);
        }
        for (now, left, surveys, visits) in
            [(5, 100, 1, 0), (1009, 90, 1, 10), (1009, 90, 1, 10), (1010, 89, 2, 11), (1019, 80, 2, 20)]
        {
            model.now = Timestamp::from_millis(now);
            model.sweep();
            assert_eq!((model.stored.len(), model.surveys, model.visits), (left, surveys, visits), "{now}");
        }
    }

    #[test]
    fn a_survey_that_is_overtaken_or_dropped_does_not_count() {
        let expiries = Expiries::default();
        let now = Timestamp::from_millis(5);
        assert!(expiries.needs_survey(GROUP, now, 0));
        let first = expiries.begin(GROUP, 0);
        let second = expiries.begin(GROUP, 0);
        expiries.end(&first);
        assert!(expiries.needs_survey(GROUP, now, 0), "the second has not visited everything");
        expiries.end(&second);
        assert!(!expiries.needs_survey(GROUP, now, 0));
        assert!(expiries.needs_survey(GROUP, now, 1), "the clock has stepped");
        expiries.begin(GROUP, 0);
        assert!(expiries.needs_survey(GROUP, now, 0));
    }
}
