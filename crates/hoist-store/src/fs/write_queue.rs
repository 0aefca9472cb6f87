//! The queue between a writer and the disk, and the threads that empty the queues of all uploads.
//!
//! Owns order, bounds and fairness. One thread at a time writes one upload, in order and without gaps. The queued bytes
//! are bounded per upload and in all. An upload that is written faster than it is synced is throttled alone. Leaves the
//! file to [`content`](super::content).

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;
use hoist_proto::types::Fence;
use tokio::sync::{Semaphore, oneshot};

use super::content::Content;
use super::data_dir::DataDir;
use super::failure::Failure;
use super::layout::ParentDirs;
use super::options::Options;
use super::pipe::{self, PIPE_BYTES};
use super::thread_pool::{ThreadPool, closed, lock};
use crate::store::{Error, PipeSource};

/// The state shared by the queues of all uploads.
pub(super) struct WritePool {
    /// The threads that write the queues.
    threads: ThreadPool,
    data_dir: Arc<DataDir>,
    /// Bytes that all queues may still take.
    budget: Semaphore,
    /// The most bytes that one queue may hold.
    queue_bytes_max: u32,
    /// Runs the syncs that no caller waits for.
    background: ThreadPool,
    unsynced_bytes: u64,
}

impl WritePool {
    pub(super) fn new(
        data_dir: Arc<DataDir>,
        options: &Options,
        threads: ThreadPool,
        background: ThreadPool,
    ) -> Arc<Self> {
        Arc::new(Self {
            threads,
            data_dir,
            budget: Semaphore::new(options.budget_bytes_max.max(options.queue_bytes_max) as usize),
            queue_bytes_max: options.queue_bytes_max,
            background,
            unsynced_bytes: options.sync_bytes,
        })
    }
}

/// The queue of one writer.
pub(super) struct WriteQueue {
    pool: Arc<WritePool>,
    pub(super) content: Arc<Content>,
    pub(super) fence: Fence,
    capacity: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: Vec<QueuedBuffer>,
    /// Bytes in `queue`.
    queued_bytes: u64,
    stage: Stage,
    /// True while a job of [`Stage::Deferred`] exists, also if its work is already done.
    is_deferred: bool,
    is_syncing: bool,
    /// The number of the writer's jobs that are queued or running.
    jobs: u32,
    /// The end of the content when the last background sync was started.
    sync_started_to: u64,
    /// True if the queue accepts no more bytes: another claim has taken over, or the upload is complete.
    is_closed: bool,
    failure: Option<Failure>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Set when the writer was dropped or superseded while bytes or jobs were left.
    on_idle: Option<OnIdle>,
}

/// Called once the queue is empty and the writer has no job left.
type OnIdle = Box<dyn FnOnce(&Arc<WriteQueue>) + Send>;

/// The state of the queue's schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// The queue is empty.
    #[default]
    Idle,
    /// A thread is writing the queue, or will.
    Scheduled,
    /// The thread that polls the writer's task writes the queue once the task waits.
    Deferred,
    /// The queue waits for the background sync, so that the amount of unsynced data stays bounded.
    Throttled,
}

struct QueuedBuffer {
    bytes: Bytes,
    charge: u32,
}

/// The queued bytes at which a task writes them, even if it does not wait. Small buffers are gathered up to here.
const GATHERED_BYTES: u64 = 128 * 1024;

/// The least that a buffer counts. Bounds the memory of a queue of one-byte buffers.
const CHARGE_MIN: u32 = 512;

impl WriteQueue {
    pub(super) fn new(pool: Arc<WritePool>, content: Arc<Content>, fence: Fence) -> Self {
        let capacity = Semaphore::new(pool.queue_bytes_max as usize);
        let state = State { sync_started_to: content.end(), ..State::default() };
        Self { pool, content, fence, capacity, state: Mutex::new(state) }
    }

