//! The events that a store keeps until they are delivered: [`Outbox`].
//!
//! The events of a stored upload are in its record ([`Upload::events`]), so that each is durable in the same step as the
//! change that it tells of. Beside the record, the store notes which of them were delivered. Of an upload that is removed
//! it keeps the record, apart, for as long as events of it remain. Events whose delivery was given up are *dead*: they are
//! kept for an operator, who has them delivered again or drops them.

use hoist_proto::types::{Fence, Timestamp, UploadId};
use hoist_proto::upload::{EventKind, PendingEvent, SinkKey, Upload};

use super::StoreFuture;

/// The events that a store keeps until they are delivered.
///
/// Uses the same rules for fences, errors and cancellation as [`Store`](super::Store).
pub trait Outbox: Send + Sync {
    /// Removes an upload as [`Store::remove`](super::Store::remove) does. The events of `upload` that were not delivered
    /// stay, and exist durably before the upload ceases to. Returns their source, or `None` if all were delivered.
    ///
    /// # Errors
    /// As for [`Store::remove`](super::Store::remove), and [`Error::Full`](super::Error::Full) if there is no space for
    /// the events. The upload and its events are then as before, except after a failed sync.
    ///
    /// # Cancellation
    /// If dropped, the upload exists as a whole with the events of its record, or not at all and the events of `upload`
    /// stay.
    fn remove_with_events<'a>(
        &'a self,
        upload: &'a Upload,
        fence: Fence,
    ) -> StoreFuture<'a, Option<EventSource>>;

    /// Returns an upload with the events that are yet to be delivered, each with the sinks that have not received it.
    /// Returns `None` if there are none, or no such upload. Takes no fence.
    ///
    /// The events are durable, and so is what they tell of.
    ///
    /// # Errors
    /// - [`Error::Damaged`](super::Error::Damaged) if the record cannot be read. It stays as it is.
    fn pending(&self, source: EventSource) -> StoreFuture<'_, Option<Upload>>;

    /// Notes that events of `upload` were delivered, so that [`pending`](Outbox::pending) no longer returns them. Follows the
    /// upload if it was removed meanwhile. Takes no fence.
    ///
    /// Need not be durable: after a crash the events may be delivered again.
    fn mark_delivered<'a>(
        &'a self,
        source: EventSource,
        upload: &'a Upload,
        delivered: &'a [Delivery],
    ) -> StoreFuture<'a, ()>;

    /// Lists the removed uploads with events, in small batches and in no particular order. Those of stored uploads are in
    /// [`Store::list`](super::Store::list).
    ///
    /// A record that cannot be read is logged and omitted. It stays as it is.
    fn list_removed(&self) -> StoreFuture<'_, Box<dyn SourceListing>>;

    /// Ends the attempts to deliver an event of `upload` to a sink: the event is dead, durably, and no longer pending.
    fn bury<'a>(
        &'a self,
        source: EventSource,
        upload: &'a Upload,
        event: &'a PendingEvent,
        sink: SinkKey,
    ) -> StoreFuture<'a, ()>;

    /// Returns at most `most` dead events, sorted by name, from the first one behind `after` on.
    fn dead<'a>(&'a self, after: Option<&'a str>, most: usize) -> StoreFuture<'a, Vec<DeadEvent>>;

    /// Makes a dead event pending again, as of `now`, and returns its source; `None` if there is none of that name.
    fn revive<'a>(&'a self, name: &'a str, now: Timestamp) -> StoreFuture<'a, Option<EventSource>>;

    /// Deletes a dead event. Returns whether it existed.
    fn drop_dead<'a>(&'a self, name: &'a str) -> StoreFuture<'a, bool>;
}

/// The delivery of an event of an upload to a sink.
pub type Delivery = (EventKind, SinkKey);

/// The record that events are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventSource {
    /// That of a removed upload. The number tells apart uploads that had the same id one after the other, the first one
    /// being the lowest.
    Removed(UploadId, u64),
    /// That of a stored upload.
    Stored(UploadId),
}

impl EventSource {
    /// Returns the id of the upload.
    pub fn id(self) -> UploadId {
        match self {
            Self::Stored(id) | Self::Removed(id, _) => id,
        }
    }
}

/// A record with events, as a listing returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingSource {
    /// The record.
    pub source: EventSource,
    /// The sinks of its events, once for each event that the sink has not received.
    pub sinks: Vec<SinkKey>,
}

/// The records of an [`Outbox::list_removed`], in batches.
pub trait SourceListing: Send {
    /// Returns the next batch, which may be empty; `None` at the end.
    ///
    /// # Errors
    /// Returns [`Error::Io`](super::Error::Io) if the storage fails.
    ///
    /// # Cancellation
    /// If dropped, some records of the next batch may be skipped.
    fn next(&mut self) -> StoreFuture<'_, Option<Vec<PendingSource>>>;
}

/// An event whose delivery to a sink was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadEvent {
    /// The name, by which it is revived or dropped: the event's id and the sink's key. Another such event of an upload that
    /// had the same id has a number behind it.
    pub name: String,
    /// The upload, with this event alone, which has one sink; or the reason for which it cannot be read.
    pub upload: Result<Upload, String>,
}

/// Returns the sinks of events, once for each event that was not delivered to the sink.
pub(crate) fn sinks_of(events: &[PendingEvent]) -> Vec<SinkKey> {
    events.iter().flat_map(|event| event.sinks.iter().copied()).collect()
}

/// Removes the sinks that have received an event, and the events that all have.
pub(crate) fn remove_delivered(events: &mut Vec<PendingEvent>, is_delivered: impl Fn(Delivery) -> bool) {
    for event in &mut *events {
        event.sinks.retain(|sink| !is_delivered((event.kind, *sink)));
    }
    events.retain(|event| !event.sinks.is_empty());
}

/// Returns an upload with one event, for one sink.
pub(crate) fn with_one_event(upload: &Upload, event: &PendingEvent, sink: SinkKey) -> Upload {
    let event = PendingEvent { sinks: vec![sink], ..event.clone() };
    Upload { events: vec![event], ..upload.clone() }
}

/// Returns the name of a dead event, or another one if earlier ones are taken.
pub(crate) fn dead_name(upload: &Upload, attempt: u32) -> Option<String> {
    let event = upload.events.first()?;
    let name = format!("{}.{}", event.id(upload.id), event.sinks.first()?);
    Some(if attempt == 0 { name } else { format!("{name}.{attempt}") })
}

/// The most dead events, or removed uploads, whose names differ by a number alone.
pub(crate) const NAMESAKES_MAX: u32 = 10_000;
