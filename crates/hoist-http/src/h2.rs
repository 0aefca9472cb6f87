//! One HTTP/2 connection, on the `h2` crate: its streams, its windows, and its end.
//!
//! Owns what concerns the connection as a whole. One request is in `h2/stream.rs`, its content in `h2/body.rs`,
//! the byte stream beneath in `h2/io.rs`.

mod body;
mod io;
mod stream;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use ::h2::server::{Builder, Connection};
use ::h2::{Ping, PingPong, Reason};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub(crate) use self::body::Incoming;
use self::io::{Gate, Io};
use self::stream::{Exchange, Outcome};
use crate::serve::{HttpBody, HttpService, let_others_pass};
use crate::transport::Stream;
use crate::{Limits, Peer};

/// The windows the protocol allows a connection, and the smallest one of a stream that makes sense.
const CONNECTION_WINDOW_MIN: u32 = 65_535;
const CONNECTION_WINDOW_MAX: u32 = (1 << 31) - 1;
const STREAM_WINDOW_MIN: u32 = 16 << 10;
const FRAME_BYTES_MAX: u32 = 64 << 10;
const SEND_BYTES_MAX: usize = 256 << 10;

/// Serves one connection to its end. `first` was read to find out which HTTP it speaks.
///
/// # Cancellation
/// Dropping the future cuts the connection; bodies in use elsewhere end with an error.
pub(crate) async fn serve<S, B>(
    stream: Stream,
    first: BytesMut,
    peer: Peer,
    limits: Arc<Limits>,
    budget: Budget,
    service: S,
    drain: CancellationToken,
) where
    S: HttpService<B>,
    B: HttpBody,
{
    let mut windows =
        Windows::new(budget.take(limits.h2_connection_window_bytes), limits.h2_stream_window_bytes);
    let gate = Arc::new(Gate::default());
    let io = Io::new(stream, first.freeze(), Arc::clone(&gate));
    let handshake = Builder::new()
        .initial_connection_window_size(windows.lease.bytes)
        .initial_window_size(windows.stream)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.h2_streams_max)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .handshake::<_, Bytes>(io);
    let mut connection = match timeout(limits.head_time, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(peer = %peer.addr, %error, "no h2 connection came about"),
        Err(_) => return tracing::debug!(peer = %peer.addr, "no h2 connection came about in time"),
    };
    let pings = connection.ping_pong();
    let mut silent = pin!(silence(pings, Arc::clone(&gate), limits.h2_ping_interval));
    let mut streams = JoinSet::new();
    let mut resets = Resets::new();
    let mut leaving = false;
    let mut idle_until = Instant::now() + limits.idle_time;
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled(), if !leaving => {
                leaving = true;
                // A peer that has gone silent does not even acknowledge that we leave.
                idle_until = Instant::now() + limits.drain_time;
                connection.graceful_shutdown();
            }
            Some(ended) = streams.join_next() => {
                match ended {
                    Ok(Outcome::Reset) if resets.too_many() => calm_down(&mut connection, peer),
                    Err(error) if error.is_panic() => tracing::error!(%error, "{PANICKED}"),
                    Ok(_) | Err(_) => {}
                }
                windows.fit(&mut connection, streams.len());
                idle_until = Instant::now() + if leaving { limits.drain_time } else { limits.idle_time };
            }
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let_others_pass(request.method()).await;
                    let exchange = Exchange::new(respond, peer, &limits, &gate);
                    let mut exchange = Box::pin(exchange.run(request, service.clone()));
                    match begin(exchange.as_mut()).await {
                        Poll::Pending => drop(streams.spawn(exchange)),
                        Poll::Ready(Outcome::Reset) if resets.too_many() => calm_down(&mut connection, peer),
                        Poll::Ready(_) if !leaving => idle_until = Instant::now() + limits.idle_time,
                        Poll::Ready(_) => {}
                    }
                    windows.fit(&mut connection, streams.len());
                }
                Some(Err(error)) => {
                    tracing::debug!(peer = %peer.addr, %error, "h2 connection ended");
                    break;
                }
                None => break,
            },
            () = &mut silent => {
                tracing::debug!(peer = %peer.addr, "h2 peer is silent");
                break;
            }
            () = sleep_until(idle_until), if streams.is_empty() => {
                if leaving {
                    break;
                }
                leaving = true;
                idle_until = Instant::now() + limits.drain_time;
                connection.graceful_shutdown();
            }
        }
    }
    // The streams notice by themselves. Aborting them would take from bodies in use elsewhere what arrived.
    drop(connection);
    let rest = async { while streams.join_next().await.is_some() {} };
    if timeout(limits.drain_time, rest).await.is_err() {
        streams.shutdown().await;
    }
}

const PANICKED: &str = "a service panicked, its stream is reset";

fn calm_down(connection: &mut Connection<Io, Bytes>, peer: Peer) {
    tracing::warn!(peer = %peer.addr, "too many streams were reset by the peer");
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
}

/// Runs an exchange up to where it first waits.
///
/// Done by the connection for each request in turn, so that the service sees them in the order in which they arrived.
/// Tasks of their own begin in any order.
async fn begin(mut exchange: Pin<&mut (impl Future<Output = Outcome> + Send)>) -> Poll<Outcome> {
    // Without a bound on the work, because tasks that have used theirs up wait before they have begun.
    let first = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(cx)));
        Poll::Ready(polled.unwrap_or_else(|_| {
            tracing::error!("{PANICKED}");
            Poll::Ready(Outcome::Ended)
        }))
    });
    unconstrained(first).await
}

