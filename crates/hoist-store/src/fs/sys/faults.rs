//! Faults in system calls, injected by tests: calls that fail, calls that block, a process that is killed.
//!
//! A plan of faults applies to the thread that installed it and to the threads of every store opened on that thread, so
//! tests that run at the same time do not affect each other.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustix::io::Errno;

use super::Call;
use crate::fs::thread_pool::lock;

/// The longest time for which a held call blocks, so that a failing test does not hang.
const HELD_MAX: Duration = Duration::from_secs(30);

thread_local! {
    static PLAN: RefCell<Option<Arc<Plan>>> = const { RefCell::new(None) };
}

/// The faults of one test. Dropping it removes them.
pub(in crate::fs) struct Faults(Arc<Plan>);

#[derive(Default)]
pub(in crate::fs) struct Plan {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The calls that changed something, in order.
    made: Vec<Call>,
    /// The number of calls that changed nothing.
    reads: usize,
    /// The number of calls that may still change something before the process counts as killed.
    left: Option<usize>,
    failing: Vec<Failing>,
    /// The kind of call to block, and the number of such calls to let through first.
    to_hold: Option<(Call, usize)>,
    is_holding: bool,
}

struct Failing {
    call: Call,
    skip: usize,
    times: usize,
    errno: Errno,
}

impl Faults {
    /// Installs a plan without faults.
    pub(in crate::fs) fn install() -> Self {
        let plan = Arc::new(Plan::default());
        adopt(Some(Arc::clone(&plan)));
        Self(plan)
    }

    /// Lets `calls` more calls change something. After that, every call fails without effect. The file system is then
    /// left as by `kill -9`, because the page cache outlives the process.
    pub(in crate::fs) fn kill_after(&self, calls: usize) {
        lock(&self.0.state).left = Some(calls);
    }

    /// Makes `times` calls of one kind fail, after `skip` more of them.
    pub(in crate::fs) fn fail(&self, call: Call, skip: usize, times: usize, errno: Errno) {
        lock(&self.0.state).failing.push(Failing { call, skip, times, errno });
    }

    /// Returns whether no further call may change anything.
    pub(in crate::fs) fn is_over(&self) -> bool {
        lock(&self.0.state).left == Some(0)
    }

    /// Removes the remaining faults.
    pub(in crate::fs) fn heal(&self) {
        let mut state = lock(&self.0.state);
        state.left = None;
        state.failing.clear();
    }

    /// Blocks one call of this kind until [`release`](Self::release), after `skip` more of them.
    pub(in crate::fs) fn hold(&self, call: Call, skip: usize) {
        lock(&self.0.state).to_hold = Some((call, skip));
    }

    /// Returns whether a call is blocked.
    pub(in crate::fs) fn is_holding(&self) -> bool {
        lock(&self.0.state).is_holding
    }

    pub(in crate::fs) fn release(&self) {
        let mut state = lock(&self.0.state);
        (state.to_hold, state.is_holding) = (None, false);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Returns the calls that changed something, in order.
    pub(in crate::fs) fn made(&self) -> Vec<Call> {
        lock(&self.0.state).made.clone()
    }

    /// Returns the number of calls that changed nothing.
    pub(in crate::fs) fn reads(&self) -> usize {
        lock(&self.0.state).reads
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.release();
        adopt(None);
    }
}

/// Returns the plan of this thread, for a thread that it is about to start.
pub(in crate::fs) fn current() -> Option<Arc<Plan>> {
    PLAN.with_borrow(Clone::clone)
}

/// Installs a plan for this thread.
pub(in crate::fs) fn adopt(plan: Option<Arc<Plan>>) {
    PLAN.set(plan);
}

/// Lets a call through, blocks it, or fails it.
pub(in crate::fs) fn pass(call: Call) -> Result<(), Errno> {
    current().map_or(Ok(()), |plan| plan.pass(call))
}

impl Plan {
    fn pass(&self, call: Call) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        match &mut state.to_hold {
            Some((kind, 0)) if *kind == call => {
                (state.to_hold, state.is_holding) = (None, true);
                let held = self.changed.wait_timeout_while(state, HELD_MAX, |state| state.is_holding);
                state = held.map(|(state, _)| state).expect("no thread panics with this lock");
                state.is_holding = false;
            }
            Some((kind, skip)) if *kind == call => *skip -= 1,
            _ => {}
        }
        if state.left == Some(0) {
            return Err(Errno::IO);
        }
        let mut of_kind =
            state.failing.iter_mut().filter(|failing| failing.call == call && failing.times > 0);
        if let Some(failing) = of_kind.next() {
            if failing.skip == 0 {
                failing.times -= 1;
                return Err(failing.errno);
            }
            failing.skip -= 1;
        }
        if call == Call::Read {
            state.reads += 1;
        } else {
            state.left = state.left.map(|left| left - 1);
            state.made.push(call);
        }
        Ok(())
    }
}
