//! The writing side of an HTTP/1.1 connection: heads and bodies as bytes, and their way into the socket.
//!
//! Owns how a response is framed (RFC 9112, Message Body Length). What is sent when is decided in `h1.rs`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{Response, StatusCode, Version, response};
use http_body::SizeHint;

use super::body::forbidden_trailer;
use super::head::Reject;
use crate::date;
use crate::transport::WriteHalf;

/// Data up to this size is copied next to its neighbours instead of being queued on its own.
const COPY_BYTES_MAX: usize = 1 << 10;
const SLICES_MAX: usize = 32;

pub(super) struct Writer {
    half: WriteHalf,
    /// What has been encoded and not yet taken by the socket: `queue`, then `tail`.
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    pending: usize,
    unflushed: bool,
}

impl Writer {
    pub(super) fn new(half: WriteHalf) -> Self {
        Writer { half, queue: VecDeque::new(), tail: BytesMut::new(), pending: 0, unflushed: false }
    }

    /// Bytes the socket has not taken yet.
    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.pending += bytes.len();
    }

    fn put_bytes(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            return self.put(&bytes);
        }
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
        self.pending += bytes.len();
        self.queue.push_back(bytes);
    }

    /// An interim response: a head alone.
    pub(super) fn interim(&mut self, head: &Response<()>) {
        self.status_line(head.status());
        for (name, value) in head.headers() {
            if !is_framing(name) {
                self.field(name, value);
            }
        }
        self.put(b"\r\n");
    }

    /// The head of a final response. `Connection` and framing are ours, everything else is the service's.
    pub(super) fn head(&mut self, head: &response::Parts, coding: &Coding, persistence: Persistence) {
        self.status_line(head.status);
        for (name, value) in &head.headers {
            if !is_framing(name) {
                self.field(name, value);
            }
        }
        if !head.headers.contains_key(DATE) {
            self.field(&DATE, &date::now());
        }
        match coding {
            Coding::None { length: Some(length) } | Coding::Length(length) => {
                self.field(&CONTENT_LENGTH, &HeaderValue::from(*length));
            }
            Coding::Chunked => self.field(&TRANSFER_ENCODING, &HeaderValue::from_static("chunked")),
            Coding::None { length: None } | Coding::Close => {}
        }
        match persistence {
            Persistence::Default => {}
            Persistence::KeepAlive => self.field(&CONNECTION, &HeaderValue::from_static("keep-alive")),
            Persistence::Close => self.field(&CONNECTION, &HeaderValue::from_static("close")),
        }
        self.put(b"\r\n");
    }

    /// The connection's own answer to what no service will see, or has failed on.
    pub(super) fn problem(&mut self, reject: Reject) {
        let (status, body) = reject.problem();
        self.status_line(status);
        self.put(b"Content-Type: application/problem+json\r\n");
        self.field(&DATE, &date::now());
        self.put(format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).as_bytes());
        self.put(body.as_bytes());
    }

    /// A piece of the content, as `coding` wants it.
    pub(super) fn data(&mut self, coding: &mut Coding, mut data: Bytes) -> Result<(), Overrun> {
        match coding {
            _ if data.is_empty() => {}
            Coding::None { .. } => {}
            Coding::Length(left) => {
                let over = usize::try_from(*left).is_ok_and(|left| left < data.len());
                if over {
                    data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                }
                *left -= data.len() as u64;
                self.put_bytes(data);
                if over {
                    return Err(Overrun);
                }
            }
            Coding::Chunked => {
                self.put(format!("{:x}\r\n", data.len()).as_bytes());
                self.put_bytes(data);
                self.put(b"\r\n");
            }
            Coding::Close => self.put_bytes(data),
        }
        Ok(())
    }

    /// The end of the content. False if less came than was announced.
    pub(super) fn end(&mut self, coding: &Coding, trailers: Option<&HeaderMap>) -> bool {
        if matches!(coding, Coding::Chunked) {
            self.put(b"0\r\n");
            for (name, value) in trailers.into_iter().flatten() {
                if !forbidden_trailer(name.as_str()) {
                    self.field(name, value);
                }
            }
            self.put(b"\r\n");
        }
        !matches!(coding, Coding::Length(left) if *left > 0)
    }

    fn status_line(&mut self, status: StatusCode) {
        let reason = match status.as_u16() {
            // Two that the crate of names does not know.
            104 => "Upload Resumption Supported",
            460 => "Checksum Mismatch",
            _ => status.canonical_reason().unwrap_or_default(),
        };
        self.put(b"HTTP/1.1 ");
        self.put(status.as_str().as_bytes());
        self.put(b" ");
        self.put(reason.as_bytes());
        self.put(b"\r\n");
    }

    /// Names go out capitalised: some old clients compare them as they are spelled in the RFCs.
    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        let start = self.tail.len();
        self.put(name.as_str().as_bytes());
        let mut first = true;
        for byte in &mut self.tail[start..] {
            if first {
                byte.make_ascii_uppercase();
            }
            first = *byte == b'-';
        }
        self.put(b": ");
        self.put(value.as_bytes());
        self.put(b"\r\n");
    }

    /// Hands everything to the socket.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pending > 0 {
            ready!(self.poll_write(cx))?;
        }
        if self.unflushed {
            ready!(self.half.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let empty: &[u8] = &[];
        let mut slices = [IoSlice::new(empty); SLICES_MAX];
        let tail = (!self.tail.is_empty() && self.queue.len() < SLICES_MAX).then_some(&self.tail[..]);
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(self.queue.iter().map(|bytes| &bytes[..]).chain(tail)) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        let written = ready!(self.half.poll_write(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.pending -= written;
        self.advance(written);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        use bytes::Buf;
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.queue.pop_front();
        }
        self.tail.advance(written);
    }

    /// Gives memory back between requests.
    pub(super) fn rest(&mut self) {
        if self.tail.is_empty() {
            self.tail = BytesMut::new();
        }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.half.poll_shutdown(cx)).await
    }

    pub(super) fn cut(self) {
        self.half.cut();
    }
}

/// The service's body is longer than it said.
#[derive(Debug)]
pub(super) struct Overrun;

/// What the `Connection` field of a response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// Nothing: HTTP/1.1 stays open.
    Default,
    /// HTTP/1.0 stays open.
    KeepAlive,
    Close,
}

/// How the content of a response is delimited.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// There is none; `length` is what the answer to a HEAD or a 304 says about the content it leaves out.
    None {
        length: Option<u64>,
    },
    /// So many bytes are left.
    Length(u64),
    Chunked,
    /// The end of the connection is the end of the content: HTTP/1.0 with an unknown length.
    Close,
}

impl Coding {
    pub(super) fn choose(version: Version, is_head: bool, head: &response::Parts, hint: &SizeHint) -> Self {
        let stated = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = hint.exact();
        if head.status == StatusCode::NO_CONTENT {
            return Coding::None { length: None };
        }
        if is_head || head.status == StatusCode::NOT_MODIFIED {
            // An empty body stands for "left out", not for "empty".
            return Coding::None { length: stated.or(length.filter(|length| *length > 0)) };
        }
        match length.or(stated) {
            Some(length) => Coding::Length(length),
            None if version == Version::HTTP_11 => Coding::Chunked,
            None => Coding::Close,
        }
    }

    pub(super) fn has_content(&self) -> bool {
        !matches!(self, Coding::None { .. })
    }
}

/// Fields that belong to the connection: a service cannot know their right values.
fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH
        || *name == TRANSFER_ENCODING
        || *name == CONNECTION
        || *name == UPGRADE
        || *name == TE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
