//! The sending side of an HTTP/1.1 connection: heads and bodies as bytes, and the buffer before the socket.
//!
//! Owns the framing of responses (RFC 9112, Message Body Length). The order of responses is the exchange's.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode, Version, response};
use http_body::SizeHint;

use super::fields::is_forbidden_trailer;
use crate::rejection::Rejection;
use crate::transport::WriteHalf;
use crate::{date, fields};

/// Data up to this size is copied next to its neighbours instead of being queued on its own.
const COPY_BYTES_MAX: usize = 1 << 10;

/// The room that is made for a head, which most heads fit into.
const HEAD_BYTES: usize = 512;

/// The most buffers that one system call writes.
const SLICES_MAX: usize = 32;

pub(super) struct Writer {
    pub(super) half: WriteHalf,
    /// The encoded bytes that the socket has not taken yet: `queue`, then `tail`.
    queue: VecDeque<Bytes>,
    tail: BytesMut,
    pending: usize,
    unflushed: bool,
}

impl Writer {
    pub(super) fn new(half: WriteHalf) -> Self {
        Writer { half, queue: VecDeque::new(), tail: BytesMut::new(), pending: 0, unflushed: false }
    }

    /// Returns the number of bytes that the socket has not taken yet.
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

    /// Encodes an interim response, which is a head without content.
    pub(super) fn interim(&mut self, head: &Response<()>) {
        self.status_and_fields(head.status(), head.headers());
        self.put(b"\r\n");
    }

    /// Encodes the head of a final response. `Connection` and framing come from the connection, all other fields from
    /// the service.
    pub(super) fn head(&mut self, head: &response::Parts, coding: &Coding, connection: Option<&'static str>) {
        self.status_and_fields(head.status, &head.headers);
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
        if let Some(option) = connection {
            self.field(&CONNECTION, &HeaderValue::from_static(option));
        }
        self.put(b"\r\n");
    }

    /// Encodes the connection's own response.
    pub(super) fn problem(&mut self, rejection: Rejection) {
        let (head, body) = rejection.response().into_parts();
        self.head(&head, &Coding::Length(body.len() as u64), Some("close"));
        self.put_bytes(body);
    }

    /// Encodes a piece of the content, up to the announced length. Returns false if the piece is longer.
    pub(super) fn data(&mut self, coding: &mut Coding, mut data: Bytes) -> bool {
        match coding {
            _ if data.is_empty() => {}
            Coding::None { .. } => {}
            Coding::Length(left) => {
                let fits = data.len() as u64 <= *left;
                data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= data.len() as u64;
                self.put_bytes(data);
                return fits;
            }
            Coding::Chunked => {
                self.put(format!("{:x}\r\n", data.len()).as_bytes());
                self.put_bytes(data);
                self.put(b"\r\n");
            }
            Coding::Close => self.put_bytes(data),
        }
        true
    }

    /// Encodes the end of the content. Returns false if less content came than was announced.
    pub(super) fn end(&mut self, coding: &Coding, trailers: Option<&HeaderMap>) -> bool {
        if matches!(coding, Coding::Chunked) {
            self.put(b"0\r\n");
            for (name, value) in trailers.into_iter().flatten() {
                if !is_forbidden_trailer(name.as_str()) {
                    self.field(name, value);
                }
            }
            self.put(b"\r\n");
        }
        !matches!(coding, Coding::Length(left) if *left > 0)
    }

    /// Encodes the status line, and the fields that do not belong to the connection.
    fn status_and_fields(&mut self, status: StatusCode, fields: &HeaderMap) {
        self.tail.reserve(HEAD_BYTES);
        let reason = match status.as_u16() {
            // The `http` crate does not know these two.
            104 => "Upload Resumption Supported",
            460 => "Checksum Mismatch",
            _ => status.canonical_reason().unwrap_or_default(),
        };
        for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
            self.put(part.as_bytes());
        }
        for (name, value) in fields.iter().filter(|(name, _)| !is_framing(name)) {
            self.field(name, value);
        }
    }

    /// Encodes a field. Names are capitalized, because some old clients compare them to the spelling of the RFCs.
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

    /// Writes all encoded bytes to the socket.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pending > 0 {
            ready!(self.poll_write(cx))?;
        }
        if self.unflushed {
            ready!(self.half.with(|half| half.poll_flush(cx)))?;
            self.unflushed = false;
        }
        // The next head may be hours away.
        self.tail = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = if self.queue.is_empty() {
            ready!(self.half.with(|half| half.poll_write(cx, &self.tail)))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let tail = (!self.tail.is_empty() && self.queue.len() < SLICES_MAX).then_some(&self.tail[..]);
            let mut count = 0;
            for (slice, bytes) in slices.iter_mut().zip(self.queue.iter().map(|bytes| &bytes[..]).chain(tail))
            {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
            ready!(self.half.with(|half| half.poll_write_vectored(cx, &slices[..count])))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.pending -= written;
        while let Some(front) = self.queue.front_mut() {
            if written < front.len() {
                front.advance(written);
                return Poll::Ready(Ok(()));
            }
            written -= front.len();
            self.queue.pop_front();
        }
        self.tail.advance(written);
        Poll::Ready(Ok(()))
    }

    /// Writes all encoded bytes, and closes the sending direction.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await?;
        poll_fn(|cx| self.half.with(|half| half.poll_shutdown(cx))).await
    }
}

/// The framing of a response's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// No content. `length` is the `Content-Length` of the content that a response to HEAD, or a 304, leaves out.
    None {
        length: Option<u64>,
    },
    /// The number of bytes that are left.
    Length(u64),
    Chunked,
    /// The content ends with the connection: HTTP/1.0 with an unknown length.
    Close,
}

impl Coding {
    pub(super) fn choose(version: Version, is_head: bool, head: &response::Parts, hint: &SizeHint) -> Self {
        let stated = fields::content_length(&head.headers);
        let length = hint.exact();
        if head.status == StatusCode::NO_CONTENT {
            return Coding::None { length: None };
        }
        if is_head || head.status == StatusCode::NOT_MODIFIED {
            // An empty body means that the content is left out, not that its length is zero.
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

/// Returns whether a field belongs to the connection, so that a service cannot know its value.
fn is_framing(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "content-length"
            | "connection"
            | "transfer-encoding"
            | "upgrade"
            | "te"
            | "keep-alive"
            | "proxy-connection"
    )
}
