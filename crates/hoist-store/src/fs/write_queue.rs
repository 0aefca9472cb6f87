//! A writer's way to the disk: a bounded queue of buffers, and the few threads that empty the queues of all uploads.
//!
//! Owns order, bounds and fairness: one upload is written by one thread at a time, gapless and in order; what waits is
//! bounded per upload and in all; an upload whose bytes are not synced fast enough waits alone. Leaves the file to
//! [`data`](super::data).

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use bytes::Bytes;
use hoist_proto::types::Fence;
use tokio::sync::{Semaphore, oneshot};

use super::content::Content;
use super::failure::Failure;
use super::free_space::FreeSpace;
use super::layout::ParentDirs;
use super::mutex::lock;
use super::thread_pool::{self, Queue, ThreadPool, closed};
use crate::store::Error;

/// What the lanes of all uploads share.
pub(super) struct WritePool {
    run: Queue<Arc<WriteQueue>>,
    room: Arc<FreeSpace>,
    /// Bytes that may wait in all lanes together.
    budget: Semaphore,
    /// Bytes that may wait in one.
    queue_bytes_max: u32,
    /// Where syncs run that nobody waits for.
    background: ThreadPool,
    unsynced_bytes: u64,
}

impl WritePool {
    pub(super) fn start(
        room: Arc<FreeSpace>,
        count: usize,
        queue_bytes_max: u32,
        budget_bytes: u32,
        unsynced_bytes: u64,
        background: ThreadPool,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<Arc<Self>, Error> {
        let pool = Arc::new(Self {
            run: Queue::new(),
            room,
            budget: Semaphore::new(budget_bytes.max(queue_bytes_max) as usize),
            queue_bytes_max,
            background,
            unsynced_bytes,
        });
        for number in 0..count.max(1) {
            let pool = Arc::clone(&pool);
            threads.push(thread_pool::start(format!("hoist-write-{number}"), move || {
                while let Some(queue) = pool.run.next() {
                    queue.drain();
                }
            })?);
        }
        Ok(pool)
    }

    pub(super) fn close(&self) {
        self.run.close();
    }
}

/// One writer's queue.
pub(super) struct WriteQueue {
    pool: Arc<WritePool>,
    content: Arc<Content>,
    fence: Fence,
    room: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: Vec<QueuedBuffer>,
    stage: Stage,
    is_syncing: bool,
    /// Jobs of the writer that are queued or running.
    jobs: u32,
    /// How far the last background sync was asked to go.
    asked: u64,
    /// Takes no more: another claim has the upload now, or it is complete.
    is_ended: bool,
    failure: Option<Failure>,
    waiting: Vec<oneshot::Sender<()>>,
    /// The writer was dropped; who to tell when the rest is written.
    on_idle: Option<OnIdle>,
}

/// Called once the queue is idle and none of its jobs is left.
type OnIdle = Box<dyn FnOnce(&Arc<WriteQueue>) + Send>;

/// Whose business the queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nobody's: it is empty.
    #[default]
    Idle,
    /// A thread's, or it waits for one.
    Scheduled,
    /// The background sync's, which is to get ahead first so that a later one has little to do.
    Throttled,
}

struct QueuedBuffer {
    bytes: Bytes,
    charge: u32,
}

/// A small buffer costs more than its bytes, so a queue of one-byte buffers is bounded too.
const CHARGE_MIN: u32 = 512;

impl WriteQueue {
    pub(super) fn new(pool: Arc<WritePool>, content: Arc<Content>, fence: Fence) -> Self {
        let room = Semaphore::new(pool.queue_bytes_max as usize);
        let state = State { asked: content.end(), ..State::default() };
        Self { pool, content, fence, room, state: Mutex::new(state) }
    }

    pub(super) fn content(&self) -> &Arc<Content> {
        &self.content
    }

    pub(super) fn fence(&self) -> Fence {
        self.fence
    }

    /// Takes bytes into the queue as soon as there is room.
    pub(super) async fn accept(self: &Arc<Self>, bytes: Bytes) -> Result<(), Error> {
        lock(&self.state).check_writable()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let charge = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let charge = charge.max(CHARGE_MIN).min(self.pool.queue_bytes_max);
        let room = self.room.acquire_many(charge).await.map_err(|_| closed())?;
        let share = self.pool.budget.acquire_many(charge).await.map_err(|_| closed())?;
        let mut state = lock(&self.state);
        state.check_writable()?;
        room.forget();
        share.forget();
        state.queue.push(QueuedBuffer { bytes, charge });
        self.schedule(state)
    }

