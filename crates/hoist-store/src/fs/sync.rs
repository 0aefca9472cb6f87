//! Syncs for many uploads at once.
//!
//! Owns the threads that sync, and the batching of the two directories all uploads share. Leaves what is synced to
//! [`data`](super::data) and [`tree`](super::tree).
//!
//! The files of different uploads are synced by several threads at the same time, and the file system's journal makes
//! one commit of them; waiting for a whole batch here instead would let one large upload hold up many small ones. The
//! shared directories are different: one sync of `open` is as good for sixty uploads as for one. So everybody who needs
//! one queues up, and one thread syncs once for all who came while it was busy.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::crew::{self, Hands, Queue, closed};
use super::failure::Failure;
use super::tree::{Shelves, Tree};
use crate::store::Error;

/// A place to ask for syncs.
#[derive(Clone)]
pub(super) struct Syncs {
    hands: Hands,
    shelves: Arc<Queue<Due>>,
    is_disk: bool,
}

struct Due {
    shelves: Shelves,
    then: Box<dyn FnOnce(Result<(), Failure>) + Send>,
}

impl Syncs {
    pub(super) fn start(
        tree: &Arc<Tree>,
        count: usize,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<Self, Error> {
        let hands = Hands::start("hoist-sync", count, threads)?;
        let shelves = Arc::new(Queue::<Due>::new());
        let (queue, tree, is_disk) = (Arc::clone(&shelves), Arc::clone(tree), tree.is_disk());
        threads.push(crew::start("hoist-sync-dirs".to_owned(), move || {
            loop {
                let batch = queue.all();
                if batch.is_empty() {
                    return;
                }
                let shelves = batch.iter().fold(Shelves::NONE, |all, due| all.and(due.shelves));
                let synced = tree.sync_shelves(shelves).map_err(Failure::from);
                for due in batch {
                    (due.then)(synced.clone());
                }
            }
        })?);
        Ok(Self { hands, shelves, is_disk })
    }

    /// Does a job that syncs, then syncs the shelves it names, and answers when both are done. Dropped, both happen all
    /// the same.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<(T, Shelves), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let (shelves, is_disk) = (Arc::clone(&self.shelves), self.is_disk);
        self.hands.submit(Box::new(move || match job() {
            Ok((value, due)) if is_disk && !due.is_empty() => {
                let then = move |synced: Result<(), Failure>| {
                    drop(answer.send(synced.map(|()| value).map_err(Error::from)));
                };
                drop(shelves.push(Due { shelves: due, then: Box::new(then) }));
            }
            done => drop(answer.send(done.map(|(value, _)| value))),
        }));
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Syncs shelves without a caller that waits for it; `done` is called then, and at once when there is nothing to sync.
    pub(super) fn behind(&self, shelves: Shelves, done: impl FnOnce() + Send + 'static) {
        if !self.is_disk || shelves.is_empty() {
            return done();
        }
        // A failure shows when the offset is asked for next.
        let then = move |synced: Result<(), Failure>| synced.map_or((), |()| done());
        drop(self.shelves.push(Due { shelves, then: Box::new(then) }));
    }

    pub(super) fn close(&self) {
        self.hands.close();
    }

    /// To be called when the threads of the jobs have ended: they are the ones who queue here.
    pub(super) fn close_shelves(&self) {
        self.shelves.close();
    }
}
