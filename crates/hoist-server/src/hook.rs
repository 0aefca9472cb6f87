//! Hooks: programs and services of the operator that are asked, or told, at fixed points in the life of an upload.
//!
//! A [`Receiver`] gets a [`Call`] at the [points](Point) that it wants. A blocking point waits for its [`Answer`], which may
//! decline the request or change it; the others are queued and never delay a request. The contract is that of
//! tusd's hooks, so that receivers written for tusd work unchanged.

pub mod answer;
mod call;
pub mod command;
pub mod directory;
mod point;
pub(crate) mod queue;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use hoist_proto::refusal::{Reason, Refusal};
use hoist_store::store::BoxFuture;

pub use self::answer::Answer;
pub use self::call::Call;
pub(crate) use self::call::{CallFiles, Stop};
pub use self::point::{BadPoint, Point, Points};
use crate::observe::{Event, HookEvent, Observers};
use crate::stopwatch::Stopwatch;

/// The time between two reports of a transfer's progress. The default.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A receiver of hooks.
pub trait Receiver: Send + Sync + 'static {
    /// Returns the name for logs, such as a URL.
    fn name(&self) -> &str;

    /// Returns the points at which it is called.
    fn points(&self) -> Points;

    /// Asks or tells the receiver. Must end within a bounded time.
    ///
    /// # Errors
    /// Returns an error if there is no answer, or none that can be understood. At a blocking point the request is then
    /// refused with [`refusal`](Self::refusal), otherwise the call is lost. The error is logged in both cases.
    ///
    /// # Cancellation
    /// Not dropped when the peer disconnects; dropped when the server ends.
    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, Failure>>;

    /// Returns the refusal of a request whose receiver failed. The default is [`Reason::Internal`].
    fn refusal(&self) -> Refusal {
        Reason::Internal.into()
    }
}

/// The failure of a receiver, in words for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// The receivers of an endpoint. The default has none.
#[derive(Clone)]
pub struct Hooks {
    receivers: Arc<[Arc<dyn Receiver>]>,
    points: Points,
    progress_interval: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Hooks {
    /// Calls these receivers, in their order. At a blocking point the first that declines a request, or fails, ends it.
    pub fn new(receivers: Vec<Arc<dyn Receiver>>) -> Self {
        let points = receivers.iter().fold(Points::NONE, |points, receiver| points.and(receiver.points()));
        Self { receivers: receivers.into(), points, progress_interval: PROGRESS_INTERVAL }
    }

    /// Sets the time between two reports of a transfer's progress.
    pub fn with_progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval;
        self
    }

    pub(crate) fn progress_interval(&self) -> Duration {
        self.progress_interval
    }

    /// Returns whether there is a receiver at all.
    pub(crate) fn is_any(&self) -> bool {
        !self.receivers.is_empty()
    }

    pub(crate) fn wants(&self, point: Point) -> bool {
        self.points.contains(point)
    }

    /// Returns the receivers of a point, with their numbers.
    fn at(&self, point: Point) -> impl Iterator<Item = (usize, &Arc<dyn Receiver>)> {
        self.receivers.iter().enumerate().filter(move |(_, receiver)| receiver.points().contains(point))
    }

    /// Asks all receivers of a blocking point, one after the other, and returns what they want together.
    ///
    /// # Errors
    /// Returns the refusal of the first that declines or fails.
    pub(crate) async fn ask(&self, call: &Call, observers: &Observers) -> Result<Answer, Refusal> {
        let mut together = Answer::default();
        for (_, receiver) in self.at(call.point()) {
            let answer = called(&**receiver, call, observers).await.map_err(|_| receiver.refusal())?;
            if let Some(refusal) = answer.refusal_at(call.point()) {
                return Err(refusal);
            }
            together = together.and(answer);
        }
        Ok(together)
    }
}

/// Calls a receiver, and reports it. A failure is logged here.
async fn called(receiver: &dyn Receiver, call: &Call, observers: &Observers) -> Result<Answer, Failure> {
    let begun = Stopwatch::start();
    let answer = receiver.call(call).await;
    let (hook, upload) = (call.point().name(), call.upload().id.short());
    if let Err(why) = &answer {
        tracing::error!(hook, receiver = receiver.name(), %upload, %why, "the hook failed");
    }
    let is_success = answer.is_ok();
    observers.tell(&Event::HookCalled(&HookEvent { hook, is_success, duration: begun.elapsed() }));
    answer
}
