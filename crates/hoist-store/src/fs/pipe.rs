//! The pipes through which bytes go from a socket to a file without entering the process.
//!
//! Owns a few pipes for all stores of the process. They are empty except during a call of [`with`]: a pipe for each upload
//! would take two descriptors and up to a megabyte.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use rustix::io::{Errno, retry_on_intr};

use super::sys;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::sys::{Call, is_unsupported, pass};
use super::thread_pool::lock;

static POOL: Mutex<Pool> = Mutex::new(Pool { free: Vec::new(), in_use: 0 });

struct Pool {
    free: Vec<Pipe>,
    in_use: usize,
}

/// The most pipes at the same time. Their descriptors are among those that `hoist serve` reserves.
const PIPES_MAX: usize = 4;

/// The most bytes that a pipe takes at once.
pub(super) const PIPE_BYTES: usize = 1 << 20;

/// The two ends of a pipe.
pub(super) struct Pipe {
    from: OwnedFd,
    to: OwnedFd,
}

impl Pipe {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn new() -> Result<Self, Errno> {
        let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // Smaller pipes work, too. The system may allow no more to this user.
        let _ = rustix::pipe::fcntl_setpipe_size(&to, PIPE_BYTES);
        Ok(Self { from, to })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn new() -> Result<Self, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    pub(super) fn from(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    pub(super) fn to(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }
}

/// Calls `act` with an empty pipe, and returns `None` if there is none to be had. `act` returns whether it has left the pipe
/// empty; if not, the rest is discarded.
pub(super) fn with<T>(act: impl FnOnce(&Pipe) -> (T, bool)) -> Option<T> {
    let pipe = {
        let mut pool = lock(&POOL);
        if pool.in_use == PIPES_MAX {
            return None;
        }
        let pipe = pool.free.pop().map_or_else(Pipe::new, Ok).ok()?;
        pool.in_use += 1;
        pipe
    };
    let _in_use = InUse;
    let (value, is_empty) = act(&pipe);
    if is_empty {
        lock(&POOL).free.push(pipe);
    }
    Some(value)
}

/// One pipe in use, until it is dropped, also by a panic.
struct InUse;

impl Drop for InUse {
    fn drop(&mut self) {
        lock(&POOL).in_use -= 1;
    }
}

/// Moves `bytes` bytes from a pipe to an offset of a file. Returns the number of bytes written, and the error that prevented
/// the rest.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn splice_all(
    pipe: impl AsFd,
    file: impl AsFd,
    at: u64,
    bytes: usize,
) -> (u64, Result<(), Errno>) {
    use rustix::pipe::{SpliceFlags, splice};
    let mut end = at;
    while end < at + bytes as u64 {
        let left = bytes - usize::try_from(end - at).unwrap_or(bytes);
        let moved = pass(Call::Write).and_then(|()| {
            retry_on_intr(|| splice(&pipe, None, &file, Some(&mut end), left, SpliceFlags::MOVE))
        });
        match moved {
            Ok(0) => return (end - at, Err(Errno::NOSPC)),
            Ok(_) => {}
            Err(errno) if end == at && is_unsupported(errno) => return copy_from_pipe(pipe, file, at, bytes),
            Err(errno) => return (end - at, Err(errno)),
        }
    }
    (end - at, Ok(()))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn splice_all(
    pipe: impl AsFd,
    file: impl AsFd,
    at: u64,
    bytes: usize,
) -> (u64, Result<(), Errno>) {
    copy_from_pipe(pipe, file, at, bytes)
}

/// Does the same on a file system that cannot take bytes from a pipe.
fn copy_from_pipe(pipe: impl AsFd, file: impl AsFd, at: u64, bytes: usize) -> (u64, Result<(), Errno>) {
    const BUFFER: usize = 64 * 1024;
    let (mut written, mut buffer) = (0, vec![0; BUFFER.min(bytes)]);
    while written < bytes as u64 {
        let left = bytes - usize::try_from(written).unwrap_or(bytes);
        let room = buffer.len().min(left);
        let read = match retry_on_intr(|| rustix::io::read(&pipe, &mut buffer[..room])) {
            Ok(0) => return (written, Err(Errno::IO)),
            Ok(read) => read,
            Err(errno) => return (written, Err(errno)),
        };
        let (more, result) = sys::write_all(&file, at + written, &mut [IoSlice::new(&buffer[..read])]);
        written += more;
        if result.is_err() {
            return (written, result);
        }
    }
    (written, Ok(()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_loses_no_pipe() {
        let mut panics = 0;
        // Other tests may have all pipes in use.
        for _ in 0..1_000_000 {
            let called = catch_unwind(AssertUnwindSafe(|| {
                with(|_| -> ((), bool) { panic!("a pipe is in use") });
            }));
            panics += usize::from(called.is_err());
            if panics > PIPES_MAX {
                return;
            }
            std::thread::yield_now();
        }
        panic!("there are no pipes after {panics} panics");
    }
}
