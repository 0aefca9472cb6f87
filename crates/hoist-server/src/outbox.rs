//! The outbox: events of uploads, delivered to sinks at least once.
//!
//! An event is part of its upload's record, so the store makes it durable together with the change that it tells of
//! ([`Upload::events`]). What the outbox has in memory is an index of that, bounded for each sink (`lane.rs`). Its tasks
//! deliver beside the requests (`dispatch.rs`): no request waits for a sink. After a crash events may be delivered again, with
//! the same id; none is lost, and none tells of what did not happen.
//!
//! Owns which events there are, and for which sinks. Leaves the content of deliveries to `payload.rs`, and one attempt to
//! `sink.rs`.

pub(crate) mod lane;
pub(crate) mod payload;
mod signature;
pub(crate) mod sink;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_proto::types::{Fence, Offset, Timestamp};
use hoist_proto::upload::{Composition, EventKind, EventRequest, Family, PendingEvent, SinkKey, Upload};
use hoist_store::store::{Error, EventSource, Store};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::lane::{Bounds, Lane};
use self::payload::Told;
use self::sink::Means;
use crate::locked;
use crate::outbound::Outbound;
use crate::program::Programs;
use crate::request_facts::RequestFacts;

pub use self::signature::{NotASecret, Secret};
pub use self::sink::{Format, NotAFormat, NotASink, Sink};

/// The most sinks of an endpoint.
pub const SINKS_MAX: usize = 16;

/// The bounds of each sink. An upload takes about 250 bytes, a record a few thousand.
const BOUNDS: Bounds = Bounds { uploads: 1 << 16, views: 1 << 10, sends: 8 };

/// The most programs at once, of all sinks.
const PROGRAMS_MAX: usize = 8;

/// The time after which the creation of an upload is told that goes on. Most uploads are complete by then, and have to be
/// read only once.
const CREATED_DELAY: Duration = Duration::from_millis(100);

/// The sinks of an endpoint, and what is to be delivered to them.
pub struct Outbox {
    pub(crate) lanes: Vec<SinkLane>,
    pub(crate) means: Means,
    pub(crate) listing: Listing,
}

/// A sink and its queue.
pub(crate) struct SinkLane {
    pub(crate) sink: Sink,
    pub(crate) lane: Mutex<Lane>,
    pub(crate) changed: Notify,
}

/// The listings that are due.
#[derive(Default)]
pub(crate) struct Listing {
    due: Mutex<Due>,
    changed: Notify,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Due {
    pub(crate) stored: bool,
    pub(crate) removed: bool,
}

/// Sinks that cannot be used together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSinks {
    /// Two sinks have the same URL, so that records could not tell them apart.
    #[error("the sink {0} is given twice; give its settings once")]
    Repeated(String),
    /// There are more than [`SINKS_MAX`].
    #[error("there are more than {SINKS_MAX} sinks of events")]
    TooMany,
}

/// The state of a sink.
#[derive(Clone, Debug)]
pub struct SinkStatus {
    /// The sink, without what may be secret.
    pub name: String,
    /// The short name in records.
    pub key: SinkKey,
    /// The number of events that are to be delivered.
    pub pending: u64,
    /// The time since the oldest of them, or since the start of the process if that is later; zero if there is none.
    pub oldest: Duration,
    /// The number of attempts that run.
    pub sending: usize,
    /// True if the last attempts have all failed, so that one at a time is made.
    pub is_unreachable: bool,
}

/// The removal of an upload. If it is dropped before it has ended, the removed uploads are listed.
struct Removing<'a>(Option<&'a Listing>);

impl Outbox {
    /// Creates an outbox. A program of a sink may take `timeout`.
    ///
    /// # Errors
    /// Returns [`BadSinks`] if a sink is given twice, or if there are too many.
    pub fn new(sinks: Vec<Sink>, timeout: Duration) -> Result<Self, BadSinks> {
        if sinks.len() > SINKS_MAX {
            return Err(BadSinks::TooMany);
        }
        for (at, sink) in sinks.iter().enumerate() {
            if sinks[..at].iter().any(|other| other.key() == sink.key()) {
                return Err(BadSinks::Repeated(sink.to_string()));
            }
        }
        let lane = |sink| SinkLane { sink, lane: Mutex::new(Lane::new(BOUNDS)), changed: Notify::new() };
        Ok(Self {
            lanes: sinks.into_iter().map(lane).collect(),
            means: Means { outbound: Outbound::new(), programs: Programs::new(PROGRAMS_MAX, timeout) },
            listing: Listing::default(),
        })
    }

    /// Returns the content that a sink with this format receives, for operators.
    pub fn content(upload: &Upload, event: &PendingEvent, format: Format, endpoint: &str) -> Vec<u8> {
        Told { upload, event, endpoint, origin: None }.content(format)
    }

    /// Returns the state of each sink.
    pub(crate) fn status(&self) -> Vec<SinkStatus> {
        let status = |SinkLane { sink, lane, .. }: &SinkLane| {
            let lane = locked(lane);
            SinkStatus {
                name: sink.to_string(),
                key: sink.key(),
                pending: lane.pending(),
                oldest: lane.oldest().map(|oldest| oldest.elapsed()).unwrap_or_default(),
                sending: lane.sending(),
                is_unreachable: lane.is_unreachable(),
            }
        };
        self.lanes.iter().map(status).collect()
    }