    /// Queues bytes as soon as they fit.
    pub(super) async fn accept(self: &Arc<Self>, bytes: Bytes) -> Result<(), Error> {
        lock(&self.state).check_writable()?;
        if bytes.is_empty() {
            return Ok(());
        }
        let charge = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let charge = charge.max(CHARGE_MIN).min(self.pool.queue_bytes_max);
        let capacity = self.capacity.acquire_many(charge).await.map_err(|_| closed())?;
        let share = self.pool.budget.acquire_many(charge).await.map_err(|_| closed())?;
        let mut state = lock(&self.state);
        state.check_writable()?;
        capacity.forget();
        share.forget();
        state.queued_bytes += bytes.len() as u64;
        state.queue.push(QueuedBuffer { bytes, charge });
        self.schedule(state)
    }

    /// Waits until all accepted bytes are written, or writing has failed.
    pub(super) async fn idle(self: &Arc<Self>) {
        if self.pool.threads.is_polling() {
            self.write_deferred();
        }
        let idle = {
            let mut state = lock(&self.state);
            if state.stage == Stage::Idle {
                return;
            }
            let (sender, idle) = oneshot::channel();
            state.waiting.push(sender);
            idle
        };
        // An error means that the queue was dropped, and then it writes no more, either.
        let _ = idle.await;
    }

    /// Fails if the accepted bytes cannot be synced for the writer. A full disk is no failure: the bytes that fitted
    /// can.
    pub(super) fn check_syncable(&self) -> Result<(), Error> {
        let state = lock(&self.state);
        match &state.failure {
            _ if state.is_closed => Err(Error::Fenced),
            None | Some(Failure::Full) => Ok(()),
            Some(failure) => Err(failure.clone().into()),
        }
    }

