//! The queue of one sink: the uploads with events for it, and the times of the next attempts.
//!
//! Owns the order of an upload's events, the pauses after failures, and the bounds on memory. It is an index of what the
//! store keeps. Uploads that do not fit are counted, and found again by a listing once there is room. Has no clock and
//! sends nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::types::UploadId;
use hoist_proto::upload::{EventKind, Upload};
use hoist_store::store::EventSource;
use tokio::time::Instant;

/// The pauses after the first failure of an event, and after many.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_hours(1);

/// The number of failures in a row from which on the sink counts as unreachable.
const STREAK: u32 = 8;

/// The longest pause between attempts at an unreachable sink. One event is tried then, on behalf of all.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The bounds of a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most uploads in memory.
    pub(crate) uploads: usize,
    /// The most records in memory. The others are read when it is their turn.
    pub(crate) views: usize,
    /// The most attempts at once.
    pub(crate) sends: usize,
}

pub(crate) struct Lane {
    bounds: Bounds,
    works: HashMap<UploadId, Work>,
    /// The uploads that wait, by the time of their next attempt.
    due: BTreeSet<(Instant, UploadId)>,
    views: usize,
    sending: usize,
    /// The events of the uploads in memory.
    held: u64,
    /// The events of the others.
    spilled: u64,
    /// The number of the last record that was added.
    serial: u64,
    /// The failures since the last success.
    streak: u32,
    /// The time before which no attempt is made.
    paused_until: Option<Instant>,
}

/// An upload id whose events are to be delivered.
struct Work {
    /// The records under this id, in the order of the uploads. Rarely more than one.
    records: Vec<Record>,
    /// The failures of the first event since its last success.
    failures: u32,
    /// The time of the next attempt; `None` while one runs.
    due: Option<Instant>,
}

struct Record {
    source: EventSource,
    serial: u64,
    /// The time of its first event, or that at which this process found it.
    since: Instant,
    /// The events that are to be delivered.
    events: u64,
    view: Option<Arc<Upload>>,
    delivered: Kinds,
    /// True if an event was added since the last attempt began.
    has_more: bool,
}

/// An attempt to deliver the events of a record.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) source: EventSource,
    serial: u64,
    /// The upload with its events, if the store need not be asked.
    pub(crate) view: Option<Arc<Upload>>,
    /// The types of events that were delivered by earlier attempts.
    pub(crate) delivered: Kinds,
    /// The failures so far of the event that is next.
    pub(crate) failures: u32,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Ending {
    /// No event of the record is left.
    Settled,
    /// An event could not be delivered. The number, from 0 to 1, spreads the next attempts.
    Failed { spread: f64 },
}

/// A set of types of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl FromIterator<EventKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = EventKind>>(kinds: I) -> Self {
        let mut set = Self::default();
        for kind in kinds {
            set.insert(kind);
        }
        set
    }
}

impl Kinds {
    pub(crate) fn insert(&mut self, kind: EventKind) {
        self.0 |= 1 << kind as u8;
    }

    pub(crate) fn contains(self, kind: EventKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

impl Lane {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            works: HashMap::new(),
            due: BTreeSet::new(),
            views: 0,
            sending: 0,
            held: 0,
            spilled: 0,
            serial: 0,
            streak: 0,
            paused_until: None,
        }
    }

    /// Returns the number of events that are to be delivered.
    pub(crate) fn pending(&self) -> u64 {
        self.held + self.spilled
    }

