//! The stream of `/v1/live`: server-sent events.

use std::time::Duration;

use bytes::Bytes;
use hoist_store::store::BoxFuture;
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::json;
use crate::answer::Pieces;
use crate::operator::{Live, Operator};

/// The time between two lists of the running transfers.
const TRANSFERS_INTERVAL: Duration = Duration::from_secs(1);

/// The most transfers in such a list.
const TRANSFERS_MAX: usize = 200;

/// The media type.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// A stream to one reader. It is asked for the next event only when the reader has taken the last one.
pub(super) struct EventStream {
    operator: Operator,
    live: Live,
    ticks: Interval,
    endpoint: String,
}

impl EventStream {
    pub(super) fn new(operator: Operator, live: Live, endpoint: &str) -> Self {
        let mut ticks = interval(TRANSFERS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { operator, live, ticks, endpoint: endpoint.to_owned() }
    }
}

impl Pieces for EventStream {
    fn next(&mut self) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            tokio::select! {
                // First, so that the reader learns soon that the stream has begun.
                biased;
                _ = self.ticks.tick() => {
                    let (transfers, count) = self.operator.transfers(TRANSFERS_MAX);
                    Some(written("transfers", &json::transfers(&transfers, count)))
                }
                event = self.live.next() => {
                    let event = event?;
                    let (name, data) = json::event(&event, &self.endpoint);
                    Some(written(name, &data))
                }
            }
        })
    }
}

/// Returns an event as the reader gets it. JSON has no line breaks outside of its strings, where they are escaped.
fn written(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}
