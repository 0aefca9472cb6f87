//! The live stream of events for an operator.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Operator, OperatorError};
use crate::observe::{LiveEvent, Subscription};

/// A stream of events, from the moment it was asked for.
///
/// Holds at most 1024 events that the subscriber has not taken. If it is slower, the oldest are dropped, and
/// [`LiveEvent::Missed`] says how many.
pub struct Live {
    subscription: Subscription,
    draining: CancellationToken,
}

impl Operator {
    /// Subscribes to the events of the endpoint.
    ///
    /// # Errors
    /// Returns [`OperatorError::Busy`] if there are 16 subscribers already.
    pub fn live(&self) -> Result<Live, OperatorError> {
        let hoist = self.0.latest();
        let subscription = hoist.shared().observers.feed().subscribe();
        let subscription = subscription.ok_or(OperatorError::Busy("16 streams of events are open"))?;
        Ok(Live { subscription, draining: hoist.shared().draining.clone() })
    }
}

impl Live {
    /// Returns the next event; `None` when the endpoint shuts down.
    ///
    /// # Cancellation
    /// Safe to drop: no event is lost.
    pub async fn next(&mut self) -> Option<Arc<LiveEvent>> {
        tokio::select! {
            biased;
            event = self.subscription.next() => event,
            () = self.draining.cancelled() => None,
        }
    }
}
