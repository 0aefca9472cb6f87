//! [`Limits`]: the bounds on everything that a peer can make the server hold or wait for.
//!
//! Owns the numbers and their defaults, and replacing them while servers run. The code that each one bounds enforces it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Bounds on the resources that peers may use. The defaults suit an upload server on the open internet.
///
/// Times that bound a request body count only while the server *waits* for the peer, so that a slow service is never
/// mistaken for a slow peer.
///
/// ```
/// use std::time::Duration;
/// let limits = hoist_http::Limits { body_idle: Duration::from_secs(20), ..Default::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once. Further ones wait in the kernel's queue. Default 16,384.
    pub connections_max: usize,
    /// Bytes of one request head: request line and fields (HTTP/2: the decoded header list). A longer one is answered
    /// with 431, or with 414 if the request line alone is longer. Default 64 KiB.
    pub head_bytes_max: usize,
    /// Fields in one HTTP/1.1 request head, or in one trailer section. More are answered with 431. Default 100.
    pub fields_max: usize,
    /// Time from the first byte of a request head to its last one; for the first head, from accepting the connection.
    /// Also the time for a TLS or HTTP/2 handshake. A slower head is answered with 408. Default 30 s.
    pub head_time: Duration,
    /// Time a connection may stay open without a request. Default 75 s.
    pub idle_time: Duration,
    /// Time without one byte of a request body while the service waits for it. Default 60 s.
    pub body_idle: Duration,
    /// The minimum rate of a request body, in bytes per second of waiting, as a mean over
    /// [`body_rate_window`](Self::body_rate_window). Zero turns it off. Default 100.
    pub body_rate_min: u64,
    /// Time of waiting over which [`body_rate_min`](Self::body_rate_min) is measured. Default 60 s. Zero turns the minimum
    /// rate off.
    pub body_rate_window: Duration,
    /// Time without the peer taking one byte of a response. Interim responses do not count, because a client may send
    /// its whole request before it reads. Default 60 s.
    pub write_idle: Duration,
    /// Bytes of an unread request body that are read and discarded after the response, so that the peer can read the
    /// response and the connection may be used again. Default 256 KiB.
    pub drain_bytes_max: u64,
    /// Time for discarding an unread request body, and for closing a connection in order. Default 2 s.
    pub drain_time: Duration,
    /// Bytes of one chunk-size line of the chunked coding, extensions included. Default 1 KiB.
    pub chunk_line_bytes_max: usize,
    /// Bytes of all chunk extensions of one body together. Default 16 KiB.
    pub chunk_extension_bytes_max: u64,
    /// Bytes of one trailer section. Default 16 KiB.
    pub trailer_bytes_max: usize,
    /// Bytes of the largest read buffer of one HTTP/1.1 connection. Buffers start small, grow to this while a body
    /// arrives fast, and are freed when the connection is idle. Default 256 KiB.
    pub read_bytes_max: usize,
    /// Interim responses queued for one request. All progress counts as one. Default 16.
    pub interims_max: usize,
    /// Streams open at once on one HTTP/2 connection. Default 256.
    pub h2_streams_max: u32,
    /// Bytes that one HTTP/2 stream may at first have in flight before the service has consumed them. Grows up to
    /// [`h2_stream_window_bytes_max`](Self::h2_stream_window_bytes_max) while a stream uses half of it in one round trip
    /// and the service keeps up: twofold, or to what the link needs at once if a round trip takes 20 ms or more. A
    /// `Content-Length` that needs more lets it grow over such a link before half is used. Default 1 MiB.
    pub h2_stream_window_bytes: u32,
    /// The most bytes that one HTTP/2 stream may have in flight, which bounds the throughput per round trip. Default
    /// 16 MiB.
    pub h2_stream_window_bytes_max: u32,
    /// Bytes that all streams of one HTTP/2 connection together may at first have in flight. Grows to hold the windows of
    /// all streams, within [`h2_windows_bytes_max`](Self::h2_windows_bytes_max). Default 2 MiB.
    pub h2_connection_window_bytes: u32,
    /// Bytes of the windows of all HTTP/2 connections of the server together. When they are used up, windows grow no
    /// more, and new connections get the smallest window that the protocol allows, 64 KiB. Default 64 MiB.
    pub h2_windows_bytes_max: u64,
    /// Time between pings on an HTTP/2 connection. A connection on which no bytes arrive within the same time after a
    /// ping is closed. Default 30 s.
    pub h2_ping_interval: Duration,
    /// Time that a graceful shutdown waits for requests in flight before it ends them. Default 30 s.
    pub drain_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 16_384,
            head_bytes_max: 64 << 10,
            fields_max: 100,
            head_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
            body_idle: Duration::from_mins(1),
            body_rate_min: 100,
            body_rate_window: Duration::from_mins(1),
            write_idle: Duration::from_mins(1),
            drain_bytes_max: 256 << 10,
            drain_time: Duration::from_secs(2),
            chunk_line_bytes_max: 1 << 10,
            chunk_extension_bytes_max: 16 << 10,
            trailer_bytes_max: 16 << 10,
            read_bytes_max: 256 << 10,
            interims_max: 16,
            h2_streams_max: 256,
            h2_stream_window_bytes: 1 << 20,
            h2_stream_window_bytes_max: 16 << 20,
            h2_connection_window_bytes: 2 << 20,
            h2_windows_bytes_max: 64 << 20,
            h2_ping_interval: Duration::from_secs(30),
            drain_grace: Duration::from_secs(30),
        }
    }
}

/// Limits that can be replaced while servers use them. Clones share the limits.
///
/// A connection keeps the limits that it was accepted with. [`Limits::connections_max`] and [`Limits::drain_grace`] apply
/// at once; no open connection is closed for them. [`Limits::h2_windows_bytes_max`] is read when a server starts.
#[derive(Clone, Debug, Default)]
pub struct LiveLimits(Arc<watch::Sender<Arc<Limits>>>);

impl LiveLimits {
    /// Returns a handle to limits that start as `limits`.
    pub fn new(limits: Limits) -> Self {
        LiveLimits(Arc::new(watch::Sender::new(Arc::new(limits))))
    }

    /// Replaces the limits.
    pub fn replace(&self, limits: Limits) {
        self.0.send_replace(Arc::new(limits));
    }

    /// Returns the present limits.
    pub fn current(&self) -> Arc<Limits> {
        Arc::clone(&self.0.borrow())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Limits>> {
        self.0.subscribe()
    }
}
