//! Sending content files to sockets with `sendfile`, so that no byte is copied into the process.
//!
//! `sendfile` waits for the disk if the bytes are not in memory, so it runs on threads of the store. The same threads
//! wait for the sockets: a hand-over to the runtime and back whenever a socket is full costs half as much as the sending.
//! All sockets are in one `epoll` instance, from which a thread takes one writable socket at a time. A thread that waits
//! for the disk delays no other download while another thread is free.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr};
use tokio::sync::oneshot;

use super::sys;
use super::thread_pool::{closed, lock, start};
use crate::store::Error;

/// The most bytes that one download sends before others have their turn.
const TURN_BYTES_MAX: u64 = 2 << 20;

/// The key of the event that ends the threads.
const CLOSE: u64 = 0;

/// One event, once the socket has room. The thread that gets it is the only one with this socket.
const WRITABLE_ONCE: EventFlags = EventFlags::OUT.union(EventFlags::ONESHOT);

/// Threads that send files. Clones share them.
#[derive(Clone)]
pub(super) struct Sender(Arc<Shared>);

struct Shared {
    epoll: OwnedFd,
    /// Readable once the sender is closed.
    close: OwnedFd,
    transfers: Mutex<Transfers>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Transfers {
    /// The transfers that wait for room in their sockets, by key. A thread takes out the one that it works on.
    waiting: HashMap<u64, Transfer>,
    last_key: u64,
    is_closed: bool,
}

/// A range of a file, and the socket it is sent to.
pub(super) struct Outgoing {
    pub(super) file: Arc<OwnedFd>,
    pub(super) at: u64,
    pub(super) bytes: u64,
    /// In nonblocking mode.
    pub(super) socket: Arc<OwnedFd>,
    /// Counts the bytes that the socket has taken, as it takes them.
    pub(super) sent: Arc<AtomicU64>,
}

/// The end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Complete,
    /// The file ends too early, at this offset.
    Short(u64),
    /// No byte was sent, because the file system has no such operation.
    Unsupported,
}

impl Sender {
    pub(super) fn start(count: usize) -> Result<Self, Error> {
        let failed = |errno: Errno| sys::failed("preparing to send files", errno);
        let shared = Arc::new(Shared {
            epoll: epoll::create(CreateFlags::CLOEXEC).map_err(failed)?,
            close: eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?,
            transfers: Mutex::default(),
            threads: Mutex::default(),
        });
        let close = EventData::new_u64(CLOSE);
        epoll::add(&shared.epoll, &shared.close, close, EventFlags::IN).map_err(failed)?;
        for number in 0..count.max(1) {
            let of_thread = Arc::clone(&shared);
            let thread = start(format!("hoist-send-{number}"), move || of_thread.run())?;
            lock(&shared.threads).push(thread);
        }
        Ok(Self(shared))
    }

    /// Sends a range of a file, as fast as the socket takes it. Does not block the caller's thread.
    ///
    /// # Cancellation
    /// If dropped, a thread may finish its present turn, of at most 2 MiB.
    pub(super) async fn send(&self, outgoing: Outgoing) -> Result<Result<End, Errno>, Error> {
        let (answer, answered) = oneshot::channel();
        let transfer = Transfer { outgoing, has_begun: false, answer };
        let key = self.0.add(transfer).ok_or_else(closed)?;
        let mut awaited = Awaited { shared: &self.0, key, answered };
        (&mut awaited.answered).await.map_err(|_| closed())
    }

    /// Ends all transfers, and waits until the threads have ended.
    pub(super) fn close(&self) {
        lock(&self.0.transfers).is_closed = true;
        // It is never read, so it wakes all threads.
        let _ = rustix::io::write(&self.0.close, &1_u64.to_ne_bytes());
        let threads = std::mem::take(&mut *lock(&self.0.threads));
        for thread in threads {
            // A panic has been reported when it happened.
            let _ = thread.join();
        }
        lock(&self.0.transfers).waiting.clear();
    }
}

