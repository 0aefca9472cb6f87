//! One HTTP/2 connection, on the `h2` crate: its streams, its windows, and its end.
//!
//! Owns what concerns the connection as a whole. One request is in `h2/stream.rs`, its content in `h2/body.rs`, the
//! byte stream beneath in `h2/io.rs`.

mod body;
mod io;
mod stream;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use ::h2::server::{Builder, Connection, SendResponse};
use ::h2::{Ping, PingPong, Reason, RecvStream};
use bytes::{Bytes, BytesMut};
use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::io::{Io, IoMonitor};
use self::stream::Outcome;
use crate::exchange::{SERVICE_PANICKED, poll_once};
use crate::limits::Limits;
use crate::service::{HttpBody, HttpService, Sender, yield_to_other_connections};
use crate::transport::Stream;

/// The smallest and the largest connection window that the protocol allows.
const CONNECTION_WINDOW_MIN: u32 = 65_535;
const CONNECTION_WINDOW_MAX: u32 = (1 << 31) - 1;

/// The smallest useful window of a stream.
const STREAM_WINDOW_MIN: u32 = 16 << 10;

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

const FRAME_BYTES_MAX: u32 = 64 << 10;
const SEND_BYTES_MAX: usize = 256 << 10;

/// Serves one connection to its end. `first` holds the bytes that were read to detect the version of HTTP.
///
/// # Cancellation
/// Dropping the future closes the connection; bodies in use elsewhere end with an error.
pub(crate) async fn serve<S, B>(
    stream: Stream,
    first: BytesMut,
    peer: Sender,
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
    let monitor = Arc::new(IoMonitor::default());
    let io = Io::new(stream, first.freeze(), Arc::clone(&monitor));
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
        Ok(Err(error)) => return tracing::debug!(peer = %peer, %error, "HTTP/2 handshake failed"),
        Err(_) => return tracing::debug!(peer = %peer, "HTTP/2 handshake timed out"),
    };
    monitor.withhold_end();
    let pings = connection.ping_pong();
    let mut silent = pin!(await_silence(pings, &monitor, limits.h2_ping_interval));
    let mut streams = JoinSet::new();
    let streams_max = 2 * limits.h2_streams_max as usize;
    let mut resets = Resets::new();
    let mut is_draining = false;
    let mut idle_until = Instant::now() + limits.idle_time;
    loop {
        tokio::select! {
            biased;
            () = drain.cancelled(), if !is_draining => {
                is_draining = true;
                // A silent peer does not acknowledge the GOAWAY.
                idle_until = Instant::now() + limits.drain_time;
                connection.graceful_shutdown();
            }
            Some(ended) = streams.join_next() => {
                match ended {
                    Ok(Outcome::Reset) if resets.too_many() => calm_down(&mut connection, peer),
                    Err(error) if error.is_panic() => tracing::error!(%error, "{SERVICE_PANICKED}"),
                    Ok(_) | Err(_) => {}
                }
                windows.fit(&mut connection, streams.len());
                idle_until = Instant::now() + if is_draining { limits.drain_time } else { limits.idle_time };
            }
            // Streams that the peer has reset no longer count for h2 while their services still read content.
            accepted = accept(&mut connection, &monitor), if streams.len() < streams_max => match accepted {
                Some(Ok((request, respond))) => {
                    yield_to_other_connections(request.method()).await;
                    let exchange = stream::serve(
                        request,
                        respond,
                        peer,
                        Arc::clone(&limits),
                        Arc::clone(&monitor),
                        service.clone(),
                    );
                    let mut exchange = Box::pin(exchange);
                    match poll_once(exchange.as_mut()).await {
                        Poll::Pending => drop(streams.spawn(exchange)),
                        Poll::Ready(Some(Outcome::Reset)) if resets.too_many() => {
                            calm_down(&mut connection, peer);
                        }
                        Poll::Ready(_) if !is_draining => idle_until = Instant::now() + limits.idle_time,
                        Poll::Ready(_) => {}
                    }
                    windows.fit(&mut connection, streams.len());
                }
                Some(Err(error)) => {
                    tracing::debug!(peer = %peer, %error, "HTTP/2 connection failed");
                    break;
                }
                None => break,
            },
            () = &mut silent => {
                tracing::debug!(peer = %peer, "HTTP/2 peer does not answer pings");
                break;
            }
            () = sleep_until(idle_until), if streams.is_empty() => {
                if is_draining {
                    break;
                }
                is_draining = true;
                idle_until = Instant::now() + limits.drain_time;
                connection.graceful_shutdown();
            }
        }
    }
    // Streams end by themselves. Aborting them would lose content that has arrived for bodies in use elsewhere.
    drop(connection);
    let rest = async { while streams.join_next().await.is_some() {} };
    if timeout(limits.drain_time, rest).await.is_err() {
        streams.shutdown().await;
    }
}