    /// Closes the queue. Bytes already accepted are written or dropped.
    pub(super) fn close(self: &Arc<Self>, queued: Queued) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        if queued == Queued::Drop {
            let queue = state.take_queue();
            self.release(&queue);
        }
        if state.stage == Stage::Throttled {
            state.stage = Stage::Scheduled;
            drop(state);
            self.reschedule();
        }
    }

    /// Returns whether the writer is gone while bytes or jobs are left.
    pub(super) fn is_detached(&self) -> bool {
        lock(&self.state).on_idle.is_some()
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.state).is_closed
    }

    /// Returns whether the queue is closed and all its bytes are written.
    pub(super) fn is_finished(&self) -> bool {
        let state = lock(&self.state);
        state.is_closed && state.stage == Stage::Idle
    }

    /// Begins a job of the writer on the content. The upload keeps the queue until the job is done, so that a later
    /// writer can wait for it.
    pub(super) fn begin_job(self: &Arc<Self>) -> Result<InFlight, Error> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err(Error::Fenced);
        }
        state.jobs += 1;
        Ok(InFlight(Arc::clone(self)))
    }

    /// Calls `on_idle` as soon as the bytes are written and no job is left, which may be now.
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
        match state.stage {
            Stage::Scheduled | Stage::Throttled => return Ok(()),
            Stage::Idle if self.is_far_ahead(&state) => {
                state.stage = Stage::Throttled;
                return Ok(());
            }
            Stage::Idle | Stage::Deferred => {}
        }
        if self.pool.threads.is_polling() {
            self.write_in_task(state);
            return Ok(());
        }
        state.stage = Stage::Scheduled;
        drop(state);
        let queue = Arc::clone(self);
        if self.pool.threads.submit(Box::new(move || queue.drain())).is_err() {
            let mut state = lock(&self.state);
            state.failure = Some(closed().into());
            self.become_idle(state);
            return Err(closed());
        }
        Ok(())
    }

    /// Writes the queued bytes where the task of the writer is polled: now if they are many, or else once it waits.
    fn write_in_task(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.queued_bytes >= GATHERED_BYTES {
            state.stage = Stage::Scheduled;
            drop(state);
            return self.drain();
        }
        state.stage = Stage::Deferred;
        if std::mem::replace(&mut state.is_deferred, true) {
            return;
        }
        let queue = Arc::clone(self);
        ThreadPool::defer(Box::new(move || {
            lock(&queue.state).is_deferred = false;
            queue.write_deferred();
        }));
    }

    /// Writes the queued bytes if they wait for the writer's task.
    fn write_deferred(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.stage == Stage::Deferred {
            state.stage = Stage::Scheduled;
            drop(state);
            self.drain();
        }
    }

    /// Writes the queued bytes. Runs on a thread of the pool.
    fn drain(self: &Arc<Self>) {
        let batch = lock(&self.state).take_queue();
        let written = self.write(&batch);
        self.release(&batch);
        drop(batch);
        self.written(written);
    }

    /// Goes on after a write.
    fn written(self: &Arc<Self>, written: Result<(), Failure>) {
        let mut state = lock(&self.state);
        if let Err(failure) = written {
            // Nothing behind the failure is written, so the content stays without gaps.
            let queue = state.take_queue();
            self.release(&queue);
            state.failure = Some(failure);
        }
        self.sync_in_background(&mut state);
        if state.queue.is_empty() {
            self.become_idle(state);
        } else if self.is_far_ahead(&state) {
            state.stage = Stage::Throttled;
        } else {
            drop(state);
            self.reschedule();
        }
    }

    /// Moves bytes from `source` to the content, through a pipe, on a thread that polls the writer's task. Returns
    /// `None` if the source has none to move, or if queued bytes or a sync come first.
    pub(super) fn poll_splice(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        bytes_max: usize,
        source: &mut PipeSource<'_>,
    ) -> Poll<Result<Option<NonZeroUsize>, Error>> {
        let bytes_max = bytes_max.min(PIPE_BYTES);
        if !self.pool.threads.is_polling() {
            return Poll::Ready(Ok(None));
        }
        self.write_deferred();
        let granted = self.pool.data_dir.grant(bytes_max as u64);
        if granted < bytes_max as u64 || !self.is_idle_for_writes()? {
            return Poll::Ready(Ok(None));
        }
        let spliced = pipe::with(|pipe| {
            let Poll::Ready(moved) = source(cx, pipe.to(), bytes_max) else { return (Poll::Pending, true) };
            let Some(bytes) = moved else { return (Poll::Ready(Ok(None)), true) };
            lock(&self.state).stage = Stage::Scheduled;
            let appended = self.content.append_from_pipe(pipe.from(), bytes.get());
            self.written(appended.clone());
            let is_empty = appended.is_ok();
            (Poll::Ready(appended.map(|()| moved).map_err(Error::from)), is_empty)
        });
        // Without a pipe the bytes take the other way.
        spliced.unwrap_or(Poll::Ready(Ok(None)))
    }

    /// Returns whether a write may begin now: nothing is queued, and no sync is too far behind.
    fn is_idle_for_writes(&self) -> Result<bool, Error> {
        let state = lock(&self.state);
        state.check_writable()?;
        Ok(state.stage == Stage::Idle && !self.is_far_ahead(&state))
    }

    /// Writes as much of a batch as fits on the disk.
    fn write(&self, batch: &[QueuedBuffer]) -> Result<(), Failure> {
        let bytes = batch.iter().map(|piece| piece.bytes.len() as u64).sum();
        let fitting_bytes = self.pool.data_dir.grant(bytes);
        if fitting_bytes >= bytes {
            return self.content.append(batch.iter().map(|piece| &piece.bytes));
        }
        let mut left = usize::try_from(fitting_bytes).unwrap_or(usize::MAX);
        let fitting = batch.iter().map(|piece| {
            let fitting = piece.bytes.slice(..piece.bytes.len().min(left));
            left -= fitting.len();
            fitting
        });
        let fitting: Vec<Bytes> = fitting.take_while(|bytes| !bytes.is_empty()).collect();
        self.content.append(fitting.iter())?;
        Err(Failure::Full)
    }

    /// Schedules the queue again, behind the others, so that one fast upload does not occupy a thread.
    fn reschedule(self: &Arc<Self>) {
        let queue = Arc::clone(self);
        // The store is closing if this fails. Accepted bytes are written nevertheless.
        if let Err(drain) = self.pool.threads.submit(Box::new(move || queue.drain())) {
            drain();
        }
    }

    /// Marks the queue idle and wakes those waiting for it.
    fn become_idle(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.stage = Stage::Idle;
        let queue = state.take_queue();
        let waiting = std::mem::take(&mut state.waiting);
        let on_idle = if state.has_jobs() { None } else { state.on_idle.take() };
        drop(state);
        self.release(&queue);
        for waiter in waiting {
            // The receiver may have been dropped.
            let _ = waiter.send(());
        }
        if let Some(on_idle) = on_idle {
            on_idle(self);
        }
    }

    /// Starts a background sync if anything is unsynced. `then` receives the directories that remain to be synced.
    pub(super) fn start_sync(self: &Arc<Self>, then: impl FnOnce(ParentDirs) + Send + 'static) {
        let mut state = lock(&self.state);
        if !state.is_syncing && self.content.acknowledgeable() < self.content.written() {
            self.sync(&mut state, then);
        }
    }

    /// Starts a background sync if much is unsynced, so that a later sync with a waiting caller is short.
    fn sync_in_background(self: &Arc<Self>, state: &mut State) {
        let end = self.content.end();
        if state.is_syncing
            || !self.content.is_disk
            || end - state.sync_started_to.min(end) < self.pool.unsynced_bytes
        {
            return;
        }
        self.sync(state, drop);
    }

    fn sync(self: &Arc<Self>, state: &mut State, then: impl FnOnce(ParentDirs) + Send + 'static) {
        state.sync_started_to = self.content.end();
        state.is_syncing = true;
        let queue = Arc::clone(self);
        let _ = self.pool.background.submit(Box::new(move || {
            // On failure the content reports the error to every later write and sync.
            if let Ok(synced) = queue.content.sync() {
                then(synced.parents);
            }
            let mut state = lock(&queue.state);
            state.is_syncing = false;
            if state.stage == Stage::Throttled {
                state.stage = Stage::Scheduled;
                drop(state);
                queue.reschedule();
            } else if state.stage == Stage::Idle {
                queue.become_idle(state);
            }
        }));
    }

    /// Returns whether so much is written behind the running sync that the next one would take long.
    fn is_far_ahead(&self, state: &State) -> bool {
        state.is_syncing
            && !state.is_closed
            && self.content.end().saturating_sub(state.sync_started_to) >= self.pool.unsynced_bytes
    }

    fn release(&self, pieces: &[QueuedBuffer]) {
        let charge = pieces.iter().map(|piece| piece.charge as usize).sum();
        self.capacity.add_permits(charge);
        self.pool.budget.add_permits(charge);
    }
}

/// A job on a queue's content that is queued or running.
pub(super) struct InFlight(Arc<WriteQueue>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.jobs -= 1;
        if state.stage == Stage::Idle {
            self.0.become_idle(state);
        }
    }
}

/// The treatment of queued bytes when a queue is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queued {
    Write,
    Drop,
}

impl State {
    /// Returns whether a job that is queued or running may still change the content.
    fn has_jobs(&self) -> bool {
        self.is_syncing || self.jobs > 0
    }

    fn take_queue(&mut self) -> Vec<QueuedBuffer> {
        self.queued_bytes = 0;
        std::mem::take(&mut self.queue)
    }

    fn check_writable(&self) -> Result<(), Error> {
        match &self.failure {
            _ if self.is_closed => Err(Error::Fenced),
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }
}
