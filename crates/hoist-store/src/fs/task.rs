//! Tasks that run on the threads of a pool: futures that may wait for the disk while they are polled.
//!
//! Owns their schedule: a task is polled by one thread at a time, once per wake-up. The thread-local mark of a polling
//! thread lets the store do a task's work where the task runs, instead of handing it to another thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::thread_pool::{Job, ThreadPool, lock};
use crate::store::BoxFuture;

thread_local! {
    /// The pool whose task this thread polls.
    static POLLING: Cell<Option<usize>> = const { Cell::new(None) };
    /// The jobs that wait until the task has been polled.
    static DEFERRED: RefCell<Vec<Job>> = const { RefCell::new(Vec::new()) };
}

/// The tasks of a pool. They end with the runtime that they were spawned in.
pub(super) struct Tasks {
    pool: ThreadPool,
    kept: Mutex<Option<Kept>>,
}

/// Tasks of one runtime.
struct Kept {
    live: Arc<Live>,
    /// Closed once the runtime has ended. Dropping it ends the runtime's interest in the tasks.
    keeper: oneshot::Sender<()>,
}

type Live = Mutex<HashMap<usize, Weak<Task>>>;

impl Tasks {
    pub(super) fn new(pool: ThreadPool) -> Self {
        Self { pool, kept: Mutex::default() }
    }

    /// Runs a future on the threads of the pool. It may wait for the disk while it is polled. A pool that is closed drops
    /// it.
    ///
    /// # Panics
    /// Panics outside of a runtime.
    pub(super) fn spawn(&self, future: BoxFuture<'static, ()>) {
        let runtime = Handle::current();
        let live = self.live(&runtime);
        let state = Mutex::new(State::Scheduled(future));
        let task = Arc::new(Task { pool: self.pool.clone(), live, runtime, state });
        lock(&task.live).insert(task.number(), Arc::downgrade(&task));
        task.schedule();
    }

    /// Returns the set of the tasks that end with the runtime.
    fn live(&self, runtime: &Handle) -> Arc<Live> {
        let mut kept = lock(&self.kept);
        if let Some(kept) = kept.as_ref().filter(|kept| !kept.keeper.is_closed()) {
            return Arc::clone(&kept.live);
        }
        let (live, (keeper, closed)) = (Arc::<Live>::default(), oneshot::channel());
        let ending = Ending(Arc::clone(&live));
        runtime.spawn(async move {
            let _ending = ending;
            // An error means that the pool was dropped.
            let _ = closed.await;
        });
        *kept = Some(Kept { live: Arc::clone(&live), keeper });
        live
    }
}

/// Ends the tasks when the runtime drops it.
struct Ending(Arc<Live>);

impl Drop for Ending {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *lock(&self.0));
        for task in tasks.into_values().filter_map(|task| task.upgrade()) {
            task.end();
        }
    }
}

impl ThreadPool {
    /// Returns whether this thread polls a task of this pool, and so may wait for the disk.
    pub(super) fn is_polling(&self) -> bool {
        POLLING.get() == Some(self.number())
    }

    /// Runs a job on this thread once the task that it polls waits or ends.
    pub(super) fn defer(job: Job) {
        DEFERRED.with_borrow_mut(|jobs| jobs.push(job));
    }
}

/// A future and its schedule.
struct Task {
    pool: ThreadPool,
    live: Arc<Live>,
    /// The runtime whose timers and sockets the future uses.
    runtime: Handle,
    state: Mutex<State>,
}

