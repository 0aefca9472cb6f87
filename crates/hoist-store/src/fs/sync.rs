//! Batched syncs for many uploads.
//!
//! Owns the threads that sync, and the batching of syncs of the two parent directories. Leaves the order of one
//! upload's syncs to [`content`](super::content) and [`upload_lock`](super::upload_lock).
//!
//! Several threads sync the files of different uploads at the same time, and the file system's journal makes one commit
//! of them. Waiting for a whole batch here instead would let one large upload delay many small ones. The parent
//! directories are different: one sync of `open` serves sixty uploads as well as one. The requests for it are queued,
//! and one thread performs one sync for all that arrived during the previous one.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::data_dir::DataDir;
use super::failure::Failure;
use super::layout::ParentDirs;
use super::thread_pool::{Queue, ThreadPool, closed};
use crate::store::Error;

/// Performs syncs. Clones share the threads.
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
    pub(super) fn start(data_dir: &Arc<DataDir>, pool: ThreadPool) -> Result<Self, Error> {
        let (is_disk, data_dir) = (data_dir.is_disk, Arc::clone(data_dir));
        let run = move |queue: &Queue<ParentSync>| {
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
        };
        Ok(Self { pool, parents: Queue::start("hoist-sync-dirs", 1, run)?, is_disk })
    }

    /// Runs a job that syncs, then syncs the parent directories it returns, and returns its value when both are done.
    /// If dropped, both happen nevertheless.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<(T, ParentDirs), Error> + Send + 'static,
    ) -> Result<T, Error> {
        if self.pool.is_polling() {
            let (value, due) = job()?;
            self.sync_parents(due).await?;
            return Ok(value);
        }
        let (answer, answered) = oneshot::channel();
        let (parents, is_disk) = (Arc::clone(&self.parents), self.is_disk);
        let submitted = self.pool.submit(Box::new(move || match job() {
            Ok((value, due)) if is_disk && !due.is_empty() => {
                let then = move |synced: Result<(), Failure>| {
                    drop(answer.send(synced.map(|()| value).map_err(Error::from)));
                };
                drop(parents.push(ParentSync { parents: due, then: Box::new(then) }));
            }
            done => drop(answer.send(done.map(|(value, _)| value))),
        }));
        drop(submitted);
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Syncs parent directories, together with those of other uploads.
    async fn sync_parents(&self, parents: ParentDirs) -> Result<(), Error> {
        if !self.is_disk || parents.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let then = move |synced: Result<(), Failure>| drop(answer.send(synced.map_err(Error::from)));
        drop(self.parents.push(ParentSync { parents, then: Box::new(then) }));
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Syncs parent directories in the background and then calls `done`; at once if there is nothing to sync.
    pub(super) fn sync_in_background(&self, parents: ParentDirs, done: impl FnOnce() + Send + 'static) {
        if !self.is_disk || parents.is_empty() {
            return done();
        }
        // A failure is reported when the offset is queried next.
        let then = move |synced: Result<(), Failure>| synced.map_or((), |()| done());
        drop(self.parents.push(ParentSync { parents, then: Box::new(then) }));
    }

    /// Closes the queue for parent directories. The pool of the jobs, which fill it, has to be closed before.
    pub(super) fn close(&self) {
        self.parents.close();
    }
}
