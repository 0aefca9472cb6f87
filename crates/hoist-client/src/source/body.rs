//! The content of one request, read as the connection takes it.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::ReadBuf;
use tokio::time::Sleep;

use super::file_reader::FileReader;
use super::rewind_buffer::{Piece, RewindBuffer};
use super::{ReadSeek, lock};
use crate::progress::Meter;

/// Bytes handed over at a time from what lies in memory, and read at a time from a reader.
const PIECE_BYTES: usize = 256 * 1024;

/// Keeps the error of a body, because the connection that carries it tells only that there was one.
#[derive(Clone, Default)]
pub(crate) struct ErrorSlot(Arc<Mutex<Option<io::Error>>>);

impl ErrorSlot {
    fn set(&self, error: io::Error) -> io::Error {
        let told = io::Error::from(error.kind());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        told
    }

    pub(crate) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Holds content back until the server has given a sign, or has had the time to.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<(bool, Option<Waker>)>>);

impl Gate {
    /// Lets the content pass, for good.
    pub(crate) fn open(&self) {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gate.0 = true;
        if let Some(waker) = gate.1.take() {
            waker.wake();
        }
    }

    fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.0 {
            return Poll::Ready(());
        }
        gate.1 = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Keeps content from going faster than somebody wants.
pub(super) struct RateLimit {
    bytes_per_second: u64,
    wait: Option<Pin<Box<Sleep>>>,
}

impl RateLimit {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), wait: None }
    }

    /// How much may go at a time: a sixteenth of what goes in a second.
    fn most(&self) -> u64 {
        (self.bytes_per_second / 16).max(1)
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
        Poll::Ready(())
    }

    fn gone(&mut self, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.wait = Some(Box::pin(tokio::time::sleep(wait)));
    }
}

/// What content is read from.
pub(super) enum BodyReader {
    Bytes(Bytes),
    File(FileReader),
    Seek { reader: Arc<Mutex<Box<dyn ReadSeek>>>, at: u64, is_there: bool },
    Stream { rewind: Arc<Mutex<RewindBuffer>>, at: u64, is_open: bool },
}

/// The content of one request.
pub(crate) struct RequestBody {
    reader: BodyReader,
    left: u64,
    /// Whether it may end before that.
    is_open: bool,
    /// What was read and may not go yet.
    rest: Bytes,
    meter: Meter,
    failure: ErrorSlot,
    gate: Option<Gate>,
    pace: Option<RateLimit>,
}

impl RequestBody {
    pub(super) fn new(
        reader: BodyReader,
        bytes: u64,
        is_open: bool,
        meter: Meter,
        pace: Option<RateLimit>,
    ) -> Self {
        let (failure, gate, rest) = (ErrorSlot::default(), None, Bytes::new());
        if bytes == 0 {
            // Nobody asks for content that there is none of.
            meter.end();
        }
        Self { reader, left: bytes, is_open, rest, meter, failure, gate, pace }
    }

    /// No content.
    pub(crate) fn none() -> Self {
        Self::new(BodyReader::Bytes(Bytes::new()), 0, false, Meter::unread(), None)
    }

    /// Holds all of it back until the gate is opened.
    pub(crate) fn behind(self, gate: Gate) -> Self {
        Self { gate: Some(gate), ..self }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(crate) fn failure(&self) -> ErrorSlot {
        self.failure.clone()
    }

    /// The next bytes; none at the end of content that ends early.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        match &mut self.reader {
            BodyReader::Bytes(bytes) => {
                let piece = bytes.len().min(PIECE_BYTES);
                Poll::Ready(Ok(Some(bytes.split_to(piece))))
            }
            BodyReader::File(reading) => reading.poll_piece(cx).map_ok(Some),
            BodyReader::Seek { reader, at, is_there } => {
                let piece = ready!(poll_seeking(&mut **lock(reader), *at, is_there, cx))?;
                Poll::Ready(Ok(Some(piece)))
            }
            BodyReader::Stream { rewind, at, is_open } => {
                match ready!(lock(rewind).poll_at(cx, *at, *is_open))? {
                    Piece::Bytes(bytes) => {
                        *at += bytes.len() as u64;
                        Poll::Ready(Ok(Some(bytes)))
                    }
                    Piece::End | Piece::Full if self.is_open => Poll::Ready(Ok(None)),
                    Piece::End | Piece::Full => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                }
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(gate) = &self.gate {
            ready!(gate.poll_open(cx));
            self.gate = None;
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_due(cx));
        }
        let piece = self.poll_piece(cx);
        self.meter.starve(piece.is_pending());
        let mut piece = match ready!(piece) {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                self.left = 0;
                return Poll::Ready(None);
            }
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        let most = self.pace.as_ref().map_or(u64::MAX, RateLimit::most).min(self.left);
        if piece.len() as u64 > most {
            self.rest = piece.split_off(usize::try_from(most).expect("less than what is in memory"));
        }
        let bytes = piece.len() as u64;
        self.left -= bytes;
        self.meter.add(bytes);
        if let Some(pace) = &mut self.pace {
            pace.gone(bytes);
        }
        Poll::Ready(Some(Ok(piece)))
    }
}

/// Reads on in a reader that was, or is yet to be, moved to where the content begins.
fn poll_seeking(
    reader: &mut dyn ReadSeek,
    at: u64,
    is_there: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    if !*is_there {
        // A seek of the content before this one may not have come to its end.
        ready!(Pin::new(&mut *reader).poll_complete(cx))?;
        Pin::new(&mut *reader).start_seek(SeekFrom::Start(at))?;
        *is_there = true;
    }
    ready!(Pin::new(&mut *reader).poll_complete(cx))?;
    let mut memory = vec![0; PIECE_BYTES];
    let mut buffer = ReadBuf::new(&mut memory);
    ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
    let read = buffer.filled().len();
    if read == 0 {
        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
    }
    memory.truncate(read);
    Poll::Ready(Ok(memory.into()))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match ready!(self.poll_next(cx)) {
            Some(Ok(bytes)) => {
                if self.left == 0 {
                    self.meter.end();
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => {
                self.left = 0;
                Poll::Ready(Some(Err(self.failure.set(error))))
            }
            None => {
                self.meter.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_open { SizeHint::default() } else { SizeHint::with_exact(self.left) }
    }
}
