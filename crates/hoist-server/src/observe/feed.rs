//! The live feed: events as they happen, for any number of subscribers up to a bound.
//!
//! Costs nothing while there is no subscriber. A subscriber that is too slow misses the oldest events, and learns how many.

use std::net::IpAddr;
use std::sync::Arc;

use hoist_proto::refusal::InterruptCause;
use hoist_proto::upload::Family;
use http::Method;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

use super::{Event, Observer, Outcome, UploadEvent};
use crate::view::UploadView;

/// The most events that wait for the slowest subscriber.
const EVENTS_MAX: usize = 1024;

/// The most subscribers at once.
const SUBSCRIBERS_MAX: usize = 16;

/// An event of the live feed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LiveEvent {
    /// An upload was created.
    Created(UploadView),
    /// The content of an upload is complete. The target has not answered yet.
    Received(UploadView),
    /// An upload has ended.
    Ended(UploadView, Outcome),
    /// A complete upload was removed.
    Removed(UploadView, Outcome),
    /// The content of a request ended early.
    Interrupted(UploadView, InterruptCause),
    /// A request was refused.
    Refused(RefusedRequest),
    /// Events that the subscriber was too slow for. Holds their number.
    Missed(u64),
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedRequest {
    /// The address of the client, as far as trusted proxies know it.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: Method,
    /// The path without its query, and with the ids of uploads shortened.
    pub path: String,
    /// The family of the dialect, if the request was in one.
    pub dialect: Option<Family>,
    /// The status of the response.
    pub status: Option<u16>,
    /// The name of the reason.
    pub reason: &'static str,
}

/// The feed of an endpoint. Clones are one feed.
#[derive(Clone)]
pub(crate) struct Feed(Sender<Arc<LiveEvent>>);

impl Default for Feed {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS_MAX))
    }
}

impl Feed {
    /// Returns a subscription to the events from now on; `None` if there are too many.
    pub(crate) fn subscribe(&self) -> Option<Subscription> {
        let subscription = Subscription(self.0.subscribe());
        // Counted afterwards, so that concurrent callers cannot exceed the bound together.
        (self.0.receiver_count() <= SUBSCRIBERS_MAX).then_some(subscription)
    }
}

impl Observer for Feed {
    fn observe(&self, event: &Event<'_>) {
        // First, because the count of subscribers takes a lock, and there is a measure for each piece of content.
        if event.is_measure() || self.0.receiver_count() == 0 {
            return;
        }
        let view = |event: &UploadEvent<'_>| UploadView::of(event.upload, event.endpoint);
        let event = match event {
            Event::Created(event) => LiveEvent::Created(view(event)),
            Event::Received(event) => LiveEvent::Received(view(event)),
            Event::Ended(event, outcome) => LiveEvent::Ended(view(event), *outcome),
            Event::Removed(event, outcome) => LiveEvent::Removed(view(event), *outcome),
            Event::Interrupted(event, cause) => LiveEvent::Interrupted(view(event), *cause),
            Event::Refused(request, refusal) => LiveEvent::Refused(RefusedRequest {
                client: request.client,
                method: request.method.clone(),
                path: request.path.clone(),
                dialect: request.dialect,
                status: request.status.map(|status| status.as_u16()),
                reason: refusal.reason.name(),
            }),
            // Numbers for metrics.
            Event::TransferBegan(_)
            | Event::TransferEnded(..)
            | Event::Stored(_)
            | Event::Resumed(_)
            | Event::TookOver(_)
            | Event::Synced(_)
            | Event::Targeted(..)
            | Event::Replayed
            | Event::InterimSent
            | Event::Arrived(_)
            | Event::Interop(_)
            | Event::Delivery(_)
            | Event::HookCalled(_)
            | Event::Answered(_) => return,
        };
        // Fails only if the last subscriber has left meanwhile.
        let _ = self.0.send(Arc::new(event));
    }
}

/// A subscription to the feed.
pub(crate) struct Subscription(Receiver<Arc<LiveEvent>>);

impl Subscription {
    /// Returns the next event; `None` if the endpoint is gone.
    ///
    /// # Cancellation
    /// Safe to drop: no event is lost.
    pub(crate) async fn next(&mut self) -> Option<Arc<LiveEvent>> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(missed)) => Some(Arc::new(LiveEvent::Missed(missed))),
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hoist_proto::testing;
    use hoist_proto::types::UploadId;

    use super::*;

    fn tell(feed: &Feed, times: usize) {
        let upload = testing::upload(UploadId::from_bits([1; 16]));
        let event = UploadEvent { upload: &upload, age: Duration::ZERO, endpoint: "/uploads" };
        for _ in 0..times {
            feed.observe(&Event::Created(event));
        }
    }

    #[tokio::test]
    async fn a_subscriber_gets_what_happens_from_then_on() {
        let feed = Feed::default();
        tell(&feed, 1);
        let mut subscription = feed.subscribe().expect("the first");
        tell(&feed, 2);
        drop(feed);
        for _ in 0..2 {
            let event = subscription.next().await;
            assert!(matches!(event.as_deref(), Some(LiveEvent::Created(_))), "{event:?}");
        }
        assert!(subscription.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_subscriber_learns_how_much_it_missed() {
        let feed = Feed::default();
        let mut subscription = feed.subscribe().expect("the first");
        tell(&feed, EVENTS_MAX + 7);
        let event = subscription.next().await;
        assert!(matches!(event.as_deref(), Some(LiveEvent::Missed(7))), "{event:?}");
        for _ in 0..EVENTS_MAX {
            assert!(matches!(subscription.next().await.as_deref(), Some(LiveEvent::Created(_))));
        }
    }

    #[test]
    fn the_number_of_subscribers_has_a_bound() {
        let feed = Feed::default();
        let mut held: Vec<_> = (0..SUBSCRIBERS_MAX).map(|_| feed.subscribe().expect("one more")).collect();
        assert!(feed.subscribe().is_none());
        held.pop();
        assert!(feed.subscribe().is_some());
    }
}