    /// Waits until what was accepted is written, or has failed.
    pub(super) async fn idle(&self) {
        let idle = {
            let mut state = lock(&self.state);
            if state.stage == Stage::Idle {
                return;
            }
            let (sender, idle) = oneshot::channel();
            state.waiting.push(sender);
            idle
        };
        // An error is a lane that went away, which no longer writes either.
        let _ = idle.await;
    }

    /// Why this lane's holder cannot count on its bytes. A full disk is no reason: what fitted is good.
    pub(super) fn check_syncable(&self) -> Result<(), Error> {
        let state = lock(&self.state);
        match &state.failure {
            _ if state.is_ended => Err(Error::Fenced),
            None | Some(Failure::Full) => Ok(()),
            Some(failure) => Err(failure.clone().into()),
        }
    }

    /// Takes no more from here on. What was accepted is still written, or forgotten when it is of no use.
    pub(super) fn end(self: &Arc<Self>, rest: Queued) {
        let mut state = lock(&self.state);
        state.is_ended = true;
        if rest == Queued::Drop {
            let queue = std::mem::take(&mut state.queue);
            self.release(&queue);
        }
        if state.stage == Stage::Throttled {
            state.stage = Stage::Scheduled;
            drop(state);
            self.go_on();
        }
    }

    /// Whether its writer is gone and the rest of the queue is not written yet.
    pub(super) fn is_detached(&self) -> bool {
        lock(&self.state).on_idle.is_some()
    }

    /// Whether it takes no more.
    pub(super) fn is_ended(&self) -> bool {
        lock(&self.state).is_ended
    }

    /// Whether it takes no more, and what it took is written.
    pub(super) fn is_over(&self) -> bool {
        let state = lock(&self.state);
        state.is_ended && state.stage == Stage::Idle
    }

    /// Begins a job of the writer on the content. Until it is done the upload keeps the lane, so that a later writer knows
    /// what it has to wait for.
    pub(super) fn begin(self: &Arc<Self>) -> Result<InFlight, Error> {
        let mut state = lock(&self.state);
        if state.is_ended {
            return Err(Error::Fenced);
        }
        state.jobs += 1;
        Ok(InFlight(Arc::clone(self)))
    }

    /// The writer is gone or has ended. Its upload lets go of the lane as soon as the rest is written and no job is left.
    pub(super) fn detach(self: &Arc<Self>, on_idle: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let mut state = lock(&self.state);
        if state.stage != Stage::Idle || state.has_jobs() {
            state.on_idle = Some(Box::new(on_idle));
        } else {
            drop(state);
            on_idle(self);
        }
    }

    fn schedule(self: &Arc<Self>, mut state: MutexGuard<'_, State>) -> Result<(), Error> {
        if state.stage != Stage::Idle {
            return Ok(());
        }
        if self.is_far_ahead(&state) {
            state.stage = Stage::Throttled;
            return Ok(());
        }
        state.stage = Stage::Scheduled;
        drop(state);
        if self.pool.run.push(Arc::clone(self)).is_err() {
            let mut state = lock(&self.state);
            state.failure = Some(closed().into());
            self.rest(state);
            return Err(closed());
        }
        Ok(())
    }

    /// Writes what is in the queue; on a thread of the pool.
    fn drain(self: &Arc<Self>) {
        let batch = std::mem::take(&mut lock(&self.state).queue);
        let written = self.write(&batch);
        self.release(&batch);
        drop(batch);
        let mut state = lock(&self.state);
        if let Err(failure) = written {
            // The prefix stays gapless: nothing that was queued behind the failure is written.
            let queue = std::mem::take(&mut state.queue);
            self.release(&queue);
            state.failure = Some(failure);
        }
        self.sync_in_background(&mut state);
        if state.queue.is_empty() {
            self.rest(state);
        } else if self.is_far_ahead(&state) {
            state.stage = Stage::Throttled;
        } else {
            drop(state);
            self.go_on();
        }
    }