/// Accepts the next request. Returns `None` at the end of the connection, after all requests that have arrived.
async fn accept(
    connection: &mut Connection<Io, Bytes>,
    monitor: &IoMonitor,
) -> Option<Result<Accepted, ::h2::Error>> {
    poll_fn(|cx| {
        let polled = connection.poll_accept(cx);
        if polled.is_pending() && monitor.release_end() {
            return connection.poll_accept(cx);
        }
        polled
    })
    .await
}

fn calm_down(connection: &mut Connection<Io, Bytes>, peer: Sender) {
    tracing::warn!(peer = %peer, "too many streams were reset by the peer");
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
}

/// Returns when the peer has sent nothing for two intervals although it was pinged.
///
/// Any byte counts: on a slow link a pong may be queued behind content for minutes.
async fn await_silence(pings: Option<PingPong>, monitor: &IoMonitor, interval: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        let mut reads = monitor.reads();
        sleep(interval).await;
        if monitor.reads() != reads {
            continue;
        }
        // h2 allows one ping at a time, so the next one waits for this pong.
        let mut pong = pin!(pings.ping(Ping::opaque()));
        loop {
            match timeout(interval, pong.as_mut()).await {
                Ok(Ok(_)) => break,
                // The connection has failed, and `accept` reports the error.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) if monitor.reads() == reads => return,
                Err(_) => reads = monitor.reads(),
            }
        }
    }
}

/// The connection's window, which follows the number of streams within the server's budget, so that streams whose
/// services do not read cannot use up the window of the others.
///
/// The windows of streams do not change: shrinking them is legal, but made clients on h2 0.4 stall.
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
        // Shrinks only when few streams are left, so that the window does not flap.
        if wished > self.lease.bytes && self.lease.grow(wished)
            || streams <= 2 && self.lease.shrink(self.base)
        {
            connection.set_target_window_size(self.lease.bytes);
        }
    }
}

/// The rate at which the peer resets streams that it has just opened (CVE-2023-44487). A burst is allowed.
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

/// The bytes of the windows that all HTTP/2 connections together may grant to their peers.
#[derive(Clone)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        Budget(Arc::new(AtomicU64::new(bytes)))
    }

    /// Takes the window of one connection: `wished` bytes or what is left, but at least the protocol's minimum.
    fn take(&self, wished: u32) -> Lease {
        let bytes = self.reserve(|left| left.min(u64::from(wished)));
        Lease {
            bytes: bytes.clamp(CONNECTION_WINDOW_MIN, CONNECTION_WINDOW_MAX),
            budget: self.clone(),
            taken: bytes,
        }
    }

    /// Takes the part of the bytes left that `part` computes.
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
    /// Grows to `wished` if that takes at most half of what is left. Returns whether it has grown.
    fn grow(&mut self, wished: u32) -> bool {
        let more = wished.saturating_sub(self.bytes);
        let taken = self.budget.reserve(|left| if left / 2 >= u64::from(more) { u64::from(more) } else { 0 });
        self.bytes += taken;
        self.taken += taken;
        taken > 0
    }

    /// Gives back all but `bytes`. Returns whether it has shrunk.
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
