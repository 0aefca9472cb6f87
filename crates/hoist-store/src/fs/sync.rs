//! Syncer for many uploads at once.
//!
//! Owns the threads that sync, and the batching of the two directories all uploads share. Leaves what is synced to
//! [`data`](super::data) and [`data_dir`](super::data_dir).
//!
//! The files of different uploads are synced by several threads at the same time, and the file system's journal makes
//! one commit of them; waiting for a whole batch here instead would let one large upload hold up many small ones. The
//! shared directories are different: one sync of `open` is as good for sixty uploads as for one. So everybody who needs
//! one queues up, and one thread syncs once for all who came while it was busy.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::data_dir::DataDir;
use super::failure::Failure;
use super::layout::ParentDirs;
use super::thread_pool::{self, Queue, ThreadPool, closed};
use crate::store::Error;

/// A place to ask for syncs.
#[derive(Clone)]
pub(super) struct Syncer {
    pool: ThreadPool,
    parents: Arc<Queue<ParentSync>>,
    is_disk: bool,
}

struct ParentSync {
    parents: ParentDirs,
    then: Box<dyn FnOnce(Result<(), Failure>) + Send>,
}

impl Syncer {
    pub(super) fn start(
        data_dir: &Arc<DataDir>,
        count: usize,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<Self, Error> {
        let pool = ThreadPool::start("hoist-sync", count, threads)?;
        let parents = Arc::new(Queue::<ParentSync>::new());
        let (queue, data_dir, is_disk) = (Arc::clone(&parents), Arc::clone(data_dir), data_dir.is_disk());
        threads.push(thread_pool::start("hoist-sync-dirs".to_owned(), move || {
            loop {
                let batch = queue.all();
                if batch.is_empty() {
                    return;
                }
                let parents = batch.iter().fold(ParentDirs::NONE, |all, due| all.and(due.parents));
                let synced = data_dir.sync_parents(parents).map_err(Failure::from);
                for due in batch {
                    (due.then)(synced.clone());
                }
            }
        })?);
        Ok(Self { pool, parents, is_disk })
    }

    /// Does a job that syncs, then syncs the shelves it names, and answers when both are done. Dropped, both happen all
    /// the same.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<(T, ParentDirs), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let (parents, is_disk) = (Arc::clone(&self.parents), self.is_disk);
        self.pool.submit(Box::new(move || match job() {
            Ok((value, due)) if is_disk && !due.is_empty() => {
                let then = move |synced: Result<(), Failure>| {
                    drop(answer.send(synced.map(|()| value).map_err(Error::from)));
                };
                drop(parents.push(ParentSync { parents: due, then: Box::new(then) }));
            }
            done => drop(answer.send(done.map(|(value, _)| value))),
        }));
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Syncer shelves without a caller that waits for it; `done` is called then, and at once when there is nothing to sync.
    pub(super) fn behind(&self, parents: ParentDirs, done: impl FnOnce() + Send + 'static) {
        if !self.is_disk || parents.is_empty() {
            return done();
        }
        // A failure shows when the offset is asked for next.
        let then = move |synced: Result<(), Failure>| synced.map_or((), |()| done());
        drop(self.parents.push(ParentSync { parents, then: Box::new(then) }));
    }

    pub(super) fn close(&self) {
        self.pool.close();
    }

    /// To be called when the threads of the jobs have ended: they are the ones who queue here.
    pub(super) fn close_parents(&self) {
        self.parents.close();
    }
}
