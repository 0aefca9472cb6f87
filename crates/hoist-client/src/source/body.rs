//! The content of one request, read as fast as the connection accepts it.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::sync::oneshot;

use super::file_reader::FileReader;
use super::rewind_buffer::{Piece, RewindBuffer};
use crate::lock::lock;
use crate::progress::Meter;
use crate::rate_limiter::Turns;

/// Bytes of one frame from memory, and of one read from a reader.
const PIECE_BYTES: usize = 256 * 1024;

pub(super) trait ReadSeek: AsyncRead + AsyncSeek + Send + Unpin {}

impl<T: AsyncRead + AsyncSeek + Send + Unpin> ReadSeek for T {}

/// Keeps the error of a body for the caller: the connection only reports that there was one.
#[derive(Clone, Default)]
pub(crate) struct ErrorSlot(Arc<Mutex<Option<io::Error>>>);

impl ErrorSlot {
    /// Stores an error and returns a copy of its kind.
    fn set(&self, error: io::Error) -> io::Error {
        let copy = io::Error::from(error.kind());
        *lock(&self.0) = Some(error);
        copy
    }

    pub(crate) fn take(&self) -> Option<io::Error> {
        lock(&self.0).take()
    }
}

/// Holds back the content of a request. Dropping it lets the content pass, for good.
pub(crate) type Gate = oneshot::Sender<()>;

pub(super) enum BodyReader {
    Bytes(Bytes),
    File(FileReader),
    Seek { reader: Arc<Mutex<Box<dyn ReadSeek>>>, at: u64, has_sought: bool },
    Stream { rewind: Arc<Mutex<RewindBuffer>>, at: u64, is_open: bool },
}

pub(crate) struct RequestBody {
    reader: BodyReader,
    /// The most bytes that are still to be sent.
    left: u64,
    /// True if the content may end before `left` is zero.
    is_open: bool,
    /// Bytes that were read but exceed the size of one frame.
    rest: Bytes,
    pub(crate) meter: Meter,
    pub(crate) error_slot: ErrorSlot,
    /// Closed when the [`Gate`] is dropped.
    held_back: Option<oneshot::Receiver<()>>,
    /// The turns at a limited rate.
    turns: Option<Turns>,
}

impl RequestBody {
    pub(super) fn new(
        reader: BodyReader,
        bytes: u64,
        is_open: bool,
        meter: Meter,
        turns: Option<Turns>,
    ) -> Self {
        if bytes == 0 {
            // The connection does not poll an empty body.
            meter.end();
        }
        let (error_slot, held_back, rest) = (ErrorSlot::default(), None, Bytes::new());
        Self { reader, left: bytes, is_open, rest, meter, error_slot, held_back, turns }
    }

    pub(crate) fn none() -> Self {
        Self::new(BodyReader::Bytes(Bytes::new()), 0, false, Meter::default(), None)
    }

    /// Holds back the whole content until the gate is dropped.
    pub(crate) fn hold_back(&mut self) -> Gate {
        let (gate, held_back) = oneshot::channel();
        self.held_back = Some(held_back);
        gate
    }

    /// Reads the next bytes. Returns `None` where an open body ends early.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        match &mut self.reader {
            BodyReader::Bytes(bytes) => {
                let piece = bytes.len().min(PIECE_BYTES);
                Poll::Ready(Ok(Some(bytes.split_to(piece))))
            }
            BodyReader::File(reader) => reader.poll_piece(cx).map_ok(Some),
            BodyReader::Seek { reader, at, has_sought } => {
                let piece = ready!(poll_seeking(&mut **lock(reader), *at, has_sought, cx))?;
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
        if let Some(held_back) = &mut self.held_back {
            let _ = ready!(Pin::new(held_back).poll(cx));
            self.held_back = None;
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.poll_piece(cx);
        self.meter.set_starved(piece.is_pending());
        let mut piece = match ready!(piece) {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                self.left = 0;
                return Poll::Ready(None);
            }
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        let mut most = self.left.min(piece.len() as u64);
        if let Some(turns) = &mut self.turns {
            let Poll::Ready(granted) = turns.poll_turn(most, cx) else {
                self.rest = piece;
                self.meter.set_starved(true);
                return Poll::Pending;
            };
            turns.on_sent();
            most = granted;
        }
        if piece.len() as u64 > most {
            self.rest = piece.split_off(usize::try_from(most).expect("less than the length of a piece"));
        }
        let bytes = piece.len() as u64;
        self.left -= bytes;
        self.meter.add(bytes);
        Poll::Ready(Some(Ok(piece)))
    }
}

/// Reads from a seekable reader, after moving it to `at` if that has not been done yet.
fn poll_seeking(
    reader: &mut dyn ReadSeek,
    at: u64,
    has_sought: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    if !*has_sought {
        // A seek of the previous request may not have completed.
        ready!(Pin::new(&mut *reader).poll_complete(cx))?;
        Pin::new(&mut *reader).start_seek(SeekFrom::Start(at))?;
        *has_sought = true;
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
                Poll::Ready(Some(Err(self.error_slot.set(error))))
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
