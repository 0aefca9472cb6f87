//! Where the bytes come from: something that can be read again from any offset.
//!
//! A file is read as it is sent, never as a whole. What is already with the server must still belong to what follows, so
//! a file whose length or time of change moves during the upload ends it.

use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, ReadBuf};

use crate::error::Error;
use crate::progress::Meter;

/// Bytes read from a file at a time.
const READ_BYTES: u64 = 256 * 1024;

/// What to upload.
#[derive(Clone, Debug)]
pub struct Source(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Bytes(Bytes),
    File(PathBuf),
}

impl Source {
    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }

    /// The content of a file, which is opened when the upload begins. It must be one that can be read from any offset.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(path.into()))
    }

    pub(crate) async fn open(self) -> Result<Opened, Error> {
        let (kind, facts) = match self.0 {
            Kind::Bytes(bytes) => {
                let facts = Facts { length: bytes.len() as u64, changed: None };
                (OpenedKind::Bytes(bytes), facts)
            }
            Kind::File(path) => {
                let failed = |source| Error::Source { path: path.clone(), source };
                let facts = facts(&path).await.map_err(failed)?;
                (OpenedKind::File(path), facts)
            }
        };
        Ok(Opened { kind, facts })
    }
}

/// A source whose length is known.
pub(crate) struct Opened {
    kind: OpenedKind,
    facts: Facts,
}

enum OpenedKind {
    Bytes(Bytes),
    File(PathBuf),
}

/// What must not change during an upload.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    length: u64,
    changed: Option<SystemTime>,
}

async fn facts(path: &PathBuf) -> io::Result<Facts> {
    let metadata = tokio::fs::metadata(path).await?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(Facts { length: metadata.len(), changed: metadata.modified().ok() })
}

impl Opened {
    pub(crate) fn length(&self) -> u64 {
        self.facts.length
    }

    /// The content of one request.
    pub(crate) async fn content(&self, range: Range<u64>, meter: Meter) -> Result<Content, Error> {
        let reader = match &self.kind {
            OpenedKind::Bytes(bytes) => {
                let within = |at: u64| usize::try_from(at).expect("a range of bytes in memory");
                Reader::Bytes(bytes.slice(within(range.start)..within(range.end)))
            }
            OpenedKind::File(path) => {
                let failed = |source| Error::Source { path: path.clone(), source };
                self.unchanged().await?;
                let mut file = File::open(path).await.map_err(failed)?;
                file.seek(SeekFrom::Start(range.start)).await.map_err(failed)?;
                Reader::File(Box::new(file))
            }
        };
        Ok(Content { reader, left: range.end - range.start, meter, failure: Trip::default() })
    }

    /// Refuses a file that is not what it was when the upload began.
    pub(crate) async fn unchanged(&self) -> Result<(), Error> {
        let OpenedKind::File(path) = &self.kind else { return Ok(()) };
        let now = facts(path).await.map_err(|source| Error::Source { path: path.clone(), source })?;
        if now == self.facts { Ok(()) } else { Err(Error::SourceChanged { path: path.clone() }) }
    }

    /// An error of reading, as one of the source.
    pub(crate) fn failed(&self, source: io::Error) -> Error {
        let path = match &self.kind {
            OpenedKind::Bytes(_) => PathBuf::new(),
            OpenedKind::File(path) => path.clone(),
        };
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::SourceChanged { path },
            _ => Error::Source { path, source },
        }
    }
}

/// Keeps the error of a body, because the connection that carries it tells only that there was one.
#[derive(Clone, Default)]
pub(crate) struct Trip(Arc<Mutex<Option<io::Error>>>);

impl Trip {
    fn set(&self, error: io::Error) -> io::Error {
        let told = io::Error::from(error.kind());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        told
    }

    pub(crate) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The content of one request, read as the connection takes it.
pub(crate) struct Content {
    reader: Reader,
    left: u64,
    meter: Meter,
    failure: Trip,
}

enum Reader {
    Bytes(Bytes),
    File(Box<File>),
}

impl Content {
    /// No content.
    pub(crate) fn none() -> Self {
        Self {
            reader: Reader::Bytes(Bytes::new()),
            left: 0,
            meter: Meter::unread(),
            failure: Trip::default(),
        }
    }

    pub(crate) fn meter(&self) -> Meter {
        self.meter.clone()
    }

    pub(crate) fn failure(&self) -> Trip {
        self.failure.clone()
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let next = usize::try_from(self.left.min(READ_BYTES)).expect("no more than the read size");
        match &mut self.reader {
            Reader::Bytes(bytes) => Poll::Ready(Ok(bytes.split_to(next))),
            Reader::File(file) => {
                let mut memory = vec![0; next];
                let mut buffer = ReadBuf::new(&mut memory);
                ready!(Pin::new(file).poll_read(cx, &mut buffer))?;
                let read = buffer.filled().len();
                if read == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                memory.truncate(read);
                Poll::Ready(Ok(memory.into()))
            }
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        match ready!(self.poll_bytes(cx)) {
            Ok(bytes) => {
                self.left -= bytes.len() as u64;
                self.meter.add(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(error) => {
                self.left = 0;
                Poll::Ready(Some(Err(self.failure.set(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
