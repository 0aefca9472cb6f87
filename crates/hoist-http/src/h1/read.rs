//! The receiving side of an HTTP/1.1 connection: from the socket to heads and frames.
//!
//! Owns the read buffer. A request's content takes the reader along, and the connection takes it back when the response
//! is complete.

use std::future::poll_fn;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use tokio::time::{Instant, timeout_at};

use super::body::{Decoded, Framing};
use super::head::{Head, Heads};
use crate::body::{BodyError, PollFrame};
use crate::buffers::Buffers;
use crate::content::Receiver;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::rejection::Rejection;
use crate::transport::ReadHalf;

/// The size of the first read buffer: enough for any common head.
const READ_BYTES_MIN: usize = 8 << 10;

/// The most room for content whose length is known, before the peer has shown how much it sends at once.
const FIRST_BYTES_MAX: usize = 32 << 10;

pub(super) struct Reader {
    half: ReadHalf,
    buf: BytesMut,
    heads: Heads,
    /// The framing of the content of the request that was parsed last.
    pub(super) framing: Framing,
    /// The size of the next read. Follows the bytes that the peer sends at once.
    read_bytes: usize,
    buffers: Arc<Buffers>,
    limits: Arc<Limits>,
}

impl Reader {
    pub(super) fn new(half: ReadHalf, first: BytesMut, buffers: Arc<Buffers>, limits: &Arc<Limits>) -> Self {
        Reader {
            half,
            buf: first,
            heads: Heads::default(),
            framing: Framing::Done,
            read_bytes: READ_BYTES_MIN,
            buffers,
            limits: Arc::clone(limits),
        }
    }

    /// Takes the next head from the bytes that have been read. `None` if it is incomplete.
    pub(super) fn buffered_head(&mut self) -> Result<Option<Head>, Rejection> {
        self.heads.next(&mut self.buf, &self.limits)
    }

    /// Returns the bytes known to be left on the wire; `None` for the chunked coding.
    pub(super) fn left(&self) -> Option<u64> {
        self.framing.left().map(|left| left.saturating_sub(self.buf.len() as u64))
    }

    /// Reads from the socket and returns the number of bytes; zero means that the peer has finished sending. If
    /// `only_arrived`, asks the kernel, so that pending means that no bytes have arrived.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, only_arrived: bool) -> Poll<io::Result<usize>> {
        // The buffer is allocated only when there is something to read, so that idle connections hold none.
        if self.buf.is_empty() && !only_arrived {
            let readable = self.half.poll_readable(cx);
            if readable.is_pending() {
                self.give_back();
            }
            ready!(readable)?;
        }
        let mut bytes = self.unshared();
        let spare = bytes.capacity() - bytes.len();
        let polled = self.half.poll_read(cx, &mut bytes, only_arrived);
        if bytes.is_empty() {
            self.buffers.give_back(bytes);
        } else {
            self.buf = Bytes::from(bytes).into();
        }
        let read = ready!(polled)?;
        if read == spare && self.framing != Framing::Done {
            self.read_bytes = (self.read_bytes * 2).min(self.limits.read_bytes_max.max(READ_BYTES_MIN));
        } else if read < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
        Poll::Ready(Ok(read))
    }

    /// Gives an empty buffer back, so that a peer that pauses holds none.
    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.buf).freeze();
        if bytes.is_unique() {
            self.buffers.give_back(bytes.into());
        }
    }

    /// Takes the buffer, with room for a read. As a `Vec`, because the system may fill its spare capacity.
    fn unshared(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.buf).freeze();
        // The content of a small request is read at once.
        let left = usize::try_from(self.framing.left().unwrap_or(0)).unwrap_or(usize::MAX);
        let room = self.read_bytes.max(2 * bytes.len()).max(left.min(FIRST_BYTES_MAX));
        // If it is shared, the consumer still holds it, and at most a head or a part of a line is left to copy.
        let same = if bytes.is_unique() { Vec::from(bytes) } else { bytes.to_vec() };
        if same.capacity() - same.len() >= room / 2 {
            return same;
        }
        let mut larger = self.buffers.take(room);
        larger.extend_from_slice(&same);
        larger
    }

    /// Frees memory between requests.
    pub(super) fn release_memory(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
            self.read_bytes = READ_BYTES_MIN;
        }
    }

    /// Reads until the peer has closed its side: closing ours earlier could reset the connection and destroy the
    /// response before the peer has read it.
    ///
    /// Stops reading after [`Limits::drain_bytes_max`], which stalls a peer that keeps sending, and waits for the rest
    /// of the time so that it can notice the response.
    pub(super) async fn linger(&mut self, until: Instant) {
        let mut bytes_left = self.limits.drain_bytes_max;
        loop {
            self.buf.clear();
            match timeout_at(until, poll_fn(|cx| self.poll_fill(cx, false))).await {
                Ok(Ok(read)) if read > 0 => match bytes_left.checked_sub(read as u64) {
                    Some(left) => bytes_left = left,
                    None => break,
                },
                _ => return,
            }
        }
        self.buf = BytesMut::new();
        let _ = timeout_at(until, self.half.failed()).await;
    }
}

