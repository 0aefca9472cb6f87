//! Threads that do what blocks, so that no task of an async runtime ever does.
//!
//! Owns a bounded number of threads and the jobs waiting for them. Leaves what the jobs are to its users; those are
//! bounded too, because each is one call of a claimed upload. A job that was taken on is done even when nobody waits for
//! it any more: that is what makes the store's calls safe to drop.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

use super::mutex::lock;
use crate::store::Error;

/// Work waiting for threads. Closed, it is worked off and takes no more.
pub(super) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    changed: Condvar,
}

struct Waiting<T> {
    work: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let waiting = Waiting { work: VecDeque::new(), is_closed: false };
        Self { waiting: Mutex::new(waiting), changed: Condvar::new() }
    }

    /// Adds work at the end, or gives it back when the queue is closed.
    pub(super) fn push(&self, work: T) -> Result<(), T> {
        let mut waiting = lock(&self.waiting);
        if waiting.is_closed {
            return Err(work);
        }
        waiting.work.push_back(work);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// The next piece of work; waits for it. `None` when there will be none.
    pub(super) fn next(&self) -> Option<T> {
        let mut waiting = lock(&self.waiting);
        loop {
            if let Some(work) = waiting.work.pop_front() {
                return Some(work);
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// All the work there is; waits for some. Empty when there will be none.
    pub(super) fn all(&self) -> VecDeque<T> {
        let mut waiting = lock(&self.waiting);
        while waiting.work.is_empty() && !waiting.is_closed {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut waiting.work)
    }

    pub(super) fn close(&self) {
        lock(&self.waiting).is_closed = true;
        self.changed.notify_all();
    }
}

/// Starts a thread of the store.
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

/// A place to hand jobs to.
#[derive(Clone)]
pub(super) struct ThreadPool(Arc<Queue<Job>>);

impl ThreadPool {
    /// Starts `count` threads and adds them to `threads`.
    pub(super) fn start(name: &str, count: usize, threads: &mut Vec<JoinHandle<()>>) -> Result<Self, Error> {
        let queue = Arc::new(Queue::<Job>::new());
        for number in 0..count.max(1) {
            let queue = Arc::clone(&queue);
            threads.push(start(format!("{name}-{number}"), move || {
                while let Some(job) = queue.next() {
                    // A panic is a bug, and the waiter is told by its channel; the thread has other uploads to serve.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            })?);
        }
        Ok(Self(queue))
    }

    /// Has a job done. A closed store does none, and the job's own channels tell its waiter.
    pub(super) fn submit(&self, job: Job) {
        drop(self.0.push(job));
    }

    /// Has a job done and waits for what comes of it.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.submit(Box::new(move || drop(answer.send(job()))));
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(super) fn close(&self) {
        self.0.close();
    }
}

/// What calls get when the store was closed under them.
pub(super) fn closed() -> Error {
    Error::Io {
        doing: "using a store that is closed".to_owned(),
        source: std::io::Error::from(std::io::ErrorKind::NotConnected),
    }
}