    /// Returns the time since which the oldest record waits. Records that are not in memory are younger, as a rule.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.works.values().flat_map(|work| &work.records).map(|record| record.since).min()
    }

    /// Returns the number of attempts that run.
    pub(crate) fn sending(&self) -> usize {
        self.sending
    }

    /// Returns whether the sink counts as unreachable.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.streak >= STREAK
    }

    /// Adds `events` new events of a record, to be delivered from `at` on. `view` is the upload, if none of its events was
    /// delivered.
    pub(crate) fn add(&mut self, source: EventSource, events: u64, view: Option<Arc<Upload>>, at: Instant) {
        if let Some(work) = self.works.get_mut(&source.id())
            && let Some(record) = work.records.iter_mut().find(|record| record.source == source)
        {
            record.events += events;
            record.has_more = true;
            self.views -= usize::from(record.view.take().is_some());
            self.held += events;
            self.hasten(source.id(), at);
            return;
        }
        self.insert(source, events, view, at);
    }

    /// Adds a record that a listing found, unless it is here.
    pub(crate) fn found(&mut self, source: EventSource, events: u64, at: Instant) {
        let is_known = |work: &Work| work.records.iter().any(|record| record.source == source);
        if events > 0 && !self.works.get(&source.id()).is_some_and(is_known) {
            self.insert(source, events, None, at);
        }
    }

    /// Takes the removal of an upload into account. `source` is the record that keeps its events, if any are left, of which
    /// `events` are new.
    pub(crate) fn removed(&mut self, id: UploadId, source: Option<EventSource>, events: u64, at: Instant) {
        let stored = EventSource::Stored(id);
        let Some(work) = self.works.get_mut(&id) else {
            if let Some(source) = source.filter(|_| events > 0) {
                self.insert(source, events, None, at);
            }
            return;
        };
        match (work.records.iter().position(|record| record.source == stored), source) {
            (Some(place), Some(source)) => {
                let record = &mut work.records[place];
                (record.source, record.has_more) = (source, true);
                record.events += events;
                self.held += events;
                self.views -= usize::from(record.view.take().is_some());
                work.records.sort_by_key(|record| record.source);
                self.hasten(id, at);
            }
            (Some(place), None) => self.drop_record(id, place),
            (None, Some(source)) if events > 0 => self.insert(source, events, None, at),
            (None, _) => {}
        }
    }

    fn insert(&mut self, source: EventSource, events: u64, view: Option<Arc<Upload>>, at: Instant) {
        let id = source.id();
        if !self.works.contains_key(&id) && self.works.len() >= self.bounds.uploads {
            self.spilled += events;
            return;
        }
        self.serial += 1;
        let view = view.filter(|_| self.views < self.bounds.views);
        self.views += usize::from(view.is_some());
        self.held += events;
        let (serial, delivered) = (self.serial, Kinds::default());
        let record = Record { source, serial, since: at, events, view, delivered, has_more: false };
        let due = &mut self.due;
        let work = self.works.entry(id).or_insert_with(|| {
            due.insert((at, id));
            Work { records: Vec::with_capacity(1), failures: 0, due: Some(at) }
        });
        work.records.push(record);
        work.records.sort_by_key(|record| record.source);
        self.hasten(id, at);
    }

    /// Brings an attempt forward that follows no failure.
    fn hasten(&mut self, id: UploadId, at: Instant) {
        let Some(work) = self.works.get_mut(&id) else { return };
        if let Some(due) = work.due.filter(|due| work.failures == 0 && *due > at) {
            self.due.remove(&(due, id));
            self.due.insert((at, id));
            work.due = Some(at);
        }
    }

    fn drop_record(&mut self, id: UploadId, place: usize) {
        let Some(work) = self.works.get_mut(&id) else { return };
        let record = work.records.remove(place);
        self.held -= record.events;
        self.views -= usize::from(record.view.is_some());
        if work.records.is_empty() {
            if let Some(due) = work.due {
                self.due.remove(&(due, id));
            }
            self.works.remove(&id);
        }
    }

    /// Returns the time of the next attempt; `None` if there is nothing to do, or enough is being done.
    pub(crate) fn next(&self) -> Option<Instant> {
        let sends_max = if self.is_unreachable() { 1 } else { self.bounds.sends };
        let (due, _) = self.due.first().filter(|_| self.sending < sends_max)?;
        Some(self.paused_until.map_or(*due, |until| until.max(*due)))
    }

    /// Begins the next attempt, if one is due.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Attempt> {
        self.next().filter(|next| *next <= now)?;
        let (_, id) = self.due.pop_first()?;
        let work = self.works.get_mut(&id)?;
        work.due = None;
        let record = work.records.first_mut()?;
        self.sending += 1;
        record.has_more = false;
        let view = record.view.take();
        self.views -= usize::from(view.is_some());
        let Record { source, serial, delivered, .. } = *record;
        Some(Attempt { source, serial, view, delivered, failures: work.failures })
    }

    /// Ends an attempt, which has delivered or given up `settled`.
    pub(crate) fn end(&mut self, attempt: &Attempt, settled: &[EventKind], ending: Ending, now: Instant) {
        self.sending -= 1;
        if !settled.is_empty() || ending == Ending::Settled {
            self.reached(now);
        }
        let spread = if let Ending::Failed { spread } = ending {
            self.failed(spread, now);
            spread
        } else {
            0.0
        };
        let id = attempt.source.id();
        let Some(work) = self.works.get_mut(&id) else { return };
        // Its source is another one if the upload was removed meanwhile.
        let place = work.records.iter().position(|record| record.serial == attempt.serial);
        let mut is_settled = false;
        if let Some(record) = place.and_then(|place| work.records.get_mut(place)) {
            let new = settled.iter().filter(|kind| !record.delivered.contains(**kind)).count() as u64;
            for kind in settled {
                record.delivered.insert(*kind);
            }
            let new = new.min(record.events);
            record.events -= new;
            self.held -= new;
            is_settled = ending == Ending::Settled && !record.has_more;
        }
        work.failures = match ending {
            Ending::Failed { .. } if settled.is_empty() => work.failures.saturating_add(1),
            Ending::Failed { .. } => 1,
            Ending::Settled => 0,
        };
        let at = if work.failures == 0 { now } else { now + pause(work.failures, spread) };
        work.due = Some(at);
        self.due.insert((at, id));
        if let Some(place) = place.filter(|_| is_settled) {
            self.drop_record(id, place);
        } else if self.works.get(&id).is_some_and(|work| work.records.is_empty()) {
            // The upload was removed, and nothing was left to deliver.
            self.due.remove(&(at, id));
            self.works.remove(&id);
        }
    }

    /// Notes that the sink answers. If it did not before, the events that wait for it are due.
    fn reached(&mut self, now: Instant) {
        let was_unreachable = self.is_unreachable();
        (self.streak, self.paused_until) = (0, None);
        if was_unreachable {
            self.due.clear();
            for (id, work) in &mut self.works {
                if work.due.is_some() {
                    work.due = Some(now);
                    self.due.insert((now, *id));
                }
            }
        }
    }

    fn failed(&mut self, spread: f64, now: Instant) {
        self.streak = self.streak.saturating_add(1);
        if self.is_unreachable() {
            let wait = pause(self.streak - STREAK + 1, spread).min(PROBE_PAUSE_MAX);
            self.paused_until = Some(now + wait);
        }
    }

    /// Returns whether a listing would find uploads that now fit, and forgets their number, which the listing finds again.
    pub(crate) fn take_spilled(&mut self) -> bool {
        let fits = self.spilled > 0 && self.works.len() <= self.bounds.uploads / 2;
        if fits {
            self.spilled = 0;
        }
        fits
    }
}

/// Returns the pause after a number of failures.
fn pause(failures: u32, spread: f64) -> Duration {
    let doubled = PAUSE_MIN.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    doubled.mul_f64(0.75 + spread.clamp(0.0, 1.0) / 2.0).clamp(PAUSE_MIN, PAUSE_MAX)
}

#[cfg(test)]
mod tests;
