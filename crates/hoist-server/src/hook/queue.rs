//! The calls that no request waits for: in order for each upload and receiver, and bounded in number.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_proto::types::UploadId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Call, Hooks, Point, called};
use crate::locked;
use crate::observe::Observers;

/// The most calls that wait. Further ones are lost, so that a receiver that is down costs no memory without bound.
const WAITING_MAX: usize = 10_000;

/// The most calls that are made at once. Fewer than a receiver takes, so that the requests that wait for one are not delayed.
const RUNNING_MAX: usize = 16;

/// The time for which calls are still made after the server has begun to shut down.
const LAST_CALLS: Duration = Duration::from_secs(10);

/// The calls that wait for their turn.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    running: Semaphore,
}

#[derive(Default)]
struct Waiting {
    lanes: HashMap<Lane, VecDeque<Arc<Call>>>,
    calls: usize,
}

/// The number of a receiver, and the upload.
type Lane = (usize, UploadId);

/// The parts of an endpoint that the calls need.
#[derive(Clone)]
pub(crate) struct Background {
    pub(crate) hooks: Hooks,
    pub(crate) observers: Observers,
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: CancellationToken,
}

impl Default for Queue {
    fn default() -> Self {
        Self { waiting: Mutex::default(), running: Semaphore::new(RUNNING_MAX) }
    }
}

impl Queue {
    /// Adds a call for each receiver that wants it. It is made after the earlier calls about the same upload.
    pub(crate) fn add(self: &Arc<Self>, call: Call, background: &Background) {
        let call = Arc::new(call);
        for (number, _) in background.hooks.at(call.point()) {
            let lane = (number, call.upload().id);
            match locked(&self.waiting).add(lane, Arc::clone(&call)) {
                Added::ToLane => {}
                Added::NewLane => {
                    let (queue, background) = (Arc::clone(self), background.clone());
                    background.tasks.clone().spawn(async move { queue.run(lane, background).await });
                }
                Added::Nowhere => {
                    let (hook, upload) = (call.point().name(), call.upload().id.short());
                    tracing::error!(hook, %upload, "{WAITING_MAX} hooks wait for their receivers; this one is lost");
                }
            }
        }
    }

    /// Makes the calls of a lane until there are no more.
    async fn run(&self, lane: Lane, background: Background) {
        let Background { hooks, observers, draining, .. } = background;
        let overdue = async {
            draining.cancelled().await;
            tokio::time::sleep(LAST_CALLS).await;
        };
        let calls = async {
            loop {
                let _permit = self.running.acquire().await.expect("the semaphore is never closed");
                let Some(call) = locked(&self.waiting).next(lane) else { break };
                let Some(receiver) = hooks.receivers.get(lane.0) else { continue };
                let Ok(answer) = called(&**receiver, &call, &observers).await else { continue };
                if let Some(stop) = call.stop.as_ref().filter(|_| answer.stops_upload) {
                    stop.stop(answer.amendment);
                }
            }
        };
        tokio::select! {
            () = calls => {}
            () = overdue => {
                let lost = locked(&self.waiting).clear(lane);
                tracing::error!(upload = %lane.1.short(), lost, "the server ends before its hooks were called");
            }
        }
    }
}

enum Added {
    ToLane,
    NewLane,
    Nowhere,
}

impl Waiting {
    fn add(&mut self, lane: Lane, call: Arc<Call>) -> Added {
        if let Some(calls) = self.lanes.get_mut(&lane)
            && let Some(last) = calls.back_mut()
            && (last.point(), call.point()) == (Point::PostReceive, Point::PostReceive)
        {
            // A slow receiver learns of the latest progress alone.
            *last = call;
            return Added::ToLane;
        }
        if self.calls >= WAITING_MAX {
            return Added::Nowhere;
        }
        self.calls += 1;
        let is_new = !self.lanes.contains_key(&lane);
        self.lanes.entry(lane).or_default().push_back(call);
        if is_new { Added::NewLane } else { Added::ToLane }
    }

    /// Returns the next call of a lane. Removes the lane if there is none.
    fn next(&mut self, lane: Lane) -> Option<Arc<Call>> {
        let next = self.lanes.get_mut(&lane).and_then(VecDeque::pop_front);
        if next.is_some() {
            self.calls -= 1;
        } else {
            self.lanes.remove(&lane);
        }
        next
    }

    /// Removes a lane, and returns the number of its calls.
    fn clear(&mut self, lane: Lane) -> usize {
        let calls = self.lanes.remove(&lane).map_or(0, |calls| calls.len());
        self.calls -= calls;
        calls
    }
}