    /// Adds an event to an upload that is about to change, for the sinks that want it.
    pub(crate) fn tell(
        &self,
        upload: &mut Upload,
        kind: EventKind,
        offset: Offset,
        at: Timestamp,
        request: &RequestFacts,
    ) {
        // Numbered parts are not uploads to their client.
        if upload.composition == Composition::Part && upload.family == Family::Token {
            return;
        }
        let wanted = self.lanes.iter().filter(|lane| lane.sink.wants(kind));
        let sinks = wanted.map(|lane| lane.sink.key()).collect::<Vec<_>>();
        if sinks.is_empty() {
            return;
        }
        let request = payload::at_rest(request);
        let earlier = upload.events.last().and_then(|event| event.request.as_ref());
        let is_same = |earlier: &&Arc<EventRequest>| request.as_ref() == Some(&***earlier);
        let request = earlier.filter(is_same).cloned().or(request.map(Arc::new));
        let length = upload.length;
        let (given_up, retried) = (None, None);
        upload.events.push(PendingEvent { kind, at, offset, length, sinks, request, given_up, retried });
    }

    /// Queues the creation of an upload that goes on. It is read when its turn comes, which makes it durable.
    pub(crate) fn created(&self, upload: &Upload) {
        self.queue(upload, &upload.events, None, Instant::now() + CREATED_DELAY);
    }

    /// Queues the events of an upload that was created with all its content.
    pub(crate) fn created_whole(&self, upload: Upload) {
        if !upload.events.is_empty() {
            let upload = Arc::new(upload);
            self.queue(&upload, &upload.events, Some(&upload), Instant::now());
        }
    }

    /// Queues the last event of an upload, which is committed.
    pub(crate) fn committed(&self, upload: &Upload, kind: EventKind) {
        if let Some(event) = upload.events.last().filter(|event| event.kind == kind) {
            self.queue(upload, std::slice::from_ref(event), None, Instant::now());
        }
    }

    fn queue(&self, upload: &Upload, events: &[PendingEvent], view: Option<&Arc<Upload>>, at: Instant) {
        for SinkLane { sink, lane, changed } in &self.lanes {
            let count = count_for(events, sink.key());
            if count > 0 {
                locked(lane).add(EventSource::Stored(upload.id), count, view.cloned(), at);
                changed.notify_one();
            }
        }
    }

    /// Removes an upload from a store, and keeps its events: those of its record, and the last one of `kind`, if there is one.
    pub(crate) async fn remove(
        &self,
        store: &dyn Store,
        mut upload: Upload,
        kind: Option<EventKind>,
        fence: Fence,
    ) -> Result<(), Error> {
        // No one would ever deliver the events of a sink that is no longer there.
        let is_known = |key: &SinkKey| self.lanes.iter().any(|lane| lane.sink.key() == *key);
        for event in &mut upload.events {
            event.sinks.retain(is_known);
        }
        upload.events.retain(|event| !event.sinks.is_empty());
        let id = upload.id;
        let Some(outbox) = store.outbox().filter(|_| !upload.events.is_empty()) else {
            return store.remove(id, fence).await;
        };
        let mut removing = Removing(Some(&self.listing));
        let removed = outbox.remove_with_events(&upload, fence).await;
        removing.0 = None;
        let source = removed?;
        let last = upload.events.last().filter(|event| Some(event.kind) == kind);
        let now = Instant::now();
        for SinkLane { sink, lane, changed } in &self.lanes {
            let new = last.map_or(0, |event| count_for(std::slice::from_ref(event), sink.key()));
            locked(lane).removed(id, source, new, now);
            changed.notify_one();
        }
        Ok(())
    }

    /// Queues a record that a listing found, with the sinks of its events.
    pub(crate) fn found(&self, source: EventSource, sinks: &[SinkKey]) {
        if sinks.is_empty() {
            return;
        }
        for SinkLane { sink, lane, changed } in &self.lanes {
            let count = sinks.iter().filter(|key| **key == sink.key()).count() as u64;
            if count > 0 {
                locked(lane).found(source, count, Instant::now());
                changed.notify_one();
            }
        }
    }

    /// Asks for a listing of the removed uploads, whose events may not be queued.
    pub(crate) fn list_removed(&self) {
        self.listing.ask(Due { stored: false, removed: true });
    }
}

fn count_for(events: &[PendingEvent], sink: SinkKey) -> u64 {
    events.iter().filter(|event| event.sinks.contains(&sink)).count() as u64
}

impl Listing {
    pub(crate) fn ask(&self, due: Due) {
        let mut asked = locked(&self.due);
        asked.stored |= due.stored;
        asked.removed |= due.removed;
        drop(asked);
        self.changed.notify_one();
    }

    pub(crate) async fn next(&self) -> Due {
        loop {
            let due = std::mem::take(&mut *locked(&self.due));
            if due.stored || due.removed {
                return due;
            }
            self.changed.notified().await;
        }
    }
}

impl Drop for Removing<'_> {
    fn drop(&mut self) {
        if let Some(listing) = self.0 {
            listing.ask(Due { stored: false, removed: true });
        }
    }
}