impl Receiver for Reader {
    fn poll_frame(&mut self, cx: &mut Context<'_>, pace: &mut Pace, only_arrived: bool) -> PollFrame {
        loop {
            match self.framing.decode(&mut self.buf, &self.limits) {
                Ok(Decoded::Data(data)) => {
                    pace.pause();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Decoded::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More) => {}
                Err(reason) => return Poll::Ready(Some(Err(BodyError::Malformed(reason)))),
            }
            match self.poll_fill(cx, only_arrived) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Some(Err(BodyError::Disconnected))),
                Poll::Ready(Ok(bytes)) => pace.arrived(bytes),
                Poll::Pending if only_arrived => return Poll::Ready(Some(Err(BodyError::Aborted))),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.framing == Framing::Done
    }

    fn can_splice(&self) -> bool {
        self.half.can_splice()
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pace: &mut Pace,
        pipe: BorrowedFd<'_>,
        bytes_max: usize,
    ) -> Poll<Option<NonZeroUsize>> {
        let Framing::Length(left) = self.framing else { return Poll::Ready(None) };
        if !self.buf.is_empty() {
            return Poll::Ready(None);
        }
        let bytes_max = usize::try_from(left).map_or(bytes_max, |left| left.min(bytes_max));
        // The next read finds out what an error or an end means.
        let polled = self.half.poll_splice(cx, pipe, bytes_max);
        if polled.is_pending() {
            self.give_back();
        }
        let moved = ready!(polled).ok().and_then(NonZeroUsize::new);
        if let Some(moved) = moved {
            self.framing = Framing::length(left - moved.get() as u64);
            pace.arrived(moved.get());
        }
        Poll::Ready(moved)
    }

    fn has_arrived(&self) -> bool {
        !self.buf.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::accepted::Accepted;
    use crate::shared_socket::SharedSocket;
    use crate::transport::{StagedSocket, Stream};

    #[tokio::test]
    async fn a_peer_that_pauses_holds_no_buffer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = Accepted::Tcp(listener.accept().await.unwrap().0);
        let (half, _write) =
            Stream::Plain(StagedSocket::new(SharedSocket::new(accepted), Arc::default())).into_split();
        let (limits, buffers) = (Arc::new(Limits::default()), Arc::<Buffers>::default());
        let mut reader = Reader::new(half, BytesMut::new(), buffers, &limits);
        reader.framing = Framing::length(1 << 30);
        let mut pace = Pace::new(&limits);
        for bytes in [5, 300_000, 5] {
            client.write_all(&vec![7; bytes]).await.unwrap();
            let mut got = 0;
            while got < bytes {
                let frame = poll_fn(|cx| reader.poll_frame(cx, &mut pace, false)).await.unwrap().unwrap();
                got += frame.data_ref().unwrap().len();
            }
            let paused =
                poll_fn(|cx| Poll::Ready(reader.poll_frame(cx, &mut pace, false).is_pending())).await;
            assert!(paused);
            assert_eq!(reader.buf.capacity(), 0, "after {bytes} bytes");
        }
    }
}
