//! [`Listener`]: the socket that connections come from. Also owns the number of connections that are open at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::accepted::Accepted;
use crate::limits::{Limits, LiveLimits};
use crate::service::{Peer, Sender, UnixPeer};

/// A listening socket: TCP, or a unix socket.
///
/// Requests over TCP carry a [`Peer`] in their extensions, those over a unix socket a [`UnixPeer`].
#[derive(Debug)]
pub struct Listener(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Listener(Kind::Tcp(listener))
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Listener(Kind::Unix(listener))
    }
}

/// The origin of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    Tcp(SocketAddr),
    Unix,
}

impl Origin {
    pub(crate) fn sender(self, tls: bool) -> Sender {
        match self {
            Origin::Tcp(addr) => Sender::Tcp(Peer { addr, tls }),
            Origin::Unix => Sender::Unix(UnixPeer { tls }),
        }
    }
}

impl Listener {
    /// Returns the next connection. A failure to accept one does not end the server.
    pub(crate) async fn accept(&self) -> (Accepted, Origin) {
        loop {
            let accepted = match &self.0 {
                Kind::Tcp(listener) => {
                    listener.accept().await.map(|(tcp, addr)| (Accepted::Tcp(tcp), Origin::Tcp(addr)))
                }
                Kind::Unix(listener) => {
                    listener.accept().await.map(|(unix, _)| (Accepted::Unix(unix), Origin::Unix))
                }
            };
            match accepted {
                Ok(accepted) => return accepted,
                // The connection ended before it was accepted.
                Err(error) if is_connection_error(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory. Connections have to end before accepting succeeds again.
                    tracing::error!(%error, "cannot accept connections");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// Returns whether accepting failed because of the accepted connection, not of the listener.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The number of connections that a server has open. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<AtomicUsize>);

impl Connections {
    /// Returns the number of connections that are open.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn count(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

/// A connection that is counted.
pub(crate) struct Counted(Connections);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The places of open connections, whose number follows [`Limits::connections_max`].
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    /// Places that exist, taken or not. More than the limit while more connections are open than a lowered limit allows.
    places: usize,
    limits: watch::Receiver<Arc<Limits>>,
}

impl Slots {
    pub(crate) fn new(limits: &LiveLimits) -> Self {
        Slots { semaphore: Arc::new(Semaphore::new(0)), places: 0, limits: limits.subscribe() }
    }

    /// Waits for a place.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn take(&mut self) -> OwnedSemaphorePermit {
        loop {
            let places_max = self.limits.borrow_and_update().connections_max.min(Semaphore::MAX_PERMITS);
            if self.places < places_max {
                self.semaphore.add_permits(places_max - self.places);
                self.places = places_max;
            } else {
                self.places -= self.semaphore.forget_permits(self.places - places_max);
            }
            let slot = tokio::select! {
                biased;
                slot = Arc::clone(&self.semaphore).acquire_owned() => slot,
                Ok(()) = self.limits.changed() => continue,
            };
            let slot = slot.expect("the semaphore is never closed");
            if self.places <= places_max {
                return slot;
            }
            slot.forget();
            self.places -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn taken(slots: &mut Slots) -> Option<OwnedSemaphorePermit> {
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(slots.take()).poll(&mut cx) {
            std::task::Poll::Ready(slot) => Some(slot),
            std::task::Poll::Pending => None,
        }
    }

    fn limits(connections_max: usize) -> Limits {
        Limits { connections_max, ..Limits::default() }
    }

    #[test]
    fn places_follow_the_limit() {
        let live = LiveLimits::new(limits(2));
        let mut slots = Slots::new(&live);
        let (first, second) = (taken(&mut slots), taken(&mut slots));
        assert!(first.is_some() && second.is_some() && taken(&mut slots).is_none());
        live.replace(limits(3));
        let third = taken(&mut slots);
        assert!(third.is_some() && taken(&mut slots).is_none(), "raised by one");
        live.replace(limits(1));
        drop(first);
        drop(second);
        assert!(taken(&mut slots).is_none(), "the third connection is open still");
        drop(third);
        let fourth = taken(&mut slots);
        assert!(fourth.is_some() && taken(&mut slots).is_none());
    }

    #[tokio::test]
    async fn a_raised_limit_ends_the_wait_for_a_place() {
        let live = LiveLimits::new(limits(1));
        let mut slots = Slots::new(&live);
        let _first = slots.take().await;
        let raise = async { live.replace(limits(2)) };
        let (_second, ()) = tokio::join!(slots.take(), raise);
    }
}