/// Returns when the peer has sent nothing for two intervals although it was pinged.
///
/// Any byte is a sign of life: a pong may be queued for minutes behind the content a slow link carries.
async fn silence(pings: Option<PingPong>, gate: Arc<Gate>, interval: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    let mut reads = gate.reads();
    loop {
        sleep(interval).await;
        if gate.reads() == reads {
            match timeout(interval, pings.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                // The connection has failed, and `accept` says how.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) if gate.reads() == reads => return,
                Err(_) => {
                    // The pong is still due; h2 allows one ping at a time.
                    let pong = std::future::poll_fn(|cx| pings.poll_pong(cx));
                    if !await_alive(pong, &gate, interval).await {
                        return;
                    }
                }
            }
        }
        reads = gate.reads();
    }
}

/// Waits for a pong for as long as anything else arrives. False when nothing does.
async fn await_alive<T>(pong: impl Future<Output = T>, gate: &Gate, interval: Duration) -> bool {
    let mut pong = pin!(pong);
    loop {
        let reads = gate.reads();
        if timeout(interval, pong.as_mut()).await.is_ok() {
            return true;
        }
        if gate.reads() == reads {
            return false;
        }
    }
}

/// Lets the connection's window follow the number of streams, while the server's budget lasts, so that streams
/// whose services do not read cannot use up what the others need.
///
/// Windows of streams stay as they are: to shrink them under way is legal, but clients on h2 0.4 were seen to stall over it.
struct Windows {
    lease: Lease,
    base: u32,
    stream: u32,
}

impl Windows {
    fn new(lease: Lease, stream: u32) -> Self {
        let base = lease.bytes;
        Windows { lease, base, stream: stream.clamp(STREAM_WINDOW_MIN, base) }
    }

    fn fit(&mut self, connection: &mut Connection<Io, Bytes>, streams: usize) {
        let streams = u32::try_from(streams).unwrap_or(u32::MAX).saturating_add(1);
        let wished = streams.saturating_mul(self.stream).clamp(self.base, CONNECTION_WINDOW_MAX);
        // Shrunk again only when few are left, so that it does not flap.
        if wished > self.lease.bytes && self.lease.grow(wished)
            || streams <= 2 && self.lease.shrink(self.base)
        {
            connection.set_target_window_size(self.lease.bytes);
        }
    }
}

/// Counts streams the peer opens only to reset them (CVE-2023-44487): a burst may be, a habit may not.
struct Resets {
    level: f64,
    at: Instant,
}

impl Resets {
    const BURST: f64 = 1000.0;
    const PER_SECOND: f64 = 50.0;

    fn new() -> Self {
        Resets { level: 0.0, at: Instant::now() }
    }

    fn too_many(&mut self) -> bool {
        let now = Instant::now();
        let forgiven = (now - self.at).as_secs_f64() * Self::PER_SECOND;
        self.level = (self.level - forgiven).max(0.0) + 1.0;
        self.at = now;
        self.level > Self::BURST
    }
}

/// The memory all h2 connections may promise to their peers together.
#[derive(Clone)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        Budget(Arc::new(AtomicU64::new(bytes)))
    }

    /// A window for one connection: as large as wished, or what is left, but never less than the protocol's.
    fn take(&self, wished: u32) -> Lease {
        let bytes = self.reserve(|left| left.min(u64::from(wished)));
        Lease {
            bytes: bytes.clamp(CONNECTION_WINDOW_MIN, CONNECTION_WINDOW_MAX),
            budget: self.clone(),
            taken: bytes,
        }
    }

    /// Takes what `part` says of what is left.
    fn reserve(&self, part: impl Fn(u64) -> u64) -> u32 {
        let mut taken = 0;
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            taken = part(left);
            left.checked_sub(taken)
        });
        u32::try_from(taken).expect("no more than a window is taken at once")
    }
}

/// One connection's part of the budget.
struct Lease {
    bytes: u32,
    taken: u32,
    budget: Budget,
}

impl Lease {
    /// Grows to `wished` if that is at most half of what is left for everybody. False if nothing changed.
    fn grow(&mut self, wished: u32) -> bool {
        let more = wished.saturating_sub(self.bytes);
        let taken = self.budget.reserve(|left| if left / 2 >= u64::from(more) { u64::from(more) } else { 0 });
        self.bytes += taken;
        self.taken += taken;
        taken > 0
    }

    /// Gives back what is beyond `bytes`. False if nothing changed.
    fn shrink(&mut self, bytes: u32) -> bool {
        let excess = self.bytes.saturating_sub(bytes).min(self.taken);
        self.bytes -= excess;
        self.taken -= excess;
        self.budget.0.fetch_add(u64::from(excess), Ordering::Relaxed);
        excess > 0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.0.fetch_add(u64::from(self.taken), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Budget::new(5 << 20);
        let first = budget.take(4 << 20);
        let second = budget.take(4 << 20);
        let third = budget.take(4 << 20);
        assert_eq!([first.bytes, second.bytes, third.bytes], [4 << 20, 1 << 20, CONNECTION_WINDOW_MIN]);
        drop(first);
        assert_eq!(budget.take(8 << 20).bytes, 4 << 20);
        let mut lease = budget.take(1 << 20);
        assert!(lease.grow(2 << 20) && !lease.grow(4 << 20) && lease.bytes == 2 << 20);
        assert!(lease.shrink(1 << 20) && !lease.shrink(1 << 20) && lease.bytes == 1 << 20);
        drop(lease);
        assert_eq!(budget.0.load(Ordering::Relaxed), 4 << 20);
    }
}