enum State {
    /// Waits for a wake-up.
    Idle(BoxFuture<'static, ()>),
    /// Waits for a thread.
    Scheduled(BoxFuture<'static, ()>),
    Polled,
    /// Was woken while it was polled.
    PolledAndWoken,
    Ended,
}

impl Task {
    fn number(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    fn schedule(self: Arc<Self>) {
        let pool = self.pool.clone();
        drop(pool.submit(Box::new(move || self.run())));
    }

    /// Polls the future until it waits for more than its turn.
    fn run(self: Arc<Self>) {
        let mut state = lock(&self.state);
        let State::Scheduled(mut future) = std::mem::replace(&mut *state, State::Polled) else {
            *state = State::Ended;
            return;
        };
        drop(state);
        let _runtime = self.runtime.enter();
        let waker = Waker::from(Arc::clone(&self));
        loop {
            POLLING.set(Some(self.pool.number()));
            // The panic is logged by the hook, and the caller that waits for the task sees its channel closed.
            let polled =
                catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
            run_deferred();
            let has_ended = !matches!(polled, Ok(Poll::Pending));
            let mut state = lock(&self.state);
            if has_ended || matches!(*state, State::Ended) {
                *state = State::Ended;
                drop(state);
                // Dropped here, because that may wait for the disk, too.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
                run_deferred();
                POLLING.set(None);
                lock(&self.live).remove(&self.number());
                return;
            }
            POLLING.set(None);
            if !matches!(*state, State::PolledAndWoken) {
                *state = State::Idle(future);
                return;
            }
            if self.pool.has_waiting() {
                *state = State::Scheduled(future);
                drop(state);
                return self.schedule();
            }
            *state = State::Polled;
        }
    }

    /// Drops the future, now or after the poll that runs.
    fn end(&self) {
        // Dropped without the lock: the future may be the last owner of what wakes the task.
        let ended = std::mem::replace(&mut *lock(&self.state), State::Ended);
        drop(ended);
    }
}

fn run_deferred() {
    while let Some(job) = DEFERRED.with_borrow_mut(Vec::pop) {
        // The panic is logged by the hook.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Ended) {
            State::Idle(future) => {
                *state = State::Scheduled(future);
                drop(state);
                self.schedule();
            }
            State::Polled => *state = State::PolledAndWoken,
            unchanged => *state = unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::fs::{LocalStore, Options};
    use crate::store::Store as _;

    const LONG: Duration = Duration::from_secs(20);

    async fn run<T: Send + 'static>(
        pool: &ThreadPool,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let tasks = Tasks::new(pool.clone());
        tasks.spawn(Box::pin(async move { drop(answer.send(future.await)) }));
        timeout(LONG, answered).await.expect("it ends").ok()
    }

    #[tokio::test]
    async fn the_jobs_of_a_task_run_where_it_is_polled() {
        let (pool, other) =
            (ThreadPool::start("one", 1).expect("threads"), ThreadPool::start("two", 1).expect("threads"));
        let (of_task, of_other) = (pool.clone(), other.clone());
        let threads = run(&pool, async move {
            let name = || Ok(thread::current().name().map(str::to_owned));
            [of_task.call(name).await.expect("a name"), of_other.call(name).await.expect("a name")]
        });
        let expected = ["one-0", "two-0"].map(|name| Some(name.to_owned()));
        assert_eq!(threads.await, Some(expected));
        assert!(!pool.is_polling());
    }

    #[tokio::test]
    async fn a_task_waits_for_timers_and_other_tasks() {
        let pool = ThreadPool::start("one", 1).expect("threads");
        let (sender, receiver) = oneshot::channel();
        let waiting = run(&pool, async { receiver.await.expect("a value") });
        let sending = run(&pool, async {
            // time itself is tested: a task may use the timers of its runtime
            tokio::time::sleep(Duration::from_millis(1)).await;
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            sender.send(7)
        });
        assert_eq!(tokio::join!(waiting, sending), (Some(7), Some(Ok(()))));
    }

    #[tokio::test]
    async fn tasks_that_never_wait_take_turns() {
        let pool = ThreadPool::start("one", 1).expect("threads");
        let (sender, mut receiver) = oneshot::channel();
        let endless = run(&pool, async move {
            while receiver.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        });
        let other = run(&pool, async { sender.send(()) });
        assert_eq!(tokio::join!(endless, other), (Some(()), Some(Ok(()))));
    }

    #[tokio::test]
    async fn deferred_jobs_run_when_the_task_waits() {
        let pool = ThreadPool::start("one", 1).expect("threads");
        let (sender, mut receiver) = oneshot::channel();
        let order = run(&pool, async move {
            ThreadPool::defer(Box::new(|| sender.send(()).expect("the task waits")));
            let before = receiver.try_recv().is_ok();
            tokio::task::yield_now().await;
            (before, receiver.try_recv().is_ok())
        });
        assert_eq!(order.await, Some((false, true)));
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let pool = ThreadPool::start("one", 1).expect("threads");
        let on_purpose = async { panic!("on purpose") };
        assert_eq!(run::<()>(&pool, on_purpose).await, None);
        assert_eq!(run(&pool, async { 1 }).await, Some(1));
        pool.close();
        assert_eq!(run(&pool, async { 2 }).await, None);
    }

    #[test]
    fn tasks_end_with_their_runtime() {
        let tasks = Tasks::new(ThreadPool::start("one", 1).expect("threads"));
        for _ in 0..2 {
            let (held, (started, has_started)) = (Arc::new(()), oneshot::channel());
            let of_task = Arc::clone(&held);
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                tasks.spawn(Box::pin(async move {
                    started.send(()).expect("the test waits");
                    std::future::pending::<()>().await;
                    drop(of_task);
                }));
                timeout(LONG, has_started).await.expect("in time").expect("it runs");
            });
            drop(runtime);
            let begun = std::time::Instant::now();
            while Arc::strong_count(&held) > 1 {
                assert!(begun.elapsed() < LONG, "the task is still there");
                thread::yield_now();
            }
        }
    }

    #[tokio::test]
    async fn a_task_may_drop_its_store() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = LocalStore::open(directory.path(), &Options::default()).expect("opens");
        let (store, (sender, receiver)) = (Arc::new(store), oneshot::channel());
        let of_task = Arc::clone(&store);
        let taken = store.spawn(Box::pin(async move {
            let _ = receiver.await;
            drop(of_task);
        }));
        assert!(taken.is_none());
        drop(store);
        sender.send(()).expect("the task waits");
        let opened = async {
            while LocalStore::open(directory.path(), &Options::default()).is_err() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, opened).await.expect("the directory is unlocked");
    }
}
