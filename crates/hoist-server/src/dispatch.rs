//! The tasks that deliver events.
//!
//! Owns the loop of each sink, the attempts, and the listings of what does not fit into memory. When to try next is decided
//! by the [`lane`](crate::outbox::lane).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::types::Timestamp;
use hoist_proto::upload::{EventKind, GivenUp, PendingEvent, Upload};
use hoist_store::store::{Error, EventSource, PendingSource, UploadGroup};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::chain;
use crate::locked;
use crate::observe::{Event, EventDelivery, EventOutcome};
use crate::outbox::lane::{Attempt, Ending, Kinds};
use crate::outbox::payload::Told;
use crate::outbox::sink::Delivery;
use crate::outbox::{Due, Outbox, SinkLane};
use crate::shared::Hoist;

/// The age from which on an event that cannot be delivered is given up.
const AGE_MAX: Duration = Duration::from_hours(7 * 24);

/// The time that the attempts that run have to end when the server stops.
const STOP_TIME: Duration = Duration::from_secs(5);

/// The pause after a listing that failed.
const LISTING_PAUSE: Duration = Duration::from_secs(5);

/// The result of an attempt.
struct Ended {
    /// The events that were delivered or given up.
    settled: Vec<EventKind>,
    ending: Ending,
}

impl Outbox {
    /// Delivers events until `stop` is cancelled. Attempts that run then have a few seconds to end.
    ///
    /// # Cancellation
    /// If dropped, attempts end half-way and are repeated after the next start.
    pub(crate) async fn run(self: Arc<Self>, hoist: Hoist, stop: CancellationToken) {
        if hoist.shared().store.outbox().is_none() {
            tracing::error!("the store keeps no events, so none is delivered");
            return;
        }
        self.list_removed();
        let mut tasks = JoinSet::new();
        for at in 0..self.lanes.len() {
            let (outbox, hoist, stop) = (Arc::clone(&self), hoist.clone(), stop.clone());
            tasks.spawn(async move { outbox.drive(at, &hoist, &stop).await });
        }
        let listing = async { stop.run_until_cancelled(self.list(&hoist)).await };
        let driving = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(failure) = ended {
                    tracing::error!(error = %failure, "a sink gets no more events until the next start");
                }
            }
        };
        tokio::join!(listing, driving);
    }

    /// Delivers the events of one sink.
    async fn drive(self: &Arc<Self>, at: usize, hoist: &Hoist, stop: &CancellationToken) {
        let SinkLane { sink, lane, changed } = &self.lanes[at];
        let mut sends = JoinSet::new();
        let mut running: HashMap<Id, Attempt> = HashMap::new();
        let end = |ended: Option<Result<(Id, Ended), tokio::task::JoinError>>,
                   running: &mut HashMap<Id, Attempt>| {
            let (id, ended) = match ended {
                None => return,
                Some(Ok(ended)) => ended,
                Some(Err(failure)) => {
                    tracing::error!(%sink, error = %failure, "the delivery of an event panicked");
                    (failure.id(), Ended { settled: Vec::new(), ending: Ending::Failed { spread: 0.5 } })
                }
            };
            let Some(attempt) = running.remove(&id) else { return };
            let mut lane = locked(lane);
            let was_unreachable = lane.is_unreachable();
            lane.end(&attempt, &ended.settled, ended.ending, Instant::now());
            match (was_unreachable, lane.is_unreachable(), lane.pending()) {
                (false, true, pending) => {
                    tracing::warn!(%sink, pending, "the sink takes no events; trying one at a time until it does");
                }
                (true, false, pending) => tracing::info!(%sink, pending, "the sink takes events again"),
                _ => {}
            }
            if lane.take_spilled() {
                self.listing.ask(Due { stored: true, removed: true });
            }
        };
        loop {
            while !stop.is_cancelled()
                && let Some(mut attempt) = { locked(lane).begin(Instant::now()) }
            {
                let (outbox, hoist, view) = (Arc::clone(self), hoist.latest(), attempt.view.take());
                let (source, delivered, failures) = (attempt.source, attempt.delivered, attempt.failures);
                let task = sends.spawn(async move {
                    outbox.attempt(at, &hoist, source, view, delivered, failures).await
                });
                running.insert(task.id(), attempt);
            }
            let next = { locked(lane).next() };
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                ended = sends.join_next_with_id(), if !sends.is_empty() => end(ended, &mut running),
                () = changed.notified() => {}
                () = due => {}
            }
        }
        let ending = async {
            while let Some(ended) = sends.join_next_with_id().await {
                end(Some(ended), &mut running);
            }
        };
        if tokio::time::timeout(STOP_TIME, ending).await.is_err() {
            tracing::info!(%sink, "deliveries that take too long are repeated after the next start");
        }
    }

    /// Delivers the events of a record in their order, up to the first that fails.
    async fn attempt(
        &self,
        at: usize,
        hoist: &Hoist,
        source: EventSource,
        view: Option<Arc<Upload>>,
        delivered: Kinds,
        failures: u32,
    ) -> Ended {
        let nothing = |ending| Ended { settled: Vec::new(), ending };
        let Some(store) = hoist.shared().store.outbox() else { return nothing(Ending::Settled) };
        let upload = match view {
            Some(upload) => upload,
            None => match store.pending(source).await {
                Ok(None) => return nothing(Ending::Settled),
                Ok(Some(upload)) => Arc::new(upload),
                Err(failure @ Error::Damaged(_)) => {
                    tracing::error!(upload = %source.id().short(), error = %chain(&failure), "the events of an upload cannot be read");
                    return nothing(Ending::Settled);
                }
                Err(failure) => {
                    tracing::warn!(upload = %source.id().short(), error = %chain(&failure), "cannot read the events of an upload; trying again");
                    return nothing(Ending::Failed { spread: spread() });
                }
            },
        };
        let mut settled = Vec::new();
        let mut delivered_now = Vec::new();
        let mut ending = Ending::Settled;
        let sink = &self.lanes[at].sink;
        let wanted = upload.events.iter().filter(|event| event.sinks.contains(&sink.key()));
        for event in wanted.filter(|event| !delivered.contains(event.kind)) {
            let failures = if settled.is_empty() { failures } else { 0 };
            match self.deliver(at, hoist, &upload, event).await {
                Ok(()) => delivered_now.push((event.kind, sink.key())),
                Err(why) => {
                    let now = hoist.shared().clock.now();
                    if now < deadline(event) {
                        self.log_failure(at, &upload, event, failures, &why);
                        ending = Ending::Failed { spread: spread() };
                        break;
                    }
                    let given_up = Some(GivenUp { at: now, attempts: failures.saturating_add(1), why });
                    let dead = PendingEvent { given_up, ..event.clone() };
                    tracing::error!(%sink, upload = %upload.id.short(), event = %event.kind, "gave up an event; `hoist events ls` lists it, `hoist events retry` tries again");
                    if let Err(failure) = store.bury(source, &upload, &dead, sink.key()).await {
                        tracing::warn!(error = %chain(&failure), "cannot store an event that was given up; trying again");
                        ending = Ending::Failed { spread: spread() };
                        break;
                    }
                }
            }
            settled.push(event.kind);
        }
        if !delivered_now.is_empty()
            && let Err(failure) = store.mark_delivered(source, &upload, &delivered_now).await
        {
            tracing::warn!(upload = %upload.id.short(), error = %chain(&failure), "cannot note that events were delivered; they are delivered again after the next start");
        }
        Ended { settled, ending }
    }

    async fn deliver(
        &self,
        at: usize,
        hoist: &Hoist,
        upload: &Upload,
        event: &PendingEvent,
    ) -> Result<(), String> {
        let (shared, sink) = (hoist.shared(), &self.lanes[at].sink);
        let origin = shared.settings.public_origin.as_deref();
        let told = Told { upload, event, endpoint: &shared.endpoint, origin };
        let (id, content) = (event.id(upload.id), told.content(sink.content_format()));
        let (begun, now) = (Instant::now(), shared.clock.now());
        let delivery = Delivery { id: &id, content: &content, now };
        let delivered = sink.deliver(&self.means, delivery).await;
        let outcome = match &delivered {
            Ok(()) => EventOutcome::Delivered,
            Err(_) if now < deadline(event) => EventOutcome::Failed,
            Err(_) => EventOutcome::GivenUp,
        };
        shared.observers.tell(&Event::Delivery(&EventDelivery {
            sink: &sink.to_string(),
            kind: event.kind,
            outcome,
            took: begun.elapsed(),
            age: now.until(event.at),
        }));
        delivered
    }

    fn log_failure(&self, at: usize, upload: &Upload, event: &PendingEvent, failures: u32, why: &str) {
        let SinkLane { sink, lane, .. } = &self.lanes[at];
        let (upload, event, is_unreachable) = (upload.id.short(), event.kind, locked(lane).is_unreachable());
        // A line for each event of a sink that is down would hide all others.
        if failures == 0 && !is_unreachable {
            tracing::warn!(%sink, %upload, %event, %why, "could not deliver an event; trying again");
        } else {
            tracing::debug!(%sink, %upload, %event, %why, failures, "could not deliver an event; trying again");
        }
    }

    /// Lists the records with events that are not in memory, whenever that is asked for.
    async fn list(&self, hoist: &Hoist) {
        loop {
            let due = self.listing.next().await;
            if let Err(failure) = self.list_once(hoist, due).await {
                tracing::error!(error = %chain(&failure), "cannot list the uploads with events; trying again");
                self.listing.ask(due);
                tokio::time::sleep(LISTING_PAUSE).await;
            }
        }
    }

    async fn list_once(&self, hoist: &Hoist, due: Due) -> Result<(), Error> {
        let store = &hoist.shared().store;
        if let Some(outbox) = store.outbox().filter(|_| due.removed) {
            let mut listing = outbox.list_removed().await?;
            while let Some(sources) = listing.next().await? {
                for PendingSource { source, sinks } in sources {
                    self.found(source, &sinks);
                }
            }
        }
        for group in [UploadGroup::Open, UploadGroup::Complete].into_iter().filter(|_| due.stored) {
            let mut listing = store.list(group).await?;
            loop {
                let begun = Instant::now();
                let Some(summaries) = listing.next().await? else { break };
                for summary in summaries {
                    self.found(EventSource::Stored(summary.id), &summary.pending_sinks);
                }
                // As long as the step, to leave the disk to requests.
                tokio::time::sleep(begun.elapsed()).await;
            }
        }
        Ok(())
    }
}

/// Returns the time from which on an event that cannot be delivered is given up.
fn deadline(event: &PendingEvent) -> Timestamp {
    event.retried.unwrap_or(event.at).plus(AGE_MAX)
}

/// Returns a random number from 0 to 1.
fn spread() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}
