//! The wake-ups of tasks that read content, held back while the connection reads frames.
//!
//! h2 wakes the reader of a stream for each DATA frame. A reader that runs at once finds one frame, competes with the
//! connection for h2's lock, and sleeps again, which was a tenth of the CPU time of an upload.

use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use crate::sync::{lock, register, wake};

/// Bytes that a connection reads at most before it wakes the readers, so that they work beside it.
const BATCH_BYTES: usize = 256 << 10;

/// The wake-ups that the streams of one connection share.
#[derive(Default)]
pub(super) struct Wakeups(Mutex<State>);

#[derive(Default)]
struct State {
    /// True while the connection reads frames.
    is_reading: bool,
    /// Bytes read since the readers were last woken.
    bytes: usize,
    held: Vec<Waker>,
}

impl Wakeups {
    /// Calls `read`, which reads frames, and wakes the readers of their content.
    pub(super) fn hold_while<T>(&self, read: impl FnOnce() -> T) -> T {
        lock(&self.0).is_reading = true;
        let _release = Release(self);
        read()
    }

    /// Notes bytes that were read from the socket. Wakes the readers if there are many.
    pub(super) fn bytes_read(&self, bytes: usize) {
        let mut state = lock(&self.0);
        state.bytes += bytes;
        if state.bytes >= BATCH_BYTES {
            state.bytes = 0;
            let held = std::mem::take(&mut state.held);
            drop(state);
            held.into_iter().for_each(Waker::wake);
        }
    }
}

/// Wakes the readers when the connection has read all frames, or has panicked.
struct Release<'a>(&'a Wakeups);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        let State { held, .. } = std::mem::take(&mut *lock(&self.0.0));
        held.into_iter().for_each(Waker::wake);
    }
}

/// The reader of one stream, in the form of a waker for h2.
pub(super) struct Reader {
    wakeups: Arc<Wakeups>,
    task: Mutex<Option<Waker>>,
}

impl Reader {
    pub(super) fn new(wakeups: &Arc<Wakeups>) -> Arc<Self> {
        Arc::new(Reader { wakeups: Arc::clone(wakeups), task: Mutex::default() })
    }

    /// Makes the current task the one that is woken.
    pub(super) fn register(&self, cx: &Context<'_>) {
        register(&mut lock(&self.task), cx);
    }
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        let task = lock(&self.task).take();
        let mut state = lock(&self.wakeups.0);
        if state.is_reading {
            state.held.extend(task);
        } else {
            drop(state);
            wake(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_reader_is_woken_once_for_a_batch_and_at_once_when_nothing_is_read() {
        let wakeups = Arc::new(Wakeups::default());
        let reader = Reader::new(&wakeups);
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&task);
        let woken = || count.0.load(Ordering::Relaxed);
        // As h2 does for a frame, if the reader waits.
        let wake = || Waker::from(Arc::clone(&reader)).wake();
        reader.register(&cx);
        wakeups.hold_while(|| {
            wake();
            wakeups.bytes_read(BATCH_BYTES - 1);
            assert_eq!(woken(), 0);
            wakeups.bytes_read(1);
            assert_eq!(woken(), 1);
            // The reader has been woken, and does not wait for another frame.
            wake();
            reader.register(&cx);
            wake();
            wakeups.bytes_read(1);
            assert_eq!(woken(), 1);
        });
        assert_eq!(woken(), 2);
        reader.register(&cx);
        wake();
        assert_eq!(woken(), 3);
    }
}
