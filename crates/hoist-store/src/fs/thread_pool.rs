//! Threads for blocking work, so that no task of an async runtime blocks.
//!
//! Owns a fixed number of threads and a queue of jobs. The queue is bounded by its users: each job belongs to one call
//! of a claimed upload. A job runs even if its caller has stopped waiting, which makes the store's calls safe to drop.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, current};

use tokio::sync::oneshot;

use crate::store::Error;

/// Locks a mutex, poisoned or not. The store keeps what its mutexes guard consistent between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A queue for threads. Once closed, it accepts nothing more, and its remaining items are still returned.
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Waiting<T> {
    work: VecDeque<T>,
    is_closed: bool,
    /// The number of threads that wait for work.
    idle: usize,
    /// True from the call that wakes a thread until one runs. Meanwhile no other is woken: the first one wakes the next
    /// if it leaves work behind, so a thread that takes several items costs one wake-up, and work waits for no thread
    /// while another is idle.
    is_waking: bool,
}

impl<T> Waiting<T> {
    /// Returns whether the caller has to wake a thread.
    fn wakes(&mut self) -> bool {
        let wakes = !self.work.is_empty() && self.idle > 0 && !self.is_waking;
        self.is_waking |= wakes;
        wakes
    }
}

impl<T: Send + 'static> Queue<T> {
    /// Creates a queue and starts `count` threads, each of which calls `run`, which returns once the queue is closed and
    /// empty.
    pub(super) fn start(
        name: &str,
        count: usize,
        run: impl Fn(&Self) + Clone + Send + 'static,
    ) -> Result<Arc<Self>, Error> {
        let waiting =
            Mutex::new(Waiting { work: VecDeque::new(), is_closed: false, idle: 0, is_waking: false });
        let queue = Arc::new(Self { waiting, changed: Condvar::new(), threads: Mutex::default() });
        for number in 0..count.max(1) {
            let (queue_of_thread, run) = (Arc::clone(&queue), run.clone());
            let thread = start(format!("{name}-{number}"), move || run(&queue_of_thread))?;
            lock(&queue.threads).push(thread);
        }
        Ok(queue)
    }

    /// Adds an item at the end, or returns it if the queue is closed.
    pub(super) fn push(&self, work: T) -> Result<(), T> {
        let mut waiting = lock(&self.waiting);
        if waiting.is_closed {
            return Err(work);
        }
        waiting.work.push_back(work);
        self.wake(waiting);
        Ok(())
    }

    /// Wakes a thread if there is work for one more.
    fn wake(&self, mut waiting: MutexGuard<'_, Waiting<T>>) {
        let wakes = waiting.wakes();
        drop(waiting);
        if wakes {
            self.changed.notify_one();
        }
    }

    /// Waits until there is work or the queue is closed.
    fn wait(&self) -> MutexGuard<'_, Waiting<T>> {
        let mut waiting = lock(&self.waiting);
        while waiting.work.is_empty() && !waiting.is_closed {
            waiting.idle += 1;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
            waiting.is_waking = false;
        }
        waiting
    }

    /// Waits for the next item. Returns `None` once the queue is closed and empty.
    pub(super) fn next(&self) -> Option<T> {
        let mut waiting = self.wait();
        let work = waiting.work.pop_front();
        self.wake(waiting);
        work
    }

    /// Waits for items and returns all of them. Returns none once the queue is closed and empty.
    pub(super) fn all(&self) -> VecDeque<T> {
        std::mem::take(&mut self.wait().work)
    }

    /// Returns whether an item waits for a thread.
    fn has_waiting(&self) -> bool {
        !lock(&self.waiting).work.is_empty()
    }

    /// Closes the queue, and waits until its threads have ended, which first empty it.
    pub(super) fn close(&self) {
        lock(&self.waiting).is_closed = true;
        self.changed.notify_all();
        let threads = std::mem::take(&mut *lock(&self.threads));
        // A task may drop the store that it runs on.
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != current().id()) {
            // A panic has been reported when it happened.
            let _ = thread.join();
        }
    }
}

/// Starts a thread.
pub(super) fn start(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    #[cfg(test)]
    let run = {
        let faults = super::sys::faults::current();
        move || {
            super::sys::faults::adopt(faults);
            run();
        }
    };
    Builder::new()
        .name(name)
        .spawn(run)
        .map_err(|source| Error::Io { doing: "starting a thread of the store".to_owned(), source })
}

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads that run jobs in order of submission. Clones share the threads.
#[derive(Clone)]
pub(super) struct ThreadPool(Arc<Queue<Job>>);

impl ThreadPool {
    pub(super) fn start(name: &str, count: usize) -> Result<Self, Error> {
        let run = |queue: &Queue<Job>| {
            while let Some(job) = queue.next() {
                // The panic is logged by the hook, and the caller sees its channel closed. The thread serves other
                // uploads.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        };
        Queue::start(name, count, run).map(Self)
    }

    /// Submits a job. A closed pool returns it. To drop it closes its channels.
    pub(super) fn submit(&self, job: Job) -> Result<(), Job> {
        self.0.push(job)
    }

    /// Returns whether a job waits for a thread.
    pub(super) fn has_waiting(&self) -> bool {
        self.0.has_waiting()
    }

    /// Returns a number that no other pool has.
    pub(super) fn number(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Runs a job and waits for its result. A task of this pool runs the job where it is polled.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.is_polling() {
            return job();
        }
        let (answer, answered) = oneshot::channel();
        drop(self.submit(Box::new(move || drop(answer.send(job())))));
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Closes the pool, and waits until the submitted jobs have ended.
    pub(super) fn close(&self) {
        self.0.close();
    }
}

/// The error of calls that the store was closed under.
pub(super) fn closed() -> Error {
    Error::Io {
        doing: "using a store that is closed".to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::NotConnected),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_that_is_being_woken_is_waited_for() {
        let mut waiting =
            Waiting { work: VecDeque::from([1, 2]), is_closed: false, idle: 2, is_waking: false };
        assert!(waiting.wakes());
        assert!(!waiting.wakes(), "one is being woken");
        (waiting.idle, waiting.is_waking) = (1, false);
        waiting.work.pop_front();
        assert!(waiting.wakes(), "it leaves work for the next");
        waiting.is_waking = false;
        waiting.work.pop_front();
        assert!(!waiting.wakes(), "no work");
        waiting.work.push_back(3);
        waiting.idle = 0;
        assert!(!waiting.wakes(), "all threads are busy and look for work on their own");
    }

    /// Each job waits for all others, so each needs a thread of its own.
    #[test]
    fn jobs_use_all_threads() {
        let (pool, barrier) = (ThreadPool::start("pool", 8).expect("threads"), Arc::new(Barrier::new(8)));
        for _ in 0..100 {
            let (done, jobs) = channel();
            for _ in 0..8 {
                let (barrier, done) = (Arc::clone(&barrier), done.clone());
                let submitted = pool.submit(Box::new(move || {
                    barrier.wait();
                    done.send(()).expect("the test waits");
                }));
                assert!(submitted.is_ok());
            }
            for _ in 0..8 {
                jobs.recv_timeout(Duration::from_secs(20)).expect("a thread for each job");
            }
        }
        pool.close();
    }
}