    /// Writes as much of a batch as there is room for.
    fn write(&self, batch: &[QueuedBuffer]) -> Result<(), Failure> {
        let bytes = batch.iter().map(|piece| piece.bytes.len() as u64).sum();
        let room = self.pool.room.take(bytes);
        if room >= bytes {
            return self.content.append(batch.iter().map(|piece| &piece.bytes));
        }
        let mut left = usize::try_from(room).unwrap_or(usize::MAX);
        let fitting = batch.iter().map(|piece| {
            let fitting = piece.bytes.slice(..piece.bytes.len().min(left));
            left -= fitting.len();
            fitting
        });
        let fitting: Vec<Bytes> = fitting.take_while(|bytes| !bytes.is_empty()).collect();
        self.content.append(fitting.iter())?;
        Err(Failure::Full)
    }

    /// Queues up again, behind the others that wait, so that one fast upload does not keep a thread for itself.
    fn go_on(self: &Arc<Self>) {
        if self.pool.run.push(Arc::clone(self)).is_err() {
            // The store is closing; what was accepted is written all the same.
            self.drain();
        }
    }

    /// Nothing is left to write: tells those who wait for it.
    fn rest(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.stage = Stage::Idle;
        let queue = std::mem::take(&mut state.queue);
        let waiting = std::mem::take(&mut state.waiting);
        let on_idle = if state.has_jobs() { None } else { state.on_idle.take() };
        drop(state);
        self.release(&queue);
        for waiter in waiting {
            // One that has stopped waiting needs no answer.
            let _ = waiter.send(());
        }
        if let Some(on_idle) = on_idle {
            on_idle(self);
        }
    }

    /// Starts a sync that nobody waits for, if there is anything to sync, and hands on which directories are to be synced
    /// behind it.
    pub(super) fn start_sync(self: &Arc<Self>, then: impl FnOnce(ParentDirs) + Send + 'static) {
        let mut state = lock(&self.state);
        if !state.is_syncing && self.content.acknowledgeable() < self.content.written() {
            self.sync(&mut state, then);
        }
    }

    /// Starts a sync that nobody waits for when much is unsynced, so that one somebody waits for is short.
    fn sync_in_background(self: &Arc<Self>, state: &mut State) {
        let end = self.content.end();
        if state.is_syncing
            || !self.content.is_disk()
            || end - state.asked.min(end) < self.pool.unsynced_bytes
        {
            return;
        }
        self.sync(state, drop);
    }

    fn sync(self: &Arc<Self>, state: &mut State, then: impl FnOnce(ParentDirs) + Send + 'static) {
        state.asked = self.content.end();
        state.is_syncing = true;
        let queue = Arc::clone(self);
        self.pool.background.submit(Box::new(move || {
            // A failure is the content's from here on, and every later write and sync reports it.
            if let Ok(settled) = queue.content.settle() {
                then(settled.parents);
            }
            let mut state = lock(&queue.state);
            state.is_syncing = false;
            if state.stage == Stage::Throttled {
                state.stage = Stage::Scheduled;
                drop(state);
                queue.go_on();
            } else if state.stage == Stage::Idle {
                queue.rest(state);
            }
        }));
    }

    /// Whether so much is written behind the running sync that the next one would take long.
    fn is_far_ahead(&self, state: &State) -> bool {
        state.is_syncing
            && !state.is_ended
            && self.content.end().saturating_sub(state.asked) >= self.pool.unsynced_bytes
    }

    fn release(&self, pieces: &[QueuedBuffer]) {
        let charge = pieces.iter().map(|piece| piece.charge as usize).sum();
        self.room.add_permits(charge);
        self.pool.budget.add_permits(charge);
    }
}

/// A job on a lane's content that is queued or running.
pub(super) struct InFlight(Arc<WriteQueue>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.jobs -= 1;
        if state.stage == Stage::Idle {
            self.0.rest(state);
        }
    }
}

/// The fate of accepted bytes when a lane ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    Write,
    Drop,
}

impl State {
    /// Returns `true` if a running job may still change the content.
    fn has_jobs(&self) -> bool {
        self.is_syncing || self.jobs > 0
    }

    fn check_writable(&self) -> Result<(), Error> {
        match &self.failure {
            _ if self.is_ended => Err(Error::Fenced),
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }
}
