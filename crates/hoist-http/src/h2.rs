//! One HTTP/2 connection, on the `h2` crate: its streams, its windows, and its end.
//!
//! Owns what concerns the connection as a whole. One request is in `h2/stream.rs`, its content in `h2/body.rs`, the
//! byte stream beneath in `h2/io.rs`.

mod body;
mod io;
mod stream;
mod wakeups;
mod windows;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
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
pub(crate) use self::windows::Budget;
use self::windows::{Usage, Windows};
use crate::exchange::{SERVICE_PANICKED, poll_once};
use crate::limits::Limits;
use crate::service::{HttpBody, HttpService, Sender, yield_to_other_connections};
use crate::transport::Stream;

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
    let mut windows = Windows::new(&budget, &limits);
    let usage = Arc::clone(windows.usage());
    let monitor = Arc::new(IoMonitor::default());
    let io = Io::new(stream, first.freeze(), Arc::clone(&monitor));
    let handshake = Builder::new()
        .initial_connection_window_size(windows.connection())
        .initial_window_size(windows.stream())
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
    let mut silent = pin!(ping(pings, &monitor, &usage, limits.h2_ping_interval));
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
                fit(&mut windows, &mut connection, streams.len());
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
                        Arc::clone(&usage),
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
                    fit(&mut windows, &mut connection, streams.len());
                }
                Some(Err(error)) => {
                    tracing::debug!(peer = %peer, %error, "HTTP/2 connection failed");
                    break;
                }
                None => break,
            },
            () = usage.growth_wanted() => grow(&mut windows, &mut connection, streams.len()),
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
        monitor.wakeups().hold_while(|| {
            let polled = connection.poll_accept(cx);
            if polled.is_pending() && monitor.release_end() {
                return connection.poll_accept(cx);
            }
            polled
        })
    })
    .await
}

fn calm_down(connection: &mut Connection<Io, Bytes>, peer: Sender) {
    tracing::warn!(peer = %peer, "too many streams were reset by the peer");
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
}

/// Fits the connection's window to the number of its streams.
fn fit(windows: &mut Windows, connection: &mut Connection<Io, Bytes>, streams: usize) {
    if let Some(bytes) = windows.fit(streams) {
        connection.set_target_window_size(bytes);
    }
}

/// Grows the windows of the connection and its streams, if the budget allows it.
fn grow(windows: &mut Windows, connection: &mut Connection<Io, Bytes>, streams: usize) {
    let Some(stream) = windows.grow(streams) else { return };
    connection.set_target_window_size(windows.connection());
    // An error means that the peer has not acknowledged the last window. A stream that uses it asks again.
    if connection.set_initial_window_size(stream).is_ok() {
        windows.stream_has_grown(stream);
    }
}

/// Pings the peer after every interval in which it sent nothing, and whenever a stream wants to know the round trip.
/// Returns when the peer has sent nothing for two intervals although it was pinged.
///
/// Any byte counts: on a slow link a pong may be queued behind content for minutes.
async fn ping(pings: Option<PingPong>, monitor: &IoMonitor, usage: &Usage, interval: Duration) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        let mut reads = monitor.reads();
        tokio::select! {
            () = sleep(interval) => {
                if monitor.reads() != reads {
                    continue;
                }
            }
            () = usage.measurement_wanted() => {}
        }
        // h2 allows one ping at a time, so the next one waits for this pong.
        let pinged = Instant::now();
        let mut pong = pin!(pings.ping(Ping::opaque()));
        loop {
            match timeout(interval, pong.as_mut()).await {
                Ok(Ok(_)) => {
                    usage.measured(pinged.elapsed());
                    break;
                }
                // The connection has failed, and `accept` reports the error.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) if monitor.reads() == reads => return,
                Err(_) => reads = monitor.reads(),
            }
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