/// A transfer whose end is awaited.
struct Awaited<'a> {
    shared: &'a Shared,
    key: u64,
    answered: oneshot::Receiver<Result<End, Errno>>,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        // Closed first, so that a thread that has taken out the transfer does not put it back.
        self.answered.close();
        let waiting = lock(&self.shared.transfers).waiting.remove(&self.key);
        if let Some(transfer) = waiting {
            self.shared.forget(&transfer);
        }
    }
}

impl Shared {
    /// Adds a transfer and returns its key. Returns `None` if the sender is closed.
    fn add(&self, transfer: Transfer) -> Option<u64> {
        let mut transfers = lock(&self.transfers);
        if transfers.is_closed {
            return None;
        }
        transfers.last_key += 1;
        let key = transfers.last_key;
        match epoll::add(&self.epoll, &transfer.outgoing.socket, EventData::new_u64(key), WRITABLE_ONCE) {
            Ok(()) => drop(transfers.waiting.insert(key, transfer)),
            Err(errno) => transfer.end(Err(errno)),
        }
        Some(key)
    }

    /// Sends for one writable socket after the other, until the sender is closed.
    fn run(&self) {
        loop {
            let mut event = [MaybeUninit::<Event>::uninit()];
            let ready =
                retry_on_intr(|| epoll::wait(&self.epoll, &mut event, None).map(|(ready, _)| ready[0]));
            let key = match ready {
                Ok(event) => event.data.u64(),
                Err(errno) => {
                    return tracing::error!(error = %std::io::Error::from(errno), "cannot wait for sockets");
                }
            };
            if key == CLOSE {
                return;
            }
            // A transfer that is missing was dropped in the meantime.
            let ready = lock(&self.transfers).waiting.remove(&key);
            if let Some(transfer) = ready {
                self.take_turn(key, transfer);
            }
        }
    }

    fn take_turn(&self, key: u64, mut transfer: Transfer) {
        let Some(end) = transfer.send().transpose() else { return self.wait_again(key, transfer) };
        self.forget(&transfer);
        transfer.end(end);
    }

    /// Waits until the socket of a transfer has room again. If that fails, dropping the transfer fails its caller.
    fn wait_again(&self, key: u64, transfer: Transfer) {
        let mut transfers = lock(&self.transfers);
        let data = EventData::new_u64(key);
        if !transfer.answer.is_closed()
            && epoll::modify(&self.epoll, &transfer.outgoing.socket, data, WRITABLE_ONCE).is_ok()
        {
            transfers.waiting.insert(key, transfer);
        } else {
            drop(transfers);
            self.forget(&transfer);
        }
    }

    /// Removes the socket of a transfer, which closing its descriptor does not: the connection has others.
    fn forget(&self, transfer: &Transfer) {
        let _ = epoll::delete(&self.epoll, &transfer.outgoing.socket);
    }
}

struct Transfer {
    outgoing: Outgoing,
    has_begun: bool,
    answer: oneshot::Sender<Result<End, Errno>>,
}

impl Transfer {
    /// Sends as much as fits into the socket, within its turn. Returns `None` if more is left to send.
    fn send(&mut self) -> Result<Option<End>, Errno> {
        let Outgoing { file, at, bytes, socket, sent } = &mut self.outgoing;
        let bytes_max = usize::try_from(TURN_BYTES_MAX.min(*bytes)).unwrap_or(usize::MAX);
        match sys::send_file(&**file, *at, &**socket, bytes_max) {
            Ok(0) => return Ok(Some(End::Short(*at))),
            Ok(count) => {
                *at += count as u64;
                *bytes -= count as u64;
                sent.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(Errno::AGAIN) => {}
            Err(Errno::INVAL | Errno::NOSYS) if !self.has_begun => return Ok(Some(End::Unsupported)),
            Err(errno) => return Err(errno),
        }
        self.has_begun = true;
        Ok((*bytes == 0).then_some(End::Complete))
    }

    fn end(self, end: Result<End, Errno>) {
        // The descriptors are closed before the caller goes on.
        drop(self.outgoing);
        // The caller may have stopped waiting.
        let _ = self.answer.send(end);
    }
}
